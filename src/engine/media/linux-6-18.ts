/**
 * Caches as Linux 6.18.0 to 6.18.3 leaves them (format §5.1). That kernel writes the second copy of cache_info 24 bytes
 * behind the first, where no kernel looks for it: the stray copy. It writes the first version of each segment info to
 * copy 0 and the one with the link to copy 1; later kernels do it the other way round. Pure; reads only.
 */
import {
  CACHE_INFO_BYTES,
  decodeCacheFlags,
  decodeCacheInfo,
  decodeSegmentInfo,
  encodeCacheFlags,
  GC_PERCENT_MAX,
  SEGMENT_INFO_BYTES,
  type CacheInfo,
  type MetaHeader,
  type SegmentInfo,
} from './codecs.js';
import { readDual, seqAfter, type ByteSource, type Dual } from './dual.js';
import { CACHE_INFO_COPIES, segmentInfoCopies, type Geometry } from './geometry.js';

/** How these kernels are named in messages. */
export const LINUX_6_18 = 'Linux 6.18.0–6.18.3';
export const STRAY_CACHE_INFO_OFFSET_BYTES = CACHE_INFO_COPIES[0] + CACHE_INFO_BYTES;
/** Segments near the beginning of the device whose infos are looked at. */
const LOOKED_AT_SEGMENTS = 32;

/**
 * Did Linux 6.18.0 to 6.18.3 make the cache? A later kernel may have attached it since.
 * @param room segments that the device has room for
 */
export function isMadeBy618(source: ByteSource, geometry: Geometry, room: number): boolean {
  let reversed = 0;
  let ordered = 0;
  for (let physicalId = 0; physicalId < Math.min(room, LOOKED_AT_SEGMENTS); physicalId++) {
    const copies = segmentInfoCopies(geometry, physicalId);
    const [first, second] = readDual<SegmentInfo>(source, copies, SEGMENT_INFO_BYTES, decodeSegmentInfo).copies;
    if (!first.crcOk || !second.crcOk) continue;
    if (first.seq === 1 && second.seq === 2) reversed++;
    else ordered++;
  }
  return reversed > ordered;
}

/** Was every cache_info of the cache written by Linux 6.18.0 to 6.18.3? Then copy 1 was never written. */
export function isWrittenBy618(
  source: ByteSource,
  geometry: Geometry,
  room: number,
  { blank }: Dual<CacheInfo>,
): boolean {
  return blank[1] && !blank[0] && isMadeBy618(source, geometry, room);
}

/** @returns the copy of cache_info 24 bytes behind copy 0, if its CRC is good. */
export function readStrayCacheInfo(source: ByteSource): (CacheInfo & MetaHeader) | undefined {
  const bytes = new Uint8Array(CACHE_INFO_BYTES);
  source.read(STRAY_CACHE_INFO_OFFSET_BYTES, bytes, 0, CACHE_INFO_BYTES);
  const stray = decodeCacheInfo(bytes);
  return stray.crcOk ? stray : undefined;
}

/** Is the stray copy newer than `current`, and does it differ in a possible gc_percent at most? */
export function isNewerSetting(stray: CacheInfo & MetaHeader, current: CacheInfo & MetaHeader): boolean {
  const { gcPercent } = decodeCacheFlags(stray.flags);
  return (
    gcPercent <= GC_PERCENT_MAX &&
    seqAfter(stray.seq, current.seq) &&
    stray.firstSegmentId === current.firstSegmentId &&
    stray.segmentCount === current.segmentCount &&
    stray.flags === encodeCacheFlags({ ...decodeCacheFlags(current.flags), gcPercent })
  );
}
