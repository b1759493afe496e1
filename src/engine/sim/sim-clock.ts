/** A clock that moves when it is told to. */
import type { Clock } from '../clock.js';

export class SimClock implements Clock {
  private now = 0;

  nowMs(): number {
    return this.now;
  }

  advance(ms: number): void {
    this.now += ms;
  }
}
