/** Opens the devices of an offline write-back, each only as far as it will be written. */
import { openBacking } from '../engine/device/backing-file.js';
import { sameDevice } from '../engine/device/lock.js';
import { openPmem, openPmemReader } from '../engine/device/open.js';
import { PcacheError } from '../engine/errors.js';
import { isPackFile } from '../engine/pack/pack-file.js';
import type { WritebackDevices } from './offline-writeback.js';

export interface OpenForWritebackOptions {
  readonly cachePath: string;
  readonly backingPath: string;
  readonly dryRun: boolean;
  readonly keepMetadata: boolean;
  readonly native: boolean;
}

/** Both are locked: for writing what will be written, for reading the other. The caller closes both. */
export function openForWriteback(options: OpenForWritebackOptions): WritebackDevices & { close(): void } {
  const { cachePath, backingPath, dryRun, keepMetadata, native } = options;
  if (sameDevice(cachePath, backingPath)) {
    throw new PcacheError('USAGE', `${backingPath}: is the cache device itself; give the backing device`);
  }
  if (isPackFile(cachePath)) {
    throw new PcacheError(
      'UNSUPPORTED',
      `${cachePath}: a packed cache; make a device or image of it with "pcache unpack"`,
    );
  }
  const writable = dryRun || keepMetadata ? undefined : openPmem(cachePath);
  const cache = writable ?? openPmemReader(cachePath, { native });
  try {
    const backing = openBacking(backingPath, { readOnly: dryRun });
    return {
      cache,
      writable,
      backing,
      close: () => {
        backing.close();
        cache.close();
      },
    };
  } catch (error) {
    cache.close();
    throw error;
  }
}
