/**
 * The slow block device behind the cache: the only asynchronous device that the engine uses.
 *
 * `done` is called exactly once, never before the call returns: with null, or with a PcacheError that names
 * the device and the range. Short transfers are continued inside; an end of file within the device's size
 * is an error. The caller leaves buffers untouched until `done`.
 */
import type { Pmem } from './pmem.js';

export type BackingDone = (error: Error | null) => void;

/** Ranges of a cache device, each with its offset on the backing device; a struct of arrays. */
export interface PmemRanges {
  readonly pmemOffsetBytes: Float64Array;
  readonly offsetBytes: Float64Array;
  /** Above 0. */
  readonly lengthBytes: Float64Array;
}

/** Writes `ranges[0, count)`. The caller leaves them untouched until `done`, which is called once for all of them. */
export type PmemRangesWriter = (ranges: PmemRanges, count: number, done: BackingDone) => void;

/** Data and holes of a range, one behind another; a struct of arrays. */
export interface BackingExtents {
  /** Where each ends, bytes. */
  readonly endBytes: Float64Array;
  /** 1 for a hole, which reads as zeroes. */
  readonly isHole: Uint8Array;
  count: number;
}

export interface BackingDevice {
  /** Name of the device in messages. */
  readonly path: string;
  /** Size in bytes, a multiple of 512. */
  readonly sizeBytes: number;
  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number, done: BackingDone): void;
  write(offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number, done: BackingDone): void;
  /** A writer that copies straight from `pmem` to this device, or undefined where the pair of devices cannot do it. */
  writerFrom?(pmem: Pmem): PmemRangesWriter | undefined;
  /**
   * Finds data and holes of a range; as many as fit into `extents`, which then may end before it. Absent where all is
   * data. The caller leaves `extents` untouched until `done`.
   */
  extents?(offsetBytes: number, lengthBytes: number, extents: BackingExtents, done: BackingDone): void;
  /** Whether `zero` makes holes. Absent or false where all zeroes would have to be written. */
  readonly canPunch?: boolean;
  /** Makes a range read as zeroes: as a hole where `canPunch`, or with its space kept. Absent where that is a write. */
  zero?(offsetBytes: number, lengthBytes: number, keepsSpace: boolean, done: BackingDone): void;
  /** Makes everything written or zeroed so far durable. */
  flush(done: BackingDone): void;
  /** Closes the device. No call may be under way. */
  close(): void;
}
