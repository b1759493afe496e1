/**
 * Reads (kernel: `cache_read`): ranges that the index covers are staged as copies; the others are read from the backing
 * device.
 *
 * The cursor walks the entries of a subtree in order. So the kernel's five overlap cases come down to two: an entry that
 * covers the current sector (tail, contain, contained, head), and a hole up to the next entry (before).
 */
import type { Core } from '../core.js';
import { NO_HINT } from '../device/pmem.js';
import { SECTOR_SHIFT, sectorInSubtree, SUBTREE_SECTORS, subtreeOf } from '../media/geometry.js';
import type { MissReads } from './miss-reads.js';
import type { ReadChecks } from './read-checks.js';
import type { EngineGroup } from './request-group.js';

/**
 * Stages read `i` of a group. At return its misses are under way and counted in `group.parts`.
 * @param checks receives the parts that are read from the cache, when reads are verified
 */
export function stageRead(
  core: Core,
  misses: MissReads,
  checks: ReadChecks | undefined,
  group: EngineGroup,
  i: number,
): void {
  const { copies, index, segments, stats } = core;
  const offset = group.offsetBytes[i];
  const length = group.lengthBytes[i];
  const arenaOffset = group.arenaOffsetBytes[i];
  let done = 0;
  while (done < length) {
    const at = offset + done;
    const subtree = subtreeOf(at);
    const first = sectorInSubtree(at, subtree);
    const end = Math.min(SUBTREE_SECTORS, first + ((length - done) >>> SECTOR_SHIFT));
    index.seek(subtree, first, done === 0 ? group.hint[i] : NO_HINT);
    let sector = first;
    while (sector < end) {
      // The payload of a stale entry is gone. The entry is dropped, and its range is a hole.
      while (index.valid && index.start < end && index.isStale) {
        index.remove();
        stats.staleDropped++;
      }
      const arenaAt = arenaOffset + done + ((sector - first) << SECTOR_SHIFT);
      if (index.valid && index.start <= sector) {
        const until = Math.min(index.end, end);
        const bytes = (until - sector) << SECTOR_SHIFT;
        if (index.isEmpty) {
          misses.readAround(group, i, subtree, sector, bytes, arenaAt);
        } else {
          const startSector = index.offsetSectors + (sector - index.start);
          const { segment } = index;
          copies.read(segments.dataOffsetBytes[segment] + (startSector << SECTOR_SHIFT), arenaAt, bytes);
          if (checks) {
            const offsetBytes = offset + (arenaAt - arenaOffset);
            const sectors = until - sector;
            checks.add({ request: i, segment, startSector, sectors, offsetBytes, arenaOffsetBytes: arenaAt });
          }
        }
        index.advance();
        sector = until;
      } else {
        const until = index.valid && index.start < end ? index.start : end;
        misses.readHole(group, i, subtree, sector, until, arenaAt);
        sector = until;
      }
    }
    done += (end - first) << SECTOR_SHIFT;
  }
}
