/**
 * Retires a cache: erases everything by which the kernel, blkid, fsck or a later cache could recognise it or its log
 * (format §1, §2). Payload stays on the device.
 *
 * Order, each step durable before the next: superblock, tails, infos and generations of the segments, ksets, cache_info.
 * A wipe that is cut off therefore leaves one of two things: the whole cache, while the superblock is there; or a device
 * without a superblock, which nothing attaches as this cache, on which cache_info still tells that there was one, so
 * that the wipe can be run again. The tails go before any kset, so that no repair finds an empty log between them.
 */
import { TolerantReader } from '../device/tolerant-reader.js';
import type { Pmem, PmemReader } from '../device/pmem.js';
import {
  CACHE_CTRL_OFFSET_BYTES,
  CACHE_INFO_OFFSET_BYTES,
  DATA_OFFSET_IN_SEGMENT_BYTES,
  KIB,
  SUPERBLOCK_OFFSET_BYTES,
  segmentCountFor,
  segmentOffsetBytes,
  type Geometry,
} from '../media/geometry.js';
import { findSignatures } from './foreign-signatures.js';
import { KsetEraser } from './kset-eraser.js';

const BLOCK_BYTES = 4 * KIB;

export interface WipeTotals {
  /** Segments that the device has room for; all of them are wiped. */
  readonly segmentCount: number;
  /** Segments searched for ksets. */
  segmentsDone: number;
  /** Headers of ksets that were erased, those of earlier laps and caches included. */
  ksets: number;
}

/** @returns the totals of a wipe that has not begun. */
export function wipeTotals(pmem: PmemReader, geometry: Geometry): WipeTotals {
  return { segmentCount: segmentCountFor(geometry, pmem.sizeBytes), segmentsDone: 0, ksets: 0 };
}

/**
 * Wipes the cache on `pmem`, and counts in `totals`; yields the number of segments searched. Where the generator is
 * not run to its end, the device has no superblock, and wiping it again ends the work.
 * @throws PcacheError as `Pmem` does
 */
export function* wipeSteps(pmem: Pmem, geometry: Geometry, totals: WipeTotals): Generator<number, void> {
  pmem.zero(SUPERBLOCK_OFFSET_BYTES, BLOCK_BYTES);
  pmem.persist();

  pmem.zero(CACHE_CTRL_OFFSET_BYTES, BLOCK_BYTES);
  pmem.persist();

  const { segmentCount } = totals;
  for (let id = 0; id < segmentCount; id++) {
    pmem.zero(segmentOffsetBytes(geometry, id), DATA_OFFSET_IN_SEGMENT_BYTES);
  }
  pmem.persist();

  const eraser = new KsetEraser(pmem, geometry);
  for (let id = 0; id < segmentCount; id++) {
    totals.ksets += eraser.erase(id);
    totals.segmentsDone++;
    yield totals.segmentsDone;
  }
  // Payload may hold, where blkid looks, the superblock of a filesystem that was cached.
  for (const mark of findSignatures(new TolerantReader(pmem))) pmem.zero(mark.offsetBytes, mark.lengthBytes);
  pmem.persist();

  pmem.zero(0, BLOCK_BYTES);
  pmem.zero(CACHE_INFO_OFFSET_BYTES, CACHE_CTRL_OFFSET_BYTES - CACHE_INFO_OFFSET_BYTES);
  pmem.persist();
}
