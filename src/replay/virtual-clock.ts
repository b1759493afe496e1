/** A clock that stands still until it is moved: the time of a trace instead of the machine's. */
import type { Clock } from '../engine/index.js';

/** More than the rounding of any time, and too little to matter. */
const ROUNDING_MS = 0.001;

export class VirtualClock implements Clock {
  private atMs = 0;

  nowMs(): number {
    return this.atMs;
  }

  /**
   * Moves on to a deadline of the cache, and past it where it has been reached: the sum that made it may have been
   * rounded to just before what the cache waits for.
   */
  reach(deadlineMs: number): void {
    // The second term moves the clock on where times are so large that the first is lost in the sum.
    const stepMs = Math.max(ROUNDING_MS, this.atMs * 2 * Number.EPSILON);
    this.atMs = deadlineMs > this.atMs ? deadlineMs : this.atMs + stepMs;
  }

  /** Moves on to `ms`; a time that has passed already leaves it where it is. */
  moveTo(ms: number): void {
    if (ms > this.atMs) this.atMs = ms;
  }
}
