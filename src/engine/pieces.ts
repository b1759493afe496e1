/**
 * The pieces of payload that are being written: they have their places in one segment, and go through three loops, one
 * after the other: the copy into the cache (`payload-copies.ts`), the keys of one slot (`log-writer.ts`), the index.
 * Where the requests of a group are pieces of one list, each loop has little to keep at hand, and the copies are one
 * native call.
 */
import { assert } from './errors.js';
import type { DataHead } from './data-head.js';
import * as device from './device/pmem.js';
import * as geometry from './media/geometry.js';

/**
 * So many go through the loops together. What comes behind the last copy costs next to nothing until its stores have
 * reached the memory, so many short lists hide more of it than one long one; but each takes a call of the helper.
 */
export const PIECES_MAX = 16;

// This is the hot path of writes, as are the modules that refer to here. What is imported, or exported, is looked up at
// every use; other constants of a module become a part of its machine code.
const { PIECE_WORDS } = device;
const { SECTOR_SHIFT } = geometry;
const CAPACITY = PIECES_MAX;
const {
  arenaOffset: ARENA_OFFSET,
  length: LENGTH,
  offsetSectors: OFFSET_SECTORS,
  subtree: SUBTREE,
  sector: SECTOR,
  request: REQUEST,
} = device.PieceWord;

export class Pieces {
  count = 0;
  /** Of their keys. */
  slot = 0;
  /** Logical segment that they go to, where its data area begins on the device, and its generation. */
  segment = 0;
  dataOffsetBytes = 0;
  generationLow = 0;
  generationHigh = 0;
  readonly list: device.PieceList;
  /** The list's. */
  readonly words: Int32Array;

  constructor(pmem: device.Pmem, dataCrc: boolean) {
    this.list = pmem.createPieceList(CAPACITY, dataCrc);
    this.words = this.list.words;
  }

  /** Begins a list of pieces that go to the segment of a head, which must have one. */
  begin(slot: number, head: DataHead): void {
    assert(this.count === 0, 'other pieces are under way');
    this.slot = slot;
    this.segment = head.segment;
    this.dataOffsetBytes = head.dataOffsetBytes;
    this.generationLow = head.generationLow;
    this.generationHigh = head.generationHigh;
  }

  /**
   * Says what piece `i` is; the caller counts.
   * @param offsetSectors where it goes in the segment's data area
   * @param arenaOffsetBytes 32 bits, with or without a sign
   * @param request its number in its group
   */
  set(
    i: number,
    offsetSectors: number,
    sectors: number,
    subtree: number,
    startSector: number,
    arenaOffsetBytes: number,
    request: number,
  ): void {
    const { words } = this;
    const piece = i * PIECE_WORDS; // its words are or-ed to it, which cannot overflow
    words[piece | ARENA_OFFSET] = arenaOffsetBytes;
    words[piece | LENGTH] = sectors << SECTOR_SHIFT;
    words[piece | OFFSET_SECTORS] = offsetSectors;
    words[piece | SUBTREE] = subtree;
    words[piece | SECTOR] = startSector;
    words[piece | REQUEST] = request;
  }
}
