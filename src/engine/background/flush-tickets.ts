/**
 * Bookkeeping of the flushes of the backing device; at most one is under way. It answers two questions: has the flush
 * that a ticket asked for succeeded (`request`, `isServed`), and has any flush that began after a certain moment
 * succeeded (`owe`, `isDone`)?
 */
export class FlushTickets {
  /** Number of the last flush that began, and of the last that succeeded. */
  private begun = 0;
  private done = 0;
  /** Last ticket given out, last ticket served, and last ticket that the flush under way serves. */
  private requested = 0;
  private served = 0;
  private serving = 0;
  /** Highest kset that a flush has to cover to serve the tickets given out. */
  private requestedKset = -Infinity;
  /**
   * Called with the numbers of the last flush that began and of the last that succeeded, when one of them changes: before
   * the device is asked for the flush.
   */
  onChange: (begun: number, done: number) => void = () => {};

  /**
   * Asks for a flush that begins from now on and covers all ksets up to number `kset`; if not given, no kset.
   * @returns the ticket, to be given to `isServed`; never 0
   */
  request(kset = -Infinity): number {
    this.requestedKset = Math.max(this.requestedKset, kset);
    return ++this.requested;
  }
  /** Whether the flush that was asked for has succeeded. */
  isServed(ticket: number): boolean {
    return this.served >= ticket;
  }
  /** A flush was asked for and has not succeeded. */
  get isWanted(): boolean {
    return this.served < this.requested;
  }

  /** Something that is not durable has ended at the device. @returns number of the next flush to begin, which covers it */
  owe(): number {
    return this.begun + 1;
  }
  /** Whether the flush of that number, or a later one, has succeeded. */
  isDone(flush: number): boolean {
    return this.done >= flush;
  }

  /** Whether a flush that begins now, with all ksets up to `written` on the backing device, would serve a ticket. */
  wouldServe(written: number): boolean {
    return this.isWanted && written >= this.requestedKset;
  }
  /** A flush begins; all ksets up to number `written` have been written to the backing device. */
  begin(written: number): void {
    this.begun++;
    this.serving = this.wouldServe(written) ? this.requested : this.served;
    this.onChange(this.begun, this.done);
  }
  /** The flush under way has succeeded. A flush that fails serves no ticket and needs no call. */
  succeed(): void {
    this.done = this.begun;
    this.served = this.serving;
    this.onChange(this.begun, this.done);
  }
}
