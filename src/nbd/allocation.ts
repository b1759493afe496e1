/**
 * What `base:allocation` says of a range: data where the cache holds something; elsewhere what the backing device says,
 * and a hole of that is told as one that reads as zeroes. Pure.
 */
import type { BackingExtents } from '../engine/device/backing.js';
import type { CachedRanges } from '../engine/index/cached-ranges.js';
import { AllocationState, BLOCK_MIN_BYTES } from './protocol.js';

/** Extents of one answer at most. */
export const EXTENTS_MAX = 256;

/** Length and `AllocationState` of each extent in turn. */
export type Allocation = readonly number[];

const HOLE = AllocationState.hole | AllocationState.zero;
const DATA = 0;

/** @param extentsMax the answer may reach less far then */
export function allocationOf(
  offsetBytes: number,
  cached: CachedRanges,
  backing: BackingExtents,
  extentsMax: number,
): Allocation {
  const found: number[] = [];
  const add = (lengthBytes: number, state: number): boolean => {
    if (lengthBytes === 0) return true;
    if (found.length > 0 && found[found.length - 1] === state) found[found.length - 2] += lengthBytes;
    else if (found.length === 2 * extentsMax) return false;
    else found.push(lengthBytes, state);
    return true;
  };
  const { bounds, endBytes } = cached;
  let at = offsetBytes;
  let next = 0;
  for (let i = 0; i < backing.count; i++) {
    const isHole = backing.isHole[i] === 1;
    // A block with any data in it is data.
    const round = isHole ? Math.floor : Math.ceil;
    const end = Math.min(endBytes, round(backing.endBytes[i] / BLOCK_MIN_BYTES) * BLOCK_MIN_BYTES);
    while (at < end) {
      while (next < bounds.length && bounds[next + 1] <= at) next += 2;
      const isCached = next < bounds.length && bounds[next] <= at;
      const until = Math.min(end, next < bounds.length ? bounds[isCached ? next + 1 : next] : end);
      if (!add(until - at, isHole && !isCached ? HOLE : DATA)) return found;
      at = until;
    }
  }
  return found;
}
