/**
 * The newest version of every byte that some ksets hold (format §3 "Write-back"; the kernel builds a private tree of one
 * kset): a small sorted set of extents that do not overlap, in which a later key wins over an earlier one. Offsets and
 * lengths in bytes.
 */
import { KSET_KEYS_MAX } from '../media/kset.js';

/** Maximum number of ksets in an overlay. */
export const OVERLAY_KSETS = 64;
/** Maximum number of keys in an overlay. */
export const OVERLAY_KEYS = OVERLAY_KSETS * KSET_KEYS_MAX;
/** Each insertion adds at most two extents: itself and the tail of one it splits. */
export const OVERLAY_CAPACITY = 2 * OVERLAY_KEYS + 1;

export class KsetOverlay {
  count = 0;
  /** Row in the columns below of the nth extent, in the order of their starts. */
  readonly at = new Uint16Array(OVERLAY_CAPACITY);
  readonly startBytes = new Float64Array(OVERLAY_CAPACITY);
  readonly endBytes = new Float64Array(OVERLAY_CAPACITY);
  /** Offset of the extent's payload on the cache device. */
  readonly pmemOffsetBytes = new Float64Array(OVERLAY_CAPACITY);
  /** Number of the extent's key, as the caller counts. */
  readonly key = new Uint16Array(OVERLAY_CAPACITY);
  readonly clean = new Uint8Array(OVERLAY_CAPACITY);
  /** Rows taken; the rows of overwritten extents are not used again. */
  private taken = 0;

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
    const row = this.take(start, end, pmemOffset, key, isClean ? 1 : 0);
    if (first === last) {
      this.replace(first, last, 1);
      at[first] = row;
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
    at[first] = row;
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
    const row = this.taken++;
    this.startBytes[row] = start;
    this.endBytes[row] = end;
    this.pmemOffsetBytes[row] = pmemOffset;
    this.key[row] = key;
    this.clean[row] = clean;
    return row;
  }

  /** Takes a row for the part of row `row` from `start` on. */
  private takeTail(row: number, start: number): number {
    const pmemOffset = this.pmemOffsetBytes[row] + (start - this.startBytes[row]);
    return this.take(start, this.endBytes[row], pmemOffset, this.key[row], this.clean[row]);
  }

  /** Replaces extents [from, to) by `inserted` others, which the caller sets. */
  private replace(from: number, to: number, inserted: number): void {
    const { at, count } = this;
    const shift = inserted - (to - from);
    if (shift !== 0 && to < count) at.copyWithin(to + shift, to, count);
    this.count = count + shift;
  }
}
