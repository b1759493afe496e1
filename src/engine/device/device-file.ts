/**
 * Opens a regular file, block device or DAX character device by path, finds its size and locks it. Both the
 * cache device and the backing device are opened here.
 */
import { closeSync, constants, fstatSync, openSync, readlinkSync, statSync, type BigIntStats } from 'node:fs';
import { basename, join } from 'node:path';
import { fromSystemError, PcacheError } from '../errors.js';
import { deviceNumber, readText, SYSTEM_ROOTS } from './holders.js';
import { busyError, describeBusyDevice, lockDevice } from './lock.js';

export type DeviceKind = 'file' | 'block' | 'dax';

/** Receives the description of a busy device's use; with it, the device is opened instead of refused. */
export type OnBusy = (use: string) => void;

export interface DeviceFile {
  readonly path: string;
  readonly fd: number;
  readonly kind: DeviceKind;
  readonly sizeBytes: number;
}

export interface OpenDeviceOptions {
  readonly writable: boolean;
  readonly onBusy?: OnBusy | undefined;
}

function kindOf(path: string, status: BigIntStats): DeviceKind {
  if (status.isFile()) return 'file';
  if (status.isBlockDevice()) return 'block';
  let what = 'a socket';
  if (status.isDirectory()) what = 'a directory';
  else if (status.isFIFO()) what = 'a FIFO';
  else if (status.isCharacterDevice()) {
    if (isDax(status)) return 'dax';
    what = 'a character device that is not DAX';
  }
  throw new PcacheError('NOT_A_DEVICE', `${path}: is ${what}; give a regular file or a block device`);
}

function characterDirectory(status: BigIntStats): string {
  return join(SYSTEM_ROOTS.sys, 'dev', 'char', deviceNumber(status.rdev));
}

function isDax(status: BigIntStats): boolean {
  try {
    return basename(readlinkSync(join(characterDirectory(status), 'subsystem'))) === 'dax';
  } catch {
    return false;
  }
}

function sizeOf(path: string, kind: DeviceKind, status: BigIntStats): number {
  let sizeBytes: number;
  if (kind === 'file') {
    sizeBytes = Number(status.size);
    if (sizeBytes === 0)
      throw new PcacheError(
        'TOO_SMALL',
        `${path}: is an empty file; give it a size first, for example: truncate -s 1G ${path}`,
      );
  } else {
    const directory =
      kind === 'dax' ? characterDirectory(status) : join(SYSTEM_ROOTS.sys, 'dev', 'block', deviceNumber(status.rdev));
    // sysfs gives a block device's size in 512-byte sectors, whatever its sector size, and a DAX device's in bytes.
    sizeBytes = Number(readText(join(directory, 'size')) ?? NaN) * (kind === 'block' ? 512 : 1);
    if (Number.isNaN(sizeBytes))
      throw new PcacheError('IO', `${path}: its size is not in ${directory}; mount sysfs on ${SYSTEM_ROOTS.sys}`);
    if (sizeBytes === 0) throw new PcacheError('TOO_SMALL', `${path}: has size 0; nothing is attached to it`);
  }
  if (!Number.isSafeInteger(sizeBytes)) throw new PcacheError('UNSUPPORTED', `${path}: is larger than 2^53 bytes`);
  return sizeBytes;
}

function openFile(path: string, kind: DeviceKind, writable: boolean): number {
  const access = writable ? constants.O_RDWR : constants.O_RDONLY;
  // On a block device, O_EXCL without O_CREAT takes the kernel's own lock, which mounts and device-mapper take too.
  const exclusive = writable && kind === 'block' ? constants.O_EXCL : 0;
  try {
    return openSync(path, access | exclusive);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBUSY') throw busyError(path, describeBusyDevice(path), error);
    throw fromSystemError(error, path, writable ? 'opening it for writing' : 'opening it');
  }
}

/** Opens and locks `path`. The caller closes `fd`, which also ends the lock. */
export function openDeviceFile(path: string, options: OpenDeviceOptions): DeviceFile {
  let kind: DeviceKind;
  try {
    // stat comes before open: opening a FIFO would wait for its other end.
    kind = kindOf(path, statSync(path, { bigint: true }));
  } catch (error) {
    throw fromSystemError(error, path, 'opening it');
  }
  const fd = openFile(path, kind, options.writable);
  try {
    const sizeBytes = sizeOf(path, kind, fstatSync(fd, { bigint: true }));
    const use = lockDevice(path, fd, { exclusive: options.writable, allowBusy: options.onBusy !== undefined });
    if (use !== undefined) options.onBusy?.(use);
    return { path, fd, kind, sizeBytes };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/**
 * Opens an open file again, so that another thread of this process has its own descriptor. It does not use the
 * path, which may be gone: ephemeral files have none.
 */
export function reopen(path: string, fd: number): number {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_RDWR);
  } catch (error) {
    throw fromSystemError(error, path, 'opening it for another thread');
  }
}

/** Runs `make`, which takes over the open file `fd`; closes the file if `make` throws. */
export function orClose<T>(fd: number, make: () => T): T {
  try {
    return make();
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
