/**
 * Memory for replies: a ring of regions, handed out in order. The engine copies what is read straight into a
 * region, behind its reply header; regions that follow one another leave in one write. A region is given back
 * when the socket is done with it, in any order; room is regained from the oldest on.
 *
 * Its size bounds what a client that does not read its replies can make the server hold.
 */
import { assert } from '../engine/errors.js';

export const REPLY_RING_BYTES = 8 * 1024 * 1024;
const REGIONS = 4096;

export class ReplyRing {
  private readonly starts = new Uint32Array(REGIONS);
  private readonly isFree = new Uint8Array(REGIONS);
  private first = 0;
  private count = 0;
  private head = 0;

  /** @param offsetBytes where the ring begins in the connection's memory. */
  constructor(
    private readonly offsetBytes: number,
    private readonly sizeBytes = REPLY_RING_BYTES,
  ) {}

  get isEmpty(): boolean {
    return this.count === 0;
  }

  /** Takes a region. @returns its number, or -1 when there is no room now. */
  take(lengthBytes: number): number {
    if (this.count === REGIONS) return -1;
    const at = this.placeFor(lengthBytes);
    if (at < 0) return -1;
    const region = (this.first + this.count) % REGIONS;
    this.count++;
    this.starts[region] = at;
    this.isFree[region] = 0;
    this.head = at + lengthBytes;
    return region;
  }

  private placeFor(lengthBytes: number): number {
    const { head, sizeBytes } = this;
    if (this.count === 0) return lengthBytes <= sizeBytes ? 0 : -1;
    const tail = this.starts[this.first];
    if (head <= tail) return head + lengthBytes <= tail ? head : -1;
    if (head + lengthBytes <= sizeBytes) return head;
    return lengthBytes <= tail ? 0 : -1;
  }

  /** Where a region begins in the connection's memory. */
  startOf(region: number): number {
    return this.offsetBytes + this.starts[region];
  }

  /** The region that was taken after this one, if it was. */
  static after(region: number): number {
    return (region + 1) % REGIONS;
  }

  /** Gives regions back, from `from` to `to` in the order they were taken. */
  release(from: number, to = from): void {
    for (let region = from; ; region = ReplyRing.after(region)) {
      assert(this.isFree[region] === 0, 'a reply region is released twice');
      this.isFree[region] = 1;
      if (region === to) break;
    }
    while (this.count > 0 && this.isFree[this.first] === 1) {
      this.first = ReplyRing.after(this.first);
      this.count--;
    }
  }
}
