/**
 * Writes (kernel: `cache_write`): a write is cut into pieces where it crosses a subtree or where the allocation reaches
 * the end of a segment. Every piece is allocated, its payload copied, its key appended, and the key indexed; each of
 * these four steps is done for a whole batch of pieces before the next step (`pieces.ts`).
 *
 * With writearound only ranges that the cache already holds are written like this, because no later key could say that
 * they are gone. The rest goes past the cache (`direct-writes.ts`).
 */
import type { Core } from '../core.js';
import type { DirectWrites } from './direct-writes.js';
import { internalError } from '../errors.js';
import * as device from '../device/pmem.js';
import * as geometry from '../media/geometry.js';
import { PIECES_MAX } from '../space/pieces.js';
import { nextPart } from './next-part.js';
import { RequestFlag, type EngineGroup } from './request-group.js';

// Why constants are copied: see `pieces.ts`.
const { PIECE_WORDS } = device;
const { request: REQUEST } = device.PieceWord;
const { SECTOR_BYTES, SECTOR_SHIFT, SUBTREE_SECTORS } = geometry;

/** Why a batch ended before the last write: its kset is full, or the write has to wait. */
const Stop = { none: 0, ksetFull: 1, mustWait: 2 } as const;

/** `Math.min` takes numbers of any kind and is slower; so is a function declaration. */
const least = (a: number, b: number): number => (a < b ? a : b) | 0;

export class WritePath {
  /** Maximum number of pieces in a batch. With direct writes it is 1: the index decides what goes past the cache. */
  private readonly most: number;
  private stop: number = Stop.none;

  /**
   * @param direct takes the parts that the cache does not hold; if not given, everything goes into the cache
   * @param inTheWay direct writes that the cache must not be written under; needed without `direct`
   */
  constructor(
    private readonly core: Core,
    private readonly direct: DirectWrites | undefined,
    private readonly inTheWay: DirectWrites | undefined,
  ) {
    this.most = direct ? 1 : PIECES_MAX;
  }

  /**
   * Begins the writes [from, to) of a group, each from its `doneBytes` on.
   * @param isForced some of them are acknowledged only when their keys are in the log
   * @returns `to`, or the first write that could not be begun as a whole because no segment is free or a direct write is
   *   in the way. Its `doneBytes` says how far it came, and it can be begun again.
   */
  begin(group: EngineGroup, from: number, to: number, isForced: boolean): number {
    const { core } = this;
    const { pieces } = core;
    if (pieces.count !== 0) internalError('a batch of other writes is under way');
    const end = this.inTheWay !== undefined && this.inTheWay.pending > 0 ? this.endOfFree(group, from, to) : to;
    for (let i = from; i < end;) {
      i = this.allocate(group, i, end);
      const { count } = pieces;
      if (count > 0) {
        core.storePieces(group.arena, 0, 0);
        if (isForced) this.markDue(group, count);
      }
      if (this.stop === Stop.mustWait) return i;
      if (this.stop === Stop.ksetFull && !core.commit()) return i;
    }
    return end;
  }

  /**
   * The first of writes [from, to) with a direct write of its range under way. Its key would let write-back write there
   * at the same time.
   */
  private endOfFree({ offsetBytes, lengthBytes }: EngineGroup, from: number, to: number): number {
    let i = from;
    while (i < to && !this.inTheWay!.isUnderWay(offsetBytes[i], offsetBytes[i] + lengthBytes[i])) i++;
    return i;
  }

  /**
   * Cuts writes [from, to) into pieces and allocates space to them, up to as many as fit in one segment and one kset.
   * @returns the first write with a piece that got no space; or `to`, with `stop` none
   */
  private allocate(group: EngineGroup, from: number, to: number): number {
    const { direct } = this;
    const { log, pieces } = this.core;
    const { arenaOffsetBytes, doneBytes, lengthBytes } = group;
    let room = pieces.head.segment < 0 ? 0 : least(pieces.room, this.most); // pieces
    let left = pieces.head.leftSectors;
    let at = pieces.head.offsetSectors;
    let n = 0;
    let i = from;
    this.stop = Stop.none;
    for (; i < to; i++) {
      const length = lengthBytes[i] >>> SECTOR_SHIFT;
      let done = doneBytes[i] >>> SECTOR_SHIFT; // sectors, like everything below
      let subtree = group.subtree[i];
      let first = (group.startSector[i] + done) | 0;
      while (done < length) {
        for (; first >= SUBTREE_SECTORS; first -= SUBTREE_SECTORS) subtree++;
        let sectors = least(length - done, SUBTREE_SECTORS - first);
        if (direct !== undefined && n === 0) {
          const piece = nextPart(this.core, subtree, first, sectors);
          if (piece < 0) {
            if (!this.writePast(direct, group, i, done, -piece)) break;
            done = (done - piece) | 0;
            first = (first - piece) | 0;
            continue;
          }
          sectors = piece;
        }
        if (n === room || log.slotOf(subtree) !== pieces.slot) {
          room = n > 0 ? 0 : this.beginBatch(log.slotOf(subtree));
          if (room === 0) break;
          at = pieces.head.offsetSectors;
          left = pieces.head.leftSectors;
        }
        if (sectors > left) sectors = left;
        pieces.set(n, at, sectors, subtree, first, (arenaOffsetBytes[i] + (done << SECTOR_SHIFT)) | 0, i);
        n = (n + 1) | 0;
        at = (at + sectors) | 0;
        left = (left - sectors) | 0;
        if (left === 0) room = n;
        done = (done + sectors) | 0;
        first = (first + sectors) | 0;
      }
      doneBytes[i] = done << SECTOR_SHIFT;
      if (done < length) break;
    }
    pieces.count = n;
    if (n > 0) pieces.sectors = at - pieces.head.offsetSectors;
    return i;
  }

  /** @returns the number of pieces that the batch has room for; or 0, with the reason in `stop` */
  private beginBatch(slot: number): number {
    const { log, pieces } = this.core;
    const keys = log.roomOf(slot);
    if (keys === 0) {
      this.stop = Stop.ksetFull;
      return 0;
    }
    if (!pieces.begin(slot)) {
      this.stop = Stop.mustWait;
      return 0;
    }
    return least(keys, this.most);
  }

  /** Writes a part of write `i` past the cache. @returns false when a direct write of that range is under way */
  private writePast(direct: DirectWrites, group: EngineGroup, i: number, done: number, sectors: number): boolean {
    const at = group.offsetBytes[i] + done * SECTOR_BYTES;
    const bytes = sectors * SECTOR_BYTES;
    if (direct.isUnderWay(at, at + bytes)) {
      this.stop = Stop.mustWait;
      return false;
    }
    direct.write(group, i, at, bytes, group.arenaOffsetBytes[i] + done * SECTOR_BYTES);
    return true;
  }

  /**
   * Asks for the kset of the batch to be closed if one of its `count` pieces belongs to a write that is acknowledged
   * only then.
   */
  private markDue(group: EngineGroup, count: number): void {
    const { isThrough, log, pieces } = this.core;
    for (let n = 0; n < count; n++) {
      const request = pieces.words[n * PIECE_WORDS + REQUEST];
      if (!isThrough && (group.flags[request] & RequestFlag.fua) === 0) continue;
      group.hasKeys[request] = 1;
      log.markDue(pieces.slot);
    }
  }
}
