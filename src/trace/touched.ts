/**
 * Which 4 KiB blocks of which devices were touched, how, and in which of a few intervals last: a byte a block, in pages
 * that are made when first touched. Memory is bounded; a trace that is spread further is not followed.
 */

export const BLOCK_BYTES = 4096;
/** A page covers 64 MiB of a device in 16 KiB. */
const PAGE_BLOCKS = 2 ** 14;
/** 256 MiB. */
const MAX_PAGES = 2 ** 14;
/** Pages that a device can have below 8 PiB. */
const PAGES_PER_DEVICE = 2 ** 27;

const READ = 1;
const WRITTEN = 2;
const KIND_BITS = 2;
/** A block's byte has room for so many intervals, and for none. */
export const MAX_INTERVALS = 2 ** (8 - KIND_BITS) - 1;

/** What an access found: blocks, by what was known of them before. */
export class TouchedBlocks {
  /** Blocks touched at all, read, and written: each once. */
  touched = 0;
  read = 0;
  written = 0;
  /** Blocks of reads that were not touched before, and those that were: each time. */
  readFirst = 0;
  readAgain = 0;
  /** Blocks of writes that were written before: each time. */
  writtenAgain = 0;
  /** Blocks touched in each interval. */
  readonly byInterval: Float64Array;
  /** Blocks touched for the first time in each interval. */
  readonly newByInterval: Float64Array;
  /** There are too many pages; nothing here is known any more. */
  overflowed = false;
  readonly #pages = new Map<number, Uint8Array>();
  #latestKey = -1;
  #latestPage: Uint8Array = new Uint8Array(0);

  /** @param intervals at most `MAX_INTERVALS` */
  constructor(intervals: number) {
    this.byInterval = new Float64Array(intervals);
    this.newByInterval = new Float64Array(intervals);
  }

  add(device: number, isRead: boolean, interval: number, offsetBytes: number, lengthBytes: number): void {
    const end = Math.ceil((offsetBytes + lengthBytes) / BLOCK_BYTES);
    for (let block = Math.floor(offsetBytes / BLOCK_BYTES); block < end && !this.overflowed;) {
      const pageNumber = Math.floor(block / PAGE_BLOCKS);
      const page = this.#page(device * PAGES_PER_DEVICE + pageNumber);
      if (page === undefined) return;
      const first = pageNumber * PAGE_BLOCKS;
      const stop = Math.min(end, first + PAGE_BLOCKS);
      for (; block < stop; block++) this.#touch(page, block - first, isRead, interval);
    }
  }

  #touch(page: Uint8Array, at: number, isRead: boolean, interval: number): void {
    const before = page[at];
    if (before === 0) {
      this.touched++;
      this.newByInterval[interval]++;
      if (isRead) this.readFirst++;
    } else if (isRead) this.readAgain++;
    if (before >>> KIND_BITS !== interval + 1) this.byInterval[interval]++;
    if (isRead) {
      if ((before & READ) === 0) this.read++;
    } else if ((before & WRITTEN) === 0) this.written++;
    else this.writtenAgain++;
    page[at] = ((interval + 1) << KIND_BITS) | (before & (READ | WRITTEN)) | (isRead ? READ : WRITTEN);
  }

  #page(key: number): Uint8Array | undefined {
    if (key === this.#latestKey) return this.#latestPage;
    let page = this.#pages.get(key);
    if (page === undefined) {
      if (this.#pages.size === MAX_PAGES) {
        this.overflowed = true;
        this.#pages.clear();
        this.#latestKey = -1;
        return undefined;
      }
      page = new Uint8Array(PAGE_BLOCKS);
      this.#pages.set(key, page);
    }
    this.#latestKey = key;
    this.#latestPage = page;
    return page;
  }
}
