/**
 * Devices of the kernel's pcache target, as dmsetup shows them: which device a name means, its table and its status
 * line (format §5.4).
 */
import { execFile } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { PcacheError } from '../engine/errors.js';
import { readText } from '../engine/device/holders.js';
import type { Position } from '../engine/media/codecs.js';
import { SECTOR_BYTES } from '../engine/media/geometry.js';

/** The status of env(1) for a program that is not there. */
const NOT_INSTALLED = 127;
const LIST = '"dmsetup ls --target pcache" lists those of the kernel\'s target';

/** A device that the kernel's target provides. */
export interface KernelDevice {
  readonly name: string;
  /** `/dev/mapper/NAME`. */
  readonly path: string;
  /** `dm-0`, its name in /sys/block. */
  readonly kernelName: string;
  readonly cachePath: string;
  readonly backingPath: string;
  /** `8:16`; undefined where the table holds a path. */
  readonly backingNumber: string | undefined;
  readonly sizeBytes: number;
  readonly mode: string;
  readonly dataCrc: boolean;
}

export interface TableLine {
  readonly sizeBytes: number;
  /** `major:minor`, or a path. */
  readonly cache: string;
  readonly backing: string;
  readonly mode: string;
  readonly dataCrc: boolean;
}

/** The status line of the target. */
export interface TargetState {
  /** Its words, without start, size and name of the target. */
  readonly line: string;
  readonly segments: number;
  readonly segmentsUsed: number;
  readonly gcPercent: number;
  readonly keyHead: Position;
  readonly dirtyTail: Position;
  readonly keyTail: Position;
}

/**
 * The device-mapper name that a user means: NAME without a slash, /dev/mapper/NAME or /dev/dm-N.
 * @returns undefined for every other path
 */
export function kernelNameOf(device: string, deviceFolder: string): string | undefined {
  if (!device.includes('/')) return device;
  const mapper = `${deviceFolder}/mapper/`;
  if (device.startsWith(mapper) && device.length > mapper.length) return device.slice(mapper.length);
  const number = /^\/dev\/(dm-\d+)$/.exec(device)?.[1];
  return number === undefined ? undefined : readText(`/sys/block/${number}/dm/name`);
}

/** The device-mapper name in what a command was given; undefined for a cache that pcache serves. */
export function kernelTargetOf(
  { device, socket }: { readonly device: string | undefined; readonly socket: string | undefined },
  deviceFolder: string,
): string | undefined {
  return device === undefined || socket !== undefined ? undefined : kernelNameOf(device, deviceFolder);
}

/** Runs dmsetup. @returns what it prints. @throws PcacheError for what it says, as one line */
export function dmsetup(name: string, ...args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile('env', ['LC_ALL=C', 'dmsetup', ...args], { encoding: 'utf8' }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(dmsetupError(name, args[0], error.code, stderr, error));
    });
  });
}

function dmsetupError(name: string, command: string, status: unknown, stderr: string, cause: Error): PcacheError {
  const options = { cause };
  if (status === NOT_INSTALLED || status === 'ENOENT') {
    return new PcacheError('NOT_FOUND', 'dmsetup: not installed, or not in PATH; install the package dmsetup', options);
  }
  const said = stderr.trim().replace(/\s*\n\s*/g, '; ');
  if (/permission denied|operation not permitted/i.test(said)) {
    return new PcacheError('NO_ACCESS', `${name}: dmsetup has no permission; run as root`, options);
  }
  if (/control: open failed|failure to communicate/i.test(said)) {
    const remedy = 'load it with: modprobe dm_mod, and do so outside of a container';
    return new PcacheError('UNSUPPORTED', `${name}: this kernel has no device-mapper; ${remedy}`, options);
  }
  if (/no such device or address|not found|does not exist/i.test(said)) {
    const served = `a device that "pcache attach" serves is given by its path, such as /dev/pcache/${name}`;
    return new PcacheError('NOT_FOUND', `${name}: no device-mapper device has this name; ${LIST}; ${served}`, options);
  }
  if (/resource busy/i.test(said)) {
    return new PcacheError('BUSY', `${name}: in use; end that use first (unmount it, close it)`, options);
  }
  return new PcacheError('IO', `${name}: dmsetup ${command} failed: ${said}; see the kernel log (dmesg)`, options);
}

/** The path of a device that a table names by number. */
function pathOf(word: string, deviceFolder: string): string {
  const number = /^\d+:\d+$/.exec(word)?.[0];
  if (number === undefined) return word;
  const mapped = readText(`/sys/dev/block/${number}/dm/name`);
  if (mapped !== undefined) return `${deviceFolder}/mapper/${mapped}`;
  const named = /^DEVNAME=(.+)$/m.exec(readText(`/sys/dev/block/${number}/uevent`) ?? '')?.[1];
  return named === undefined ? `${deviceFolder}/block/${number}` : `${deviceFolder}/${named}`;
}

function kernelNameOfNumber(number: string): string {
  try {
    return basename(readlinkSync(`/sys/dev/block/${number}`));
  } catch {
    return `dm-${number.split(':')[1]}`;
  }
}

/** @throws PcacheError for a device that is not there, is suspended, or is not of the kernel's pcache target */
export async function findKernelDevice(name: string, deviceFolder: string): Promise<KernelDevice> {
  if (name === '' || name.startsWith('-') || name.includes('/')) {
    throw new PcacheError('USAGE', `'${name}' is not the name of a device-mapper device; ${LIST}`);
  }
  const table = parseTable(name, await dmsetup(name, 'table', name));
  const fields = (await dmsetup(name, 'info', '-c', '--noheadings', '-o', 'major,minor,suspended', name)).trim();
  const [, major, minor, state] = /^(\d+):(\d+):(\w+)$/.exec(fields) ?? [];
  if (major === undefined)
    throw new PcacheError('IO', `${name}: dmsetup info says '${fields}', which is not understood`);
  if (state === 'Suspended') {
    throw new PcacheError('BUSY', `${name}: is suspended; let it go on first with: dmsetup resume ${name}`);
  }
  return {
    name,
    path: `${deviceFolder}/mapper/${name}`,
    kernelName: kernelNameOfNumber(`${major}:${minor}`),
    cachePath: pathOf(table.cache, deviceFolder),
    backingPath: pathOf(table.backing, deviceFolder),
    backingNumber: /^\d+:\d+$/.exec(table.backing)?.[0],
    sizeBytes: table.sizeBytes,
    mode: table.mode,
    dataCrc: table.dataCrc,
  };
}

/** @throws PcacheError USAGE for another target, IO for a table of a kind that is not known */
export function parseTable(name: string, text: string): TableLine {
  const lines = text.trim().split('\n');
  const words = lines[0].split(' ');
  const [start, sectors, target, cache, backing, , ...options] = words;
  const others = lines.find((line) => line.split(' ')[2] !== 'pcache');
  if (others !== undefined || lines.length > 1) {
    const kind = others?.split(' ')[2] ?? '';
    const what =
      kind === '' ? 'has no table' : lines.length > 1 ? 'has several targets' : `is a device of target ${kind}`;
    throw new PcacheError('USAGE', `${name}: ${what}, not of pcache; ${LIST}`);
  }
  const values = new Map<string, string>();
  for (let at = 0; at + 1 < options.length; at += 2) values.set(options[at], options[at + 1]);
  // The table prints "crc" for what the constructor takes as "data_crc".
  const dataCrc = values.get('crc') ?? values.get('data_crc');
  if (target !== 'pcache' || start !== '0' || !/^\d+$/.test(sectors) || backing === undefined) {
    throw new PcacheError('IO', `${name}: its table is '${lines[0]}', which is not understood`);
  }
  const mode = values.get('cache_mode') ?? 'writeback';
  return { sizeBytes: Number(sectors) * SECTOR_BYTES, cache, backing, mode, dataCrc: dataCrc === 'true' };
}

/** Words behind those that are known are tolerated: newer targets append some. */
const STATE = /^0 \d+ pcache ([0-9a-f]+ \d+ (\d+) (\d+) (\d+) [0-9a-f]+ (\d+):(\d+) (\d+):(\d+) (\d+):(\d+)(?: .*)?)$/;

/** @throws PcacheError IO for a line that is not understood */
export function parseState(name: string, text: string): TargetState {
  const match = STATE.exec(text.trim());
  if (match === null) {
    throw new PcacheError('IO', `${name}: its status is '${text.trim()}', which is not understood`);
  }
  const [segments, segmentsUsed, gcPercent, ...at] = match.slice(2).map(Number);
  const position = (n: number): Position => ({ segment: at[2 * n], offsetBytes: at[2 * n + 1] });
  return {
    line: match[1],
    segments,
    segmentsUsed,
    gcPercent,
    keyHead: position(0),
    dirtyTail: position(1),
    keyTail: position(2),
  };
}

/** The status line as it is now. */
export async function readState({ name }: Pick<KernelDevice, 'name'>): Promise<TargetState> {
  return parseState(name, await dmsetup(name, 'status', name));
}

/** How often a device is open, uses by the kernel included. */
export async function openCountOf(name: string): Promise<number> {
  return Number(await dmsetup(name, 'info', '-c', '--noheadings', '-o', 'open', name));
}

/** Sets gc_percent, which the kernel stores in the cache. @returns what the kernel says it is then */
export async function setGcPercent(device: KernelDevice, gcPercent: number): Promise<number> {
  await dmsetup(device.name, 'message', device.name, '0', `gc_percent ${gcPercent}`);
  return (await readState(device)).gcPercent;
}
