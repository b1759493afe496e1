/**
 * Opens a cache, or a pack of one, and its backing device where one is given, to look at them. Nothing is
 * changed.
 */
import { openBacking, type BackingFile } from '../device/backing-file.js';
import type { OnBusy } from '../device/device-file.js';
import { sameDevice } from '../device/lock.js';
import { bestCrc32c } from '../device/native.js';
import { openPmemReader } from '../device/open.js';
import type { PmemReader } from '../device/pmem.js';
import { TolerantReader } from '../device/tolerant-reader.js';
import { ExitStatus, PcacheError } from '../errors.js';
import { KERNEL_GEOMETRY } from '../media/geometry.js';
import type { CacheMetadata } from '../media/metadata.js';
import type { MediaProblem } from '../media/problem.js';
import { badMedia, loadCache, type LoadedCache, type LoadOptions } from '../log/recovery.js';
import { isPackFile } from '../pack/pack-file.js';
import { PackReader } from '../pack/pack-reader.js';

export interface InspectOptions {
  /** The cache device, or a file that `pcache pack` wrote. */
  readonly cachePath: string;
  readonly backingPath: string | undefined;
  readonly native: boolean;
  /** Where given, a device in use is opened all the same and this is told which one, and what uses it. */
  readonly onBusy?: (path: string, use: string) => void;
}

export interface InspectedDevices {
  readonly pmem: PmemReader;
  readonly backing: BackingFile | undefined;
  close(): void;
}

export function openForInspection(options: InspectOptions): InspectedDevices {
  const { cachePath, backingPath, onBusy } = options;
  if (backingPath !== undefined && sameDevice(cachePath, backingPath)) {
    throw new PcacheError('USAGE', `${backingPath}: is the cache device itself; give the backing device`);
  }
  const busy = (path: string): { onBusy?: OnBusy } =>
    onBusy === undefined ? {} : { onBusy: (use) => onBusy(path, use) };
  const pmem = isPackFile(cachePath)
    ? new PackReader(cachePath)
    : openPmemReader(cachePath, { native: options.native, ...busy(cachePath) });
  try {
    const backing =
      backingPath === undefined ? undefined : openBacking(backingPath, { readOnly: true, ...busy(backingPath) });
    return {
      pmem,
      backing,
      close: () => {
        backing?.close();
        pmem.close();
      },
    };
  } catch (error) {
    pmem.close();
    throw error;
  }
}

/** How to load a cache to look at it: kernel geometry, payload not checked. */
export function inspectionLoad(devices: InspectedDevices): LoadOptions {
  return {
    geometry: KERNEL_GEOMETRY,
    backingBytes: devices.backing?.sizeBytes ?? Infinity,
    checkPayload: false,
    crc: bestCrc32c(),
  };
}

/** Nothing on the device says that it is a cache. */
export function isForeign(metadata: CacheMetadata): boolean {
  const { superblock, cacheInfo, keyTail, dirtyTail } = metadata;
  return !superblock.magicOk && !cacheInfo.value && !keyTail.value && !dirtyTail.value;
}

/** The error for a cache that is too damaged for what was asked; its status is that of problems left. */
export function damagedCache(path: string, metadata: CacheMetadata, problems: readonly MediaProblem[]): PcacheError {
  const error = badMedia(path, problems);
  return isForeign(metadata)
    ? error
    : new PcacheError('BAD_MEDIA', error.message, { exitStatus: ExitStatus.problemsLeft });
}

/** Loads the cache of `devices`. @throws PcacheError BAD_MEDIA or NOT_PCACHE when it cannot be. */
export function loadForInspection(devices: InspectedDevices): LoadedCache {
  const result = loadCache(new TolerantReader(devices.pmem), inspectionLoad(devices));
  if ('cache' in result) return result.cache;
  throw damagedCache(devices.pmem.path, result.metadata, result.problems);
}
