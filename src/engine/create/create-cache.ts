/**
 * Creates a cache: writes the bytes that the kernel leaves on a device after its first attach (format §1).
 *
 * Invariants: the old superblock is erased durably before anything else is touched, and the new one is written
 * last, after everything that it vouches for is durable. An interrupted format therefore leaves a device
 * without a superblock, never one that attaches half-way.
 *
 * Choices that the format leaves open:
 * - Bytes that the kernel does not initialise (`version` and `reserved` of positions and generations) are
 *   zero, and so is the superblock's padding: its block is cleared first.
 * - gc_percent goes into the one cache_info that is written; the kernel would write its default and then, on a
 *   message, a second copy. The status line is the same.
 * - Generations of an earlier cache go on, see `SegmentHead`.
 */
import { eraseBackingRecord } from '../copies/backing-record.js';
import { PcacheError } from '../errors.js';
import {
  CACHE_MODES,
  encodeCacheFlags,
  encodeCacheInfo,
  encodePosition,
  encodeSuperblock,
  GC_PERCENT_MAX,
  type CacheMode,
  type Position,
} from '../media/codecs.js';
import {
  CACHE_CTRL_OFFSET_BYTES,
  CACHE_INFO_COPIES,
  DIRTY_TAIL_COPIES,
  KERNEL_GEOMETRY,
  KERNEL_SEGMENT_BYTES,
  KEY_TAIL_COPIES,
  KIB,
  MIN_DEVICE_BYTES,
  segmentCountFor,
  segmentOffsetBytes,
  SEGMENTS_OFFSET_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  type Geometry,
} from '../media/geometry.js';
import type { Signature } from './foreign-signatures.js';
import type { Pmem } from '../device/pmem.js';
import { FIRST_SEQ, SegmentHead } from './segment-head.js';

const BLOCK_BYTES = 4 * KIB;
/** One segment for payload and one for ksets: fewer cannot hold a cache. */
const MIN_SEGMENTS = 2;

export interface FormatOptions {
  /** Keep a CRC of every payload. */
  readonly dataCrc: boolean;
  /** 0 to 90: GC starts when this much of the cache is used. */
  readonly gcPercent: number;
  /** Default writeback, the only mode that the kernel's target implements. */
  readonly mode?: CacheMode;
  /** For tests; default is the kernel's. */
  readonly geometry?: Geometry;
}

export interface FormatPlan {
  readonly geometry: Geometry;
  readonly deviceBytes: number;
  readonly segmentCount: number;
  /** Size of all data areas together, for payload and log, bytes. */
  readonly dataBytes: number;
  /** Size of the unused end of the device: too small for a segment, or beyond the maximum number of segments; bytes. */
  readonly unusedBytes: number;
  readonly dataCrc: boolean;
  readonly gcPercent: number;
  readonly mode: CacheMode;
  /** The flags word of cache_info. */
  readonly cacheFlags: number;
}

/**
 * Plans the cache that formatting a device of `deviceBytes` would create.
 * @throws PcacheError USAGE for a gc_percent out of range, TOO_SMALL for a device below the format's minimum
 */
export function planFormat(deviceBytes: number, options: FormatOptions): FormatPlan {
  const { dataCrc, gcPercent, mode = 'writeback', geometry = KERNEL_GEOMETRY } = options;
  if (!Number.isInteger(gcPercent) || gcPercent < 0 || gcPercent > GC_PERCENT_MAX) {
    throw new PcacheError('USAGE', `gc_percent is ${gcPercent}; it must be a whole number from 0 to ${GC_PERCENT_MAX}`);
  }
  const leastBytes =
    geometry.segmentBytes === KERNEL_SEGMENT_BYTES
      ? MIN_DEVICE_BYTES
      : SEGMENTS_OFFSET_BYTES + MIN_SEGMENTS * geometry.segmentBytes;
  if (deviceBytes < leastBytes) {
    throw new PcacheError(
      'TOO_SMALL',
      `${deviceBytes} bytes are too few for a cache; it takes at least ${leastBytes} (512 MiB)`,
    );
  }
  const segmentCount = segmentCountFor(geometry, deviceBytes);
  return {
    geometry,
    deviceBytes,
    segmentCount,
    dataBytes: segmentCount * geometry.segmentDataBytes,
    unusedBytes: deviceBytes - segmentOffsetBytes(geometry, segmentCount),
    dataCrc,
    gcPercent,
    mode,
    cacheFlags: encodeCacheFlags({ dataCrc, initDone: true, modeNumber: CACHE_MODES.indexOf(mode), gcPercent }),
  };
}

/**
 * Formats `pmem` in one call. See `formatSteps`.
 * @param wipe marks of other formats to erase, as `findSignatures` gives them.
 */
export function formatDevice(pmem: Pmem, plan: FormatPlan, wipe: readonly Signature[] = []): void {
  const steps = formatSteps(pmem, plan, wipe);
  while (steps.next().done !== true);
}

/**
 * Formats `pmem` segment by segment and yields the number of segments done, so that the caller can show progress,
 * let signals in, or stop: a device on which it stopped half-way has no superblock.
 * @throws PcacheError as `Pmem` does
 */
export function* formatSteps(pmem: Pmem, plan: FormatPlan, wipe: readonly Signature[]): Generator<number, void> {
  yield* prepareSteps(pmem, plan, wipe);
  commitCache(pmem, plan, { segment: 0, offsetBytes: 0 });
}

/**
 * The first part of formatting, after which `commitCache` follows: erases what was there, and writes the heads of the
 * segments. Yields the number of segments done. Not durable at the end.
 * @throws PcacheError as `Pmem` does
 */
export function* prepareSteps(pmem: Pmem, plan: FormatPlan, wipe: readonly Signature[]): Generator<number, void> {
  if (pmem.sizeBytes !== plan.deviceBytes) {
    throw new PcacheError(
      'OUT_OF_RANGE',
      `${pmem.path}: has ${pmem.sizeBytes} bytes instead of the planned ${plan.deviceBytes}; run the command again`,
    );
  }
  pmem.zero(SUPERBLOCK_OFFSET_BYTES, BLOCK_BYTES);
  pmem.persist();

  erase(pmem, wipe);
  eraseBackingRecord(pmem);
  for (const offset of CACHE_INFO_COPIES) pmem.zero(offset, BLOCK_BYTES);
  pmem.zero(CACHE_CTRL_OFFSET_BYTES, BLOCK_BYTES);
  pmem.persist();

  const head = new SegmentHead(plan);
  for (let id = 0; id < plan.segmentCount; id++) {
    head.write(pmem, id);
    yield id + 1;
  }
}

/**
 * The last part: makes what was stored in the segments a cache, whose log begins with segment 0.
 * @throws PcacheError as `Pmem` does
 */
export function commitCache(pmem: Pmem, plan: FormatPlan, dirtyTail: Position): void {
  const tails = [
    [DIRTY_TAIL_COPIES, dirtyTail],
    [KEY_TAIL_COPIES, { segment: 0, offsetBytes: 0 }],
  ] as const;
  for (const [copies, position] of tails) {
    const bytes = encodePosition(position, FIRST_SEQ);
    pmem.write(copies[0], bytes, 0, bytes.length);
  }
  pmem.persist(); // segments and tails before cache_info

  // INIT_DONE vouches for the segments and tails, so it follows them. The kernel's first write is to copy 1.
  const info = encodeCacheInfo(
    { firstSegmentId: 0, segmentCount: plan.segmentCount, flags: plan.cacheFlags },
    FIRST_SEQ,
  );
  pmem.write(CACHE_INFO_COPIES[1], info, 0, info.length);
  pmem.persist(); // everything before the superblock

  const superblock = encodeSuperblock(plan.segmentCount);
  pmem.write(SUPERBLOCK_OFFSET_BYTES, superblock, 0, superblock.length);
  pmem.persist();
}

/** Erases the marks of other formats, and the whole unused block before the superblock if one of them is in it. */
function erase(pmem: Pmem, marks: readonly Signature[]): void {
  for (const mark of marks) pmem.zero(mark.offsetBytes, mark.lengthBytes);
  if (marks.some((mark) => mark.offsetBytes < SUPERBLOCK_OFFSET_BYTES)) pmem.zero(0, SUPERBLOCK_OFFSET_BYTES);
}
