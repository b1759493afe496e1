/**
 * Finds a segment for parts of the log that must go elsewhere. That neither the log nor a key of it uses one does not
 * make it free: where the log is broken, what has not been reached yet may go on in it, or have its payload there. So
 * the one counts that takes the least from keys that were found outside the log, and what it takes is listed.
 * Bounded: looks through the segment that the log ends in, and the others as far as they begin with keys.
 */
import { SECTOR_BYTES } from '../../engine/media/geometry.js';
import type { KsetView } from '../../engine/media/kset.js';
import { OrphanKsets } from '../orphan-ksets.js';
import { keyRange, walkLog } from './log-walk.js';
import { namesAnything, visitNamed } from './named-ranges.js';
import { mergeRanges, type ByteRange } from './ranges.js';
import type { Loss, PlanView } from './types.js';

type Log = NonNullable<PlanView['log']>;

export interface FreeSegment {
  readonly segment: number;
  /** What may be lost with what it holds; nothing, mostly. */
  readonly losses: Loss[];
}

/**
 * A segment that neither the log nor a key of it uses.
 * @param visitMore is given what to call with each further kset that counts
 */
export function freeSegment(
  view: PlanView,
  log: Log,
  visitMore: (use: (kset: KsetView) => void) => void,
): FreeSegment | undefined {
  const { chain } = view;
  const used = new Uint8Array(chain.length);
  const use = (kset: KsetView): void => {
    if (kset.isLast && kset.nextSegment < chain.length) used[kset.nextSegment] = 1;
    for (let index = 0; index < kset.keyCount; index++) {
      if (kset.keySegment(index) < chain.length) used[kset.keySegment(index)] = 1;
    }
  };
  for (const segment of log.facts.extents.keys()) used[segment] = 1;
  walkLog(view, log.start, use);
  visitMore(use);
  const takenBytes = new Float64Array(chain.length);
  visitKeysOutside(view, log, (key, home) => {
    takenBytes[home] += key.keyLengthBytes(0);
    takenBytes[key.keySegment(0)] += key.keyLengthBytes(0);
  });
  let found = -1;
  for (let segment = 0; segment < chain.length; segment++) {
    if (used[segment] === 0 && (found < 0 || takenBytes[segment] < takenBytes[found])) found = segment;
  }
  if (found < 0) return undefined;
  return { segment: found, losses: takenBytes[found] === 0 ? [] : lossOfTaking(view, log, found) };
}

function lossOfTaking(view: PlanView, log: Log, segment: number): Loss[] {
  const ranges: ByteRange[] = [];
  visitKeysOutside(view, log, (key, home) => {
    if (home === segment || key.keySegment(0) === segment) ranges.push(keyRange(key, 0));
  });
  const reason = 'the only segment to be had for the rest of the log holds keys, or payload of keys, outside it';
  const where = `segment ${segment}`;
  return [{ kind: 'perhaps-lost', where, reason, ranges: mergeRanges(ranges), mayBeMore: true }];
}

/**
 * Keys behind the end of the log, and at the beginning of segments that it does not go through.
 * @param visit is told of the segment that the key lies in, too
 */
function visitKeysOutside(view: PlanView, log: Log, visit: (key: KsetView, home: number) => void): void {
  const { chain, context } = view;
  const { end, extents, payload } = log.facts;
  const finder = new OrphanKsets(context, chain, log.facts);
  const visitFrom = (segment: number, offsetBytes: number): void =>
    visitNamed(view, payload, { segment, offsetBytes }, (key) => visit(key, segment));
  visitFrom(end.segment, end.offsetBytes);
  for (let segment = 0; segment < chain.length; segment++) {
    if (extents.has(segment) || payload.isClaimed(segment, 0, SECTOR_BYTES)) continue;
    const begins = finder.hasMagicAtStart(segment) || namesAnything(view, payload, { segment, offsetBytes: 0 });
    if (begins) visitFrom(segment, 0);
  }
}
