/**
 * Memory of the extent index: chunks of 2^k entries (2 to 8192) of 12 bytes, cut buddy-wise from pages.
 * A chunk never spans pages. Freed chunks are kept by size and reused before a new page is made; nothing is
 * given back to the system.
 */
import { assert } from '../errors.js';

export const ENTRY_WORDS = 3;
export const ENTRY_BYTES = 12;
export const MIN_CLASS = 1;
/** 2^13: a subtree cannot hold more entries than it has sectors. */
export const MAX_CLASS = 13;
const PAGE_CLASS = 16;
/** The first pages are small, so that a small cache does not take memory for a large one. */
const FIRST_PAGE_CLASSES: readonly number[] = [11, MAX_CLASS];
/** A chunk reference counts in the smallest chunks: 15 bits of offset in the page, 17 bits of page number. */
const OFFSET_BITS = PAGE_CLASS - MIN_CLASS;
const OFFSET_MASK = (1 << OFFSET_BITS) - 1;
const MAX_PAGES = 2 ** (32 - OFFSET_BITS);

/** The smallest class whose chunks hold `count` entries. */
export function classFor(count: number): number {
  return count <= 2 ? MIN_CLASS : 32 - Math.clz32(count - 1);
}

export class Slab {
  /** Pages by number; hot code indexes this directly with `pageOf` and `wordOf`. */
  readonly pages: Int32Array[] = [];
  private readonly free: number[][] = Array.from({ length: PAGE_CLASS + 1 }, () => []);

  /** Page number of chunk `ref`. */
  static pageOf(ref: number): number {
    return ref >>> OFFSET_BITS;
  }
  /** Index in its page of the first word of chunk `ref`. */
  static wordOf(ref: number): number {
    return (ref & OFFSET_MASK) * (ENTRY_WORDS << MIN_CLASS);
  }

  /** Bytes taken from the system. */
  get bytes(): number {
    return this.pages.reduce((sum, page) => sum + page.byteLength, 0);
  }

  /** @returns the reference (unsigned 32 bits) of a chunk of 2^sizeClass entries with arbitrary contents. */
  allocate(sizeClass: number): number {
    let from = sizeClass;
    while (from <= PAGE_CLASS && this.free[from].length === 0) from++;
    let ref: number;
    if (from > PAGE_CLASS) {
      assert(this.pages.length < MAX_PAGES, 'the extent index has outgrown its references');
      ref = (this.pages.length << OFFSET_BITS) >>> 0;
      from = Math.max(sizeClass, FIRST_PAGE_CLASSES[this.pages.length] ?? PAGE_CLASS);
      this.pages.push(new Int32Array(ENTRY_WORDS << from));
    } else {
      ref = this.free[from].pop()!;
    }
    while (from > sizeClass) {
      from--;
      this.free[from].push((ref + (1 << (from - MIN_CLASS))) >>> 0);
    }
    return ref;
  }

  release(ref: number, sizeClass: number): void {
    this.free[sizeClass].push(ref);
  }
}
