/**
 * Which sectors of the segments' data areas the current keys claim. Segments are append-only within a generation, so no
 * two current keys can rightly claim the same one, and what is claimed of a segment is a few ranges at most. They are
 * kept as such; a segment with many of them gets one bit per sector instead.
 *
 * Bounded: a segment that there is no memory left for is deferred, and not covered any more; there is always enough for
 * one. Invariant: the ranges of a segment are sorted, and neither overlap nor adjoin.
 */
import type { KeyFields } from '../engine/media/kset.js';
import { SECTOR_BYTES, SECTOR_SHIFT, type Geometry } from '../engine/media/geometry.js';

/** Memory of a map, bytes: enough for some 6 TiB of cache whose segments have up to four ranges each. */
export const PAYLOAD_MAP_BYTES = 64 * 2 ** 20;
/** What a segment takes beside its ranges or bits, about. */
const SEGMENT_BYTES = 96;
const RANGES_FIRST = 4;
/** Ranges of a segment take no more memory than bits for it would. */
const RANGES_MAX = 512;

export class PayloadMap {
  /** Segments that are not covered: there was no memory for them. */
  readonly deferred = new Set<number>();
  private readonly claims: (SegmentClaims | undefined)[] = [];
  private readonly words: number;
  private usedBytes = 0;

  /** @param only the segments to cover; all of them if not given. @param bytesMax memory that the map may take */
  constructor(
    geometry: Geometry,
    private readonly bytesMax = PAYLOAD_MAP_BYTES,
    private readonly only?: ReadonlySet<number>,
  ) {
    this.words = Math.ceil(geometry.segmentDataBytes / SECTOR_BYTES / 32);
  }

  covers(segment: number): boolean {
    return (this.only === undefined || this.only.has(segment)) && !this.deferred.has(segment);
  }

  /**
   * Claims a byte range of a covered segment, which may be deferred instead.
   * @returns whether part of it was claimed before.
   */
  claim(segment: number, offsetBytes: number, lengthBytes: number): boolean {
    const start = offsetBytes >>> SECTOR_SHIFT;
    const end = sectorsUpTo(offsetBytes + lengthBytes);
    if (start >= end) return false;
    let claims = this.claims[segment];
    const hadBytes = claims?.bytes ?? 0;
    claims ??= this.claims[segment] = new SegmentClaims();
    const overlaps = claims.claim(start, end, this.words);
    this.usedBytes += claims.bytes - hadBytes;
    if (this.usedBytes > this.bytesMax && this.usedBytes > claims.bytes) this.defer(segment, claims);
    return overlaps;
  }

  private defer(segment: number, claims: SegmentClaims): void {
    this.usedBytes -= claims.bytes;
    this.claims[segment] = undefined;
    this.deferred.add(segment);
  }

  /** Where the last claim of a segment ends; 0 when nothing of it is claimed. */
  endOfClaims(segment: number): number {
    return (this.claims[segment]?.endSector ?? 0) * SECTOR_BYTES;
  }

  /** Bytes before the last claim of a segment that nothing claims. */
  unclaimedBytes(segment: number): number {
    const claims = this.claims[segment];
    return claims === undefined ? 0 : (claims.endSector - claims.claimedSectors) * SECTOR_BYTES;
  }

  /** Is part of a byte range claimed? */
  isClaimed(segment: number, offsetBytes: number, lengthBytes: number): boolean {
    const claims = this.claims[segment];
    return claims?.isClaimed(offsetBytes >>> SECTOR_SHIFT, sectorsUpTo(offsetBytes + lengthBytes)) ?? false;
  }
}

/** The claimed sectors of one segment. */
class SegmentClaims {
  endSector = 0;
  claimedSectors = 0;
  /** Start and end of each range, in sectors. */
  private ranges = new Uint32Array(2 * RANGES_FIRST);
  private count = 0;
  /** One bit per sector, in place of the ranges. */
  private bits: Uint32Array | undefined;

  get bytes(): number {
    return SEGMENT_BYTES + (this.bits ?? this.ranges).byteLength;
  }

  /** @param words of all bits of a segment. @returns whether a sector was claimed before */
  claim(start: number, end: number, words: number): boolean {
    this.endSector = Math.max(this.endSector, end);
    if (this.bits !== undefined) return this.claimBits(this.bits, start, end);
    const { ranges } = this;
    const first = this.firstReaching(start);
    let next = first;
    let overlaps = false;
    let merged = 0;
    for (; next < this.count && ranges[2 * next] <= end; next++) {
      overlaps ||= ranges[2 * next] < end && ranges[2 * next + 1] > start;
      merged += ranges[2 * next + 1] - ranges[2 * next];
    }
    if (next === first) return this.insert(first, start, end, words);
    ranges[2 * first] = Math.min(start, ranges[2 * first]);
    ranges[2 * first + 1] = Math.max(end, ranges[2 * next - 1]);
    ranges.copyWithin(2 * first + 2, 2 * next, 2 * this.count);
    this.count -= next - first - 1;
    this.claimedSectors += ranges[2 * first + 1] - ranges[2 * first] - merged;
    return overlaps;
  }

  /** Adds a range that touches no other as number `at`. */
  private insert(at: number, start: number, end: number, words: number): false {
    if (this.count === RANGES_MAX) {
      const bits = this.makeBits(words);
      this.claimBits(bits, start, end);
      return false;
    }
    if (2 * this.count === this.ranges.length) {
      const larger = new Uint32Array(2 * this.ranges.length);
      larger.set(this.ranges);
      this.ranges = larger;
    }
    this.ranges.copyWithin(2 * at + 2, 2 * at, 2 * this.count);
    this.ranges[2 * at] = start;
    this.ranges[2 * at + 1] = end;
    this.count++;
    this.claimedSectors += end - start;
    return false;
  }

  private makeBits(words: number): Uint32Array {
    const bits = (this.bits = new Uint32Array(words));
    this.claimedSectors = 0;
    for (let n = 0; n < this.count; n++) this.claimBits(bits, this.ranges[2 * n], this.ranges[2 * n + 1]);
    this.ranges = new Uint32Array(0);
    this.count = 0;
    return bits;
  }

  private claimBits(bits: Uint32Array, start: number, end: number): boolean {
    let overlaps = false;
    for (let sector = start; sector < end; sector = (sector | 31) + 1) {
      const mask = maskFrom(sector, end);
      const had = bits[sector >>> 5];
      if ((had & mask) !== 0) overlaps = true;
      bits[sector >>> 5] = had | mask;
      for (let left = mask & ~had; left !== 0; left &= left - 1) this.claimedSectors++;
    }
    return overlaps;
  }

  isClaimed(start: number, end: number): boolean {
    if (this.bits === undefined) {
      const at = this.firstReaching(start + 1);
      return at < this.count && this.ranges[2 * at] < end;
    }
    for (let sector = start; sector < end; sector = (sector | 31) + 1) {
      if ((this.bits[sector >>> 5] & maskFrom(sector, end)) !== 0) return true;
    }
    return false;
  }

  /** The first range that ends at `sector` or behind it; `count` if none does. */
  private firstReaching(sector: number): number {
    const { ranges, count } = this;
    // Claims come in the order of a segment, nearly all of them.
    if (count > 0 && ranges[2 * count - 2] <= sector) return ranges[2 * count - 1] >= sector ? count - 1 : count;
    let low = 0;
    let high = count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (ranges[2 * middle + 1] < sector) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Sectors that a range from 0 to this byte touches. */
function sectorsUpTo(endBytes: number): number {
  return (endBytes + SECTOR_BYTES - 1) >>> SECTOR_SHIFT;
}

/** The bits of the sectors from `sector` to `end` that are in the same word as `sector`. */
function maskFrom(sector: number, end: number): number {
  const from = -1 << (sector & 31);
  return sector >>> 5 === end >>> 5 ? from & ~(-1 << (end & 31)) : from;
}

/**
 * The key that claimed payload last. Ksets that a repair put into a gap repeat the key next to them word for word,
 * which claims nothing twice.
 */
export class LastClaim {
  private segment = -1;
  private segmentOffset = 0;
  private length = 0;
  private offsetLow = 0;
  private offsetHigh = 0;

  /** Whether this key is the last one again; it is the last one from now on. */
  isRepeatedBy(key: KeyFields): boolean {
    const again =
      key.segment === this.segment &&
      key.segmentOffset === this.segmentOffset &&
      key.length === this.length &&
      key.offsetLow === this.offsetLow &&
      key.offsetHigh === this.offsetHigh;
    this.segment = key.segment;
    this.segmentOffset = key.segmentOffset;
    this.length = key.length;
    this.offsetLow = key.offsetLow;
    this.offsetHigh = key.offsetHigh;
    return again;
  }
}
