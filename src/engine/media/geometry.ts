/**
 * Offsets of everything on a cache device (format §1). What depends on the segment size goes through a
 * `Geometry`, so that tests can run with small segments; a device that a kernel may attach always uses
 * `KERNEL_GEOMETRY`.
 */
import { assert } from '../errors.js';

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

/** All offsets and lengths of requests and keys are multiples of this. */
export const SECTOR_BYTES = 512;
export const SECTOR_SHIFT = 9;

/** A key never crosses a boundary of this many bytes of the logical space; each such range is a subtree. */
export const SUBTREE_BYTES = 4 * MIB;
export const SUBTREE_SHIFT = 22;
export const SUBTREE_SECTORS = SUBTREE_BYTES / SECTOR_BYTES;

/** The subtree that a byte of the logical device belongs to. */
export function subtreeOf(offsetBytes: number): number {
  return (offsetBytes / SUBTREE_BYTES) | 0;
}
/** The sector of its subtree (0…8191) that a byte of the logical device lies in. */
export function sectorInSubtree(offsetBytes: number, subtree: number): number {
  return (offsetBytes - subtree * SUBTREE_BYTES) >> SECTOR_SHIFT;
}

export const SUPERBLOCK_OFFSET_BYTES = 4 * KIB;
export const CACHE_INFO_OFFSET_BYTES = 8 * KIB;
export const CACHE_INFO_STRIDE_BYTES = 4 * KIB;
export const CACHE_CTRL_OFFSET_BYTES = 16 * KIB;
export const KEY_TAIL_OFFSET_BYTES = CACHE_CTRL_OFFSET_BYTES;
export const DIRTY_TAIL_OFFSET_BYTES = CACHE_CTRL_OFFSET_BYTES + 32;
export const POSITION_STRIDE_BYTES = 16;
export const SEGMENTS_OFFSET_BYTES = 20 * KIB;

export const SEGMENT_INFO_OFFSET_IN_SEGMENT_BYTES = 0;
export const SEGMENT_INFO_STRIDE_BYTES = 4 * KIB;
export const GENERATION_OFFSET_IN_SEGMENT_BYTES = 8 * KIB;
export const GENERATION_STRIDE_BYTES = 16;
export const DATA_OFFSET_IN_SEGMENT_BYTES = 12 * KIB;

export const KERNEL_SEGMENT_BYTES = 16 * MIB;
export const MIN_DEVICE_BYTES = 512 * MIB;
export const MAX_SEGMENTS = 2 ** 20;

export interface Geometry {
  /** Size of a segment with its metadata, bytes. */
  readonly segmentBytes: number;
  /** Size of a segment's data area, bytes: where payload and ksets lie. */
  readonly segmentDataBytes: number;
}

/** @param segmentBytes a multiple of 4 KiB, at least 32 KiB and at most the kernel's 16 MiB. */
export function makeGeometry(segmentBytes: number): Geometry {
  assert(segmentBytes % (4 * KIB) === 0, 'segment size must be a multiple of 4 KiB');
  assert(segmentBytes >= 32 * KIB && segmentBytes <= KERNEL_SEGMENT_BYTES, 'segment size out of range');
  return Object.freeze({ segmentBytes, segmentDataBytes: segmentBytes - DATA_OFFSET_IN_SEGMENT_BYTES });
}

export const KERNEL_GEOMETRY = makeGeometry(KERNEL_SEGMENT_BYTES);

/** Least size in bytes of a device with so many segments. */
export function cacheBytesFor(geometry: Geometry, segmentCount: number): number {
  const endBytes = segmentOffsetBytes(geometry, segmentCount);
  return geometry.segmentBytes === KERNEL_SEGMENT_BYTES ? Math.max(MIN_DEVICE_BYTES, endBytes) : endBytes;
}

/** Number of segments that fit on a device of `deviceBytes` (format §1), at most `MAX_SEGMENTS`. */
export function segmentCountFor(geometry: Geometry, deviceBytes: number): number {
  const count = Math.floor((deviceBytes - SEGMENTS_OFFSET_BYTES) / geometry.segmentBytes);
  return Math.max(0, Math.min(count, MAX_SEGMENTS));
}

/** Byte offset on the device of the segment with physical id `physicalId`. */
export function segmentOffsetBytes(geometry: Geometry, physicalId: number): number {
  return SEGMENTS_OFFSET_BYTES + physicalId * geometry.segmentBytes;
}

/** Byte offset on the device of the data area of the segment with physical id `physicalId`. */
export function segmentDataOffsetBytes(geometry: Geometry, physicalId: number): number {
  return segmentOffsetBytes(geometry, physicalId) + DATA_OFFSET_IN_SEGMENT_BYTES;
}

/** Byte offsets of the two copies of a dual structure. */
export type CopyOffsets = readonly [number, number];

const copiesFrom = (first: number, stride: number): CopyOffsets => [first, first + stride];

export const CACHE_INFO_COPIES = copiesFrom(CACHE_INFO_OFFSET_BYTES, CACHE_INFO_STRIDE_BYTES);
export const KEY_TAIL_COPIES = copiesFrom(KEY_TAIL_OFFSET_BYTES, POSITION_STRIDE_BYTES);
export const DIRTY_TAIL_COPIES = copiesFrom(DIRTY_TAIL_OFFSET_BYTES, POSITION_STRIDE_BYTES);

export function segmentInfoCopies(geometry: Geometry, physicalId: number): CopyOffsets {
  return copiesFrom(
    segmentOffsetBytes(geometry, physicalId) + SEGMENT_INFO_OFFSET_IN_SEGMENT_BYTES,
    SEGMENT_INFO_STRIDE_BYTES,
  );
}

export function generationCopies(geometry: Geometry, physicalId: number): CopyOffsets {
  return copiesFrom(
    segmentOffsetBytes(geometry, physicalId) + GENERATION_OFFSET_IN_SEGMENT_BYTES,
    GENERATION_STRIDE_BYTES,
  );
}

assert(KEY_TAIL_OFFSET_BYTES + 2 * POSITION_STRIDE_BYTES === DIRTY_TAIL_OFFSET_BYTES, 'tails do not adjoin');
assert(KERNEL_GEOMETRY.segmentDataBytes === 16_764_928, 'the data area has the size of format §1');
assert(segmentCountFor(KERNEL_GEOMETRY, MIN_DEVICE_BYTES) === 31, 'a 512 MiB device must have 31 segments');
