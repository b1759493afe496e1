/** The beginning of a segment as the kernel leaves it when it makes a cache. */
import {
  decodeGeneration,
  encodeGeneration,
  encodeSegmentInfo,
  GENERATION_BYTES,
  type Generation,
} from '../media/codecs.js';
import { readDual } from '../media/dual.js';
import {
  DATA_OFFSET_IN_SEGMENT_BYTES,
  GENERATION_OFFSET_IN_SEGMENT_BYTES,
  GENERATION_STRIDE_BYTES,
  generationCopies,
  SEGMENT_INFO_STRIDE_BYTES,
  segmentOffsetBytes,
  type Geometry,
} from '../media/geometry.js';
import { KSET_HEADER_BYTES } from '../media/kset.js';
import type { Pmem } from '../device/pmem.js';

/** The first write of a dual-copy structure has this sequence number. */
export const FIRST_SEQ = 1;
/** Old generations from here on count as garbage: no cache frees a segment that often. */
const PLAUSIBLE_GENERATION = 2 ** 48;

/**
 * Writes the start of a segment: info copies, generation copies, and the first bytes of the data area, zeroed so that
 * no kset of an earlier cache is found there (format §1.5, §1.6).
 *
 * A segment that already has a valid generation, from an earlier cache, gets the next one instead of 0: keys of the old
 * log that may still lie in the data areas are then stale, and no checker can mistake them for lost ones. On a blank
 * device all generations are 0, as the kernel's are.
 */
export class SegmentHead {
  /** The bytes of one segment, used again for the next. */
  private readonly bytes = new Uint8Array(DATA_OFFSET_IN_SEGMENT_BYTES + KSET_HEADER_BYTES);

  /** @param shape the whole chain: segment n is linked to n + 1, and the last to none */
  constructor(private readonly shape: { readonly geometry: Geometry; readonly segmentCount: number }) {
    // The first write of an info lands in copy 1 and has no successor yet; it is the same for all.
    this.bytes.set(encodeSegmentInfo(undefined, FIRST_SEQ), SEGMENT_INFO_STRIDE_BYTES);
  }

  /** Stores it for the segment of physical id `id`; the caller persists. */
  write(pmem: Pmem, id: number): void {
    const { geometry, segmentCount } = this.shape;
    const linked = id + 1 < segmentCount;
    // Linking the next segment is the second write; the last one never gets it.
    if (linked) this.bytes.set(encodeSegmentInfo(id + 1, FIRST_SEQ + 1), 0);
    else this.bytes.fill(0, 0, SEGMENT_INFO_STRIDE_BYTES);
    const generation = encodeGeneration(nextGeneration(pmem, geometry, id), FIRST_SEQ);
    this.bytes.set(generation, GENERATION_OFFSET_IN_SEGMENT_BYTES + GENERATION_STRIDE_BYTES);
    pmem.write(segmentOffsetBytes(geometry, id), this.bytes, 0, this.bytes.length);
  }
}

function nextGeneration(pmem: Pmem, geometry: Geometry, id: number): number {
  const old = readDual<Generation>(pmem, generationCopies(geometry, id), GENERATION_BYTES, decodeGeneration).value;
  return old === undefined || old.generation >= PLAUSIBLE_GENERATION ? 0 : old.generation + 1;
}
