/**
 * Payload allocation (seed: `cache_data_head_init`, `cache_data_alloc`): a head per slot walks through a
 * segment; an allocation never crosses the segment's end, it comes out shorter instead.
 *
 * References: the head takes its segment with as many as it can ever have keys, and one more for itself; each
 * allocation leaves one to its key, and what is left the head drops when it goes on. So no allocation touches the
 * segment table, which threads may share. Sectors are of 512 bytes.
 */
import { SECTOR_BYTES, SECTOR_SHIFT } from './media/geometry.js';
import type { PayloadCrcs } from './payload-crcs.js';
import type { SegmentTable } from './segments.js';

export class DataHead {
  /** Result of the last successful `allocate`: where the payload goes, and under which generation. */
  segment = -1;
  offsetSectors = 0;
  pmemOffsetBytes = 0;
  generationLow = 0;
  generationHigh = 0;

  private headSegment = -1;
  private headSectors = 0;
  private headOffsetBytes = 0;
  /** References on the segment that have gone to no key. */
  private references = 0;
  private readonly segmentSectors: number;

  constructor(
    private readonly segments: SegmentTable,
    private readonly payloadCrcs?: PayloadCrcs,
  ) {
    this.segmentSectors = segments.geometry.segmentDataBytes / SECTOR_BYTES;
  }

  /**
   * Allocates up to `sectors` (≥ 1).
   * @returns how many sectors were allocated at `segment`/`offsetSectors`, or 0 when no segment is to be had.
   */
  allocate(sectors: number): number {
    if (this.headSegment < 0) {
      const references = this.segmentSectors + 1;
      const segment = this.segments.takeForData(references);
      if (segment < 0) return 0;
      this.payloadCrcs?.clear(segment);
      this.headSegment = segment;
      this.headOffsetBytes = this.segments.dataOffsetBytes[segment];
      // It does not change as long as the head has its reference.
      this.generationLow = this.segments.generationLow[segment];
      this.generationHigh = this.segments.generationHigh[segment];
      this.references = references;
      this.headSectors = 0;
    }
    const remaining = this.segmentSectors - this.headSectors;
    const allocated = sectors < remaining ? sectors : remaining;
    this.segment = this.headSegment;
    this.offsetSectors = this.headSectors;
    this.pmemOffsetBytes = this.headOffsetBytes + (this.headSectors << SECTOR_SHIFT);
    this.headSectors += allocated;
    this.references--;
    if (allocated === remaining) this.close();
    return allocated;
  }

  /** Lets go of the open segment, if there is one; the rest of it stays unused until it is freed. */
  close(): void {
    if (this.headSegment < 0) return;
    this.segments.put(this.headSegment, this.references);
    this.headSegment = -1;
  }
}
