/**
 * The newest version of every byte that a few ksets hold (format §3 "Write-back": the kernel's private tree, of
 * one): a small sorted set of non-overlapping extents, where a later key wins over an earlier one. Offsets and
 * lengths in bytes.
 */
import { KSET_KEYS_MAX } from '../media/kset.js';

const KSETS = 8;
/** Each insertion adds at most two extents: itself and the tail of one it splits. */
const EXTENTS_A_KSET = 2 * KSET_KEYS_MAX;
export const OVERLAY_CAPACITY = KSETS * EXTENTS_A_KSET + 1;

export class KsetOverlay {
  count = 0;
  /** Which place in the columns below the nth extent has, in the order of their starts. */
  readonly at = new Uint16Array(OVERLAY_CAPACITY);
  readonly startBytes = new Float64Array(OVERLAY_CAPACITY);
  readonly endBytes = new Float64Array(OVERLAY_CAPACITY);
  /** Where the extent's payload starts on the cache device. */
  readonly pmemOffsetBytes = new Float64Array(OVERLAY_CAPACITY);
  /** Which key of its kset it is of. */
  readonly key = new Uint8Array(OVERLAY_CAPACITY);
  readonly clean = new Uint8Array(OVERLAY_CAPACITY);
  /** Places taken; those of extents that were overwritten are not used again. */
  private taken = 0;

  /** There is room for another kset, whatever it holds. */
  get takesKset(): boolean {
    return this.taken + EXTENTS_A_KSET <= OVERLAY_CAPACITY;
  }

  clear(): void {
    this.count = 0;
    this.taken = 0;
  }

  insert(start: number, length: number, pmemOffset: number, key: number, isClean: boolean): void {
    const { at, startBytes, endBytes } = this;
    const end = start + length;
    let first = this.firstEndingAfter(start);
    let last = first;
    while (last < this.count && startBytes[at[last]] < end) last++;
    const place = this.take(start, end, pmemOffset, key, isClean ? 1 : 0);
    if (first === last) {
      this.replace(first, last, 1);
      at[first] = place;
      return;
    }
    const headAt = at[first];
    const tailAt = at[last - 1];
    const keepsHead = startBytes[headAt] < start;
    const keepsTail = endBytes[tailAt] > end;
    const tail = keepsTail ? this.takeTail(tailAt, end) : 0;
    if (keepsHead) {
      endBytes[headAt] = start;
      first++;
    }
    this.replace(first, last, keepsTail ? 2 : 1);
    at[first] = place;
    if (keepsTail) at[first + 1] = tail;
  }

  private firstEndingAfter(start: number): number {
    const { at, endBytes } = this;
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (endBytes[at[middle]] > start) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  private take(start: number, end: number, pmemOffset: number, key: number, clean: number): number {
    const place = this.taken++;
    this.startBytes[place] = start;
    this.endBytes[place] = end;
    this.pmemOffsetBytes[place] = pmemOffset;
    this.key[place] = key;
    this.clean[place] = clean;
    return place;
  }

  /** An extent of what the one at `place` holds from `start` on. */
  private takeTail(place: number, start: number): number {
    const pmemOffset = this.pmemOffsetBytes[place] + (start - this.startBytes[place]);
    return this.take(start, this.endBytes[place], pmemOffset, this.key[place], this.clean[place]);
  }

  /** Replaces the extents [from, to) by `inserted` that the caller sets. */
  private replace(from: number, to: number, inserted: number): void {
    const { at, count } = this;
    const shift = inserted - (to - from);
    if (shift !== 0 && to < count) at.copyWithin(to + shift, to, count);
    this.count = count + shift;
  }
}
