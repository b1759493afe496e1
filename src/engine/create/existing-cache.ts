/**
 * Describes a pcache that is already on a device, for the message before it is overwritten. It costs a few reads
 * on a device of any size; the complete reading is in `media/metadata.ts`.
 */
import {
  CACHE_INFO_BYTES,
  decodeCacheFlags,
  decodeCacheInfo,
  decodePosition,
  decodeSegmentInfo,
  decodeSuperblock,
  POSITION_BYTES,
  SEGMENT_INFO_BYTES,
  SUPERBLOCK_BYTES,
  type CacheInfo,
  type Position,
  type SegmentInfo,
} from '../media/codecs.js';
import { readDual, type ByteSource } from '../media/dual.js';
import {
  CACHE_INFO_COPIES,
  DIRTY_TAIL_COPIES,
  SEGMENTS_OFFSET_BYTES,
  segmentCountFor,
  segmentDataOffsetBytes,
  segmentInfoCopies,
  SUPERBLOCK_OFFSET_BYTES,
  type Geometry,
} from '../media/geometry.js';
import { KSET_HEADER_BYTES, KsetView } from '../media/kset.js';

export interface ExistingCache {
  readonly segmentCount: number;
  readonly dataCrc: boolean;
  /** `wiped`: no superblock, but the cache behind it is there; `damaged`: its metadata does not hold together. */
  readonly state: 'whole' | 'wiped' | 'damaged';
  /** Is there a kset at dirty_tail, so that writes may be missing on the backing device? `unknown` counts as yes. */
  readonly dirty: 'yes' | 'no' | 'unknown';
}

/** @returns undefined when the device holds no pcache. @throws the errors of `source.read` */
export function describeExistingCache(source: ByteSource, geometry: Geometry): ExistingCache | undefined {
  if (source.sizeBytes < SEGMENTS_OFFSET_BYTES) return undefined;
  const bytes = new Uint8Array(SUPERBLOCK_BYTES);
  source.read(SUPERBLOCK_OFFSET_BYTES, bytes, 0, SUPERBLOCK_BYTES);
  const superblock = decodeSuperblock(bytes);
  const info = readDual<CacheInfo>(source, CACHE_INFO_COPIES, CACHE_INFO_BYTES, decodeCacheInfo).value;
  const flags = decodeCacheFlags(info?.flags ?? 0);
  if (!superblock.magicOk && !(superblock.magicZero && info !== undefined && flags.initDone)) return undefined;
  const whole = superblock.magicOk && superblock.crcOk && info !== undefined;
  return {
    segmentCount: info?.segmentCount ?? superblock.segmentCount,
    dataCrc: flags.dataCrc,
    state: whole ? 'whole' : superblock.magicOk ? 'damaged' : 'wiped',
    dirty: info === undefined ? 'unknown' : dirtiness(source, geometry, info),
  };
}

function dirtiness(source: ByteSource, geometry: Geometry, info: CacheInfo): ExistingCache['dirty'] {
  const tail = readDual<Position>(source, DIRTY_TAIL_COPIES, POSITION_BYTES, decodePosition).value;
  const room = segmentCountFor(geometry, source.sizeBytes);
  if (tail === undefined || tail.segment >= Math.min(room, info.segmentCount)) return 'unknown';
  let physicalId = info.firstSegmentId;
  for (let logical = 0; ; logical++) {
    if (physicalId >= room) return 'unknown';
    if (logical === tail.segment) break;
    const copies = segmentInfoCopies(geometry, physicalId);
    const segment = readDual<SegmentInfo>(source, copies, SEGMENT_INFO_BYTES, decodeSegmentInfo).value;
    if (segment === undefined || !segment.hasNext) return 'unknown';
    physicalId = segment.nextSegmentId;
  }
  if (tail.offsetBytes + KSET_HEADER_BYTES > geometry.segmentDataBytes) return 'unknown';
  const header = new Uint8Array(KSET_HEADER_BYTES);
  source.read(segmentDataOffsetBytes(geometry, physicalId) + tail.offsetBytes, header, 0, KSET_HEADER_BYTES);
  return new KsetView().attach(header, 0).magicOk ? 'yes' : 'no';
}

/** Text for a message: `a pcache of 31 segments, data_crc on, nothing left to write back`. */
export function existingCacheText(cache: ExistingCache): string {
  const state = { whole: '', wiped: ' without a superblock', damaged: ' with damaged metadata' }[cache.state];
  const dirty = {
    yes: 'possibly with writes that are not on its backing device yet',
    no: 'nothing left to write back',
    unknown: 'perhaps with writes that are not on its backing device yet',
  }[cache.dirty];
  return `a pcache${state} of ${cache.segmentCount} segments, data_crc ${cache.dataCrc ? 'on' : 'off'}, ${dirty}`;
}
