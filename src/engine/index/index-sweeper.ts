/**
 * Sweeps stale entries out of the index of a running cache, a part of the index at a time. Entries become stale only
 * when a segment is freed, and sweeping the whole index for each freed segment would cost too much.
 *
 * A stale entry takes memory, but a write of the same blocks overwrites it in place, without moving other entries. So
 * stale entries stay until there are many of them, or until many segments have been freed.
 */
import type { ExtentIndex } from './extent-index.js';

/** Subtrees swept in one step. */
const SUBTREES_PER_STEP = 512;
/** Maximum number of sweeps per lap. In one lap as many segments are freed as the cache has. */
const SWEEPS_PER_LAP = 2;
/** A sweep begins when the index has this many times the entries that the last sweep left. */
const GROWTH = 1.5;
/** A sweep begins after this many laps even if the index has not grown. */
const LAPS_PER_SWEEP_MAX = 4;

export class IndexSweeper {
  /** A sweep is under way. */
  private isSweeping = false;
  /** Segments freed when the last sweep began. */
  private sweptAt = 0;
  /** Entries in the index after the last sweep. */
  private entriesAfter = 0;

  constructor(
    private readonly index: ExtentIndex,
    private readonly segmentCount: number,
  ) {}

  /**
   * @param segmentsFreed since the cache was opened
   * @returns whether it swept anything
   */
  step(segmentsFreed: number): boolean {
    const { index } = this;
    if (!this.isSweeping) {
      if (!this.isDue((segmentsFreed - this.sweptAt) / this.segmentCount)) return false;
      this.sweptAt = segmentsFreed;
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
