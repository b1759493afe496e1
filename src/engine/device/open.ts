/**
 * Opens the cache device: mapped through the native helper, or for reading by plain reads without it. Every
 * failure is one PcacheError that names the path.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { fromSystemError, PcacheError } from '../errors.js';
import { openDeviceFile, type OnBusy } from './device-file.js';
import { FileReader } from './file-reader.js';
import { MappedPmem, MappedReader, type MappedDevice } from './mapped.js';
import { nativeAddon, nativeAddonIfAvailable } from './native.js';
import type { Pmem, PmemReader } from './pmem.js';

export interface OpenReaderOptions {
  /** False to read the file plainly even where the native helper could map it. Default true. */
  readonly native?: boolean;
  /** Where given, a device in use is opened all the same and this is told what uses it. */
  readonly onBusy?: OnBusy;
}

/** Opens `path` for reading; nothing is changed. Takes a shared lock. */
export function openPmemReader(path: string, options: OpenReaderOptions = {}): PmemReader {
  const file = openDeviceFile(path, { writable: false, onBusy: options.onBusy });
  try {
    const addon = options.native === false ? undefined : nativeAddonIfAvailable();
    if (addon !== undefined) return new MappedReader(addon, file);
    if (file.kind === 'dax') {
      throw new PcacheError(
        'NATIVE_MISSING',
        `${path}: a DAX character device can only be mapped, which needs the native helper; build it with: npm run build:native`,
      );
    }
    return new FileReader(path, file.fd, file.sizeBytes);
  } catch (error) {
    closeSync(file.fd);
    throw error;
  }
}

export interface OpenPmemOptions {
  /** The caller wants no durability: `persist` is then a fence on any device. Default false. */
  readonly ephemeral?: boolean;
}

/** Opens `path` for reading and writing. Takes an exclusive lock. Throws NATIVE_MISSING without the helper. */
export function openPmem(path: string, options: OpenPmemOptions = {}): Pmem {
  const addon = nativeAddon();
  const file = openDeviceFile(path, { writable: true });
  try {
    return new MappedPmem(addon, file, options.ephemeral ?? false);
  } catch (error) {
    closeSync(file.fd);
    throw error;
  }
}

/**
 * Maps a device once more, in another thread of the process that has it open, and its lock: handles of the native
 * helper, and its guard against faults, belong to one thread each.
 */
export function mapAgain(device: MappedDevice): MappedPmem {
  const { path, sizeBytes, ephemeral } = device;
  let fd: number;
  try {
    // Not by its path, which may lead nowhere by now: ephemeral files have none.
    fd = openSync(`/proc/self/fd/${device.fd}`, constants.O_RDWR);
  } catch (error) {
    throw fromSystemError(error, path, 'opening it for another thread');
  }
  try {
    return new MappedPmem(nativeAddon(), { path, fd, sizeBytes }, ephemeral);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
