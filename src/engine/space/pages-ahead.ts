/**
 * Prepares the memory of segments on another thread before payload or log is stored there. The first store to each page
 * of a file in memory takes as long as ten copies; later ones do not, so each segment is prepared once.
 *
 * Only the segments that come next: preparing a hole of the file takes memory.
 */
import type { Pmem } from '../device/pmem.js';
import type { SegmentTable } from './segment-table.js';

/** Number of free segments that are kept prepared. */
export const SEGMENTS_AHEAD = 8;

export class PagesAhead {
  private readonly isPrepared: Uint8Array;
  private isBusy = false;
  private hasFailed = false;

  constructor(
    private readonly pmem: Pick<Pmem, 'touchAhead'>,
    private readonly segments: Pick<SegmentTable, 'count' | 'geometry' | 'dataOffsetBytes' | 'nextFree' | 'onTaken'>,
  ) {
    this.isPrepared = new Uint8Array(segments.count);
  }

  /** Prepares from now on. */
  begin(): void {
    this.segments.onTaken = () => this.look();
    this.look();
  }

  /** To be called when a segment has been taken. */
  look(): void {
    if (this.isBusy || this.hasFailed || !this.pmem.touchAhead) return;
    const segment = this.next();
    if (segment < 0) return;
    const { dataOffsetBytes, geometry } = this.segments;
    this.isBusy = true;
    this.pmem.touchAhead(dataOffsetBytes[segment], geometry.segmentDataBytes, (isTouched) => {
      this.isBusy = false;
      this.isPrepared[segment] = 1;
      this.hasFailed = !isTouched;
      this.look();
    });
  }

  /** The first segment to come that is not prepared; -1 when enough are. */
  private next(): number {
    const { segments, isPrepared } = this;
    let segment = segments.nextFree(-1);
    const first = segment;
    for (let n = 0; n < SEGMENTS_AHEAD && segment >= 0; n++) {
      if (isPrepared[segment] === 0) return segment;
      segment = segments.nextFree(segment);
      if (segment === first) return -1;
    }
    return -1;
  }
}
