/** Ranges that a medium could not read, as lines for people. Pure. */
import type { ByteRange } from '../engine/media/byte-range.js';
import { formatBytes, formatCount } from './units.js';

/** Ranges that are listed; the rest are counted. */
const RANGES_LISTED = 32;

/**
 * @param what what became of them: a clause that follows `cannot be read`
 * @returns one line with the sum, then one for each range; none where there are none
 */
export function unreadableLines(path: string, ranges: readonly ByteRange[], what: string): string[] {
  if (ranges.length === 0) return [];
  const total = ranges.reduce((sum, one) => sum + one.lengthBytes, 0);
  const many = ranges.length === 1 ? '1 range' : `${formatCount(ranges.length)} ranges`;
  const listed = ranges.slice(0, RANGES_LISTED);
  return [
    `${path}: ${formatBytes(total, { exact: true })} in ${many} cannot be read; ${what}`,
    ...listed.map((one) => `  bytes ${one.offsetBytes} to ${one.offsetBytes + one.lengthBytes}`),
    ...(ranges.length > listed.length ? [`  and ${formatCount(ranges.length - listed.length)} more`] : []),
  ];
}
