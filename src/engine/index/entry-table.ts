/**
 * The entries of the extent index, their memory, and a cursor over them.
 *
 * One sorted array of non-overlapping entries per 4 MiB subtree, searched by interpolation, galloping and
 * bisection. An entry is three 32-bit words:
 *
 *   word 0   start sector in the subtree (13 bits) | sectors − 1 (13) | high 3 bits of segment | flags (3)
 *   word 1   low 17 bits of logical segment | sector offset in the segment's data area (15)
 *   word 2   low 32 bits of the segment generation the entry was written under
 *
 * A placeholder (EMPTY) has no payload: its words 1 and 2 are the number and serial of the read that is
 * filling it. An entry whose generation differs from its segment's is stale: its payload is gone, and the
 * next lookup that reaches it drops it.
 *
 * Sectors are of 512 bytes. Nothing here allocates per call.
 */
import { NO_HINT as UNKNOWN_HINT } from '../device/pmem.js';
import { assert } from '../errors.js';
import { SUBTREE_BYTES, SUBTREE_SECTORS } from '../media/geometry.js';
import * as slab from './slab.js';

// See `pieces.ts` about imported constants.
const NO_HINT = UNKNOWN_HINT;
const { CHUNK_WORDS, classFor, ENTRY_WORDS, Slab } = slab;

export const ENTRY_CLEAN = 1;
export const ENTRY_EMPTY = 2;
/** The entry's kset was before dirty_tail when the log was loaded. Set only then, never later. */
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
/** 2^13 sectors make a subtree. */
const GUESS_SHIFT = 13;

/** Subtrees are kept in groups of 2^7, 512 MiB of the backing device each. */
const GROUP_SHIFT = 7;
const GROUP_MASK = 2 ** GROUP_SHIFT - 1;
/** Two words a subtree. */
const GROUP_WORDS = 2 << GROUP_SHIFT;
/** Positions in `subtrees` are 32 bits wide. */
const SUBTREE_WORDS_MAX = 2 ** 31;

const CLASS_SHIFT = 16;
const COUNT_MASK = 2 ** CLASS_SHIFT - 1;

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
/** Whether two words 0 differ in segment and flags only. */
function isSameRange(word0: number, other: number): boolean {
  return (word0 ^ other) >>> LENGTH_SHIFT === 0;
}
function packWord1(segment: number, offsetSectors: number): number {
  return ((segment & SEGMENT_LOW_MASK) << SEGMENT_LOW_SHIFT) | offsetSectors;
}

/** Packing and unpacking of words 0 and 1, for insertions. One object, since separately exported functions are slower. */
export const entryWords = {
  startOf,
  endOf,
  packWord0,
  packWord1,
  isSameRange,
  /** Position and mask of the length in word 0. */
  lengthShift: LENGTH_SHIFT,
  lengthMask: LENGTH_MASK,
  /** Entries are counted in these bits of a subtree's second word. */
  countMask: COUNT_MASK,
  startShift: START_SHIFT,
  guessShift: GUESS_SHIFT,
  groupShift: GROUP_SHIFT,
  groupMask: GROUP_MASK,
} as const;

export class EntryTable {
  /** Entries in all subtrees, placeholders and stale ones included. */
  entryCount = 0;
  readonly subtreeCount: number;

  // The cursor: the subtree that `seek` chose, where its entries begin, and the entry `at`.
  protected base = 0;
  protected subtree = 0;
  protected count = 0;
  protected at = 0;

  protected readonly slab: slab.Slab;
  /** The slab's memory, which the slab replaces when it grows. */
  words: Int32Array;
  /**
   * Two words a subtree, in one cache line: its chunk, then its entry count | its chunk's class << 16. It holds one
   * group that stays empty, then the groups that ever had an entry. Replaced when it grows.
   */
  subtrees: Int32Array;
  /** Offset in `subtrees` of each group's words; 0, the empty group, for a group that never had an entry. */
  readonly groups: Int32Array;
  /** Words of `subtrees` in use. */
  private subtreeWords = GROUP_WORDS;

  /**
   * @param backingBytes size of the backing device.
   * @param generations low 32 bits of every logical segment's generation; owned by the segment table.
   * @param allocate returns zeroed memory for a large table.
   */
  constructor(
    backingBytes: number,
    private readonly generations: Int32Array,
    private readonly allocate: (bytes: number) => ArrayBuffer,
  ) {
    this.slab = new Slab(allocate);
    this.words = this.slab.words;
    this.subtreeCount = Math.ceil(backingBytes / SUBTREE_BYTES);
    const groupCount = (this.subtreeCount + GROUP_MASK) >>> GROUP_SHIFT;
    this.groups = new Int32Array(allocate(groupCount * Int32Array.BYTES_PER_ELEMENT));
    this.subtrees = new Int32Array(allocate(2 * GROUP_WORDS * Int32Array.BYTES_PER_ELEMENT));
  }

  /** Bytes of memory the index takes. */
  get memoryBytes(): number {
    return this.slab.bytes + this.groups.byteLength + this.subtreeWords * Int32Array.BYTES_PER_ELEMENT;
  }

  /** Where the words of a subtree are in `subtrees`. */
  protected wordsOf(subtree: number): number {
    return this.groups[subtree >>> GROUP_SHIFT] + ((subtree & GROUP_MASK) << 1);
  }

  protected countOf(subtree: number): number {
    return this.subtrees[this.wordsOf(subtree) + 1] & COUNT_MASK;
  }
  protected classOf(subtree: number): number {
    return this.subtrees[this.wordsOf(subtree) + 1] >>> CLASS_SHIFT;
  }
  protected setCount(subtree: number, count: number): void {
    const at = this.wordsOf(subtree) + 1;
    this.subtrees[at] = (this.subtrees[at] & ~COUNT_MASK) | count;
  }

  // ---- cursor -----------------------------------------------------------------------------------------

  /**
   * Puts the cursor on the first entry of `subtree` that ends after `sector` (0…8191), if there is one.
   * @param hint result of `lookAhead` for this subtree and sector
   */
  seek(subtree: number, sector: number, hint = NO_HINT): void {
    this.select(subtree);
    if (hint > 0 && hint <= this.count) {
      const word0 = this.words[this.base + (hint - 1) * ENTRY_WORDS];
      if (startOf(word0) <= sector && endOf(word0) > sector) {
        this.at = hint - 1;
        return;
      }
    }
    const i = this.isPlaceOf(sector, hint) ? hint : this.countStartingAtOrBefore(sector);
    this.at = i > 0 && endOf(this.words[this.base + (i - 1) * ENTRY_WORDS]) > sector ? i - 1 : i;
  }

  protected select(subtree: number): void {
    this.subtree = subtree;
    const at = this.wordsOf(subtree);
    this.count = this.subtrees[at + 1] & COUNT_MASK;
    this.base = this.subtrees[at] * CHUNK_WORDS;
  }

  /** Whether exactly `hint` entries of the selected subtree start at or before `sector`. */
  protected isPlaceOf(sector: number, hint: number): boolean {
    const { words, base, count } = this;
    if (hint < 0 || hint > count) return false;
    if (hint > 0 && words[base + (hint - 1) * ENTRY_WORDS] >>> START_SHIFT > sector) return false;
    return hint === count || words[base + hint * ENTRY_WORDS] >>> START_SHIFT > sector;
  }

  /**
   * Number of entries of the selected subtree that start at or before `sector`. The first guess assumes that the
   * entries are spread evenly, the second corrects it by the entry found there; then it gallops and bisects.
   */
  protected countStartingAtOrBefore(sector: number): number {
    const { words, base, count } = this;
    if (count === 0) return 0;
    let at = (sector * count) >>> GUESS_SHIFT;
    at += ((sector - (words[base + at * ENTRY_WORDS] >>> START_SHIFT)) * count) >> GUESS_SHIFT;
    if (at < 0) at = 0;
    else if (at >= count) at = count - 1;
    let low = 0; // all entries before `low` start at or before the sector
    let high = count; // all from `high` on start after it
    let stride = 1;
    if (words[base + at * ENTRY_WORDS] >>> START_SHIFT <= sector) {
      low = at + 1;
      while (low + stride <= count && words[base + (low + stride - 1) * ENTRY_WORDS] >>> START_SHIFT <= sector) {
        low += stride;
        stride <<= 1;
      }
      if (low + stride - 1 < count) high = low + stride - 1;
    } else {
      high = at;
      while (high - stride >= 0 && words[base + (high - stride) * ENTRY_WORDS] >>> START_SHIFT > sector) {
        high -= stride;
        stride <<= 1;
      }
      if (high - stride >= 0) low = high - stride + 1;
    }
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (words[base + middle * ENTRY_WORDS] >>> START_SHIFT <= sector) low = middle + 1;
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
  protected word(n: number): number {
    return this.words[this.base + this.at * ENTRY_WORDS + n];
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
  /** The payload is gone: its segment has a newer generation. Never true of a placeholder. */
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
    this.words[i] = (this.words[i] & ~(LENGTH_MASK << LENGTH_SHIFT)) | ((sectors - 1) << LENGTH_SHIFT);
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

  // ---- memory -----------------------------------------------------------------------------------------

  protected store(at: number, word0: number, word1: number, word2: number): void {
    const { words } = this;
    const i = this.base + at * ENTRY_WORDS;
    words[i] = word0;
    words[i + 1] = word1;
    words[i + 2] = word2;
  }

  /** Replaces entries [from, to) of the selected subtree by `inserted` uninitialised ones. */
  protected splice(from: number, to: number, inserted: number): void {
    const delta = inserted - (to - from);
    if (delta === 0) return;
    const newCount = this.count + delta;
    assert(newCount >= 0 && newCount <= SUBTREE_SECTORS, 'a subtree has as many entries as sectors');
    if (delta > 0) this.reserve(newCount);
    const { words, base } = this;
    if (to < this.count) {
      words.copyWithin(base + (to + delta) * ENTRY_WORDS, base + to * ENTRY_WORDS, base + this.count * ENTRY_WORDS);
    }
    this.count = newCount;
    this.setCount(this.subtree, newCount);
    this.entryCount += delta;
    if (newCount === 0) this.releaseChunk();
  }

  /** Makes room for `count` entries in the selected subtree, which has at least one or is getting its first. */
  protected reserve(count: number): void {
    const had = this.count;
    const oldClass = this.classOf(this.subtree);
    if (had > 0 && count <= 1 << oldClass) return;
    this.moveTo(classFor(count));
  }

  /** Moves the selected subtree's entries to a chunk of another class. */
  protected moveTo(newClass: number): void {
    const ref = this.slab.allocate(newClass);
    this.words = this.slab.words;
    const base = ref * CHUNK_WORDS;
    if (this.count > 0) {
      this.words.copyWithin(base, this.base, this.base + this.count * ENTRY_WORDS);
      this.releaseChunk();
    }
    if (this.groups[this.subtree >>> GROUP_SHIFT] === 0) this.addGroup(this.subtree >>> GROUP_SHIFT);
    const at = this.wordsOf(this.subtree);
    this.subtrees[at] = ref;
    this.subtrees[at + 1] = this.count | (newClass << CLASS_SHIFT);
    this.base = base;
  }

  private addGroup(group: number): void {
    const begin = this.subtreeWords;
    assert(begin + GROUP_WORDS <= SUBTREE_WORDS_MAX, 'the extent index has outgrown its table of subtrees');
    if (begin + GROUP_WORDS > this.subtrees.length) {
      const old = this.subtrees;
      this.subtrees = new Int32Array(this.allocate(old.byteLength * 2));
      this.subtrees.set(old);
    }
    this.subtreeWords = begin + GROUP_WORDS;
    this.groups[group] = begin;
  }

  protected releaseChunk(): void {
    this.slab.release(this.subtrees[this.wordsOf(this.subtree)], this.classOf(this.subtree));
  }
}
