/**
 * Memory of the extent index: a buddy allocator of chunks of 2^k entries (2 to 8192) of 12 bytes. All chunks lie in
 * one array, so that an entry is one load away. A full array is copied into one of twice the size, of which the
 * system provides only the pages that are touched. Freed chunks are kept by size and reused before a new page is
 * made; nothing is returned to the system.
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
/** Words of the smallest chunk, the unit in which chunk references count. */
export const CHUNK_WORDS = ENTRY_WORDS << MIN_CLASS;
/** Indices into `words` stay below 2^31. */
const CHUNKS_MAX = Math.floor(2 ** 31 / CHUNK_WORDS);

/** The smallest class whose chunks hold `count` entries. */
export function classFor(count: number): number {
  return count <= 2 ? MIN_CLASS : 32 - Math.clz32(count - 1);
}

export class Slab {
  /** All entries; chunk `ref` begins at `ref * CHUNK_WORDS`. Replaced by `allocate` when it grows. */
  words: Int32Array;
  private readonly free: number[][] = Array.from({ length: PAGE_CLASS + 1 }, () => []);
  private pages = 0;
  /** Smallest chunks in all pages made so far. */
  private chunks = 0;

  /** @param allocateBytes returns zeroed memory */
  constructor(private readonly allocateBytes: (bytes: number) => ArrayBuffer) {
    this.words = this.makeWords(ENTRY_WORDS << FIRST_PAGE_CLASSES[0]);
  }

  private makeWords(count: number): Int32Array {
    return new Int32Array(this.allocateBytes(count * Int32Array.BYTES_PER_ELEMENT));
  }

  /** Bytes taken from the system. */
  get bytes(): number {
    return this.chunks * CHUNK_WORDS * Int32Array.BYTES_PER_ELEMENT;
  }

  /** @returns the reference of a chunk of 2^sizeClass entries with arbitrary contents. */
  allocate(sizeClass: number): number {
    let from = sizeClass;
    while (from <= PAGE_CLASS && this.free[from].length === 0) from++;
    let ref: number;
    if (from > PAGE_CLASS) {
      from = Math.max(sizeClass, FIRST_PAGE_CLASSES[this.pages] ?? PAGE_CLASS);
      ref = this.makePage(from);
    } else {
      ref = this.free[from].pop()!;
    }
    while (from > sizeClass) {
      from--;
      this.free[from].push(ref + (1 << (from - MIN_CLASS)));
    }
    return ref;
  }

  private makePage(pageClass: number): number {
    const ref = this.chunks;
    this.chunks += 1 << (pageClass - MIN_CLASS);
    this.pages++;
    assert(this.chunks <= CHUNKS_MAX, 'the extent index has outgrown its references');
    const needed = this.chunks * CHUNK_WORDS;
    if (needed > this.words.length) {
      const old = this.words;
      this.words = this.makeWords(Math.max(needed, Math.min(old.length * 2, CHUNKS_MAX * CHUNK_WORDS)));
      this.words.set(old);
    }
    return ref;
  }

  release(ref: number, sizeClass: number): void {
    this.free[sizeClass].push(ref);
  }
}
