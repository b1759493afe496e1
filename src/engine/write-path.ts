/**
 * Writes (seed: `cache_write`): allocate, copy the payload, append the key, index it; piece by piece where
 * the request crosses a subtree or the allocation a segment's end. With writearound only what the cache
 * holds already is written so, since no later key could say that it is gone; the rest goes past it.
 */
import type { Core } from './core.js';
import { NO_PLACE } from './device/pmem.js';
import type { DirectWrites } from './direct-writes.js';
import { SECTOR_BYTES, SECTOR_SHIFT, SUBTREE_SECTORS } from './media/geometry.js';
import { RequestFlag, type RequestGroup } from './request-group.js';

/**
 * Stages request `i` of the group from `doneBytes` on.
 * @param direct where the parts go that the cache does not hold; if not given, all goes into the cache.
 * @returns false when no segment is free, or a direct write is in the way: `doneBytes` says how far it came,
 *   and it can be called again.
 */
export function stageWrite(core: Core, direct: DirectWrites | undefined, group: RequestGroup, i: number): boolean {
  const { copies, log, index } = core;
  const closesKset = core.isThrough || (group.flags[i] & RequestFlag.fua) !== 0;
  const length = group.lengthBytes[i] >>> SECTOR_SHIFT;
  let done = group.doneBytes[i] >>> SECTOR_SHIFT; // in sectors, as all that follows
  let subtree = group.subtree[i];
  let first = group.startSector[i] + done;
  let hint = done === 0 ? group.hint[i] : NO_PLACE;
  while (done < length) {
    for (; first >= SUBTREE_SECTORS; first -= SUBTREE_SECTORS) subtree++;
    let sectors = Math.min(length - done, SUBTREE_SECTORS - first);
    const piece = direct ? nextPiece(core, subtree, first, sectors) : sectors;
    if (direct && piece < 0) {
      const at = group.offsetBytes[i] + done * SECTOR_BYTES;
      const bytes = -piece * SECTOR_BYTES;
      if (direct.isUnderWay(at, at + bytes)) break;
      direct.write(group, i, at, bytes, group.arenaOffsetBytes[i] + done * SECTOR_BYTES);
      done -= piece;
      first -= piece;
      continue;
    }
    const slot = log.slotOf(subtree);
    if (log.isFull(slot) && !core.commit()) break;
    const head = core.heads[slot];
    sectors = head.allocate(piece);
    if (sectors === 0) break;
    const arenaAt = (group.arenaOffsetBytes[i] + (done << SECTOR_SHIFT)) | 0;
    copies.write(head.pmemOffsetBytes, arenaAt, sectors << SECTOR_SHIFT, subtree, first, hint);
    hint = NO_PLACE;
    log.append(slot, subtree, first, sectors, 0, head, copies.crc);
    index.insert(subtree, first, sectors, head.segment, head.offsetSectors, head.generationLow, 0, copies.place);
    if (closesKset) {
      group.hasKeys[i] = 1;
      log.markDue(slot);
    }
    done += sectors;
    first += sectors;
  }
  group.doneBytes[i] = done * SECTOR_BYTES;
  return done === length;
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
