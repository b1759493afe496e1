/**
 * Payload allocation (kernel: `cache_data_head_init`, `cache_data_alloc`). Each slot has a data head, which fills one
 * segment after the other. An allocation never crosses the end of a segment; it comes out shorter instead. Sectors have
 * 512 bytes.
 *
 * References: the head takes its segment with as many references as the segment can ever have keys, and one for itself.
 * Each allocation leaves one reference to its key; the head drops the rest when it leaves the segment. So an allocation
 * does not touch the segment table, which threads may share.
 */
import { internalError } from '../errors.js';
import { SECTOR_BYTES } from '../media/geometry.js';
import type { PayloadCrcs } from './payload-crcs.js';
import type { SegmentTable } from './segment-table.js';

export class DataHead {
  /** Logical segment of the head, or -1; device offset of its data area, and its generation. */
  segment = -1;
  dataOffsetBytes = 0;
  generationLow = 0;
  generationHigh = 0;
  /** Offset of the next allocation in the segment's data area, and the sectors left there. */
  offsetSectors = 0;
  leftSectors = 0;

  /** References on the segment that no key has taken. */
  private references = 0;
  private readonly segmentSectors: number;

  constructor(
    private readonly segments: SegmentTable,
    private readonly payloadCrcs?: PayloadCrcs,
  ) {
    this.segmentSectors = segments.geometry.segmentDataBytes / SECTOR_BYTES;
  }

  /** Takes a segment if the head has none. @returns false when none is free; otherwise `leftSectors` is at least 1 */
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
    // The generation does not change while the head has its reference.
    this.generationLow = this.segments.generationLow[segment];
    this.generationHigh = this.segments.generationHigh[segment];
    this.references = references;
    this.offsetSectors = 0;
    this.leftSectors = this.segmentSectors;
    return true;
  }

  /** Allocates the next `sectors` of the segment to `keys` keys. */
  take(sectors: number, keys: number): void {
    if (sectors > this.leftSectors) internalError('an allocation exceeds the sectors left in its segment');
    this.offsetSectors += sectors;
    this.leftSectors -= sectors;
    this.references -= keys;
    if (this.leftSectors === 0) this.close();
  }

  /** Leaves the segment, if the head has one; the rest of it stays unused until the segment is freed. */
  close(): void {
    if (this.segment < 0) return;
    this.segments.put(this.segment, this.references);
    this.segment = -1;
  }
}
