/**
 * Where what a client sends is received, and written from: a few windows of the connection's memory. What is
 * received is parsed in place, and the payload of a write stays where it is until the write has ended.
 *
 * Invariants: unparsed bytes lie in one piece, in the current window; a window with a pinned payload is never
 * received into again but behind that payload.
 */
import { assert } from '../engine/errors.js';

export const WINDOW_BYTES = 1024 * 1024;
const WINDOWS = 4;
export const WINDOWS_BYTES = WINDOWS * WINDOW_BYTES;
/** With less room than this at its end a window is left: a receive call costs the same for few bytes. */
const MIN_RECEIVE_BYTES = 32 * 1024;
/** Up to this many unparsed bytes are moved to the front of their window, which is in the processor's caches. */
const FEW_BYTES = 4096 + 32;

export class ReceiveWindows {
  /** Unparsed bytes are [start, end) of the memory. */
  start: number;
  end: number;
  private base: number;
  private readonly pins = new Uint32Array(WINDOWS);

  /** @param offsetBytes where the windows begin in `memory`. */
  constructor(
    private readonly memory: Uint8Array,
    private readonly offsetBytes: number,
  ) {
    this.base = this.start = this.end = offsetBytes;
  }

  /** Number of the window that unparsed bytes are in. */
  get current(): number {
    return (this.base - this.offsetBytes) / WINDOW_BYTES;
  }
  get limit(): number {
    return this.base + WINDOW_BYTES;
  }
  /** The rest of the current window, to receive into. */
  get target(): Uint8Array {
    return this.memory.subarray(this.end, this.limit);
  }

  /** A payload in the window is in use by a write. */
  pin(window: number): void {
    this.pins[window]++;
  }
  unpin(window: number): void {
    assert(this.pins[window] > 0, 'a receive window is unpinned more often than it was pinned');
    this.pins[window]--;
  }

  /**
   * Sees to it that the `neededBytes` from `start` on fit into the current window, by moving the unparsed bytes
   * to the front of a window that is free. At most a window's size may be asked for.
   * @returns false when every window is in use and nothing more can be received.
   */
  makeRoom(neededBytes: number): boolean {
    const { pins, current } = this;
    if (this.end - this.start <= FEW_BYTES && pins[current] === 0) {
      if (this.start > this.base) this.moveTo(current);
      return true;
    }
    if (this.start + Math.max(neededBytes, MIN_RECEIVE_BYTES) <= this.limit) return true;
    for (let n = 0; n < WINDOWS; n++) {
      const window = (current + n) % WINDOWS;
      if (pins[window] === 0) {
        this.moveTo(window);
        return true;
      }
    }
    return this.start + neededBytes <= this.limit && this.end < this.limit;
  }

  private moveTo(window: number): void {
    const base = this.offsetBytes + window * WINDOW_BYTES;
    this.memory.copyWithin(base, this.start, this.end);
    this.end = base + (this.end - this.start);
    this.base = this.start = base;
  }
}
