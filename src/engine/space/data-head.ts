/**
 * Payload allocation (kernel: `cache_data_head_init`, `cache_data_alloc`): a head per slot walks through a
 * segment; an allocation never crosses the segment's end, it comes out shorter instead.
 *
 * References: the head takes its segment with as many as it can ever have keys, and one more for itself; each
 * allocation leaves one to its key, and what is left the head drops when it goes on. So no allocation touches the
 * segment table, which threads may share. Sectors are of 512 bytes.
 */
import { internalError } from '../errors.js';
import { SECTOR_BYTES } from '../media/geometry.js';
import type { PayloadCrcs } from './payload-crcs.js';
import type { SegmentTable } from './segment-table.js';

export class DataHead {
  /** Logical segment that it is in, or -1; where its data area begins on the device, and its generation. */
  segment = -1;
  dataOffsetBytes = 0;
  generationLow = 0;
  generationHigh = 0;
  /** What is allocated next, in the segment's data area, and how much is left there. */
  offsetSectors = 0;
  leftSectors = 0;

  /** References on the segment that have gone to no key. */
  private references = 0;
  private readonly segmentSectors: number;

  constructor(
    private readonly segments: SegmentTable,
    private readonly payloadCrcs?: PayloadCrcs,
  ) {
    this.segmentSectors = segments.geometry.segmentDataBytes / SECTOR_BYTES;
  }

  /** Takes a segment if it has none. @returns false when none is to be had; else `leftSectors` is at least 1 */
  open(): boolean {
    return this.segment >= 0 || this.takeSegment();
  }

  private takeSegment(): boolean {
    const references = this.segmentSectors + 1;
    const segment = this.segments.takeForData(references);
    if (segment < 0) return false;
    this.payloadCrcs?.clear(segment);
    this.segment = segment;
    this.dataOffsetBytes = this.segments.dataOffsetBytes[segment];
    // It does not change as long as the head has its reference.
    this.generationLow = this.segments.generationLow[segment];
    this.generationHigh = this.segments.generationHigh[segment];
    this.references = references;
    this.offsetSectors = 0;
    this.leftSectors = this.segmentSectors;
    return true;
  }

  /** Allocates the next `sectors` of the segment to so many keys. */
  take(sectors: number, keys: number): void {
    if (sectors > this.leftSectors) internalError('more is allocated than the segment has left');
    this.offsetSectors += sectors;
    this.leftSectors -= sectors;
    this.references -= keys;
    if (this.leftSectors === 0) this.close();
  }

  /** Lets go of the open segment, if there is one; the rest of it stays unused until it is freed. */
  close(): void {
    if (this.segment < 0) return;
    this.segments.put(this.segment, this.references);
    this.segment = -1;
  }
}
