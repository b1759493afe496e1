/**
 * Which sectors of the segments' data areas the current keys claim, as one bit per sector. Segments are
 * append-only within a generation, so no two current keys can rightly claim the same one. Bounded: covers a
 * window of so many segments at a time, of which only those in use take memory (4 KiB each).
 */
import type { KeyFields } from '../engine/media/kset.js';
import { SECTOR_BYTES, SECTOR_SHIFT, type Geometry } from '../engine/media/geometry.js';

/** Segments that one map covers: 64 MiB of bits at most, for 256 GiB of cache. */
export const WINDOW_SEGMENTS = 16384;

export class PayloadMap {
  private readonly bits: (Uint32Array | undefined)[] = [];
  private readonly words: number;

  constructor(
    geometry: Geometry,
    readonly firstSegment: number,
  ) {
    this.words = Math.ceil(geometry.segmentDataBytes / SECTOR_BYTES / 32);
  }

  covers(segment: number): boolean {
    return segment >= this.firstSegment && segment < this.firstSegment + WINDOW_SEGMENTS;
  }

  /** Claims a byte range of a covered segment. @returns whether part of it was claimed before. */
  claim(segment: number, offsetBytes: number, lengthBytes: number): boolean {
    const at = segment - this.firstSegment;
    const bits = (this.bits[at] ??= new Uint32Array(this.words));
    const end = sectorsUpTo(offsetBytes + lengthBytes);
    let overlaps = false;
    for (let sector = offsetBytes >>> SECTOR_SHIFT; sector < end;) {
      const mask = maskFrom(sector, end);
      if ((bits[sector >>> 5] & mask) !== 0) overlaps = true;
      bits[sector >>> 5] |= mask;
      sector = (sector | 31) + 1;
    }
    return overlaps;
  }

  /** Where the last claim of a segment ends; 0 when nothing of it is claimed. */
  endOfClaims(segment: number): number {
    const bits = this.bits[segment - this.firstSegment];
    if (bits === undefined) return 0;
    for (let word = bits.length - 1; word >= 0; word--) {
      if (bits[word] !== 0) return (word * 32 + 32 - Math.clz32(bits[word])) * SECTOR_BYTES;
    }
    return 0;
  }

  /** Bytes before the last claim of a segment that nothing claims. */
  unclaimedBytes(segment: number): number {
    const bits = this.bits[segment - this.firstSegment];
    if (bits === undefined) return 0;
    let claimed = 0;
    for (const word of bits) for (let left = word; left !== 0; left &= left - 1) claimed++;
    return this.endOfClaims(segment) - claimed * SECTOR_BYTES;
  }

  /** Is part of a byte range claimed? */
  isClaimed(segment: number, offsetBytes: number, lengthBytes: number): boolean {
    const bits = this.bits[segment - this.firstSegment];
    if (bits === undefined) return false;
    const end = sectorsUpTo(offsetBytes + lengthBytes);
    for (let sector = offsetBytes >>> SECTOR_SHIFT; sector < end; sector = (sector | 31) + 1) {
      if ((bits[sector >>> 5] & maskFrom(sector, end)) !== 0) return true;
    }
    return false;
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
