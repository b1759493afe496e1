/**
 * The newest version of every byte that one kset holds (format §3 "Write-back": the kernel's private tree):
 * a small sorted set of non-overlapping extents, where a later key wins over an earlier one. Offsets and
 * lengths in bytes.
 */
import { KSET_KEYS_MAX } from './media/kset.js';

/** Each insertion adds at most two extents: itself and the tail of one it splits. */
const CAPACITY = 2 * KSET_KEYS_MAX + 1;

export class KsetOverlay {
  count = 0;
  readonly startBytes = new Float64Array(CAPACITY);
  readonly endBytes = new Float64Array(CAPACITY);
  /** Where the extent's payload starts on the cache device. */
  readonly pmemOffsetBytes = new Float64Array(CAPACITY);
  /** Which key of the kset it is of. */
  readonly key = new Uint8Array(CAPACITY);
  readonly clean = new Uint8Array(CAPACITY);

  clear(): void {
    this.count = 0;
  }

  insert(start: number, length: number, pmemOffset: number, key: number, isClean: boolean): void {
    const end = start + length;
    let first = 0;
    while (first < this.count && this.endBytes[first] <= start) first++;
    let last = first;
    while (last < this.count && this.startBytes[last] < end) last++;
    const headKept = first < last && this.startBytes[first] < start;
    const tailKept = first < last && this.endBytes[last - 1] > end;
    const tailEnd = tailKept ? this.endBytes[last - 1] : 0;
    const tailPmem = tailKept ? this.pmemOffsetBytes[last - 1] + (end - this.startBytes[last - 1]) : 0;
    const tailKey = tailKept ? this.key[last - 1] : 0;
    const tailClean = tailKept ? this.clean[last - 1] : 0;
    if (headKept) {
      this.endBytes[first] = start;
      first++;
    }
    this.replace(first, last, tailKept ? 2 : 1);
    this.store(first, start, end, pmemOffset, key, isClean ? 1 : 0);
    if (tailKept) this.store(first + 1, end, tailEnd, tailPmem, tailKey, tailClean);
  }

  private store(i: number, start: number, end: number, pmemOffset: number, key: number, clean: number): void {
    this.startBytes[i] = start;
    this.endBytes[i] = end;
    this.pmemOffsetBytes[i] = pmemOffset;
    this.key[i] = key;
    this.clean[i] = clean;
  }

  private replace(from: number, to: number, inserted: number): void {
    const target = from + inserted;
    for (const column of [this.startBytes, this.endBytes, this.pmemOffsetBytes, this.key, this.clean]) {
      column.copyWithin(target, to, this.count);
    }
    this.count += inserted - (to - from);
  }
}
