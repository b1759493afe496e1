/**
 * Finds the log where both tails are lost (format §2). A LAST kset leads to offset 0 of a segment, and so every
 * segment of the log but the one that it began in starts with a kset. Of all rows of ksets that start a segment
 * those count that end as a log ends; when they do not all lead to the same end, or some segment could have
 * come before the log in two ways, nothing tells which is right. Bounded: one walk per segment.
 */
import type { Position } from '../../engine/media/codecs.js';
import { KSET_HEADER_BYTES } from '../../engine/media/kset.js';
import { placeText } from '../findings.js';
import { RunFinder, zeroBytesAt } from '../runs.js';
import { PayloadMap } from '../payload-map.js';
import { walkLog } from './log-walk.js';
import type { PlanView } from './types.js';

interface Row {
  readonly start: Position;
  readonly end: Position;
  readonly segments: ReadonlySet<number>;
  readonly isProper: boolean;
}

export function findLogStart(view: PlanView): Position | undefined {
  const { chain, context } = view;
  const rows: Row[] = [];
  for (let segment = 0; segment < chain.length; segment++) {
    const row = rowFrom(view, { segment, offsetBytes: 0 });
    if (row !== undefined) rows.push(row);
  }
  if (rows.length === 0) {
    const finder = new RunFinder(context, chain, { extents: new Map(), payload: new PayloadMap(context.geometry, 0) });
    const withKsets: number[] = [];
    for (let segment = 0; segment < chain.length; segment++) {
      if (finder.nextKset(segment, 0) !== undefined) withKsets.push(segment);
    }
    // With its first kset broken a segment of the log begins at 0 all the same.
    return withKsets.length > 1 ? undefined : { segment: withKsets[0] ?? 0, offsetBytes: 0 };
  }
  const proper = rows.filter((row) => row.isProper);
  const candidates = proper.length > 0 ? proper : rows;
  // Of two rows one of which runs into the other, the longer one counts.
  const longest = candidates.filter(
    (row) => !candidates.some((other) => other !== row && other.segments.has(row.start.segment)),
  );
  return longest.length === 1 ? longest[0].start : undefined;
}

function rowFrom(view: PlanView, start: Position): Row | undefined {
  const segments = new Set<number>([start.segment]);
  let ksets = 0;
  const { end, loops } = walkLog(view, start, (kset) => {
    ksets++;
    if (kset.isLast) segments.add(kset.nextSegment);
  });
  if (ksets === 0 || loops || placeText(end.segment, end.offsetBytes) === placeText(start.segment, 0)) return undefined;
  const isProper = zeroBytesAt(view.context, view.chain, end, KSET_HEADER_BYTES) === KSET_HEADER_BYTES;
  return { start, end, segments, isProper };
}
