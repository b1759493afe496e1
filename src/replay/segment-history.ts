/**
 * What each segment was used for over time: one state for each row and bin, in bounded memory. With more
 * segments than rows a row stands for several, and shows what most of them are.
 */
import { SegmentUse, type SegmentSurvey } from '../engine/index.js';

const ROWS_MAX = 128;

/** A letter for each `SegmentUse`, one for a segment that was freed by GC in the bin, one for not known. */
export const SEGMENT_LETTERS = { free: '.', log: 'L', clean: 'c', dirty: 'D', collected: 'X', unknown: '?' } as const;

const LETTER_OF_STATE = ['.', 'L', 'c', 'D', 'X', '?'];
const COLLECTED = 4;
const UNKNOWN = 5;
const STATES = 5;

export interface SegmentMap {
  /** Segments that a row stands for; the last row may have fewer. */
  readonly segmentsPerRow: number;
  /** One text per row, with one of `SEGMENT_LETTERS` per bin. */
  readonly rows: readonly string[];
}

export class SegmentHistory {
  private readonly segments: number;
  private readonly segmentsPerRow: number;
  private readonly rows: number;
  private readonly cells: Uint8Array;
  private readonly generation: Int32Array;
  private readonly tally = new Uint32Array(STATES);

  constructor(
    private readonly survey: SegmentSurvey,
    private readonly bins: number,
  ) {
    this.segments = survey.use.length;
    this.segmentsPerRow = Math.ceil(this.segments / ROWS_MAX);
    this.rows = Math.ceil(this.segments / this.segmentsPerRow);
    this.cells = new Uint8Array(this.rows * bins).fill(UNKNOWN);
    this.generation = new Int32Array(this.segments);
    for (let segment = 0; segment < this.segments; segment++) this.generation[segment] = survey.generationLow(segment);
  }

  /** Takes what the survey found as the state at the end of `bin`. */
  record(bin: number): void {
    const { tally, segmentsPerRow } = this;
    for (let row = 0; row < this.rows; row++) {
      tally.fill(0);
      const end = Math.min(this.segments, (row + 1) * segmentsPerRow);
      for (let segment = row * segmentsPerRow; segment < end; segment++) tally[this.stateOf(segment)]++;
      let state: number = SegmentUse.free;
      for (let other = 1; other < STATES; other++) if (tally[other] >= tally[state]) state = other;
      this.cells[row * this.bins + bin] = state;
    }
  }

  private stateOf(segment: number): number {
    const generation = this.survey.generationLow(segment);
    if (generation === this.generation[segment]) return this.survey.use[segment];
    this.generation[segment] = generation;
    return COLLECTED;
  }

  /** Makes one bin of each two: what was collected in either was collected, else the later one counts. */
  mergePairs(): void {
    const { cells, bins } = this;
    for (let row = 0; row < this.rows * bins; row += bins) {
      for (let n = 0; n < bins / 2; n++) cells[row + n] = merged(cells[row + 2 * n], cells[row + 2 * n + 1]);
      cells.fill(UNKNOWN, row + bins / 2, row + bins);
    }
  }

  finish(bins: number): SegmentMap {
    const rows = Array.from({ length: this.rows }, (_, row) =>
      Array.from(this.cells.subarray(row * this.bins, row * this.bins + bins), (state) => LETTER_OF_STATE[state]).join(
        '',
      ),
    );
    return { segmentsPerRow: this.segmentsPerRow, rows };
  }
}

function merged(first: number, second: number): number {
  if (second === UNKNOWN) return first;
  return first === COLLECTED ? COLLECTED : second;
}
