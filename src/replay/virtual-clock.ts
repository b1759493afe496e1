/** A clock that stands still until it is moved: the time of a trace instead of the machine's. */
import type { Clock } from '../engine/index.js';

export class VirtualClock implements Clock {
  private atMs = 0;

  nowMs(): number {
    return this.atMs;
  }

  /** Moves on to `ms`; a time that has passed already leaves it where it is. */
  moveTo(ms: number): void {
    if (ms > this.atMs) this.atMs = ms;
  }
}
