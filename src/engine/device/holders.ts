/**
 * Finds the users of a file or block device: processes that hold a file lock on it, and uses inside the kernel
 * (mounts, device-mapper, loop devices), from procfs and sysfs. It never locks.
 */
import { readdirSync, readFileSync, statSync, type BigIntStats } from 'node:fs';
import { join } from 'node:path';

/** Mount points of the pseudo-filesystems; tests give their own. */
export interface SystemRoots {
  readonly proc: string;
  readonly sys: string;
}

export const SYSTEM_ROOTS: SystemRoots = { proc: '/proc', sys: '/sys' };

/** `major:minor`, as sysfs and mountinfo name a device. */
export function deviceNumber(device: bigint): string {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n);
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/** The text of a small file, or undefined if it cannot be read. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch {
    return [];
  }
}

/** Like `statSync`, or undefined where that fails. */
export function statOrUndefined(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true });
  } catch {
    return undefined;
  }
}

export interface LockHolder {
  /** Below 1 when the kernel does not tell, as for a process of another container. */
  readonly pid: number;
  /** FLOCK, POSIX, OFDLCK or LEASE. */
  readonly kind: string;
  readonly write: boolean;
}

/** The locks held on the file with this `status`, from /proc/locks; waiting requests for locks are left out. */
export function lockHolders(status: BigIntStats, roots: SystemRoots = SYSTEM_ROOTS): LockHolder[] {
  const [major, minor] = deviceNumber(status.dev).split(':').map(Number);
  const hex = (value: number): string => value.toString(16).padStart(2, '0');
  const file = `${hex(major)}:${hex(minor)}:${status.ino}`;
  const holders: LockHolder[] = [];
  for (const line of readText(join(roots.proc, 'locks'))?.split('\n') ?? []) {
    // 1: FLOCK  ADVISORY  WRITE 1234 fd:00:131 0 EOF
    // A waiting request has an arrow before its kind, which shifts its fields, so that `where` never matches.
    const [, kind, , access, pid, where] = line.trim().split(/\s+/);
    if (where === file) holders.push({ kind, write: access === 'WRITE', pid: Number(pid) });
  }
  return holders;
}

/** `pid 123 (fio)`, or the part of it that is known. */
export function describeProcess(pid: number, roots: SystemRoots = SYSTEM_ROOTS): string {
  if (!(pid > 0)) return 'a process that cannot be seen from here';
  const command = readText(join(roots.proc, String(pid), 'comm'));
  return command === undefined ? `pid ${pid}` : `pid ${pid} (${command})`;
}

interface Mount {
  readonly device: string;
  readonly source: string;
  readonly mountPoint: string;
}

function mounts(roots: SystemRoots): Mount[] {
  const found: Mount[] = [];
  for (const line of readText(join(roots.proc, 'self', 'mountinfo'))?.split('\n') ?? []) {
    // 36 35 98:0 /root /mount\040point rw,noatime shared:1 - ext4 /dev/sda1 rw
    const fields = line.split(' ');
    const separator = fields.indexOf('-', 6);
    if (separator < 0) continue;
    const unescape = (text: string): string =>
      text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
    found.push({ device: fields[2], mountPoint: unescape(fields[4]), source: unescape(fields[separator + 2] ?? '') });
  }
  return found;
}

/** Mount point of block device `device`. Some filesystems show a device number of their own; then the source decides. */
function mountPointOf(device: string, all: readonly Mount[]): string | undefined {
  return all.find((mount) => {
    if (mount.device === device) return true;
    const source = mount.source.startsWith('/dev/') ? statOrUndefined(mount.source) : undefined;
    return source?.isBlockDevice() === true && deviceNumber(source.rdev) === device;
  })?.mountPoint;
}

/** The kernel's use of block device `device` or of one of its partitions, or undefined. */
export function blockDeviceUse(device: string, roots: SystemRoots = SYSTEM_ROOTS): string | undefined {
  const all = mounts(roots);
  const directory = join(roots.sys, 'dev', 'block', device);
  const partitions = list(directory).filter((name) => readText(join(directory, name, 'partition')) !== undefined);
  for (const part of ['', ...partitions]) {
    const partDirectory = join(directory, part);
    const through = part === '' ? '' : ` (its partition ${part})`;
    for (const holder of list(join(partDirectory, 'holders'))) {
      const mapped = readText(join(partDirectory, 'holders', holder, 'dm', 'name'));
      return mapped === undefined
        ? `held by device ${holder}${through}`
        : `held by device-mapper device ${mapped}${through}`;
    }
    const partDevice = part === '' ? device : (readText(join(partDirectory, 'dev')) ?? '');
    const mountPoint = mountPointOf(partDevice, all);
    if (mountPoint !== undefined) return `mounted on ${mountPoint}${through}`;
  }
  return undefined;
}

/** Names (`loop0`) of the loop devices over the file with this `status`. */
export function loopDevicesOver(status: BigIntStats, roots: SystemRoots = SYSTEM_ROOTS): string[] {
  return list(join(roots.sys, 'block')).filter((name) => {
    if (!name.startsWith('loop')) return false;
    const backing = readText(join(roots.sys, 'block', name, 'loop', 'backing_file'));
    const file = backing === undefined ? undefined : statOrUndefined(backing);
    return file !== undefined && file.dev === status.dev && file.ino === status.ino;
  });
}

/**
 * The kernel's use of a regular file through loop devices, or undefined. A loop device that is attached and unused
 * still conflicts with a writer: it has a page cache of its own.
 */
export function loopUse(status: BigIntStats, writing: boolean, roots: SystemRoots = SYSTEM_ROOTS): string | undefined {
  let attached: string | undefined;
  for (const name of loopDevicesOver(status, roots)) {
    const device = readText(join(roots.sys, 'block', name, 'dev')) ?? '';
    const use = blockDeviceUse(device, roots);
    if (use !== undefined) return `${use} (through /dev/${name})`;
    attached ??= `attached to /dev/${name}`;
  }
  return writing ? attached : undefined;
}
