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
  GC_PERCENT_MAX,
  POSITION_BYTES,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_FLAG_BIG_ENDIAN,
  type CacheFlags,
  type CacheInfo,
  type MetaHeader,
  type Position,
  type Superblock,
} from '../engine/media/codecs.js';
import { readDual, type Dual } from '../engine/media/dual.js';
import { KSET_HEADER_BYTES } from '../engine/media/kset.js';
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

/** Bits of the cache_info flags that mean something. */
const CACHE_FLAGS_KNOWN = 0x1fff;

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

/** @returns whether its segment count can be relied on. */
function checkSuperblock(context: CheckContext, superblock: Superblock, room: number): boolean {
  const { findings } = context;
  const where = 'superblock';
  if (superblock.magicZero) {
    findings.add('SUPERBLOCK_ZERO_MAGIC', where, 'its magic is 0, but there is a cache behind it');
    return false;
  }
  if (!superblock.magicOk) {
    findings.add('SUPERBLOCK_BAD_MAGIC', where, `its magic is 0x${superblock.magic}, but there is a cache behind it`);
    return false;
  }
  if (!superblock.crcOk) {
    const hex = (value: number): string => `0x${value.toString(16).padStart(8, '0')}`;
    findings.add(
      'SUPERBLOCK_BAD_CRC',
      where,
      `its CRC is ${hex(superblock.crcStored)}, should be ${hex(superblock.crcComputed)}`,
    );
    return false;
  }
  if (superblock.bigEndian) findings.add('SUPERBLOCK_BIG_ENDIAN', where, 'the rest is little-endian all the same');
  const unknown = superblock.flags & ~SUPERBLOCK_FLAG_BIG_ENDIAN;
  if (unknown !== 0) findings.add('SUPERBLOCK_UNKNOWN_FLAGS', where, `flags 0x${(unknown >>> 0).toString(16)}`);
  const count = superblock.segmentCount;
  if (count === 0) {
    findings.add('SUPERBLOCK_SEGMENTS_ZERO', where, `it says 0 segments, the device has room for ${room}`);
    return false;
  }
  if (count > room) {
    findings.add(
      'SUPERBLOCK_SEGMENTS_BEYOND_DEVICE',
      where,
      `it says ${count} segments, the device has room for ${room}`,
    );
  } else if (count < room) {
    findings.add('SUPERBLOCK_SEGMENTS_FEWER', where, `it says ${count} segments, the device has room for ${room}`);
  }
  return true;
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
  if (!info) {
    findings.add('CACHE_INFO_LOST', where, `neither copy is good; going on with a chain of ${whole} segments from 0`);
    return whole;
  }
  checkCacheFlags(context, info.flags);
  if (info.segmentCount === 0) {
    findings.add('CACHE_INFO_SEGMENTS_ZERO', where, `it says 0 segments; going on with ${whole}`);
    return whole;
  }
  if (segmentsMax !== undefined && info.segmentCount > segmentsMax) {
    const detail = `it says ${info.segmentCount} segments, the superblock ${segmentsMax}`;
    findings.add('CACHE_INFO_SEGMENTS_EXCEED_SUPERBLOCK', where, detail);
  } else if (segmentsMax !== undefined && info.segmentCount < segmentsMax) {
    const detail = `it says ${info.segmentCount} segments, the superblock ${segmentsMax}`;
    findings.add('CACHE_INFO_SEGMENTS_FEWER', where, detail);
  }
  return info.segmentCount;
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

function checkCacheFlags(context: CheckContext, word: number): void {
  const { findings } = context;
  const where = 'cache_info';
  const flags = decodeCacheFlags(word);
  if (!flags.initDone) findings.add('CACHE_INFO_NOT_INITIALISED', where, 'INIT_DONE is not set');
  if (flags.modeNumber >= CACHE_MODES.length) {
    findings.add('CACHE_MODE_UNKNOWN', where, `cache mode ${flags.modeNumber}`);
  } else if (flags.modeNumber !== 0) {
    findings.add('CACHE_MODE_NOT_WRITEBACK', where, `cache mode ${CACHE_MODES[flags.modeNumber]}`);
  }
  if (flags.gcPercent > GC_PERCENT_MAX) {
    findings.add('GC_PERCENT_OUT_OF_RANGE', where, `gc_percent is ${flags.gcPercent}`);
  }
  const unknown = word & ~CACHE_FLAGS_KNOWN;
  if (unknown !== 0) findings.add('CACHE_INFO_UNKNOWN_FLAGS', where, `flags 0x${(unknown >>> 0).toString(16)}`);
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
  if (!tail) {
    context.findings.add(`${prefix}_LOST`, where, 'neither copy is good');
    return undefined;
  }
  const place = positionText(tail);
  if (tail.segment >= segmentCount || tail.offsetBytes >= context.geometry.segmentDataBytes) {
    context.findings.add(`${prefix}_OUT_OF_RANGE`, where, `it is ${place}, and there are ${segmentCount} segments`);
    return undefined;
  }
  // Room for a LAST kset is always left behind a kset, so neither tail can come nearer.
  if (tail.offsetBytes > context.geometry.segmentDataBytes - KSET_HEADER_BYTES) {
    const detail = `it is ${place}, and a segment has ${context.geometry.segmentDataBytes} bytes`;
    context.findings.add(`${prefix}_AT_SEGMENT_END`, where, detail);
    return undefined;
  }
  return { segment: tail.segment, offsetBytes: tail.offsetBytes };
}
