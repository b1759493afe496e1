/** Checks a cache that is opened by path, changing nothing. */
import { bestCrc32c } from '../engine/device/native.js';
import { openForInspection } from '../engine/inspect/open.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import { checkCache as checkReader, type CheckResult } from '../fsck/check.js';

/** What {@link checkCache} checks. */
export interface CheckCacheOptions {
  /** Cache device, image file, or a file that `pcache pack` wrote. */
  readonly cachePath: string;
  /** Backing device of the cache. Without it, keys are not checked against its size. */
  readonly backingPath?: string;
  /** Check payload against its CRC, where the cache has `data_crc`. Default true. */
  readonly checkPayload?: boolean;
  /** Threads that check payload. Default: one for each processor, at most 8. */
  readonly threads?: number;
  /** Called now and then with the number of bytes read. */
  readonly onProgress?: (bytesRead: number) => void;
}

/**
 * Checks metadata, log and payload of a cache: everything that the kernel would refuse and everything that it would
 * silently lose. Changes nothing. Damage is a finding in the result, not an error. Blocks until it is done; run it in a
 * worker thread where that matters. docs/findings.md explains every finding.
 * @throws {@link PcacheError} NOT_FOUND, NO_ACCESS, BUSY, NOT_PCACHE, UNSUPPORTED, TRUNCATED, IO
 */
export function checkCache(options: CheckCacheOptions): CheckResult {
  const { cachePath, backingPath, checkPayload: data = true, threads, onProgress } = options;
  const devices = openForInspection({ cachePath, backingPath, native: true });
  try {
    return checkReader(devices.pmem, {
      geometry: KERNEL_GEOMETRY,
      crc: bestCrc32c(),
      data,
      ...(devices.backing === undefined ? {} : { backingBytes: devices.backing.sizeBytes }),
      ...(threads === undefined ? {} : { threads }),
      ...(onProgress === undefined ? {} : { onProgress }),
    });
  } finally {
    devices.close();
  }
}
