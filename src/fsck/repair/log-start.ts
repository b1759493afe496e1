/**
 * Finds the log where both tails are lost (format §2). A LAST kset leads to offset 0 of a segment, and so every
 * segment of the log but the one that it began in starts with a kset. Each row of ksets that starts a segment may be
 * the log. One that runs into another comes before it; of several that do not, those count that end as a log ends,
 * and of these the one that begins with stale keys, which is what a log leaves behind its beginning: if the others
 * are more of the log, cut off from it, they are found from there. Bounded: one walk per segment, and so many breaks.
 */
import type { Position } from '../../engine/media/codecs.js';
import { KSET_HEADER_BYTES, type KsetView } from '../../engine/media/kset.js';
import { OrphanKsets, zeroBytesAt } from '../orphan-ksets.js';
import { PayloadMap } from '../payload-map.js';
import { judgeKey, walkLog } from './log-walk.js';
import type { PlanView } from './types.js';

/** Breaks of one row that are gone over. */
const BREAKS_MAX = 256;

interface Row {
  readonly start: Position;
  readonly segments: ReadonlySet<number>;
  readonly isProper: boolean;
  readonly isStale: boolean;
  readonly currentKeys: number;
}

export function findLogStart(view: PlanView): Position {
  const { chain, context } = view;
  const finder = new OrphanKsets(context, chain, { extents: new Map(), payload: new PayloadMap(context.geometry) });
  const rowsWhere = (startsWhole: boolean): Row[] => {
    const rows: Row[] = [];
    for (let segment = 0; segment < chain.length; segment++) {
      const row = rowFrom(view, finder, segment, startsWhole);
      if (row !== undefined) rows.push(row);
    }
    return rows;
  };
  let rows = rowsWhere(true);
  // With its first kset broken a segment of the log begins at 0 all the same.
  if (rows.length === 0) rows = rowsWhere(false);
  // Of two rows one of which runs into the other, the longer one counts.
  const longest = rows.filter((row) => !rows.some((other) => other !== row && runsInto(other, row)));
  const better = (a: Row, b: Row): number =>
    Number(b.isProper) - Number(a.isProper) || Number(b.isStale) - Number(a.isStale) || b.currentKeys - a.currentKeys;
  const best = longest.sort(better).at(0);
  return best === undefined ? { segment: 0, offsetBytes: 0 } : withWhatLedThere(view, finder, best);
}

/**
 * A segment whose beginning is damaged starts no row, but a LAST kset in what is left of it may lead to one: then the
 * log began there, or before. What lies behind stale ksets there was collected, and does not count.
 */
function withWhatLedThere(view: PlanView, finder: OrphanKsets, row: Row): Position {
  const segments = new Set(row.segments);
  const { chain, context } = view;
  const payload = new PayloadMap(context.geometry);
  walkLog(view, row.start, (kset) => {
    for (let index = 0; index < kset.keyCount; index++) {
      const segment = kset.keySegment(index);
      if (judgeKey(view, kset, index) !== 'current' || !payload.covers(segment)) continue;
      payload.claim(segment, kset.keySegmentOffsetBytes(index), kset.keyLengthBytes(index));
    }
  });
  let start = row.start;
  for (let hops = 0; hops < chain.length; hops++) {
    const before = segmentLeadingTo(
      view,
      finder,
      start.segment,
      (one) => segments.has(one) || payload.endOfClaims(one) > 0,
    );
    if (before === undefined) break;
    segments.add(before);
    start = startOf(before);
  }
  return start;
}

function segmentLeadingTo(
  view: PlanView,
  finder: OrphanKsets,
  target: number,
  isTaken: (segment: number) => boolean,
): number | undefined {
  for (let segment = 0; segment < view.chain.length; segment++) {
    if (isTaken(segment)) continue;
    let isCurrent = false;
    const isLink = (kset: KsetView, readableBytes: number): boolean => {
      if (kset.verdict(readableBytes, readableBytes) !== 'ok') return false;
      if (kset.isLast) return kset.nextSegment === target;
      isCurrent = kset.keyCount > 0;
      for (let index = 0; index < kset.keyCount; index++) isCurrent &&= judgeKey(view, kset, index) === 'current';
      return false;
    };
    if (finder.nextKset(segment, 0, isLink) !== undefined && isCurrent) return segment;
  }
  return undefined;
}

/** Two rows that run into one another are of an earlier lap each; neither comes before the other. */
function runsInto(row: Row, other: Row): boolean {
  return row.segments.has(other.start.segment) && !other.segments.has(row.start.segment);
}

function rowFrom(view: PlanView, finder: OrphanKsets, first: number, startsWhole: boolean): Row | undefined {
  const segments = new Set<number>([first]);
  let isStale = false;
  let currentKeys = 0;
  let ksets = 0;
  let at: Position = { segment: first, offsetBytes: 0 };
  for (let breaks = 0; breaks < BREAKS_MAX; breaks++) {
    const seen = currentKeys;
    let isStaleHere = false;
    const { end, loops } = walkLog(view, at, (kset) => {
      ksets++;
      if (kset.isLast) segments.add(kset.nextSegment);
      for (let index = 0; index < kset.keyCount; index++) {
        const verdict = judgeKey(view, kset, index);
        if (verdict === 'stale') isStaleHere = true;
        else if (verdict === 'current') currentKeys++;
      }
      // Behind a break only what is of this log goes on with it.
      return breaks === 0 || !isStaleHere;
    });
    if (loops || (startsWhole && ksets === 0)) return undefined;
    if (breaks === 0) isStale = isStaleHere;
    else if (isStaleHere) return { start: startOf(first), segments, isProper: false, isStale, currentKeys: seen };
    const isProper = ksets > 0 && zeroBytesAt(view.context, view.chain, end, KSET_HEADER_BYTES) === KSET_HEADER_BYTES;
    const next = isProper ? undefined : finder.nextKset(end.segment, end.offsetBytes + 8);
    if (next === undefined)
      return ksets > 0 ? { start: startOf(first), segments, isProper, isStale, currentKeys } : undefined;
    at = { segment: end.segment, offsetBytes: next };
  }
  return undefined;
}

function startOf(segment: number): Position {
  return { segment, offsetBytes: 0 };
}
