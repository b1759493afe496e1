/**
 * Looks whether the caches of /etc/pcache/tab can be attached on this machine: their devices, the driver that each needs,
 * and paths that may mean another device after the next start. Changes nothing.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { describeExistingCache } from '../engine/create/existing-cache.js';
import { deviceNumber, readText, statOrUndefined, SYSTEM_ROOTS, type SystemRoots } from '../engine/device/holders.js';
import { openPmemReader } from '../engine/device/open.js';
import { PcacheError } from '../engine/errors.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import { devicePathOf, type TabEntry, type Way } from './tab-entry.js';
import type { Tab, TabProblem, TabSeverity } from './tab-file.js';

/** The parts of the system that are looked at; tests give their own. */
export interface Machine extends SystemRoots {
  readonly dev: string;
  /** Folder of modules of all kernels. */
  readonly modules: string;
  /** Names of device-mapper's targets that are loaded, or undefined when they cannot be asked for. */
  targets(): readonly string[] | undefined;
}

export const THIS_MACHINE: Machine = {
  ...SYSTEM_ROOTS,
  dev: '/dev',
  modules: '/lib/modules',
  targets() {
    try {
      const text = execFileSync('dmsetup', ['targets'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
      return text.split('\n').map((line) => line.split(/\s+/)[0]);
    } catch {
      return undefined;
    }
  },
};

/** Devices that are numbered as they are found, so that a number may mean another one after a start. */
const NUMBERED = new RegExp(
  '^/dev/(?:' +
    '[shv]d[a-z]+\\d*|xvd[a-z]+\\d*|nvme\\d+n\\d+(?:p\\d+)?|mmcblk\\d+(?:p\\d+)?|md\\d+|dm-\\d+|loop\\d+(?:p\\d+)?|' +
    'nbd\\d+(?:p\\d+)?|ublkb\\d+(?:p\\d+)?|pmem\\d+(?:\\.\\d+)?s?(?:p\\d+)?|dax\\d+\\.\\d+)$',
);
/** Folders of links that stay the same, the best first. */
const STABLE_FOLDERS = ['disk/by-id', 'mapper', 'md', 'disk/by-partuuid', 'disk/by-path'];

const MODULES: Readonly<Record<Exclude<Way, 'socket'>, string>> = { kernel: 'dm_pcache', ublk: 'ublk_drv', nbd: 'nbd' };

/** @param native may the native helper be used? @returns problems in the order of the lines, those of `tab` included */
export function checkTab({ entries, problems }: Tab, native: boolean, machine: Machine = THIS_MACHINE): TabProblem[] {
  const found = [...problems];
  const users = new Map<string, TabEntry>();
  for (const entry of entries) {
    const report = (severity: TabSeverity, text: string) => {
      found.push({ severity, line: entry.line, name: entry.name, text });
    };
    for (const path of [entry.cachePath, entry.backingPath]) checkPath(path, entry, users, machine, report);
    checkCache(entry, native, report);
    checkBacking(entry, report);
    if (entry.way === 'kernel') checkForKernel(entry, machine, report);
    checkDriver(entry.way, machine, report);
  }
  return found.sort((a, b) => a.line - b.line);
}

type Report = (severity: TabSeverity, text: string) => void;

/** Two entries must not use one device, whatever it is called. */
function checkPath(
  path: string,
  entry: TabEntry,
  users: Map<string, TabEntry>,
  machine: Machine,
  report: Report,
): void {
  const status = statOrUndefined(path);
  const isDevice = status !== undefined && (status.isBlockDevice() || status.isCharacterDevice());
  const identity = status === undefined ? path : isDevice ? `device ${status.rdev}` : `${status.dev} ${status.ino}`;
  const other = users.get(identity);
  if (other !== undefined)
    report('error', `${path}: ${other.name} (line ${other.line}) uses it already; give another device`);
  users.set(identity, entry);
  if (!NUMBERED.test(path)) return;
  const stable = stableLink(path, machine.dev);
  const remedy = stable === undefined ? 'make a link with a udev rule, and write that' : `write ${stable}`;
  report('warning', `${path} may be another device after a restart; ${remedy}`);
}

/** @returns a link to the device that stays the same */
export function stableLink(path: string, dev: string): string | undefined {
  const target = realOrUndefined(path);
  if (target === undefined) return undefined;
  for (const folder of STABLE_FOLDERS) {
    const full = join(dev, folder);
    const names = existsSync(full) ? readdirSync(full).sort() : [];
    const name = names.find((one) => realOrUndefined(join(full, one)) === target);
    if (name !== undefined) return join(full, name);
  }
  return undefined;
}

function realOrUndefined(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

function checkCache({ cachePath }: TabEntry, native: boolean, report: Report): void {
  try {
    // One that is attached already is as good.
    const pmem = openPmemReader(cachePath, { native, onBusy: () => {} });
    try {
      const cache = describeExistingCache(pmem, KERNEL_GEOMETRY);
      if (cache === undefined) {
        report('error', `${cachePath}: holds no cache; make one with "pcache format ${cachePath}"`);
      } else if (cache.state !== 'whole') {
        const what = cache.state === 'wiped' ? 'a cache without a superblock' : 'a cache with damaged metadata';
        report('error', `${cachePath}: holds ${what}; run "pcache fsck ${cachePath}"`);
      }
    } finally {
      pmem.close();
    }
  } catch (error) {
    if (!(error instanceof PcacheError)) throw error;
    report('error', error.message);
  }
}

function checkBacking({ backingPath }: TabEntry, report: Report): void {
  const status = statOrUndefined(backingPath);
  if (status === undefined) report('error', `${backingPath}: no such file; check the path`);
  else if (!status.isBlockDevice() && !status.isFile()) {
    report('error', `${backingPath}: is neither a block device nor a regular file; give one of them`);
  }
}

/** The kernel takes block devices only, and for the cache one that can be mapped directly. */
function checkForKernel({ cachePath, backingPath }: TabEntry, { sys }: Machine, report: Report): void {
  for (const path of [cachePath, backingPath]) {
    const status = statOrUndefined(path);
    if (status === undefined) continue;
    if (!status.isBlockDevice()) {
      report('error', `${path}: is not a block device, which the kernel needs; use ublk or nbd instead of kernel`);
    } else if (path === cachePath && readText(join(sys, 'dev/block', deviceNumber(status.rdev), 'queue/dax')) !== '1') {
      report(
        'error',
        `${path}: is not persistent memory (DAX), which the kernel needs; use ublk or nbd instead of kernel`,
      );
    }
  }
}

function checkDriver(way: Way, machine: Machine, report: Report): void {
  if (way === 'socket' || hasModule(MODULES[way], machine)) return;
  if (way === 'kernel') {
    const targets = machine.targets();
    if (targets === undefined) {
      report(
        'warning',
        'whether this kernel has the pcache target cannot be seen; run as root, with dmsetup installed',
      );
    } else if (!targets.includes('pcache')) {
      report('error', 'this kernel has no pcache target (CONFIG_DM_PCACHE); use ublk or nbd instead of kernel');
    }
    return;
  }
  if (existsSync(join(machine.dev, way === 'ublk' ? 'ublk-control' : 'nbd0'))) return;
  const other = way === 'ublk' ? 'nbd' : 'ublk';
  report('error', `this kernel has no ${way} driver (module ${MODULES[way]}); use ${other}, or another kernel`);
}

/** Is it loaded, or can it be? */
function hasModule(module: string, { sys, proc, modules }: Machine): boolean {
  if (existsSync(join(sys, 'module', module))) return true;
  const folder = join(modules, readText(join(proc, 'sys/kernel/osrelease')) ?? '');
  const file = new RegExp(`/${module.replaceAll('_', '[-_]')}\\.ko`, 'm');
  return ['modules.dep', 'modules.builtin'].some((list) => file.test(readText(join(folder, list)) ?? ''));
}

/** Where a cache will be found, for people: its block device, or its socket. */
export function whereText(entry: TabEntry): string {
  const { socket, port } = entry.options;
  return devicePathOf(entry) ?? String(socket ?? `port ${String(port)}`);
}
