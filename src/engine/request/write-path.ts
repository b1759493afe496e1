/**
 * Writes (kernel: `cache_write`): allocate, copy the payload, append the key, index it; piece by piece where a request
 * crosses a subtree or the allocation a segment's end. Each of the four steps is done for the pieces of all requests
 * that come together before the next step (`pieces.ts`). With writearound only what the cache holds already is written
 * so, since no later key could say that it is gone; the rest goes past it.
 */
import type { Core } from '../core.js';
import type { DirectWrites } from './direct-writes.js';
import { internalError } from '../errors.js';
import * as device from '../device/pmem.js';
import * as geometry from '../media/geometry.js';
import { PIECES_MAX } from '../space/pieces.js';
import { RequestFlag, type EngineGroup } from './request-group.js';

// See `pieces.ts` about imported constants.
const { PIECE_WORDS } = device;
const { request: REQUEST } = device.PieceWord;
const { SECTOR_BYTES, SECTOR_SHIFT, SUBTREE_SECTORS } = geometry;

/** Why no list of pieces can be begun: their kset is full, or they have to wait. */
const Stop = { none: 0, ksetFull: 1, mustWait: 2 } as const;

/** `Math.min` is for numbers of any kind, and slower; so is what is declared as a function. */
const least = (a: number, b: number): number => (a < b ? a : b) | 0;

export class WritePath {
  /** Pieces that get places before they are copied: what goes past the cache depends on what the index says. */
  private readonly most: number;
  private stop: number = Stop.none;

  /** @param direct where the parts go that the cache does not hold; if not given, all goes into the cache. */
  constructor(
    private readonly core: Core,
    private readonly direct: DirectWrites | undefined,
  ) {
    this.most = direct ? 1 : PIECES_MAX;
  }

  /**
   * Begins the writes [from, to) of a group, each from its `doneBytes` on.
   * @param isForced some of them are acknowledged only when their keys are in the log
   * @returns the first that could not be begun whole, or `to`: no segment is free, or a direct write is in the way. Its
   *   `doneBytes` says how far it came, and it can be begun again.
   */
  begin(group: EngineGroup, from: number, to: number, isForced: boolean): number {
    const { core } = this;
    const { pieces } = core;
    if (pieces.count !== 0) internalError('pieces of other writes are under way');
    for (let i = from; i < to;) {
      i = this.place(group, i, to);
      if (pieces.count > 0) {
        core.copies.write(pieces, group.arena);
        core.log.append(pieces, 0);
        core.index.insertPieces(pieces);
        if (isForced) this.markDue(group);
        pieces.end(least(core.log.roomOf(pieces.slot), this.most));
      }
      if (this.stop === Stop.mustWait) return i;
      if (this.stop === Stop.ksetFull && !core.commit()) return i;
    }
    return to;
  }

  /**
   * Gives places to the pieces of writes [from, to), as many as go to one segment and have their keys in one kset.
   * @returns the first write that is left with a piece without; or `to`, and then `stop` is none
   */
  private place(group: EngineGroup, from: number, to: number): number {
    const { direct } = this;
    const { log, pieces } = this.core;
    const { arenaOffsetBytes, doneBytes, lengthBytes } = group;
    let room = pieces.head.segment < 0 ? 0 : pieces.room; // for so many pieces,
    let left = pieces.head.leftSectors; // and so many sectors
    let at = pieces.head.offsetSectors;
    let n = 0;
    let i = from;
    this.stop = Stop.none;
    for (; i < to; i++) {
      const length = lengthBytes[i] >>> SECTOR_SHIFT;
      let done = doneBytes[i] >>> SECTOR_SHIFT; // in sectors, as all that follows
      let subtree = group.subtree[i];
      let first = (group.startSector[i] + done) | 0;
      while (done < length) {
        for (; first >= SUBTREE_SECTORS; first -= SUBTREE_SECTORS) subtree++;
        let sectors = least(length - done, SUBTREE_SECTORS - first);
        if (direct !== undefined && n === 0) {
          const piece = nextPiece(this.core, subtree, first, sectors);
          if (piece < 0) {
            if (!this.writePast(direct, group, i, done, -piece)) break;
            done = (done - piece) | 0;
            first = (first - piece) | 0;
            continue;
          }
          sectors = piece;
        }
        if (n === room || log.slotOf(subtree) !== pieces.slot) {
          room = n > 0 ? 0 : this.openList(log.slotOf(subtree));
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

  /** @returns how many pieces it has room for; or 0, and then `stop` says why */
  private openList(slot: number): number {
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

  /** @returns false when a direct write is in the way */
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

  /** Asks for the ksets of those pieces to be closed whose writes are acknowledged only then. */
  private markDue(group: EngineGroup): void {
    const { isThrough, log, pieces } = this.core;
    for (let n = 0; n < pieces.count; n++) {
      const request = pieces.words[n * PIECE_WORDS + REQUEST];
      if (!isThrough && (group.flags[request] & RequestFlag.fua) === 0) continue;
      group.hasKeys[request] = 1;
      log.markDue(pieces.slot);
    }
  }
}

/**
 * How a range of a subtree begins: sectors that the cache holds, or, as a negative number, sectors that it does
 * not. Placeholders in the latter go: what their reads bring is old.
 */
function nextPiece(core: Core, subtree: number, first: number, sectors: number): number {
  const { index, stats } = core;
  const end = first + sectors;
  index.seek(subtree, first);
  while (index.valid && index.start < end) {
    if (index.isStale) {
      index.remove();
      stats.staleDropped++;
    } else if (!index.isEmpty) {
      const { start } = index;
      return start > first ? first - start : Math.min(index.end, end) - first;
    } else if (index.start < first) {
      index.truncate(first - index.start); // the read fills from its start
      index.advance();
    } else {
      index.remove();
    }
  }
  return -sectors;
}
