/** Which parts of a range of the logical device the cache holds. */
import { SECTOR_BYTES, SUBTREE_BYTES } from '../media/geometry.js';
import type { ExtentIndex } from './extent-index.js';

export interface CachedRanges {
  /** Start and end of each range in turn, bytes; ranges that adjoin are one. */
  readonly bounds: readonly number[];
  /** How far the answer reaches: all that was asked for, or the end of the last range. */
  readonly endBytes: number;
}

/** @param rangesMax the walk ends after that many ranges. The cursor of the index is lost. */
export function cachedRanges(
  index: ExtentIndex,
  offsetBytes: number,
  lengthBytes: number,
  rangesMax: number,
): CachedRanges {
  const bounds: number[] = [];
  const end = offsetBytes + lengthBytes;
  for (let at = offsetBytes; at < end;) {
    const subtree = index.nextUsedSubtree(Math.floor(at / SUBTREE_BYTES));
    if (subtree < 0) break;
    const base = subtree * SUBTREE_BYTES;
    at = Math.max(at, base);
    const stop = Math.min(end, base + SUBTREE_BYTES);
    for (index.seek(subtree, Math.floor((at - base) / SECTOR_BYTES)); index.valid; index.advance()) {
      const from = Math.max(at, base + index.start * SECTOR_BYTES);
      if (from >= stop) break;
      // Neither payload that is gone nor the place of a read that is under way.
      if (index.isStale || index.isEmpty) continue;
      const to = Math.min(stop, base + index.end * SECTOR_BYTES);
      if (bounds.length > 0 && bounds[bounds.length - 1] >= from) bounds[bounds.length - 1] = to;
      else if (bounds.length === 2 * rangesMax) return { bounds, endBytes: bounds[bounds.length - 1] };
      else bounds.push(from, to);
    }
    at = stop;
  }
  return { bounds, endBytes: end };
}
