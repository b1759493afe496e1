/** Sets of byte ranges of the logical device. */

import type { ByteRange } from '../../engine/media/byte-range.js';

export type { ByteRange };

/** Sorted, and what overlaps or adjoins joined. */
export function mergeRanges(ranges: readonly ByteRange[]): ByteRange[] {
  const sorted = [...ranges].sort((a, b) => a.offsetBytes - b.offsetBytes);
  const merged: { offsetBytes: number; lengthBytes: number }[] = [];
  for (const { offsetBytes, lengthBytes } of sorted) {
    const last = merged.at(-1);
    const end = last === undefined ? -1 : last.offsetBytes + last.lengthBytes;
    if (last === undefined || offsetBytes > end) merged.push({ offsetBytes, lengthBytes });
    else last.lengthBytes = Math.max(end, offsetBytes + lengthBytes) - last.offsetBytes;
  }
  return merged;
}

/** What of `ranges` no range of `removed` covers. */
export function subtractRanges(ranges: readonly ByteRange[], removed: readonly ByteRange[]): ByteRange[] {
  const left: ByteRange[] = [];
  const cuts = mergeRanges(removed);
  let first = 0;
  for (const range of mergeRanges(ranges)) {
    const end = range.offsetBytes + range.lengthBytes;
    let at = range.offsetBytes;
    while (first < cuts.length && cuts[first].offsetBytes + cuts[first].lengthBytes <= at) first++;
    for (let i = first; i < cuts.length && cuts[i].offsetBytes < end; i++) {
      if (cuts[i].offsetBytes > at) left.push({ offsetBytes: at, lengthBytes: cuts[i].offsetBytes - at });
      at = Math.max(at, cuts[i].offsetBytes + cuts[i].lengthBytes);
    }
    if (at < end) left.push({ offsetBytes: at, lengthBytes: end - at });
  }
  return left;
}

/** As `list.push(...more)`, for any number: a call takes some hundred thousand arguments at most. */
export function appendTo<T>(list: T[], more: readonly T[]): void {
  for (const item of more) list.push(item);
}

export function totalBytes(ranges: readonly ByteRange[]): number {
  return ranges.reduce((sum, range) => sum + range.lengthBytes, 0);
}
