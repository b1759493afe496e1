/**
 * How fast the backing device takes write-back. A cycle is what is written between two flushes, and the flush; only
 * its end moves dirty_tail. Only time in which the device was at work counts.
 */

/** Weight of the newest cycle. */
const NEWEST_SHARE = 0.3;

export class WritebackPace {
  private busySinceMs: number | undefined;
  private busyMs = 0;
  private bytes = 0;
  /** Of a cycle that has ended; 0 before the first. */
  private ksetMs = 0;
  private bytesPerMs = 0;

  /** Work begins at the backing device, `bytes` of payload (0 for a flush). */
  began(nowMs: number, bytes: number): void {
    this.busySinceMs = nowMs;
    this.bytes += bytes;
  }

  /** It has ended. */
  ended(nowMs: number): void {
    if (this.busySinceMs !== undefined) this.busyMs += nowMs - this.busySinceMs;
    this.busySinceMs = undefined;
  }

  /** A cycle of so many ksets is durable. */
  cycleEnded(ksets: number): void {
    if (ksets > 0 && this.bytes > 0) {
      const busyMs = Math.max(this.busyMs, 0.01);
      const share = this.bytesPerMs === 0 ? 1 : NEWEST_SHARE;
      this.ksetMs += share * (busyMs / ksets - this.ksetMs);
      this.bytesPerMs += share * (this.bytes / busyMs - this.bytesPerMs);
    }
    this.restart();
  }

  /** A cycle has failed: it is written again. */
  restart(): void {
    this.busyMs = 0;
    this.bytes = 0;
  }

  /** Ksets that a cycle of `cycleMs` holds: at least 1, and 1 as long as nothing is known. */
  ksetsWithin(cycleMs: number): number {
    if (cycleMs === Infinity) return Infinity;
    return this.ksetMs === 0 ? 1 : Math.max(1, Math.floor(cycleMs / this.ksetMs));
  }

  /** Bytes of payload a millisecond; less when the work under way takes longer than expected. 0 when not known. */
  rate(nowMs: number): number {
    const underWayMs = this.busySinceMs === undefined ? 0 : nowMs - this.busySinceMs;
    const spentMs = this.busyMs + underWayMs;
    if (this.bytes === 0 || spentMs * this.bytesPerMs < 2 * this.bytes) return this.bytesPerMs;
    return Math.min(this.bytesPerMs, this.bytes / spentMs);
  }
}
