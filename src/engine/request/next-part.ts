/** Cuts a range into parts that the cache holds as a whole or not at all. */
import type { Core } from '../core.js';

/**
 * Length of the first part of a range that the cache holds as a whole or not at all: sectors, negative if it does not
 * hold them. Placeholders in a part that it does not hold are removed, because the data that their reads bring is old.
 */
export function nextPart(core: Core, subtree: number, first: number, sectors: number): number {
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
      index.truncate(first - index.start); // a read fills from its start
      index.advance();
    } else {
      index.remove();
    }
  }
  return -sectors;
}
