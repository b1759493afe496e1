/**
 * Attaching with the kernel's own target: what to tell device-mapper, and what the kernel would refuse or
 * destroy, found before it is asked.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { release } from 'node:os';
import { resolve } from 'node:path';
import { deviceNumber } from '../engine/device/holders.js';
import { bestCrc32c } from '../engine/device/native.js';
import type { PmemReader } from '../engine/device/pmem.js';
import { ExitStatus, fromSystemError, PcacheError } from '../engine/errors.js';
import { readMetadataOf } from '../engine/index.js';
import { openForInspection, type InspectedDevices } from '../engine/inspect/open.js';
import { KERNEL_GEOMETRY, SECTOR_BYTES } from '../engine/media/geometry.js';
import { requireOwnBacking } from '../rescue/backing-guard.js';
import { examine, type CheckProgress } from '../fsck/check.js';
import { kernelEffect, KERNELS, type KernelEffect, type KernelVersion } from '../fsck/consequences.js';
import type { Finding } from '../fsck/findings.js';

export interface KernelAttachOptions {
  readonly name: string;
  readonly cachePath: string;
  readonly backingPath: string;
  /** Refuse a cache whose data_crc is otherwise. */
  readonly dataCrc: boolean | undefined;
  readonly native: boolean;
  /** Plan it although the backing device does not hold what the cache says it does. */
  readonly forceBacking: boolean;
  /** Lets signals be heard. */
  readonly breathe: () => Promise<void>;
  readonly onProgress: CheckProgress | undefined;
}

export interface KernelAttach {
  readonly name: string;
  /** The device-mapper table. */
  readonly table: string;
  /** Command and arguments, in the order in which they are to be run. */
  readonly commands: readonly (readonly string[])[];
  /** For people: what is odd, and does not keep the kernel from it. */
  readonly notes: readonly string[];
  /** Why it must not be done; empty when it may. */
  readonly refusals: readonly Finding[];
}

/** What device-mapper takes as a name without rewriting it, and dmsetup as a name and not as an option. */
const NAME = /^[A-Za-z0-9#+.:=@_][A-Za-z0-9#+\-.:=@_]{0,126}$/;
/** Names that mean something else in /dev/mapper. */
const RESERVED_NAMES: readonly string[] = ['.', '..', 'control'];

/**
 * Checks both devices, payload included, and makes the commands. Nothing is changed.
 * @throws PcacheError for devices that the kernel cannot use at all, and for a foreign backing device
 */
export async function planKernelAttach(options: KernelAttachOptions): Promise<KernelAttach> {
  const { name, cachePath, backingPath, native, forceBacking, breathe } = options;
  requireName(name);
  tableArgument(cachePath);
  tableArgument(backingPath);
  const devices = openForInspection({ cachePath, backingPath, native });
  try {
    requireDax(cachePath);
    requireBlock(backingPath, 'attach a loop device to it with losetup');
    const plan = planFor(options, devices, kernelOf(release()));
    if (!forceBacking && plan.refusals.length === 0) {
      const guarded = { cache: devices.pmem, backing: devices.backing! };
      await requireOwnBacking(guarded, { geometry: KERNEL_GEOMETRY, crc: bestCrc32c(), breathe });
    }
    return plan;
  } finally {
    devices.close();
  }
}

/** @throws PcacheError USAGE for a name that device-mapper or dmsetup would refuse, rewrite or take for something else */
export function requireName(name: string): void {
  if (RESERVED_NAMES.includes(name)) {
    throw new PcacheError('USAGE', `'${name}' has a meaning of its own in /dev/mapper; give another name`);
  }
  if (NAME.test(name)) return;
  throw new PcacheError(
    'USAGE',
    `'${name}' is not a device-mapper name; use up to 127 letters, digits and #+-.:=@_, and not - as the first`,
  );
}

/**
 * A path as one argument of a device-mapper table: absolute, since a relative path may look like the number of a
 * device, with whitespace and backslashes escaped by backslashes. dmsetup ends the table at a line feed, and the kernel
 * takes byte 0xA0 for a space even inside a UTF-8 character, where it cannot be escaped.
 * @throws PcacheError USAGE for a path that cannot be written so
 */
export function tableArgument(path: string): string {
  const absolute = resolve(path);
  if (/[\x00-\x08\x0a-\x1f\x7f]/.test(absolute) || Buffer.from(absolute).includes(0xa0)) {
    throw new PcacheError(
      'USAGE',
      `${path}: has a character that device-mapper cannot take in a path; make a symbolic link to it with a plain name`,
    );
  }
  return absolute.replace(/[\\ \t]/g, '\\$&');
}

/** Effects of an attach that destroy data, or hand out wrong bytes. */
const HARMFUL: ReadonlySet<KernelEffect> = new Set<KernelEffect>(['empties', 'cuts', 'misreads', 'crashes']);

/** The kernel of a release such as `6.18.2-amd64`, among those whose behaviour differs (format §5). */
export function kernelOf(releaseText: string): KernelVersion {
  const [major, minor, patch] = (/^(\d+)\.(\d+)(?:\.(\d+))?/.exec(releaseText)?.slice(1) ?? []).map(Number);
  if (major > 7 || (major === 7 && minor >= 3)) return '7.3';
  return major === 6 && minor === 18 && !(patch > 3) ? '6.18' : '7.2';
}

/**
 * Findings for which the cache must not be given to the kernel: it would refuse the cache, or some kernel would empty,
 * cut or misread it. The commands may be run under another kernel than this one.
 */
function refusalsAmong(findings: readonly Finding[], kernel: KernelVersion): Finding[] {
  return findings.filter(
    ({ code }) =>
      kernelEffect(code, kernel) === 'refuses' || KERNELS.some((one) => HARMFUL.has(kernelEffect(code, one))),
  );
}

/** As `planKernelAttach`, for devices that are open, whatever they are, and a kernel. */
export function planFor(
  options: Omit<KernelAttachOptions, 'native' | 'forceBacking' | 'breathe'>,
  { pmem, backing }: InspectedDevices,
  kernel: KernelVersion,
): KernelAttach {
  const { name, cachePath, backingPath, onProgress } = options;
  const { sizeBytes } = backing!;
  const crc = bestCrc32c();
  const checks = { geometry: KERNEL_GEOMETRY, backingBytes: sizeBytes, data: true, crc, onProgress };
  refuseOtherCrc(options, pmem);
  const { header, result } = examine(pmem, checks);
  const refusals = refusalsAmong(result.findings, kernel);
  const dataCrc = header.flags?.dataCrc ?? false;
  const devices = `${tableArgument(cachePath)} ${tableArgument(backingPath)}`;
  const table = `0 ${sizeBytes / SECTOR_BYTES} pcache ${devices} 4 cache_mode writeback data_crc ${dataCrc}`;
  const notes = result.findings
    .filter((one) => isToldOf(one) && !refusals.includes(one))
    .map((one) => `${one.code} ${one.where}: ${one.detail}; the kernel ${one.kernel}`);
  const commands = [
    ['dmsetup', 'create', name, '--table', table],
    ['dmsetup', 'status', name],
  ];
  return { name, table, commands, notes, refusals };
}

/** Before the check, which may take long. */
function refuseOtherCrc(
  { cachePath, dataCrc }: Pick<KernelAttachOptions, 'cachePath' | 'dataCrc'>,
  pmem: PmemReader,
): void {
  const { flags, problems } = readMetadataOf(pmem, KERNEL_GEOMETRY);
  if (dataCrc === undefined || problems.length > 0 || flags.dataCrc === dataCrc) return;
  throw new PcacheError(
    'USAGE',
    `${cachePath}: was formatted with data_crc ${flags.dataCrc ? 'on' : 'off'}, which cannot be changed`,
  );
}

/** What the kernel takes, and a user should know of. */
function isToldOf({ severity, code }: Finding): boolean {
  return severity === 'error' || code === 'CACHE_MODE_NOT_WRITEBACK';
}

function blockNumber(path: string): string | undefined {
  const status = statSync(path, { bigint: true });
  return status.isBlockDevice() ? deviceNumber(status.rdev) : undefined;
}

function requireBlock(path: string, remedy: string): void {
  if (blockNumber(path) !== undefined) return;
  throw new PcacheError('NOT_A_DEVICE', `${path}: not a block device, which the kernel needs; ${remedy}`);
}

/** The kernel takes a cache only on a block device that can be mapped directly. */
function requireDax(path: string): void {
  requireBlock(path, 'give persistent memory such as /dev/pmem0, or serve the file with --socket');
  let dax: string;
  try {
    dax = readFileSync(`/sys/dev/block/${blockNumber(path)}/queue/dax`, 'utf8').trim();
  } catch (error) {
    throw fromSystemError(error, path, 'checking whether it is persistent memory');
  }
  if (dax !== '1') {
    throw new PcacheError('NOT_A_DEVICE', `${path}: not persistent memory (DAX), which the kernel needs for a cache`);
  }
}

/** What is given up with an attach that is forced, one line each. */
export function givenUpLines(cachePath: string, refusals: readonly Finding[]): string[] {
  return refusals.map(
    ({ code, where, detail, kernel }) => `${cachePath}: forced: ${code} ${where}: ${detail}; the kernel ${kernel}`,
  );
}

/** The error for a cache that the kernel must not be given. */
export function kernelRefusal(cachePath: string, refusals: readonly Finding[]): PcacheError {
  const [first] = refusals;
  const more = refusals.length > 1 ? ` (and ${refusals.length - 1} more)` : '';
  return new PcacheError(
    'BAD_MEDIA',
    `${cachePath}: ${first.code} ${first.where}: ${first.detail}; the kernel ${first.kernel}${more}; run "pcache fsck ${cachePath}" first, or give --force`,
    { exitStatus: ExitStatus.problemsLeft },
  );
}

/** Runs the commands. @returns what they printed. @throws PcacheError when one fails */
export function runKernelAttach({ commands }: KernelAttach): string {
  return commands
    .map(([program, ...args]) => {
      try {
        return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
      } catch (error) {
        const { code, stderr = '' } = error as NodeJS.ErrnoException & { stderr?: string };
        if (code === 'ENOENT') {
          throw new PcacheError('NOT_FOUND', `${program}: not installed, or not in PATH`, { cause: error });
        }
        const said = stderr.trim().replaceAll('\n', ' ');
        throw new PcacheError('IO', `${program} ${args[0]} failed: ${said}; see the kernel log`, { cause: error });
      }
    })
    .join('');
}

/** The commands as a shell takes them. */
export function commandLines({ commands }: KernelAttach): string {
  const quoted = (word: string) => (/^[\w./:@%+=-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);
  return commands.map((words) => `${words.map(quoted).join(' ')}\n`).join('');
}
