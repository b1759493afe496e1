/**
 * The cleaner of a running cache: goes through the index for entries whose payload is gone, a part of it at a time.
 * Only the freeing of segments makes entries stale, and a look at the whole index for each would be too much.
 */
import type { ExtentIndex } from './index/extent-index.js';

/** Subtrees it looks at in one step. */
const SUBTREES_PER_STEP = 512;
/** How often it goes through the index while as many segments are freed as the cache has. */
const SWEEPS_PER_LAP = 2;

export class IndexSweeper {
  /** Subtrees that are left of a round. */
  private left = 0;
  /** Segments freed when it set out last. */
  private setOutAt = 0;

  constructor(
    private readonly index: ExtentIndex,
    private readonly segmentCount: number,
  ) {}

  /**
   * @param segmentsFreed since the cache was opened
   * @returns whether there was anything to look at
   */
  step(segmentsFreed: number): boolean {
    if ((segmentsFreed - this.setOutAt) * SWEEPS_PER_LAP >= this.segmentCount) {
      this.setOutAt = segmentsFreed;
      this.left = this.index.subtreeCount;
    }
    if (this.left <= 0) return false;
    const subtrees = Math.min(this.left, SUBTREES_PER_STEP);
    this.index.sweep(subtrees);
    this.left -= subtrees;
    return true;
  }
}
