/**
 * The extent index (format §3 "Index"): which part of the cache holds which part of the backing device.
 *
 * One sorted array of non-overlapping entries per 4 MiB subtree, searched by interpolation, galloping and
 * bisection. An entry is three 32-bit words:
 *
 *   word 0   start sector in the subtree (13 bits) | sectors − 1 (13) | high 3 bits of segment | flags (3)
 *   word 1   low 17 bits of logical segment | sector offset in the segment's data area (15)
 *   word 2   low 32 bits of the segment generation the entry was written under
 *
 * A placeholder (EMPTY) has no payload: its words 1 and 2 are the number and serial of the read that is
 * filling it. An entry whose generation is not its segment's any more is stale: its payload is gone, and
 * whoever meets it drops it. Invariants: entries of a subtree are sorted, do not overlap, none is of zero
 * length, and no two words of bookkeeping disagree (`check()` asserts it all, for tests).
 *
 * Sectors are of 512 bytes. Nothing here allocates per call.
 */
import { assert } from '../errors.js';
import { SUBTREE_BYTES, SUBTREE_SECTORS } from '../media/geometry.js';
import { classFor, ENTRY_WORDS, Slab } from './slab.js';

export const ENTRY_CLEAN = 1;
export const ENTRY_EMPTY = 2;
/** The kset that brought the entry was behind dirty_tail when the log was loaded; only then, never later. */
export const ENTRY_WRITTEN_BACK = 4;
const FLAGS_MASK = 7;
const START_SHIFT = 19;
const LENGTH_SHIFT = 6;
const LENGTH_MASK = 0x1fff;
const SEGMENT_HIGH_SHIFT = 3;
const SEGMENT_HIGH_MASK = 7;
const SEGMENT_LOW_SHIFT = 15;
const SEGMENT_LOW_BITS = 17;
const SEGMENT_LOW_MASK = 2 ** SEGMENT_LOW_BITS - 1;
const OFFSET_MASK = 0x7fff;
const SUBTREE_SHIFT = 13;

const EMPTY_PAGE = new Int32Array(ENTRY_WORDS);

function startOf(word0: number): number {
  return word0 >>> START_SHIFT;
}
function sectorsOf(word0: number): number {
  return ((word0 >>> LENGTH_SHIFT) & LENGTH_MASK) + 1;
}
function endOf(word0: number): number {
  return startOf(word0) + sectorsOf(word0);
}
function packWord0(start: number, sectors: number, segment: number, flags: number): number {
  return (
    (start << START_SHIFT) |
    ((sectors - 1) << LENGTH_SHIFT) |
    ((segment >>> SEGMENT_LOW_BITS) << SEGMENT_HIGH_SHIFT) |
    flags
  );
}
function packWord1(segment: number, offsetSectors: number): number {
  return ((segment & SEGMENT_LOW_MASK) << SEGMENT_LOW_SHIFT) | offsetSectors;
}

export class ExtentIndex {
  /** Entries in all subtrees, placeholders and stale ones included. */
  entryCount = 0;
  readonly subtreeCount: number;

  // The cursor: the subtree that `seek` chose, and the entry `at`.
  private page: Int32Array = EMPTY_PAGE;
  private base = 0;
  private subtree = 0;
  private count = 0;
  private at = 0;

  private readonly slab = new Slab();
  private readonly chunkRef: Uint32Array;
  private readonly entryCounts: Uint16Array;
  private readonly chunkClass: Uint8Array;
  private sweepNext = 0;

  /**
   * @param backingBytes size of the backing device.
   * @param generations low 32 bits of every logical segment's generation; owned by the segment table.
   */
  constructor(
    backingBytes: number,
    private readonly generations: Int32Array,
  ) {
    this.subtreeCount = Math.ceil(backingBytes / SUBTREE_BYTES);
    this.chunkRef = new Uint32Array(this.subtreeCount);
    this.entryCounts = new Uint16Array(this.subtreeCount);
    this.chunkClass = new Uint8Array(this.subtreeCount);
  }

  /** Bytes of memory the index takes. */
  get memoryBytes(): number {
    return this.slab.bytes + this.subtreeCount * 7;
  }

  /**
   * Loads the line that a search for `sector` (of the whole device) will probably touch first. A loop of
   * these over a group of requests overlaps their cache misses. The result only keeps the load alive.
   */
  touch(sector: number): number {
    const subtree = Math.floor(sector / SUBTREE_SECTORS);
    const count = this.entryCounts[subtree];
    if (count === 0) return 0;
    const ref = this.chunkRef[subtree];
    const guess = ((sector & (SUBTREE_SECTORS - 1)) * count) >>> SUBTREE_SHIFT;
    return this.slab.pages[Slab.pageOf(ref)][Slab.wordOf(ref) + guess * ENTRY_WORDS];
  }

  // ---- cursor -----------------------------------------------------------------------------------------

  /** Puts the cursor on the first entry of `subtree` that ends after `sector` (0…8191), if there is one. */
  seek(subtree: number, sector: number): void {
    this.select(subtree);
    const i = this.countStartingAtOrBefore(sector);
    this.at = i > 0 && endOf(this.page[this.base + (i - 1) * ENTRY_WORDS]) > sector ? i - 1 : i;
  }

  private select(subtree: number): void {
    this.subtree = subtree;
    this.count = this.entryCounts[subtree];
    if (this.count === 0) {
      this.page = EMPTY_PAGE;
      this.base = 0;
    } else {
      const ref = this.chunkRef[subtree];
      this.page = this.slab.pages[Slab.pageOf(ref)];
      this.base = Slab.wordOf(ref);
    }
  }

  /** How many entries of the selected subtree start at or before `sector`. */
  private countStartingAtOrBefore(sector: number): number {
    const { page, base, count } = this;
    if (count === 0) return 0;
    let low = 0; // all entries before `low` start at or before the sector
    let high = count; // all from `high` on start after it
    const guess = (sector * count) >>> SUBTREE_SHIFT;
    let stride = 1;
    if (startOf(page[base + guess * ENTRY_WORDS]) <= sector) {
      low = guess + 1;
      while (low + stride <= count && startOf(page[base + (low + stride - 1) * ENTRY_WORDS]) <= sector) {
        low += stride;
        stride <<= 1;
      }
      if (low + stride - 1 < count) high = low + stride - 1;
    } else {
      high = guess;
      while (high - stride >= 0 && startOf(page[base + (high - stride) * ENTRY_WORDS]) > sector) {
        high -= stride;
        stride <<= 1;
      }
      if (high - stride >= 0) low = high - stride + 1;
    }
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (startOf(page[base + middle * ENTRY_WORDS]) <= sector) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** False when the cursor is past the last entry of its subtree; the getters below need true. */
  get valid(): boolean {
    return this.at < this.count;
  }
  /** Moves the cursor to the next entry of the subtree. */
  advance(): void {
    this.at++;
  }
  private word(n: number): number {
    return this.page[this.base + this.at * ENTRY_WORDS + n];
  }
  /** First sector of the entry, in its subtree. */
  get start(): number {
    return startOf(this.word(0));
  }
  /** Sector after the entry's last, in its subtree. */
  get end(): number {
    return endOf(this.word(0));
  }
  get flags(): number {
    return this.word(0) & FLAGS_MASK;
  }
  get isEmpty(): boolean {
    return (this.word(0) & ENTRY_EMPTY) !== 0;
  }
  /** Logical segment that holds the payload; not of a placeholder. */
  get segment(): number {
    return (
      (((this.word(0) >>> SEGMENT_HIGH_SHIFT) & SEGMENT_HIGH_MASK) << SEGMENT_LOW_BITS) |
      (this.word(1) >>> SEGMENT_LOW_SHIFT)
    );
  }
  /** Sector offset of the payload in the segment's data area; not of a placeholder. */
  get offsetSectors(): number {
    return this.word(1) & OFFSET_MASK;
  }
  /** The payload is gone: its segment moved on to another generation. Never true of a placeholder. */
  get isStale(): boolean {
    return !this.isEmpty && this.word(2) !== this.generations[this.segment];
  }
  /** Whether the entry is the placeholder of read `slot` with `serial`. */
  isPlaceholderOf(slot: number, serial: number): boolean {
    return this.isEmpty && this.word(1) === slot && this.word(2) === serial;
  }

  /** Deletes the entry under the cursor; the cursor is then on the one after it. */
  remove(): void {
    this.splice(this.at, this.at + 1, 0);
  }

  /** Shortens the entry under the cursor to its first `sectors`. */
  truncate(sectors: number): void {
    const i = this.base + this.at * ENTRY_WORDS;
    this.page[i] = (this.page[i] & ~(LENGTH_MASK << LENGTH_SHIFT)) | ((sectors - 1) << LENGTH_SHIFT);
  }

  /** Turns the placeholder under the cursor into an entry with payload. */
  fill(segment: number, offsetSectors: number, flags: number): void {
    const i = this.base + this.at * ENTRY_WORDS;
    const word0 = this.page[i];
    this.page[i] = packWord0(startOf(word0), sectorsOf(word0), segment, flags);
    this.page[i + 1] = packWord1(segment, offsetSectors);
    this.page[i + 2] = this.generations[segment];
  }

  /**
   * Inserts the placeholder of read `slot` at the cursor, over a hole: the caller has found that no entry
   * overlaps [start, end). The cursor is then on the entry after it.
   */
  insertPlaceholder(start: number, end: number, slot: number, serial: number): void {
    this.splice(this.at, this.at, 1);
    this.store(this.at, packWord0(start, end - start, 0, ENTRY_EMPTY), slot, serial);
    this.at++;
  }

  // ---- insertion --------------------------------------------------------------------------------------

  /**
   * Inserts an extent and resolves every overlap in its favour: older entries are cut, split or deleted; a
   * placeholder keeps at most the part before the extent (its read fills from its start).
   * @param start first sector in the subtree; `sectors` ≥ 1 must not cross the subtree's end.
   * @param generation low 32 bits of the generation the payload was written under.
   */
  insert(
    subtree: number,
    start: number,
    sectors: number,
    segment: number,
    offsetSectors: number,
    generation: number,
    flags: number,
  ): void {
    const end = start + sectors;
    this.seek(subtree, start);
    const first = this.at;
    const word0 = packWord0(start, sectors, segment, flags);
    const word1 = packWord1(segment, offsetSectors);

    // The common cases: nothing in the way, or exactly one entry of the same range.
    let last = first;
    while (last < this.count && startOf(this.page[this.base + last * ENTRY_WORDS]) < end) last++;
    if (last === first) {
      this.splice(first, first, 1);
      this.store(first, word0, word1, generation);
      return;
    }

    // Entries [first, last) overlap the extent. At most the first keeps a head and the last a tail.
    const headWord0 = this.page[this.base + first * ENTRY_WORDS];
    const tailAt = this.base + (last - 1) * ENTRY_WORDS;
    const tailWord0 = this.page[tailAt];
    const keepsHead = startOf(headWord0) < start;
    const keepsTail = endOf(tailWord0) > end && (tailWord0 & ENTRY_EMPTY) === 0;
    const tailWord1 = this.page[tailAt + 1];
    const tailWord2 = this.page[tailAt + 2];
    const replaceFrom = keepsHead ? first + 1 : first;
    this.splice(replaceFrom, last, keepsTail ? 2 : 1);
    if (keepsHead) {
      this.page[this.base + first * ENTRY_WORDS] =
        (headWord0 & ~(LENGTH_MASK << LENGTH_SHIFT)) | ((start - startOf(headWord0) - 1) << LENGTH_SHIFT);
    }
    this.store(replaceFrom, word0, word1, generation);
    if (keepsTail) {
      const cut = end - startOf(tailWord0);
      const kept = endOf(tailWord0) - end;
      const word = (end << START_SHIFT) | ((kept - 1) << LENGTH_SHIFT) | (tailWord0 & ((1 << LENGTH_SHIFT) - 1));
      // The payload lies in one segment, so the cut never carries out of the offset bits.
      this.store(replaceFrom + 1, word, tailWord1 + cut, tailWord2);
    }
  }

  private store(at: number, word0: number, word1: number, word2: number): void {
    const i = this.base + at * ENTRY_WORDS;
    this.page[i] = word0;
    this.page[i + 1] = word1;
    this.page[i + 2] = word2;
  }

  /** Replaces entries [from, to) of the selected subtree by `inserted` uninitialised ones. */
  private splice(from: number, to: number, inserted: number): void {
    const delta = inserted - (to - from);
    if (delta === 0) return;
    const newCount = this.count + delta;
    assert(newCount >= 0 && newCount <= SUBTREE_SECTORS, 'a subtree has as many entries as sectors');
    if (delta > 0) this.reserve(newCount);
    const { page, base } = this;
    if (to < this.count) {
      page.copyWithin(base + (to + delta) * ENTRY_WORDS, base + to * ENTRY_WORDS, base + this.count * ENTRY_WORDS);
    }
    this.count = newCount;
    this.entryCounts[this.subtree] = newCount;
    this.entryCount += delta;
    if (newCount === 0) this.releaseChunk();
  }

  /** Makes room for `count` entries in the selected subtree, which has at least one or is getting its first. */
  private reserve(count: number): void {
    const had = this.count;
    const oldClass = this.chunkClass[this.subtree];
    if (had > 0 && count <= 1 << oldClass) return;
    this.moveTo(classFor(count));
  }

  /** Moves the selected subtree's entries to a chunk of another class. */
  private moveTo(newClass: number): void {
    const ref = this.slab.allocate(newClass);
    const page = this.slab.pages[Slab.pageOf(ref)];
    const base = Slab.wordOf(ref);
    if (this.count > 0) {
      page.set(this.page.subarray(this.base, this.base + this.count * ENTRY_WORDS), base);
      this.slab.release(this.chunkRef[this.subtree], this.chunkClass[this.subtree]);
    }
    this.chunkRef[this.subtree] = ref;
    this.chunkClass[this.subtree] = newClass;
    this.page = page;
    this.base = base;
  }

  private releaseChunk(): void {
    this.slab.release(this.chunkRef[this.subtree], this.chunkClass[this.subtree]);
    this.page = EMPTY_PAGE;
    this.base = 0;
  }

  // ---- upkeep -----------------------------------------------------------------------------------------

  /**
   * Drops stale entries of the next `subtrees` subtrees (round and round), and gives back memory that a
   * subtree has outgrown downwards. The kernel's cleaner.
   * @returns true when it has just finished a round.
   */
  sweep(subtrees: number): boolean {
    for (let n = 0; n < subtrees; n++) {
      this.dropStale(this.sweepNext);
      if (++this.sweepNext >= this.subtreeCount) {
        this.sweepNext = 0;
        return true;
      }
    }
    return false;
  }

  private dropStale(subtree: number): void {
    if (this.entryCounts[subtree] === 0) return;
    this.select(subtree);
    const before = this.count;
    let kept = 0;
    for (this.at = 0; this.at < before; this.at++) {
      if (this.isStale) continue;
      if (kept !== this.at) this.store(kept, this.word(0), this.word(1), this.word(2));
      kept++;
    }
    if (kept === before) return;
    this.entryCount -= before - kept;
    this.entryCounts[subtree] = kept;
    this.count = kept;
    if (kept === 0) this.releaseChunk();
    else if (classFor(kept) + 1 < this.chunkClass[subtree]) this.moveTo(classFor(kept));
  }

  /** The first subtree from `subtree` on that has entries, or -1. */
  nextUsedSubtree(subtree: number): number {
    for (let i = subtree; i < this.subtreeCount; i++) if (this.entryCounts[i] !== 0) return i;
    return -1;
  }

  /** Asserts every invariant. For tests; linear in the entries. */
  check(): void {
    let total = 0;
    for (let subtree = 0; subtree < this.subtreeCount; subtree++) {
      this.select(subtree);
      let end = 0;
      for (this.at = 0; this.at < this.count; this.at++) {
        assert(this.start >= end, 'entries overlap or are out of order');
        end = this.end;
        assert(end <= SUBTREE_SECTORS, 'an entry crosses its subtree');
      }
      assert(this.count === 0 || this.count <= 1 << this.chunkClass[subtree], 'a chunk is overfull');
      total += this.count;
    }
    assert(total === this.entryCount, 'entryCount is off');
  }
}
