/**
 * The slow block device behind the cache. The only asynchronous thing the engine knows.
 *
 * `done` is called exactly once, never before the call returns: with null, or with a PcacheError that names
 * the device and the range. Short transfers are continued inside; an end of file within the device's size
 * reads as an error. Buffers must stay untouched until `done`.
 */
import type { Pmem } from './pmem.js';

export type BackingDone = (error: Error | null) => void;

/** Ranges of a cache device, and where on the backing device each goes; in columns. */
export interface PmemRanges {
  readonly pmemOffsetBytes: Float64Array;
  readonly offsetBytes: Float64Array;
  /** Not 0. */
  readonly lengthBytes: Float64Array;
}

/** Writes `ranges[0, count)`, which stay untouched until `done`; that is called as for one write. */
export type PmemRangesWriter = (ranges: PmemRanges, count: number, done: BackingDone) => void;

export interface BackingDevice {
  /** What to call the device in messages. */
  readonly path: string;
  /** Size in bytes, a multiple of 512. */
  readonly sizeBytes: number;
  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number, done: BackingDone): void;
  write(offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number, done: BackingDone): void;
  /** What writes straight out of a cache device, with no copy in between; where there is such a thing for it. */
  writerFrom?(pmem: Pmem): PmemRangesWriter | undefined;
  /** Makes everything written so far durable. */
  flush(done: BackingDone): void;
  /** No call may be under way. */
  close(): void;
}
