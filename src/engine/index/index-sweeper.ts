/**
 * The cleaner of a running cache: goes through the index for entries whose payload is gone, a part of it at a time.
 * Only the freeing of segments makes entries stale, and a look at the whole index for each would be too much.
 *
 * A stale entry takes memory, but a write of the same blocks finds it in its place, where it would have to make room
 * for a new one. So they are left until there are many, or until they have been there for long.
 */
import type { ExtentIndex } from './extent-index.js';

/** Subtrees it looks at in one step. */
const SUBTREES_PER_STEP = 512;
/** It goes through the index at most so often while as many segments are freed as the cache has, */
const SWEEPS_PER_LAP = 2;
/** if that has grown to so much of what it was after the last time, */
const GROWTH = 1.5;
/** or else when so many times as many segments have been freed. */
const LAPS_PER_SWEEP_MAX = 4;

export class IndexSweeper {
  /** Within a round. */
  private isSweeping = false;
  /** Segments freed when it set out last. */
  private setOutAt = 0;
  /** Entries in the index after the last round. */
  private entriesAfter = 0;

  constructor(
    private readonly index: ExtentIndex,
    private readonly segmentCount: number,
  ) {}

  /**
   * @param segmentsFreed since the cache was opened
   * @returns whether there was anything to look at
   */
  step(segmentsFreed: number): boolean {
    const { index } = this;
    if (!this.isSweeping) {
      if (!this.isDue((segmentsFreed - this.setOutAt) / this.segmentCount)) return false;
      this.setOutAt = segmentsFreed;
      this.isSweeping = true;
    }
    if (index.sweep(SUBTREES_PER_STEP)) {
      this.isSweeping = false;
      this.entriesAfter = index.entryCount;
    }
    return true;
  }

  private isDue(laps: number): boolean {
    if (laps * SWEEPS_PER_LAP < 1) return false;
    return laps >= LAPS_PER_SWEEP_MAX || this.index.entryCount >= GROWTH * this.entriesAfter;
  }
}
