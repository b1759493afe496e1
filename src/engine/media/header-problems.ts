/**
 * What is wrong with the structures before the segments (format §1): superblock, cache_info, both tails. Codes only, in
 * the order in which the kernel meets them. `readMetadata` words those for which a cache is refused, and of the
 * superblock only the first of these; a check (`fsck/header.ts`) words all of them.
 */
import {
  CACHE_MODES,
  decodeCacheFlags,
  GC_PERCENT_MAX,
  SUPERBLOCK_FLAG_BIG_ENDIAN,
  type CacheInfo,
  type Position,
  type Superblock,
} from './codecs.js';
import type { Geometry } from './geometry.js';
import { KSET_HEADER_BYTES } from './kset.js';

export type SuperblockProblem =
  | 'SUPERBLOCK_ZERO_MAGIC'
  | 'SUPERBLOCK_BAD_MAGIC'
  | 'SUPERBLOCK_BAD_CRC'
  | 'SUPERBLOCK_BIG_ENDIAN'
  | 'SUPERBLOCK_UNKNOWN_FLAGS'
  | 'SUPERBLOCK_SEGMENTS_ZERO'
  | 'SUPERBLOCK_SEGMENTS_BEYOND_DEVICE'
  | 'SUPERBLOCK_SEGMENTS_FEWER';

export type CacheInfoProblem =
  | 'CACHE_INFO_LOST'
  | 'CACHE_INFO_NOT_INITIALISED'
  | 'CACHE_MODE_UNKNOWN'
  | 'CACHE_MODE_NOT_WRITEBACK'
  | 'GC_PERCENT_OUT_OF_RANGE'
  | 'CACHE_INFO_UNKNOWN_FLAGS'
  | 'CACHE_INFO_SEGMENTS_ZERO'
  | 'CACHE_INFO_SEGMENTS_EXCEED_SUPERBLOCK'
  | 'CACHE_INFO_SEGMENTS_FEWER';

/** Of a tail, without the name of the tail. */
export type TailProblem = 'LOST' | 'OUT_OF_RANGE' | 'AT_SEGMENT_END';

/** Bits of the cache_info flags that mean something. */
const CACHE_FLAGS_KNOWN = 0x1fff;

/** Bits of a superblock's flags that mean nothing. */
export function unknownSuperblockFlags({ flags }: Superblock): number {
  return (flags & ~SUPERBLOCK_FLAG_BIG_ENDIAN) >>> 0;
}

/** Bits of the cache_info flags that mean nothing. */
export function unknownCacheFlags({ flags }: CacheInfo): number {
  return (flags & ~CACHE_FLAGS_KNOWN) >>> 0;
}

/** @param room number of segments that fit on the device */
export function superblockProblems(superblock: Superblock, room: number): SuperblockProblem[] {
  if (superblock.magicZero) return ['SUPERBLOCK_ZERO_MAGIC'];
  if (!superblock.magicOk) return ['SUPERBLOCK_BAD_MAGIC'];
  if (!superblock.crcOk) return ['SUPERBLOCK_BAD_CRC'];
  const problems: SuperblockProblem[] = [];
  if (superblock.bigEndian) problems.push('SUPERBLOCK_BIG_ENDIAN');
  if (unknownSuperblockFlags(superblock) !== 0) problems.push('SUPERBLOCK_UNKNOWN_FLAGS');
  const { segmentCount } = superblock;
  if (segmentCount === 0) problems.push('SUPERBLOCK_SEGMENTS_ZERO');
  else if (segmentCount > room) problems.push('SUPERBLOCK_SEGMENTS_BEYOND_DEVICE');
  else if (segmentCount < room) problems.push('SUPERBLOCK_SEGMENTS_FEWER');
  return problems;
}

/**
 * @param info the copy that counts; undefined when neither is good
 * @param segmentsMax number of segments in the superblock; undefined where that cannot be relied on
 */
export function cacheInfoProblems(info: CacheInfo | undefined, segmentsMax: number | undefined): CacheInfoProblem[] {
  if (info === undefined) return ['CACHE_INFO_LOST'];
  const problems: CacheInfoProblem[] = [];
  const { initDone, modeNumber, gcPercent } = decodeCacheFlags(info.flags);
  if (!initDone) problems.push('CACHE_INFO_NOT_INITIALISED');
  if (modeNumber >= CACHE_MODES.length) problems.push('CACHE_MODE_UNKNOWN');
  else if (modeNumber !== 0) problems.push('CACHE_MODE_NOT_WRITEBACK');
  if (gcPercent > GC_PERCENT_MAX) problems.push('GC_PERCENT_OUT_OF_RANGE');
  if (unknownCacheFlags(info) !== 0) problems.push('CACHE_INFO_UNKNOWN_FLAGS');
  const { segmentCount } = info;
  if (segmentCount === 0) problems.push('CACHE_INFO_SEGMENTS_ZERO');
  else if (segmentsMax === undefined) return problems;
  else if (segmentCount > segmentsMax) problems.push('CACHE_INFO_SEGMENTS_EXCEED_SUPERBLOCK');
  else if (segmentCount < segmentsMax) problems.push('CACHE_INFO_SEGMENTS_FEWER');
  return problems;
}

/**
 * @param tail the copy that counts; undefined when neither is good
 * @param segmentCount number of segments of the cache
 */
export function tailProblem(
  tail: Position | undefined,
  segmentCount: number,
  { segmentDataBytes }: Geometry,
): TailProblem | undefined {
  if (tail === undefined) return 'LOST';
  if (tail.segment >= segmentCount || tail.offsetBytes >= segmentDataBytes) return 'OUT_OF_RANGE';
  // Room for a LAST kset is always left behind a kset, so neither tail can come nearer.
  return tail.offsetBytes > segmentDataBytes - KSET_HEADER_BYTES ? 'AT_SEGMENT_END' : undefined;
}
