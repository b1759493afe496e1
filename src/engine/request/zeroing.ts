/**
 * TRIM and WRITE_ZEROES, which carry no payload.
 *
 * Ranges that the cache does not hold are zeroed on the backing device, past the cache (`direct-writes.ts`), where that
 * makes a hole. No key that write-back has yet to write is about such a range, and none can come to be before the hole is
 * made: writes of the range wait, and reads do not fill it. So write-back never writes there meanwhile, and a crash
 * leaves the old data or zeroes.
 *
 * The index decides that, and it holds the range of every key from dirty_tail on, and of every key in an open kset:
 * - An entry goes when a newer key of its range takes its place, which is behind it in the log, because all keys of a
 *   subtree pass through one slot in their order; or when it is stale.
 * - It is stale when its segment has a new generation, and that comes only when the segment has no reference left. Every
 *   key has one, which GC drops when key_tail passes the key. GC does not pass dirty_tail, in neither of its copies.
 * - dirty_tail passes a key when a flush has succeeded after the key was written to the backing device. Write-back never
 *   goes back behind dirty_tail, not after a failed flush either, and nor does the next life of the cache.
 * So when an entry is found to be stale, or has gone, the last write of its key has ended for good. That is why it holds
 * in the threads of one cache (`shards/`) as well: all keys of a range come from its shard, and write-back, in another
 * thread, has done with a key before the generation changes that the shard sees, however late it sees that.
 *
 * Ranges that the cache holds: TRIM leaves them as they are, because the log has no entry for "this range is not cached
 * any more"; WRITE_ZEROES writes zeroes into the cache, with dirty keys. It does so everywhere when the backing device
 * cannot make holes, and TRIM does nothing then.
 */
import type { Core } from '../core.js';
import type { Arena } from '../device/pmem.js';
import { SECTOR_BYTES, SECTOR_SHIFT, sectorInSubtree, SUBTREE_SECTORS, subtreeOf } from '../media/geometry.js';
import type { DirectWrites } from './direct-writes.js';
import { nextPart } from './next-part.js';
import { Op, RequestFlag, type EngineGroup } from './request-group.js';

/** Zeroes in memory: longest piece that is written into the cache. */
const ZEROES_BYTES = 1024 * 1024;

export class Zeroing {
  private zeroes: Arena | undefined;

  /** @param direct zeroes what the cache does not hold, if holes are made; given with writearound in any case */
  constructor(
    private readonly core: Core,
    private readonly direct: DirectWrites | undefined,
  ) {}

  /**
   * Goes on with TRIM or WRITE_ZEROES `i` of a group, from its `doneBytes` on. What goes past the cache is counted in
   * `group.missBytes`.
   * @returns whether it is complete but for parts under way at the backing device; if not, no segment is free or a direct
   *   write is in the way, and it can be gone on with later
   */
  advance(group: EngineGroup, i: number): boolean {
    const { core } = this;
    const { direct } = this;
    const punches = core.punches && core.backing.canPunch === true;
    const isTrim = group.op[i] === Op.trim;
    const length = group.lengthBytes[i];
    if (isTrim && !punches) group.doneBytes[i] = length;
    while (group.doneBytes[i] < length) {
      const at = group.offsetBytes[i] + group.doneBytes[i];
      const subtree = subtreeOf(at);
      const first = sectorInSubtree(at, subtree);
      const sectors = Math.min(SUBTREE_SECTORS - first, (length - group.doneBytes[i]) / SECTOR_BYTES);
      const part = punches ? nextPart(core, subtree, first, sectors) : sectors;
      if (part < 0) {
        const bytes = this.missingBytes(at, -part * SECTOR_BYTES, length - group.doneBytes[i]);
        if (direct!.isUnderWay(at, at + bytes)) return false;
        direct!.zero(group, i, at, bytes, (group.flags[i] & RequestFlag.keepsSpace) !== 0);
        group.missBytes[i] += bytes;
        group.doneBytes[i] += bytes;
      } else if (isTrim) {
        group.doneBytes[i] += part * SECTOR_BYTES;
      } else {
        // With writearound, and no holes, a write of the range may be under way past the cache.
        if (direct?.isUnderWay(at, at + part * SECTOR_BYTES) === true) return false;
        const stored = this.store(group, i, subtree, first, part);
        if (stored === 0) return false;
        group.doneBytes[i] += stored * SECTOR_BYTES;
      }
    }
    return true;
  }

  /** Length of a range from `at` on that the cache does not hold, of which the first `bytes` are known; at most `most`. */
  private missingBytes(at: number, bytes: number, most: number): number {
    while (bytes < most) {
      const subtree = subtreeOf(at + bytes);
      const first = sectorInSubtree(at + bytes, subtree);
      const sectors = Math.min(SUBTREE_SECTORS - first, (most - bytes) / SECTOR_BYTES);
      const part = nextPart(this.core, subtree, first, sectors);
      if (part > 0) break;
      bytes -= part * SECTOR_BYTES;
      if (-part < sectors) break;
    }
    return bytes;
  }

  /** Writes zeroes into the cache, as many sectors as fit. @returns their number; 0 when there is no room */
  private store(group: EngineGroup, i: number, subtree: number, first: number, sectors: number): number {
    const { core } = this;
    const { log, pieces } = core;
    const slot = log.slotOf(subtree);
    if (log.roomOf(slot) === 0 && !core.commit()) return 0;
    if (!pieces.begin(slot)) return 0;
    const { offsetSectors, leftSectors } = pieces.head;
    const taken = Math.min(sectors, leftSectors, ZEROES_BYTES >>> SECTOR_SHIFT);
    pieces.set(0, offsetSectors, taken, subtree, first, 0, i);
    pieces.count = 1;
    pieces.sectors = taken;
    this.zeroes ??= core.pmem.registerArena(new Uint8Array(ZEROES_BYTES));
    core.storePieces(this.zeroes, 0, 0);
    if (core.isThrough || (group.flags[i] & RequestFlag.fua) !== 0) {
      group.hasKeys[i] = 1;
      log.markDue(slot);
    }
    return taken;
  }
}
