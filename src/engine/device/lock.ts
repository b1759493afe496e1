/**
 * Keeps two users off one device. The lock is a `flock` on the open file, exclusive for writers and shared for
 * readers; closing the file ends it. Uses that take no such lock (mounts, device-mapper, loop devices, other
 * kinds of file lock) are looked up and refused as well.
 */
import { fstatSync, readlinkSync, type BigIntStats } from 'node:fs';
import { join } from 'node:path';
import { fromSystemError, PcacheError } from '../errors.js';
import {
  blockDeviceUse,
  describeProcess,
  deviceNumber,
  lockHolders,
  loopUse,
  readText,
  statOrUndefined,
  SYSTEM_ROOTS,
  type LockHolder,
  type SystemRoots,
} from './holders.js';
import { asSystemError, nativeAddonIfAvailable, type NativeAddon, type NativeError } from './native.js';

export interface LockOptions {
  /** True for a writer. */
  readonly exclusive: boolean;
  /** Return the description of a busy device's use instead of throwing. */
  readonly allowBusy?: boolean;
  readonly roots?: SystemRoots;
}

/** Attempts to lock a block device, and the pause between them: udev holds a lock while it probes the device. */
const BLOCK_LOCK_TRIES = 10;
const BLOCK_LOCK_PAUSE_MS = 50;

function pause(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

function takeFlock(addon: NativeAddon, path: string, fd: number, exclusive: boolean, tries: number): boolean {
  try {
    for (let attempt = 1; ; attempt++) {
      if (addon.flock(fd, exclusive ? 'exclusive' : 'shared')) return true;
      if (attempt >= tries) return false;
      pause(BLOCK_LOCK_PAUSE_MS);
    }
  } catch (error) {
    throw fromSystemError(asSystemError(error as NativeError), path, 'locking it');
  }
}

function describeHolder(holder: LockHolder | undefined, roots: SystemRoots): string {
  if (holder === undefined) return 'in use by another process';
  if (holder.pid === Number(readlinkSync('/proc/self'))) return 'open already in this process';
  return `in use by ${describeProcess(holder.pid, roots)}`;
}

/** Takes the flock (without the native helper, only looks for one), then looks for every other kind of lock. */
function lockUse(
  path: string,
  fd: number,
  status: BigIntStats,
  exclusive: boolean,
  roots: SystemRoots,
): string | undefined {
  const addon = nativeAddonIfAvailable();
  const tries = status.isBlockDevice() ? BLOCK_LOCK_TRIES : 1;
  const locked = addon === undefined || takeFlock(addon, path, fd, exclusive, tries);
  const inTheWay = lockHolders(status, roots).filter((holder) => exclusive || holder.write);
  if (!locked) {
    return describeHolder(inTheWay.find((holder) => holder.kind === 'FLOCK') ?? inTheWay[0], roots);
  }
  // The remaining flocks do not conflict, and the one just taken is among them.
  const foreign = inTheWay.find((holder) => addon === undefined || holder.kind !== 'FLOCK');
  return foreign && describeHolder(foreign, roots);
}

function kernelUse(status: BigIntStats, exclusive: boolean, roots: SystemRoots): string | undefined {
  if (status.isBlockDevice()) return blockDeviceUse(deviceNumber(status.rdev), roots);
  return status.isFile() ? loopUse(status, exclusive, roots) : undefined;
}

/** The error for a device that is in use, as `use` says ("mounted on /mnt"). */
export function busyError(path: string, use: string, cause?: unknown): PcacheError {
  return new PcacheError('BUSY', `${path}: ${use}; stop that use first`, { cause });
}

/** Describes the use of a block device whose exclusive open the kernel refused. */
export function describeBusyDevice(path: string, roots: SystemRoots = SYSTEM_ROOTS): string {
  const status = statOrUndefined(path);
  const use = status && kernelUse(status, true, roots);
  if (use !== undefined) return use;
  // Another program that opens devices as this one does holds a flock as well.
  const [holder] = status === undefined ? [] : lockHolders(status, roots);
  if (holder !== undefined) return describeHolder(holder, roots);
  return 'in use by the kernel (mounted, swap, or part of another device) or opened exclusively by a process';
}

/**
 * Locks the open file `fd` until it is closed. If the device is in use, throws BUSY and names the holder; with
 * `allowBusy`, leaves it unlocked and returns a description of the use instead. Returns undefined when it was free.
 */
export function lockDevice(path: string, fd: number, options: LockOptions): string | undefined {
  const roots = options.roots ?? SYSTEM_ROOTS;
  const status = fstatSync(fd, { bigint: true });
  // The kernel's uses come first: they say more than a process id does.
  const use = kernelUse(status, options.exclusive, roots) ?? lockUse(path, fd, status, options.exclusive, roots);
  if (use !== undefined && options.allowBusy !== true) throw busyError(path, use);
  return use;
}

/** Identities of a device and of what it lies on: a loop device on its file, a partition on its disk. */
function identities(path: string, roots: SystemRoots): string[] {
  const status = statOrUndefined(path);
  if (status === undefined) return [];
  if (!status.isBlockDevice()) return [`file ${status.dev} ${status.ino}`];
  const directory = join(roots.sys, 'dev', 'block', deviceNumber(status.rdev));
  const names = [`device ${deviceNumber(status.rdev)}`];
  const backing = statOrUndefined(readText(join(directory, 'loop', 'backing_file')) ?? '');
  if (backing !== undefined) names.push(`file ${backing.dev} ${backing.ino}`);
  const disk = readText(join(directory, 'partition')) && readText(join(directory, '..', 'dev'));
  if (disk !== undefined) names.push(`device ${disk}`);
  return names;
}

/**
 * Whether two paths lead to the same bytes: one file or device, a loop device and its file, a disk and its
 * partition. False when either path does not exist.
 */
export function sameDevice(pathA: string, pathB: string, roots: SystemRoots = SYSTEM_ROOTS): boolean {
  const a = identities(pathA, roots);
  const b = identities(pathB, roots);
  return (a.length > 0 && b.includes(a[0])) || (b.length > 0 && a.includes(b[0]));
}
