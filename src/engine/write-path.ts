/**
 * Writes (seed: `cache_write`): allocate, stage the payload, index it, append the key; piece by piece where
 * the request crosses a subtree or the allocation a segment's end. With writearound only what the cache
 * holds already is written so, since no later key could say that it is gone; the rest goes past it.
 */
import type { Core } from './core.js';
import type { DirectWrites } from './direct-writes.js';
import { SECTOR_SHIFT, SUBTREE_BYTES } from './media/geometry.js';
import { RequestFlag, type RequestGroup } from './request-group.js';

/**
 * Stages request `i` of the group from `doneBytes` on.
 * @param direct where the parts go that the cache does not hold; if not given, all goes into the cache.
 * @returns false when no segment is free, or a direct write is in the way: `doneBytes` says how far it came,
 *   and it can be called again.
 */
export function stageWrite(
  core: Core,
  direct: DirectWrites | undefined,
  group: RequestGroup,
  i: number,
  nowMs: number,
): boolean {
  const { log, segments, stage, index } = core;
  const offset = group.offsetBytes[i];
  const length = group.lengthBytes[i];
  const arenaOffset = group.arenaOffsetBytes[i];
  const closesKset = core.isThrough || (group.flags[i] & RequestFlag.fua) !== 0;
  let done = group.doneBytes[i];
  while (done < length) {
    const at = offset + done;
    const inSubtree = at % SUBTREE_BYTES;
    let wanted = Math.min(length - done, SUBTREE_BYTES - inSubtree);
    if (direct) {
      const piece = nextPiece(core, at, wanted);
      wanted = Math.abs(piece);
      if (piece < 0) {
        if (direct.isUnderWay(at, at + wanted)) break;
        direct.write(group, i, at, wanted, arenaOffset + done);
        done += wanted;
        continue;
      }
    }
    const slot = log.slotOf(at);
    if (log.isFull(slot) && !core.commit()) break;
    const head = core.heads[slot];
    const sectors = head.allocate(wanted >>> SECTOR_SHIFT);
    if (sectors === 0) break;
    const { segment, offsetSectors } = head;
    const bytes = sectors << SECTOR_SHIFT;
    const keyIndex = log.append(slot, at, bytes, 0, segment, offsetSectors, nowMs);
    stage.write(
      segments.dataOffsetBytes[segment] + (offsetSectors << SECTOR_SHIFT),
      arenaOffset + done,
      bytes,
      slot,
      keyIndex,
    );
    const subtree = (at - inSubtree) / SUBTREE_BYTES;
    index.insert(
      subtree,
      inSubtree >>> SECTOR_SHIFT,
      sectors,
      segment,
      offsetSectors,
      segments.generationLow[segment],
      0,
    );
    group.hasKeys[i] = 1;
    if (closesKset) log.markDue(slot);
    done += bytes;
  }
  group.doneBytes[i] = done;
  return done === length;
}

/**
 * How the range from `at` on begins, which must not cross its subtree: bytes that the cache holds, or, as a
 * negative number, bytes that it does not. Placeholders in the latter go: what their reads bring is old.
 */
function nextPiece(core: Core, at: number, lengthBytes: number): number {
  const { index, stats } = core;
  const inSubtree = at % SUBTREE_BYTES;
  const first = inSubtree >>> SECTOR_SHIFT;
  const end = first + (lengthBytes >>> SECTOR_SHIFT);
  index.seek((at - inSubtree) / SUBTREE_BYTES, first);
  while (index.valid && index.start < end) {
    if (index.isStale) {
      index.remove();
      stats.staleDropped++;
    } else if (!index.isEmpty) {
      const { start } = index;
      return start > first ? -((start - first) << SECTOR_SHIFT) : (Math.min(index.end, end) - first) << SECTOR_SHIFT;
    } else if (index.start < first) {
      index.truncate(first - index.start); // the read fills from its start
      index.advance();
    } else {
      index.remove();
    }
  }
  return -lengthBytes;
}
