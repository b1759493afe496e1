/**
 * The extent index (format §3 "Index"): which part of the cache holds which part of the backing device. The layout of
 * its entries is in `entry-table.ts`; this file inserts entries, searches ahead of requests, and sweeps out stale ones.
 *
 * Invariants: the entries of a subtree are sorted, do not overlap and have a length above 0, and the bookkeeping
 * agrees with them (`check()` asserts all of it, for tests). Sectors have 512 bytes. Nothing here allocates per call.
 */
import type { IndexAid, HintFinder } from '../device/native.js';
import * as device from '../device/pmem.js';
import { assert } from '../errors.js';
import * as geometry from '../media/geometry.js';
import { ENTRY_EMPTY, EntryTable, entryWords } from './entry-table.js';
import * as slab from './slab.js';

// See `pieces.ts` about imported constants.
const { NO_HINT, PIECE_WORDS } = device;
const { SECTOR_SHIFT, SUBTREE_SECTORS } = geometry;
const { CHUNK_WORDS, classFor, ENTRY_WORDS } = slab;
const { startOf, endOf, packWord0, packWord1, isSameRange } = entryWords;
const {
  lengthShift: LENGTH_SHIFT,
  lengthMask: LENGTH_MASK,
  startShift: START_SHIFT,
  countMask: COUNT_MASK,
  guessShift: GUESS_SHIFT,
  groupShift: GROUP_SHIFT,
  groupMask: GROUP_MASK,
} = entryWords;
const {
  length: LENGTH,
  subtree: SUBTREE,
  sector: SECTOR,
  hint: HINT,
  offsetSectors: OFFSET_SECTORS,
} = device.PieceWord;

/** Pieces of payload in one segment: see `PieceList`. */
export interface IndexPieces {
  readonly words: Int32Array;
  readonly count: number;
  /** The segment, and the low 32 bits of the generation they were written under. */
  readonly head: { readonly segment: number; readonly generationLow: number };
}

export class ExtentIndex extends EntryTable {
  private sweepNext = 0;
  private readonly findHints: HintFinder;

  /**
   * @param backingBytes size of the backing device.
   * @param generations low 32 bits of every logical segment's generation; owned by the segment table.
   * @param aid native searches and large pages; without it `lookAhead` only loads the words that the searches will
   * probably touch, and memory is ordinary.
   */
  constructor(backingBytes: number, generations: Int32Array, aid: IndexAid = UNAIDED) {
    super(backingBytes, generations, aid.allocate);
    this.findHints = aid.findHints;
  }

  /**
   * Searches for many sectors of many subtrees at once, so that the cache misses of the searches overlap. The results
   * are the hints of `seek` and `insert`, which may be out of date by then. Subtrees may be out of range.
   */
  lookAhead(subtree: Int32Array, sector: Uint16Array, count: number, hints: Int32Array): void {
    this.findHints(this.words, this.subtrees, this.groups, subtree, sector, count, hints);
  }

  /** Inserts written pieces, in their order. */
  insertPieces({ words: pieces, count, head: { segment, generationLow } }: IndexPieces, flags: number): void {
    const { groups } = this;
    for (let i = 0; i < count; i++) {
      const piece = i * PIECE_WORDS;
      const subtree = pieces[piece | SUBTREE];
      const start = pieces[piece | SECTOR];
      const sectors = pieces[piece | LENGTH] >>> SECTOR_SHIFT;
      const offsetSectors = pieces[piece | OFFSET_SECTORS];
      const hint = pieces[piece | HINT];
      // In most cases exactly one entry, of the same range, is overwritten, and the copy of the piece found it.
      const { subtrees } = this;
      const subtreeAt = groups[subtree >>> GROUP_SHIFT] + ((subtree & GROUP_MASK) << 1);
      if (hint > 0 && hint <= (subtrees[subtreeAt + 1] & COUNT_MASK)) {
        const { words } = this;
        const at = subtrees[subtreeAt] * CHUNK_WORDS + (hint - 1) * ENTRY_WORDS;
        const word0 = packWord0(start, sectors, segment, flags);
        if (isSameRange(words[at], word0)) {
          words[at] = word0;
          words[at + 1] = packWord1(segment, offsetSectors);
          words[at + 2] = generationLow;
          continue;
        }
      }
      this.insert(subtree, start, sectors, segment, offsetSectors, generationLow, flags, hint);
    }
  }

  /**
   * Inserts an extent and resolves every overlap in its favour: older entries are cut, split or deleted; a
   * placeholder keeps at most the part before the extent (its read fills from its start).
   * @param start first sector in the subtree; `sectors` ≥ 1 must not cross the subtree's end.
   * @param generation low 32 bits of the generation the payload was written under.
   * @param hint result of `lookAhead` for `subtree` and `start`
   */
  insert(
    subtree: number,
    start: number,
    sectors: number,
    segment: number,
    offsetSectors: number,
    generation: number,
    flags: number,
    hint = NO_HINT,
  ): void {
    const word0 = packWord0(start, sectors, segment, flags);
    const word1 = packWord1(segment, offsetSectors);
    this.seek(subtree, start, hint);
    if (this.at < this.count && isSameRange(this.words[this.base + this.at * ENTRY_WORDS], word0)) {
      this.store(this.at, word0, word1, generation);
      return;
    }
    this.resolve(subtree, start, sectors, word0, word1, generation);
  }

  /** Inserts an extent before the cursor's entry, which is the first that overlaps it, if one does. */
  private resolve(
    subtree: number,
    start: number,
    sectors: number,
    word0: number,
    word1: number,
    generation: number,
  ): void {
    const first = this.at;
    const end = start + sectors;
    let last = first;
    while (last < this.count && startOf(this.words[this.base + last * ENTRY_WORDS]) < end) last++;
    // Before the chunk has to grow, what is stale goes; the second time there is nothing. A split adds two.
    const addedMax = last === first ? 1 : 2;
    if (this.count + addedMax > 1 << this.classOf(subtree) && this.dropStale(subtree) > 0) {
      this.seek(subtree, start);
      this.resolve(subtree, start, sectors, word0, word1, generation);
      return;
    }
    if (last === first) {
      this.splice(first, first, 1);
      this.store(first, word0, word1, generation);
      return;
    }

    // Entries [first, last) overlap the extent. At most the first keeps a head and the last a tail.
    const headWord0 = this.words[this.base + first * ENTRY_WORDS];
    const tailAt = this.base + (last - 1) * ENTRY_WORDS;
    const tailWord0 = this.words[tailAt];
    const keepsHead = startOf(headWord0) < start;
    const keepsTail = endOf(tailWord0) > end && (tailWord0 & ENTRY_EMPTY) === 0;
    const tailWord1 = this.words[tailAt + 1];
    const tailWord2 = this.words[tailAt + 2];
    const replaceFrom = keepsHead ? first + 1 : first;
    this.splice(replaceFrom, last, keepsTail ? 2 : 1);
    if (keepsHead) {
      this.words[this.base + first * ENTRY_WORDS] =
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

  // ---- upkeep -----------------------------------------------------------------------------------------

  /**
   * Drops stale entries of the next `subtrees` subtrees (round and round), and gives back memory that a
   * subtree has outgrown downwards. The kernel's cleaner.
   * @returns true when it has just finished a round.
   */
  sweep(subtrees: number): boolean {
    for (let n = 0; n < subtrees; n++) {
      this.sweepNext = this.skipUnusedGroups(this.sweepNext);
      if (this.sweepNext < this.subtreeCount) this.dropStale(this.sweepNext++);
      if (this.sweepNext >= this.subtreeCount) {
        this.sweepNext = 0;
        return true;
      }
    }
    return false;
  }

  /** `subtree`, or the first behind it whose group has ever had an entry; `subtreeCount` or more without any. */
  private skipUnusedGroups(subtree: number): number {
    const { groups } = this;
    if (groups[subtree >>> GROUP_SHIFT] !== 0) return subtree;
    let group = (subtree >>> GROUP_SHIFT) + 1;
    while (group < groups.length && groups[group] === 0) group++;
    return group * (GROUP_MASK + 1);
  }

  /** @returns how many were dropped; the cursor's entry is lost. */
  private dropStale(subtree: number): number {
    if (this.countOf(subtree) === 0) return 0;
    this.select(subtree);
    const before = this.count;
    let kept = 0;
    for (this.at = 0; this.at < before; this.at++) {
      if (this.isStale) continue;
      if (kept !== this.at) this.store(kept, this.word(0), this.word(1), this.word(2));
      kept++;
    }
    if (kept === before) return 0;
    this.entryCount -= before - kept;
    this.setCount(subtree, kept);
    this.count = kept;
    if (kept === 0) this.releaseChunk();
    else if (classFor(kept) + 1 < this.classOf(subtree)) this.moveTo(classFor(kept));
    return before - kept;
  }

  /** The first subtree from `subtree` on that has entries, or -1. */
  nextUsedSubtree(subtree: number): number {
    for (let i = subtree; i < this.subtreeCount; i++) {
      i = this.skipUnusedGroups(i);
      if (i < this.subtreeCount && this.countOf(i) !== 0) return i;
    }
    return -1;
  }

  /** Asserts every invariant. For tests; linear in the entries. */
  check(): void {
    let total = 0;
    for (let subtree = this.nextUsedSubtree(0); subtree >= 0; subtree = this.nextUsedSubtree(subtree + 1)) {
      this.select(subtree);
      let end = 0;
      for (this.at = 0; this.at < this.count; this.at++) {
        assert(this.start >= end, 'entries overlap or are out of order');
        end = this.end;
        assert(end <= SUBTREE_SECTORS, 'an entry crosses its subtree');
      }
      assert(this.count === 0 || this.count <= 1 << this.classOf(subtree), 'a chunk is overfull');
      total += this.count;
    }
    assert(total === this.entryCount, 'entryCount is off');
  }
}

/**
 * Finds no hints, but loads the cache lines that the searches will probably touch first. The loads have a loop of
 * their own, since a processor looks only some hundred instructions ahead.
 */
function touch(...[words, subtrees, groups, subtree, sector, count, hints]: Parameters<HintFinder>): void {
  for (let i = 0; i < count; i++) {
    const group = subtree[i] >>> GROUP_SHIFT;
    const s = group < groups.length ? groups[group] + ((subtree[i] & GROUP_MASK) << 1) : 0;
    const guess = (sector[i] * (subtrees[s + 1] & COUNT_MASK)) >>> GUESS_SHIFT;
    hints[i] = subtrees[s] * CHUNK_WORDS + guess * ENTRY_WORDS;
  }
  for (let i = 0; i < count; i++) hints[i] = words[hints[i]] | NO_HINT;
}

const UNAIDED: IndexAid = { findHints: touch, allocate: (bytes) => new ArrayBuffer(bytes) };
