/**
 * The batch of payload pieces that is being written. All pieces of a batch lie in one segment and have their keys in one
 * kset. A batch goes through three loops: copy into the cache (`payload-copies.ts`), keys (`log-writer.ts`), index. The
 * pieces of several requests share a batch, so each loop stays small, and one native call makes all copies.
 */
import { internalError } from '../errors.js';
import type { DataHead } from './data-head.js';
import * as device from '../device/pmem.js';
import * as geometry from '../media/geometry.js';

/**
 * Maximum number of pieces in a batch. The work after the last copy is nearly free until the stores of that copy have
 * reached the memory, so many short batches hide more of it than a long one; but each costs a call of the native helper.
 */
export const PIECES_MAX = 16;

// Constants are copied because this is the hot path of writes: V8 looks an imported or exported constant up at every use,
// while a module's own constants become a part of its machine code.
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
  /** Number of pieces in the batch. */
  count = 0;
  /** Sectors that they take, all together. */
  sectors = 0;
  /** Kset slot of these pieces, and that slot's data head, which stays in their segment until `end`. */
  slot = 0;
  head: DataHead;
  /** Keys that still fit in the slot's open kset. */
  room = 0;
  readonly list: device.PieceList;
  /** Words of `list`. */
  readonly words: Int32Array;

  /** @param heads data heads by kset slot */
  constructor(
    pmem: device.Pmem,
    dataCrc: boolean,
    private readonly heads: readonly DataHead[],
  ) {
    this.list = pmem.createPieceList(CAPACITY, dataCrc);
    this.words = this.list.words;
    this.head = heads[0];
  }

  /** Begins a batch at the data head of a slot. @returns false when the head has no segment and none is free */
  begin(slot: number): boolean {
    if (this.count !== 0) internalError('another batch is under way');
    if (slot !== this.slot) {
      this.slot = slot;
      this.head = this.heads[slot];
      this.room = 0;
    }
    return this.head.open();
  }

  /**
   * Describes piece `i`; the caller sets `count` and `sectors`.
   * @param offsetSectors offset in the segment's data area
   * @param arenaOffsetBytes 32 bits, signed or unsigned
   * @param request index of its request in the group
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
    const piece = i * PIECE_WORDS; // an OR adds the word's number and cannot overflow
    words[piece | ARENA_OFFSET] = arenaOffsetBytes;
    words[piece | LENGTH] = sectors << SECTOR_SHIFT;
    words[piece | OFFSET_SECTORS] = offsetSectors;
    words[piece | SUBTREE] = subtree;
    words[piece | SECTOR] = startSector;
    words[piece | REQUEST] = request;
  }

  /**
   * Ends the batch: its pieces are copied, in the log and in the index.
   * @param room keys that still fit in the slot's open kset
   */
  end(room: number): void {
    this.head.take(this.sectors, this.count);
    this.count = 0;
    this.room = room;
  }
}
