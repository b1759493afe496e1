/** Makes a cache on a file or device. */
import { setImmediate } from 'node:timers/promises';
import { planJob, runJob } from '../engine/create/format-target.js';
import { PcacheError } from '../engine/errors.js';
import { GC_PERCENT_DEFAULT, type CacheMode } from '../engine/media/codecs.js';

/** What {@link formatCache} makes. */
export interface FormatCacheOptions {
  /** File, block device or DAX device. */
  readonly cachePath: string;
  /** Size in bytes of the file to create, a multiple of 4096 and at least 512 MiB. Leave it out for what exists. */
  readonly sizeBytes?: number;
  /** Store a CRC of the payload with every key. Default false. */
  readonly dataCrc?: boolean;
  /** Percentage of segments in use at which garbage collection starts, 0 to 90. Default 70. */
  readonly gcPercent?: number;
  /** Default `writeback`, the only mode that the kernel has. */
  readonly mode?: CacheMode;
  /** Overwrite what the device holds, and resize an existing file. Default false. */
  readonly force?: boolean;
  /** Called with the number of segments done and of all segments. */
  readonly onProgress?: (segmentsDone: number, segmentCount: number) => void;
  /** Ends the work early; the unfinished cache has no superblock. */
  readonly signal?: AbortSignal;
}

/** What {@link formatCache} has made. */
export interface FormattedCache {
  /** Size of the cache device in bytes. */
  readonly deviceBytes: number;
  /** Number of segments of 16 MiB. */
  readonly segmentCount: number;
  /** Bytes for payload and log. */
  readonly dataBytes: number;
  readonly dataCrc: boolean;
  readonly gcPercent: number;
  readonly mode: CacheMode;
}

/** Segments between two turns of the event loop. */
const SEGMENTS_PER_TURN = 64;

/**
 * Makes a cache that the kernel attaches (docs/format.md §1). A device that holds a cache, a file system or anything
 * else that is recognised is refused unless `force` is set. The superblock is written last.
 * @throws {@link PcacheError} USAGE, NOT_FOUND, NO_ACCESS, BUSY, TOO_SMALL, NO_SPACE, IO; ALREADY_PCACHE and
 *   FOREIGN_SIGNATURE for a device that is not empty; INTERRUPTED by `signal`; NATIVE_MISSING without the native helper
 */
export async function formatCache(options: FormatCacheOptions): Promise<FormattedCache> {
  const { cachePath, sizeBytes, dataCrc = false, gcPercent = GC_PERCENT_DEFAULT, mode = 'writeback' } = options;
  const { force = false, onProgress, signal } = options;
  const job = planJob({ path: cachePath, sizeBytes, dataCrc, gcPercent, mode, force });
  const { deviceBytes, segmentCount, dataBytes } = job.plan;
  for (const done of runJob(cachePath, job, force)) {
    onProgress?.(done, segmentCount);
    if (done % SEGMENTS_PER_TURN === 0) await setImmediate();
    if (signal?.aborted) {
      throw new PcacheError('INTERRUPTED', `${cachePath}: not formatted; the unfinished cache has no superblock`);
    }
  }
  return { deviceBytes, segmentCount, dataBytes, dataCrc, gcPercent, mode };
}
