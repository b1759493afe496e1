/**
 * Lets a cache use segments that its device has room for since it grew (format §1). Nothing that the cache holds is
 * moved: the new segments go behind the chain.
 *
 * Order, each step durable before the next: the new segments' data areas; their infos and generations, and the link to
 * them; cache_info; superblock. After a crash the cache is
 * - as before, up to the link, which counts for nothing while cache_info ends the chain before it;
 * - refused by the kernel and by pcache, with cache_info counting more segments than the superblock: growing it again,
 *   or `fsck -y`, ends the work. The other order would let the kernel hand out segments that it has not loaded;
 * - larger, when the superblock counts the new segments.
 * The superblock has no second copy, so its count changes by a single store, see `superblockWord`.
 */
import { DualWriter } from '../copies/dual-writer.js';
import type { Pmem, PmemReader } from '../device/pmem.js';
import {
  decodeSegmentInfo,
  decodeSuperblock,
  encodeCacheInfo,
  encodeSegmentInfo,
  SEGMENT_INFO_BYTES,
  SUPERBLOCK_BYTES,
  type SegmentInfo,
} from '../media/codecs.js';
import { wordOfCrc } from '../media/crc32c.js';
import { readDual } from '../media/dual.js';
import {
  segmentCountFor,
  segmentDataOffsetBytes,
  segmentInfoCopies,
  SUPERBLOCK_OFFSET_BYTES,
  type Geometry,
} from '../media/geometry.js';
import { KSET_HEADER_BYTES } from '../media/kset.js';
import { readMetadata } from '../media/metadata.js';
import { AssertionError, PcacheError } from '../errors.js';
import { findSignatures, type Signature } from './foreign-signatures.js';
import { KsetEraser } from './kset-eraser.js';
import { SegmentHead } from './segment-head.js';

/** Offset of seg_num and the padding behind it: one aligned word of 8 bytes (format §1.1). */
const SUPERBLOCK_COUNT_OFFSET = 16;

/** What growing a cache will do. */
export interface GrowPlan {
  readonly geometry: Geometry;
  readonly deviceBytes: number;
  /** Segments that the cache uses now, by cache_info. */
  readonly segmentsBefore: number;
  /** Segments that the superblock counts now; fewer than cache_info where a growth was cut off. */
  readonly superblockSegments: number;
  /** Segments that it will use: all that the device has room for. */
  readonly segmentsAfter: number;
  /** Marks of other formats in the space that becomes segments. */
  readonly foreign: readonly Signature[];
}

/**
 * Plans the growth of a cache to the size of its device. Reads the metadata, changes nothing.
 * @param deviceBytes size that the device will have
 * @throws PcacheError UNSUPPORTED for a chain that uses segments behind it, which no known program makes; IO
 */
export function planGrowth(pmem: PmemReader, geometry: Geometry, deviceBytes = pmem.sizeBytes): GrowPlan {
  const { superblock, chain, cacheInfo } = readMetadata(pmem, geometry);
  const segmentsBefore = cacheInfo.value?.segmentCount ?? 0;
  if (chain.length !== segmentsBefore || chain.physicalId.some((id) => id >= segmentsBefore)) {
    throw new PcacheError(
      'UNSUPPORTED',
      `${pmem.path}: its chain does not hold the first ${segmentsBefore} segments of the device, so it cannot grow; make a new cache instead`,
    );
  }
  const firstNewByte = segmentDataOffsetBytes(geometry, segmentsBefore - 1) + geometry.segmentDataBytes;
  return {
    geometry,
    deviceBytes,
    segmentsBefore,
    superblockSegments: superblock.segmentCount,
    segmentsAfter: Math.max(segmentsBefore, segmentCountFor(geometry, deviceBytes)),
    foreign: findSignatures(pmem).filter(({ offsetBytes }) => offsetBytes >= firstNewByte),
  };
}

/** Whether the cache uses all of its device already. */
export function isFullyGrown({ segmentsBefore, superblockSegments, segmentsAfter }: GrowPlan): boolean {
  return segmentsBefore === segmentsAfter && superblockSegments === segmentsAfter;
}

/**
 * Grows the cache as planned; yields the number of new segments prepared. Where the generator is not run to its end,
 * the cache is as before.
 * @throws PcacheError as `Pmem` does
 */
export function* growSteps(pmem: Pmem, plan: GrowPlan): Generator<number, void> {
  const { segmentsBefore, superblockSegments, segmentsAfter } = plan;
  if (segmentsAfter > segmentsBefore) {
    yield* prepareSegments(pmem, plan);
    linkSegments(pmem, plan);
    countSegments(pmem, plan);
  }
  if (superblockSegments === segmentsAfter) return;
  const word = superblockWord(pmem, segmentsAfter);
  pmem.write(SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_COUNT_OFFSET, word, 0, word.length);
  pmem.persist();
}

/**
 * Data areas before infos: a segment that has an info and something in its data area, behind those of the cache, looks
 * like a part of a larger cache that was here before.
 */
function* prepareSegments(pmem: Pmem, plan: GrowPlan): Generator<number, void> {
  const { geometry, segmentsBefore, segmentsAfter, foreign } = plan;
  for (const mark of foreign) pmem.zero(mark.offsetBytes, mark.lengthBytes);
  const eraser = new KsetEraser(pmem, geometry);
  for (let id = segmentsBefore; id < segmentsAfter; id++) {
    pmem.zero(segmentDataOffsetBytes(geometry, id), KSET_HEADER_BYTES);
    eraser.erase(id);
    yield id + 1 - segmentsBefore;
  }
  pmem.persist(); // data areas before infos
  const head = new SegmentHead({ geometry, segmentCount: segmentsAfter });
  for (let id = segmentsBefore; id < segmentsAfter; id++) head.write(pmem, id);
}

/** Links the last segment of the chain to the first new one. */
function linkSegments(pmem: Pmem, { geometry, segmentsBefore }: GrowPlan): void {
  const { chain } = readMetadata(pmem, geometry);
  const copies = segmentInfoCopies(geometry, chain.physicalId[segmentsBefore - 1]);
  const info = readDual<SegmentInfo>(pmem, copies, SEGMENT_INFO_BYTES, decodeSegmentInfo);
  DualWriter.over(pmem, info).write((seq) => encodeSegmentInfo(segmentsBefore, seq));
  pmem.persist(); // infos and link before cache_info
}

/** Lets cache_info count the new segments. */
function countSegments(pmem: Pmem, { geometry, segmentsAfter }: GrowPlan): void {
  const { cacheInfo } = readMetadata(pmem, geometry);
  const { firstSegmentId, flags } = cacheInfo.value!;
  DualWriter.over(pmem, cacheInfo).write((seq) =>
    encodeCacheInfo({ firstSegmentId, segmentCount: segmentsAfter, flags }, seq),
  );
  pmem.persist(); // cache_info before superblock
}

/**
 * The last 8 bytes of the superblock for another number of segments: seg_num, and padding that leaves the CRC as it is.
 * The CRC covers the padding, which nothing reads, and 4 bytes at its end can bring it to any value; so the CRC on media
 * stays right, and the superblock changes by one store of 8 bytes, which no loss of power can tear.
 */
function superblockWord(pmem: PmemReader, segmentCount: number): Uint8Array {
  const bytes = new Uint8Array(SUPERBLOCK_BYTES);
  pmem.read(SUPERBLOCK_OFFSET_BYTES, bytes, 0, SUPERBLOCK_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(SUPERBLOCK_COUNT_OFFSET, segmentCount, true);
  view.setUint32(SUPERBLOCK_COUNT_OFFSET + 4, 0, true);
  const { crcStored, crcComputed } = decodeSuperblock(bytes);
  view.setUint32(SUPERBLOCK_COUNT_OFFSET + 4, wordOfCrc((crcStored ^ crcComputed) >>> 0), true);
  if (!decodeSuperblock(bytes).crcOk) throw new AssertionError('the padding of the superblock does not keep its CRC');
  return bytes.subarray(SUPERBLOCK_COUNT_OFFSET);
}
