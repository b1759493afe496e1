/**
 * The pieces of payload that are being written: they have their places in one segment, and go through three loops, one
 * after the other: the copy into the cache (`payload-copies.ts`), the keys of one slot (`log-writer.ts`), the index.
 * Where the requests of a group are pieces of one list, each loop has little to keep at hand, and the copies are one
 * native call.
 */
import { internalError } from '../errors.js';
import type { DataHead } from './data-head.js';
import * as device from '../device/pmem.js';
import * as geometry from '../media/geometry.js';

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
  /** What they take of the segment that they go to. */
  sectors = 0;
  /** Of their keys; and its head, which is in that segment until they end. */
  slot = 0;
  head: DataHead;
  /** For so many of the same slot there is room in its kset, as long as the head keeps its segment. */
  room = 0;
  readonly list: device.PieceList;
  /** The list's. */
  readonly words: Int32Array;

  /** @param heads that pieces can go to, by slot */
  constructor(
    pmem: device.Pmem,
    dataCrc: boolean,
    private readonly heads: readonly DataHead[],
  ) {
    this.list = pmem.createPieceList(CAPACITY, dataCrc);
    this.words = this.list.words;
    this.head = heads[0];
  }

  /** Begins a list of pieces that go where the head of a slot is. @returns false when it has no segment, and gets none */
  begin(slot: number): boolean {
    if (this.count !== 0) internalError('other pieces are under way');
    if (slot !== this.slot) {
      this.slot = slot;
      this.head = this.heads[slot];
      this.room = 0;
    }
    return this.head.open();
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

  /**
   * They are copied, and keys and index say where they are.
   * @param room for so many more the kset of the slot has room
   */
  end(room: number): void {
    this.head.take(this.sectors, this.count);
    this.count = 0;
    this.room = room;
  }
}
