/**
 * Checks what lies before the segments (format §1): superblock, cache_info, both tails. Damage to one does
 * not keep the others from being judged: `Header` says what the rest of the check goes on with.
 */
import { PcacheError } from '../engine/errors.js';
import {
  CACHE_INFO_BYTES,
  CACHE_MODES,
  decodeCacheFlags,
  decodeCacheInfo,
  decodePosition,
  decodeSuperblock,
  POSITION_BYTES,
  SUPERBLOCK_BYTES,
  type CacheFlags,
  type CacheInfo,
  type MetaHeader,
  type Position,
  type Superblock,
} from '../engine/media/codecs.js';
import { readDual, type Dual } from '../engine/media/dual.js';
import { crcText } from '../engine/media/crc32c.js';
import {
  cacheInfoProblems,
  superblockProblems,
  tailProblem,
  unknownCacheFlags,
  unknownSuperblockFlags,
  type CacheInfoProblem,
  type SuperblockProblem,
} from '../engine/media/header-problems.js';
import {
  isNewerSetting,
  isWrittenBy618,
  LINUX_6_18,
  readStrayCacheInfo,
  STRAY_CACHE_INFO_OFFSET_BYTES,
} from '../engine/media/linux-6-18.js';
import {
  CACHE_INFO_COPIES,
  DIRTY_TAIL_COPIES,
  KERNEL_SEGMENT_BYTES,
  KEY_TAIL_COPIES,
  MIN_DEVICE_BYTES,
  segmentCountFor,
  SUPERBLOCK_OFFSET_BYTES,
} from '../engine/media/geometry.js';
import { hasSegmentInfo } from './chain.js';
import type { CheckContext } from './context.js';
import { positionText } from '../engine/media/position-text.js';
import { checkCopies } from './check-copies.js';

export interface Header {
  /** Segments the device has room for. */
  readonly room: number;
  /** Segments the cache is taken to have; may be more than the device has room for. */
  readonly segmentCount: number;
  readonly firstSegmentId: number;
  /** Undefined when cache_info is lost. */
  readonly flags: CacheFlags | undefined;
  /** Undefined where lost or out of range. */
  readonly keyTail: Position | undefined;
  readonly dirtyTail: Position | undefined;
  /** What lies there, good or not. */
  readonly found: HeaderFound;
}

export interface HeaderFound {
  readonly superblock: Superblock;
  readonly cacheInfo: Dual<CacheInfo>;
  readonly keyTail: Dual<Position>;
  readonly dirtyTail: Dual<Position>;
  /** Each attach writes cache_info once, so its sequence number bounds their count (until it wraps). */
  readonly attachesMax: number;
}

/** @throws PcacheError NOT_PCACHE when nothing says that this is, or was, a cache. */
export function checkHeader(context: CheckContext, path: string): Header {
  const { source, geometry } = context;
  const room = segmentCountFor(geometry, source.sizeBytes);
  const superblockBytes = new Uint8Array(SUPERBLOCK_BYTES);
  source.read(SUPERBLOCK_OFFSET_BYTES, superblockBytes, 0, SUPERBLOCK_BYTES);
  const superblock = decodeSuperblock(superblockBytes);
  const cacheInfo = readDual<CacheInfo>(source, CACHE_INFO_COPIES, CACHE_INFO_BYTES, decodeCacheInfo);
  const keyTail = readDual<Position>(source, KEY_TAIL_COPIES, POSITION_BYTES, decodePosition);
  const dirtyTail = readDual<Position>(source, DIRTY_TAIL_COPIES, POSITION_BYTES, decodePosition);
  context.examined.metadataCopies += 6;
  refuseForeign(context, path, superblock, [cacheInfo, keyTail, dirtyTail], room);

  if (geometry.segmentBytes === KERNEL_SEGMENT_BYTES && source.sizeBytes < MIN_DEVICE_BYTES) {
    context.findings.add('DEVICE_TOO_SMALL', 'device', `it has ${source.sizeBytes} bytes`);
  }
  const superblockGood = checkSuperblock(context, superblock, room);
  const segmentsMax = superblockGood ? superblock.segmentCount : undefined;
  const segmentCount = checkCacheInfo(context, cacheInfo, segmentsMax, room);

  const attachesMax = cacheInfo.value === undefined || cacheInfo.value.seq === 0 ? 255 : cacheInfo.value.seq;
  return {
    room,
    segmentCount,
    firstSegmentId: cacheInfo.value?.firstSegmentId ?? 0,
    flags: cacheInfo.value && decodeCacheFlags(cacheInfo.value.flags),
    keyTail: checkTail(context, 'KEY_TAIL', keyTail, segmentCount, attachesMax),
    dirtyTail: checkTail(context, 'DIRTY_TAIL', dirtyTail, segmentCount, attachesMax),
    found: { superblock, cacheInfo, keyTail, dirtyTail, attachesMax },
  };
}

function refuseForeign(
  context: CheckContext,
  path: string,
  superblock: Superblock,
  duals: readonly Dual<unknown>[],
  room: number,
): void {
  if (superblock.magicOk && !superblock.bigEndian) return;
  if (duals.some((dual) => dual.winner >= 0) || hasSegmentInfo(context, room)) return;
  if (superblock.magicOk) {
    throw new PcacheError(
      'UNSUPPORTED',
      `${path}: a cache of a big-endian machine, which only such a machine can read; attach it there`,
    );
  }
  const what = superblock.magicZero ? 'no superblock' : `its superblock magic is 0x${superblock.magic}`;
  throw new PcacheError('NOT_PCACHE', `${path}: not a pcache device: ${what}, and no trace of a cache; check the path`);
}

/** Problems that leave nothing of a superblock to rely on. */
const SUPERBLOCK_USELESS: ReadonlySet<SuperblockProblem> = new Set([
  'SUPERBLOCK_ZERO_MAGIC',
  'SUPERBLOCK_BAD_MAGIC',
  'SUPERBLOCK_BAD_CRC',
  'SUPERBLOCK_SEGMENTS_ZERO',
]);

const segmentsAndRoom = ({ segmentCount }: Superblock, room: number): string =>
  `it says ${segmentCount} segments, the device has room for ${room}`;

const SUPERBLOCK_DETAILS: Record<SuperblockProblem, (superblock: Superblock, room: number) => string> = {
  SUPERBLOCK_ZERO_MAGIC: () => 'its magic is 0, but there is a cache behind it',
  SUPERBLOCK_BAD_MAGIC: ({ magic }) => `its magic is 0x${magic}, but there is a cache behind it`,
  SUPERBLOCK_BAD_CRC: ({ crcStored, crcComputed }) =>
    `its CRC is ${crcText(crcStored)}, should be ${crcText(crcComputed)}`,
  SUPERBLOCK_BIG_ENDIAN: () => 'the rest is little-endian all the same',
  SUPERBLOCK_UNKNOWN_FLAGS: (superblock) => `flags 0x${unknownSuperblockFlags(superblock).toString(16)}`,
  SUPERBLOCK_SEGMENTS_ZERO: segmentsAndRoom,
  SUPERBLOCK_SEGMENTS_BEYOND_DEVICE: segmentsAndRoom,
  SUPERBLOCK_SEGMENTS_FEWER: segmentsAndRoom,
};

/** @returns whether its segment count can be relied on. */
function checkSuperblock(context: CheckContext, superblock: Superblock, room: number): boolean {
  const problems = superblockProblems(superblock, room);
  for (const code of problems) context.findings.add(code, 'superblock', SUPERBLOCK_DETAILS[code](superblock, room));
  return !problems.some((code) => SUPERBLOCK_USELESS.has(code));
}

/** @param whole number of segments to go on with where cache_info says none */
function cacheInfoDetail(
  code: CacheInfoProblem,
  info: CacheInfo | undefined,
  segmentsMax: number | undefined,
  whole: number,
): string {
  if (info === undefined) return `neither copy is good; going on with a chain of ${whole} segments from 0`;
  const { modeNumber, gcPercent } = decodeCacheFlags(info.flags);
  switch (code) {
    case 'CACHE_INFO_NOT_INITIALISED':
      return 'INIT_DONE is not set';
    case 'CACHE_MODE_UNKNOWN':
      return `cache mode ${modeNumber}`;
    case 'CACHE_MODE_NOT_WRITEBACK':
      return `cache mode ${CACHE_MODES[modeNumber]}`;
    case 'GC_PERCENT_OUT_OF_RANGE':
      return `gc_percent is ${gcPercent}`;
    case 'CACHE_INFO_UNKNOWN_FLAGS':
      return `flags 0x${unknownCacheFlags(info).toString(16)}`;
    case 'CACHE_INFO_SEGMENTS_ZERO':
      return `it says 0 segments; going on with ${whole}`;
    default:
      return `it says ${info.segmentCount} segments, the superblock ${segmentsMax}`;
  }
}

/** @returns how many segments the cache is taken to have, whether the device has room for them or not. */
function checkCacheInfo(
  context: CheckContext,
  cacheInfo: Dual<CacheInfo>,
  segmentsMax: number | undefined,
  room: number,
): number {
  const { findings } = context;
  const where = 'cache_info';
  const info = cacheInfo.value;
  const isOld = info !== undefined && isWrittenBy618(context.source, context.geometry, room, cacheInfo);
  if (isOld) findings.add('CACHE_INFO_LAYOUT_OLD', where, layoutOf618(context, info));
  else checkCopies(context, 'CACHE_INFO', where, cacheInfo, 1);
  const whole = Math.min(segmentsMax ?? room, room);
  for (const code of cacheInfoProblems(info, segmentsMax))
    findings.add(code, where, cacheInfoDetail(code, info, segmentsMax, whole));
  return info === undefined || info.segmentCount === 0 ? whole : info.segmentCount;
}

/** A clause: what Linux 6.18.0 to 6.18.3 left, and which gc_percent its stray copy has. */
function layoutOf618(context: CheckContext, info: CacheInfo & MetaHeader): string {
  const stray = readStrayCacheInfo(context.source);
  const once = `${LINUX_6_18} wrote it, and keeps one copy, which it overwrites in place`;
  if (stray === undefined) return once;
  const setting = `gc_percent ${decodeCacheFlags(stray.flags).gcPercent}`;
  const age = isNewerSetting(stray, info) ? 'a newer copy' : 'another copy';
  return `${once}; ${age} with ${setting} is at byte ${STRAY_CACHE_INFO_OFFSET_BYTES}, where no kernel reads it`;
}

/** @returns the tail when the log can be walked from it. */
function checkTail(
  context: CheckContext,
  prefix: 'KEY_TAIL' | 'DIRTY_TAIL',
  dual: Dual<Position>,
  segmentCount: number,
  attachesMax: number,
): Position | undefined {
  const where = prefix.toLowerCase();
  checkCopies(context, prefix, where, dual, attachesMax);
  const tail = dual.value;
  const { geometry, findings } = context;
  const problem = tailProblem(tail, segmentCount, geometry);
  if (tail === undefined || problem === 'LOST') {
    findings.add(`${prefix}_LOST`, where, 'neither copy is good');
    return undefined;
  }
  const { segment, offsetBytes } = tail;
  if (problem === undefined) return { segment, offsetBytes };
  const limit =
    problem === 'OUT_OF_RANGE'
      ? `there are ${segmentCount} segments`
      : `a segment has ${geometry.segmentDataBytes} bytes`;
  findings.add(`${prefix}_${problem}`, where, `it is ${positionText(tail)}, and ${limit}`);
  return undefined;
}
