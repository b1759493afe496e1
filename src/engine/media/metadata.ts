/**
 * Reads the metadata of a cache, everything but its log: superblock, cache_info, the segment chain with infos
 * and generations, both tails. `problems` lists what makes the device unusable, in the order in which the kernel
 * meets it. Contents never make it throw; only an I/O error does.
 */
import {
  CACHE_INFO_BYTES,
  decodeCacheFlags,
  decodeCacheInfo,
  decodeGeneration,
  decodePosition,
  decodeSegmentInfo,
  decodeSuperblock,
  GENERATION_BYTES,
  POSITION_BYTES,
  SEGMENT_INFO_BYTES,
  SUPERBLOCK_BYTES,
  type CacheFlags,
  type CacheInfo,
  type MetaHeader,
  type Position,
  type Superblock,
} from './codecs.js';
import { crcText } from './crc32c.js';
import { chooseCopy, readDual, type ByteSource, type Dual } from './dual.js';
import {
  cacheBytesFor,
  CACHE_INFO_COPIES,
  DIRTY_TAIL_COPIES,
  GENERATION_OFFSET_IN_SEGMENT_BYTES,
  GENERATION_STRIDE_BYTES,
  KERNEL_SEGMENT_BYTES,
  KEY_TAIL_COPIES,
  MIN_DEVICE_BYTES,
  SEGMENT_INFO_STRIDE_BYTES,
  segmentCountFor,
  segmentDataOffsetBytes,
  segmentOffsetBytes,
  SUPERBLOCK_OFFSET_BYTES,
  type Geometry,
} from './geometry.js';
import {
  cacheInfoProblems,
  superblockProblems,
  tailProblem,
  type CacheInfoProblem,
  type SuperblockProblem,
} from './header-problems.js';
import { positionText } from './position-text.js';
import type { MediaProblem, ProblemCode } from './problem.js';

/** State of a pair of copies, packed for millions of segments: see `CopyState`. */
export const CopyState = { valid0: 1, valid1: 2, blank0: 4, blank1: 8 } as const;

/**
 * The chain of segments, indexed by logical id; the first `length` segments are good. A struct of arrays, since a
 * device may have 2^20 segments.
 */
export interface SegmentChain {
  readonly length: number;
  /** Physical id of each logical segment. */
  readonly physicalId: Uint32Array;
  /** Byte offset on the device of each segment's data area. */
  readonly dataOffsetBytes: Float64Array;
  /** Which copy of the segment info counts (0 or 1), its low 8 bits of seq, and `CopyState` bits. */
  readonly infoWinner: Int8Array;
  readonly infoSeq: Uint8Array;
  readonly infoState: Uint8Array;
  readonly infoType: Uint8Array;
  readonly hasNext: Uint8Array;
  readonly nextSegmentId: Uint32Array;
  /** Generation; 0 when no copy is good, and then `generationWinner` is -1. */
  readonly generation: Float64Array;
  readonly generationWinner: Int8Array;
  readonly generationSeq: Uint8Array;
  readonly generationState: Uint8Array;
}

export interface CacheMetadata {
  readonly geometry: Geometry;
  readonly deviceBytes: number;
  /** Number of segments that fit on the device. */
  readonly roomForSegments: number;
  readonly superblock: Superblock;
  readonly cacheInfo: Dual<CacheInfo>;
  /** The flags of the cache_info that counts. */
  readonly flags: CacheFlags;
  readonly keyTail: Dual<Position>;
  readonly dirtyTail: Dual<Position>;
  readonly chain: SegmentChain;
  readonly problems: readonly MediaProblem[];
}

type Report = (code: ProblemCode, detail: string) => void;

/** Reads the metadata. `source` must hold at least the first 20 KiB of a device. */
export function readMetadata(source: ByteSource, geometry: Geometry): CacheMetadata {
  const problems: MediaProblem[] = [];
  const report: Report = (code, detail) => problems.push({ code, detail });
  const roomForSegments = segmentCountFor(geometry, source.sizeBytes);

  const superblockBytes = new Uint8Array(SUPERBLOCK_BYTES);
  source.read(SUPERBLOCK_OFFSET_BYTES, superblockBytes, 0, SUPERBLOCK_BYTES);
  const superblock = decodeSuperblock(superblockBytes);
  const cacheInfo = readDual<CacheInfo>(source, CACHE_INFO_COPIES, CACHE_INFO_BYTES, decodeCacheInfo);
  const device = { geometry, sizeBytes: source.sizeBytes, roomForSegments };
  refuseSuperblock(superblock, device, cacheInfo.value?.segmentCount ?? 0, report);
  const flags = decodeCacheFlags(cacheInfo.value?.flags ?? 0);
  const segmentCount = refuseCacheInfo(cacheInfo.value, superblock.segmentCount, roomForSegments, report);

  const chain = readChain(
    source,
    geometry,
    cacheInfo.value?.firstSegmentId ?? 0,
    segmentCount,
    roomForSegments,
    report,
  );

  const keyTail = readDual<Position>(source, KEY_TAIL_COPIES, POSITION_BYTES, decodePosition);
  const dirtyTail = readDual<Position>(source, DIRTY_TAIL_COPIES, POSITION_BYTES, decodePosition);
  refuseTail('KEY_TAIL', keyTail.value, segmentCount, geometry, report);
  refuseTail('DIRTY_TAIL', dirtyTail.value, segmentCount, geometry, report);

  return {
    geometry,
    deviceBytes: source.sizeBytes,
    roomForSegments,
    superblock,
    cacheInfo,
    flags,
    keyTail,
    dirtyTail,
    chain,
    problems,
  };
}

interface DeviceShape {
  readonly geometry: Geometry;
  readonly sizeBytes: number;
  readonly roomForSegments: number;
}

type SuperblockWords = (superblock: Superblock, device: DeviceShape, segmentCount: number) => string;

/** Words for what makes the kernel refuse a superblock; it tolerates the others. */
const SUPERBLOCK_REFUSALS: Partial<Record<SuperblockProblem, SuperblockWords>> = {
  SUPERBLOCK_ZERO_MAGIC: (_superblock, { geometry, sizeBytes }) => {
    const isTooSmall = geometry.segmentBytes === KERNEL_SEGMENT_BYTES && sizeBytes < MIN_DEVICE_BYTES;
    const kernel = isTooSmall
      ? `and ${sizeBytes} bytes are too few for a cache: the kernel refuses this device`
      : 'which the kernel takes for an empty device and formats';
    return `superblock magic is 0, ${kernel}`;
  },
  SUPERBLOCK_BAD_MAGIC: ({ magic }) => `superblock magic is 0x${magic}, not a pcache`,
  SUPERBLOCK_BAD_CRC: ({ crcStored, crcComputed }) =>
    `superblock CRC is ${crcText(crcStored)}, should be ${crcText(crcComputed)}`,
  SUPERBLOCK_BIG_ENDIAN: () => 'superblock flags say it was written by a big-endian machine',
  SUPERBLOCK_SEGMENTS_ZERO: () => 'superblock says 0 segments',
  SUPERBLOCK_SEGMENTS_BEYOND_DEVICE: (superblock, { geometry, roomForSegments }, segmentCount) => {
    // Else the superblock is wrong, and the device may be whole.
    const isCut = segmentCount > roomForSegments;
    const extend = isCut ? `; extend a cut image with "truncate -s ${cacheBytesFor(geometry, segmentCount)}"` : '';
    return `superblock says ${superblock.segmentCount} segments, the device has room for ${roomForSegments}${extend}`;
  },
};

/** Words for what makes a cache_info unusable. */
const CACHE_INFO_REFUSALS: Partial<Record<CacheInfoProblem, (segments: number, segmentsMax: number) => string>> = {
  CACHE_INFO_LOST: () => 'neither copy of cache_info has a good CRC',
  CACHE_INFO_NOT_INITIALISED: () => 'cache_info is not marked INIT_DONE: the kernel would wipe the cache',
  CACHE_INFO_SEGMENTS_ZERO: () => 'cache_info says 0 segments',
  CACHE_INFO_SEGMENTS_EXCEED_SUPERBLOCK: (segments, segmentsMax) =>
    `cache_info says ${segments} segments, the superblock ${segmentsMax}`,
};

/** @param segmentCount what cache_info says; 0 where it is lost */
function refuseSuperblock(superblock: Superblock, device: DeviceShape, segmentCount: number, report: Report): void {
  for (const code of superblockProblems(superblock, device.roomForSegments)) {
    const words = SUPERBLOCK_REFUSALS[code];
    if (words === undefined) continue;
    report(code as ProblemCode, words(superblock, device, segmentCount));
    return;
  }
}

/** @returns number of segments that the chain should have, bounded by the device. */
function refuseCacheInfo(info: CacheInfo | undefined, segmentsMax: number, room: number, report: Report): number {
  const segments = info?.segmentCount ?? 0;
  for (const code of cacheInfoProblems(info, segmentsMax)) {
    const words = CACHE_INFO_REFUSALS[code];
    if (words !== undefined) report(code as ProblemCode, words(segments, segmentsMax));
  }
  return Math.min(segments, room);
}

function refuseTail(
  prefix: 'KEY_TAIL' | 'DIRTY_TAIL',
  tail: Position | undefined,
  segmentCount: number,
  geometry: Geometry,
  report: Report,
): void {
  const name = prefix.toLowerCase();
  const problem = tailProblem(tail, segmentCount, geometry);
  if (problem === 'LOST') report(`${prefix}_LOST`, `neither copy of ${name} has a good CRC`);
  else if (problem === 'OUT_OF_RANGE')
    report(`${prefix}_OUT_OF_RANGE`, `${name} is ${positionText(tail!)}, outside the cache's segments`);
}

function readChain(
  source: ByteSource,
  geometry: Geometry,
  firstSegmentId: number,
  segmentCount: number,
  roomForSegments: number,
  report: Report,
): SegmentChain {
  const chain = {
    length: 0,
    physicalId: new Uint32Array(segmentCount),
    dataOffsetBytes: new Float64Array(segmentCount),
    infoWinner: new Int8Array(segmentCount),
    infoSeq: new Uint8Array(segmentCount),
    infoState: new Uint8Array(segmentCount),
    infoType: new Uint8Array(segmentCount),
    hasNext: new Uint8Array(segmentCount),
    nextSegmentId: new Uint32Array(segmentCount),
    generation: new Float64Array(segmentCount),
    generationWinner: new Int8Array(segmentCount),
    generationSeq: new Uint8Array(segmentCount),
    generationState: new Uint8Array(segmentCount),
  };
  const visited = new Uint8Array(roomForSegments);
  const buffer = new Uint8Array(2 * SEGMENT_INFO_BYTES);
  let physicalId = firstSegmentId;
  for (let logical = 0; logical < segmentCount; logical++) {
    if (physicalId >= roomForSegments) {
      report(
        'CHAIN_LEAVES_DEVICE',
        `segment ${logical} of the chain is physical segment ${physicalId}, beyond the device`,
      );
      break;
    }
    if (visited[physicalId]) {
      report(
        'CHAIN_CYCLE',
        `segment ${logical} of the chain is physical segment ${physicalId}, which is in it already`,
      );
      break;
    }
    visited[physicalId] = 1;
    chain.physicalId[logical] = physicalId;
    chain.dataOffsetBytes[logical] = segmentDataOffsetBytes(geometry, physicalId);

    const base = segmentOffsetBytes(geometry, physicalId);
    const info = readPair(source, base, SEGMENT_INFO_STRIDE_BYTES, SEGMENT_INFO_BYTES, buffer, decodeSegmentInfo);
    chain.infoState[logical] = info.state;
    chain.infoWinner[logical] = info.winner;
    const generation = readPair(
      source,
      base + GENERATION_OFFSET_IN_SEGMENT_BYTES,
      GENERATION_STRIDE_BYTES,
      GENERATION_BYTES,
      buffer,
      decodeGeneration,
    );
    chain.generationState[logical] = generation.state;
    chain.generationWinner[logical] = generation.winner;
    chain.generationSeq[logical] = generation.value?.seq ?? 0;
    chain.generation[logical] = generation.value?.generation ?? 0;
    if (!info.value) {
      report(
        'SEGMENT_INFO_LOST',
        `neither copy of the info of segment ${logical} (physical ${physicalId}) has a good CRC`,
      );
      break;
    }
    chain.infoSeq[logical] = info.value.seq;
    chain.infoType[logical] = info.value.type;
    chain.hasNext[logical] = info.value.hasNext ? 1 : 0;
    chain.nextSegmentId[logical] = info.value.nextSegmentId;
    chain.length = logical + 1;
    if (!info.value.hasNext && logical + 1 < segmentCount) {
      report(
        'CHAIN_ENDS_EARLY',
        `the segment chain ends after ${logical + 1} segments, cache_info says ${segmentCount}`,
      );
      break;
    }
    physicalId = info.value.nextSegmentId;
  }
  return chain;
}

/** `readDual` without its objects, since it is called twice for each of up to 2^20 segments. */
function readPair<T>(
  source: ByteSource,
  offset: number,
  stride: number,
  lengthBytes: number,
  buffer: Uint8Array,
  decode: (bytes: Uint8Array) => T & MetaHeader,
): { value: (T & MetaHeader) | undefined; winner: 0 | 1 | -1; state: number } {
  source.read(offset, buffer, 0, lengthBytes);
  source.read(offset + stride, buffer, lengthBytes, lengthBytes);
  const first = decode(buffer.subarray(0, lengthBytes));
  const second = decode(buffer.subarray(lengthBytes, 2 * lengthBytes));
  const { winner } = chooseCopy(first, second);
  let state = (first.crcOk ? CopyState.valid0 : 0) | (second.crcOk ? CopyState.valid1 : 0);
  if (!first.crcOk && isZero(buffer, 0, lengthBytes)) state |= CopyState.blank0;
  if (!second.crcOk && isZero(buffer, lengthBytes, 2 * lengthBytes)) state |= CopyState.blank1;
  return { value: winner < 0 ? undefined : winner === 0 ? first : second, winner, state };
}

function isZero(bytes: Uint8Array, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (bytes[i] !== 0) return false;
  return true;
}
