/**
 * Writes (seed: `cache_write`): allocate, stage the payload, index it, append the key; piece by piece where
 * the request crosses a subtree or the allocation a segment's end.
 */
import type { Core } from './core.js';
import { SECTOR_SHIFT, SUBTREE_BYTES } from './media/geometry.js';
import { RequestFlag, type RequestGroup } from './request-group.js';

/**
 * Stages request `i` of the group from `doneBytes` on.
 * @returns false when no segment is free: `doneBytes` says how far it came, and it can be called again.
 */
export function stageWrite(core: Core, group: RequestGroup, i: number, nowMs: number): boolean {
  const { log, segments, stage, index } = core;
  const offset = group.offsetBytes[i];
  const length = group.lengthBytes[i];
  const arenaOffset = group.arenaOffsetBytes[i];
  const fua = (group.flags[i] & RequestFlag.fua) !== 0;
  let done = group.doneBytes[i];
  while (done < length) {
    const at = offset + done;
    const slot = log.slotOf(at);
    if (log.isFull(slot) && !core.commit()) break;
    const inSubtree = at % SUBTREE_BYTES;
    const wanted = Math.min(length - done, SUBTREE_BYTES - inSubtree);
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
    if (fua) log.markDue(slot);
    done += bytes;
  }
  group.doneBytes[i] = done;
  return done === length;
}
