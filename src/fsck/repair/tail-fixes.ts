/**
 * Repairs of key_tail and dirty_tail (format §1 "Position", §2). What is not known to be written back counts as
 * dirty. What is known to be written back may leave the log: it reads the same from the backing device.
 *
 * A stale key shows that its kset, and every one before it, was collected: key_tail is behind it. So a log that
 * is taken to be dirty from its beginning begins behind the last of these, or dead data would come back.
 */
import { encodePosition, POSITION_BYTES, type Position } from '../../engine/media/codecs.js';
import type { Dual } from '../../engine/media/dual.js';
import { KSET_HEADER_BYTES } from '../../engine/media/kset.js';
import type { FindingCode } from '../catalogue.js';
import { positionText } from '../../engine/media/position-text.js';
import type { LogExtent } from '../log-check.js';
import { PayloadMap } from '../payload-map.js';
import { OrphanKsets } from '../orphan-ksets.js';
import { judgeDual } from '../check-copies.js';
import { findUnnamedPayload, type UnnamedPayload } from '../unnamed-payload.js';
import { rewriteLostCopy, rewriteBoth } from './rewrite-copies.js';
import { lossOf, NOTHING_TELLS } from './gap-losses.js';
import { isGenerationInDoubt } from './generation-fixes.js';
import { findLogStart } from './log-start.js';
import { freeingUnnamed, lossOfUnnamed } from './lost-log-fixes.js';
import { checksPayload, coveredFrom, deviceOffset, isAt, judgeKey, keyRange, walkLog } from './log-walk.js';
import { namedRanges } from './named-ranges.js';
import { appendTo, mergeRanges, subtractRanges, type ByteRange } from './ranges.js';
import { hasFinding, type Fix, type Loss, type PlanView } from './types.js';
import { blankOverlappingHeaders } from './overlapping-headers.js';

const KEY_TAIL_GONE: readonly FindingCode[] = ['KEY_TAIL_LOST', 'KEY_TAIL_OUT_OF_RANGE', 'KEY_TAIL_AT_SEGMENT_END'];
const DIRTY_TAIL_GONE: readonly FindingCode[] = [
  'DIRTY_TAIL_LOST',
  'DIRTY_TAIL_OUT_OF_RANGE',
  'DIRTY_TAIL_AT_SEGMENT_END',
  'DIRTY_TAIL_LEADS_ASTRAY',
  'DIRTY_TAIL_NOT_ON_KSET',
  'DIRTY_TAIL_BEFORE_KEY_TAIL',
  'DIRTY_TAIL_NOT_IN_LOG',
];

const TAIL_CODES: readonly FindingCode[] = ['KEY_TAIL_NOT_ON_KSET', ...DIRTY_TAIL_GONE];

type TailName = 'key_tail' | 'dirty_tail';

function dualOf(view: PlanView, name: TailName): Dual<Position> {
  const { found } = view.header;
  return name === 'key_tail' ? found.keyTail : found.dirtyTail;
}

/** Moves a tail; both copies say the new place then. */
export function moveTail(
  view: PlanView,
  name: TailName,
  to: Position,
  codes: readonly FindingCode[],
  more: { readonly assumed?: string; readonly losses?: readonly Loss[] } = {},
): Fix {
  return {
    id: `${name} ${positionText(to)}`,
    codes,
    action: `set ${name} to ${positionText(to)}`,
    consent: 'plain',
    losses: [],
    steps: rewriteBoth(dualOf(view, name), (seq) => encodePosition(to, seq)),
    ...more,
  };
}

/** A key_tail that is lost, or lies inside a kset. */
export function planKeyTail(view: PlanView): Fix[] {
  const { log } = view;
  const codes = KEY_TAIL_GONE.filter((code) => hasFinding(view, code));
  if (codes.length > 0) return planLostKeyTail(view, codes);
  if (log !== undefined && hasFinding(view, 'KEY_TAIL_NOT_ON_KSET')) {
    const { keyTail, dirtyTail } = view.header;
    // Where neither tail is at a kset it is not they that are wrong: something else lies over what was there.
    const neither = hasFinding(view, 'DIRTY_TAIL_NOT_ON_KSET');
    if (keyTail !== undefined && (neither || isAt(keyTail, dirtyTail))) return [breakAt(view, keyTail)];
    return [moveTail(view, 'key_tail', log.start, ['KEY_TAIL_NOT_ON_KSET'])];
  }
  return [];
}

/** The log begins at dirty_tail: what lies before is written back. */
export function beginAtDirtyTail(view: PlanView, dirtyTail: Position, codes: readonly FindingCode[]): Fix[] {
  const assumed = 'what lies before dirty_tail is written back, and is given up';
  let isStale = false;
  let isEmpty = true;
  walkLog(view, dirtyTail, (kset) => {
    isEmpty = false;
    for (let index = 0; index < kset.keyCount; index++) isStale ||= judgeKey(view, kset, index) === 'stale';
    return false;
  });
  const losses = isEmpty ? lossBehindEmpty(view, dirtyTail) : [];
  const move = moveTail(view, 'key_tail', dirtyTail, codes, { assumed, losses });
  // Nothing there can be stale: what lies there is no part of this log.
  return isStale ? [breakAt(view, dirtyTail), move] : [move];
}

/** Nothing but dirty_tail says that the log ended there: what keys behind it are for, if there are any. */
function lossBehindEmpty(view: PlanView, dirtyTail: Position): Loss[] {
  const ranges = mergeRanges(namedRanges(view, view.log!.facts.payload, dirtyTail));
  return ranges.length === 0 ? [] : [lossOf(dirtyTail, NOTHING_TELLS, ranges)];
}

/**
 * Breaks what lies over the place that both tails give, so that it is not taken for the log: what was there is a
 * broken kset then, and is dealt with as one.
 */
function breakAt(view: PlanView, place: Position): Fix {
  const left = view.context.geometry.segmentDataBytes - place.offsetBytes;
  const where = positionText(place);
  const reason = 'the log began there, and something else lies over it';
  const bytes = new Uint8Array(Math.min(KSET_HEADER_BYTES, left)).fill(0xff);
  return {
    id: `break ${where}`,
    codes: TAIL_CODES.filter((code) => hasFinding(view, code)),
    action: `take ${where}, where the log goes on, for the beginning of a broken kset`,
    consent: 'plain',
    losses: [{ kind: 'perhaps-lost', where: `kset ${where}`, reason, ranges: [], mayBeMore: true }],
    steps: [[...blankOverlappingHeaders(view, place), { offsetBytes: deviceOffset(view, place), bytes }]],
  };
}

/**
 * A dirty_tail that is lost, or is no place in the log. To be called when the log is whole. While key_tail is lost (its
 * repair was declined), nothing: the next repair would take everything before this dirty_tail for written back.
 */
export function planDirtyTail(view: PlanView): Fix[] {
  const { header, log } = view;
  const dirtyCodes = DIRTY_TAIL_GONE.filter((code) => hasFinding(view, code));
  const isKeyTailGone = KEY_TAIL_GONE.some((code) => hasFinding(view, code));
  if (dirtyCodes.length === 0 || log === undefined || isKeyTailGone) return [];
  const { dirtyTail } = header;
  if (hasFinding(view, 'DIRTY_TAIL_NOT_IN_LOG') && dirtyTail !== undefined && isTrustworthy(view, log, dirtyTail)) {
    return beginAtDirtyTail(view, dirtyTail, dirtyCodes);
  }
  // Ksets from dirty_tail on lead to key_tail: if key_tail is the wrong one of the two, they are the log as well.
  const from = hasFinding(view, 'DIRTY_TAIL_BEFORE_KEY_TAIL') ? dirtyTail : undefined;
  return planDirtyFromStart(view, from ?? log.start, dirtyCodes);
}

/**
 * Whether a dirty_tail that the log does not lead to is a place in it all the same, and the log is broken before it:
 * it lies behind the present end in the same segment, or ksets of present generations lie there, outside what is
 * known of the log.
 */
export function isTrustworthy(view: PlanView, log: NonNullable<PlanView['log']>, dirtyTail: Position): boolean {
  const { end, extents } = log.facts;
  if (dirtyTail.segment >= view.chain.length) return false;
  if (dirtyTail.segment === end.segment) return dirtyTail.offsetBytes > end.offsetBytes;
  if (extents.has(dirtyTail.segment)) return false;
  let ksets = 0;
  const { end: reached, loops } = walkLog(view, dirtyTail, (kset) => {
    for (let index = 0; index < kset.keyCount; index++) if (judgeKey(view, kset, index) !== 'current') return false;
    ksets++;
    return true;
  });
  return ksets > 0 && !loops && !extents.has(reached.segment);
}

function planLostKeyTail(view: PlanView, codes: FindingCode[]): Fix[] {
  const { dirtyTail } = view.header;
  if (dirtyTail !== undefined && dirtyTail.segment < view.chain.length) {
    const assumed = 'what lies before dirty_tail is written back, and is given up';
    return [moveTail(view, 'key_tail', dirtyTail, codes, { assumed })];
  }
  const found = findLogStart(view);
  const { start, passed, sawStale } = behindStaleKeys(view, found);
  const assumed = hasKsetAt(view, start)
    ? 'the log is the row of ksets that ends as a log ends, from behind its last stale key on; all of it counts as dirty'
    : 'no beginning of the log was found';
  const losses = [...lossOfPassed(view, start, passed), ...lossElsewhere(view, found), ...lossOfDoubtful(view, start)];
  // A stale key was collected, and so was everything before it. Without one nothing says that the log began there.
  const unnamed = sawStale ? NOTHING_UNNAMED : unnamedBeside(view, start);
  const isUnnamed = unnamed.segments.length > 0 || unnamed.holeBytes > 0;
  if (isUnnamed) losses.push(lossOfUnnamed('key_tail', unnamed));
  else if (sawStale) losses.push(LOSS_OF_ASSUMED_START);
  const move = moveTail(view, 'key_tail', start, codes, { assumed, losses });
  // dirty_tail first: with a key_tail that is good it could be taken for a place before it. Both in one repair, for the
  // reason that planDirtyTail gives.
  const dirty = moveTail(view, 'dirty_tail', start, ['DIRTY_TAIL_LOST']);
  const both = { ...move, codes: [...codes, ...dirty.codes], steps: [...dirty.steps, ...move.steps] };
  if (unnamed.segments.length === 0) return [both];
  return [{ ...both, consent: 'accept-loss', steps: [...freeingUnnamed(view, unnamed), ...both.steps] }];
}

function hasKsetAt(view: PlanView, place: Position): boolean {
  let found = false;
  walkLog(view, place, () => {
    found = true;
    return false;
  });
  return found;
}

/** Ksets that were collected, and whose segments were not freed yet, look like those of the log. */
const LOSS_OF_ASSUMED_START: Loss = {
  kind: 'perhaps-lost',
  where: 'key_tail',
  reason: 'both tails are lost, so ksets that were collected may be in the log again, and show older data',
  ranges: [],
  mayBeMore: true,
};

const NOTHING_UNNAMED: UnnamedPayload = { segments: [], full: [], bytes: 0, holeBytes: 0 };

/** Payload that no key names of the log that begins at `start`, nor what a break in it leads on to. */
function unnamedBeside(view: PlanView, start: Position): UnnamedPayload {
  const { chain, context } = view;
  const payload = new PayloadMap(context.geometry);
  const extents = new Map<number, LogExtent>();
  const add = (from: Position): Position => {
    extents.set(from.segment, NO_EXTENT);
    return walkLog(view, from, (kset) => {
      if (kset.isLast) extents.set(kset.nextSegment, NO_EXTENT);
      for (let index = 0; index < kset.keyCount; index++) {
        const verdict = judgeKey(view, kset, index);
        if (verdict === 'bad' || verdict === 'stale' || !payload.covers(kset.keySegment(index))) continue;
        payload.claim(kset.keySegment(index), kset.keySegmentOffsetBytes(index), kset.keyLengthBytes(index));
      }
    }).end;
  };
  const finder = new OrphanKsets(context, chain, { extents, payload });
  let end = add(start);
  for (let breaks = 0; breaks < BREAKS_MAX; breaks++) {
    const next = finder.nextKset(end.segment, end.offsetBytes + 8);
    if (next === undefined) break;
    end = add({ segment: end.segment, offsetBytes: next });
  }
  return findUnnamedPayload(context, chain, { extents, payload });
}

const BREAKS_MAX = 256;
const NO_EXTENT: LogExtent = { startBytes: 0, endBytes: 0, enteredFrom: undefined };

/** What is named in segments that the log found does not go through: it may have come before that. */
function lossElsewhere(view: PlanView, found: Position): Loss[] {
  const { chain, context } = view;
  const segments = new Map([[found.segment, true]]);
  walkLog(view, found, (kset) => {
    if (kset.isLast) segments.set(kset.nextSegment, true);
  });
  const payload = new PayloadMap(context.geometry);
  const finder = new OrphanKsets(context, chain, { extents: segments, payload });
  const ranges: ByteRange[] = [];
  for (let segment = 0; segment < chain.length; segment++) {
    if (!segments.has(segment)) appendTo(ranges, namedInSegment(view, finder, segment, payload));
  }
  const left = subtractRanges(ranges, coveredFrom(view, found));
  if (left.length === 0) return [];
  const reason = 'ksets lie in segments that nothing leads to; they may have come before the log that was found';
  return [{ kind: 'perhaps-lost', where: 'key_tail', reason, ranges: left, mayBeMore: true }];
}

/** What the ksets of a segment name, and what is named between them, where it starts with one or the rest of one. */
function namedInSegment(view: PlanView, finder: OrphanKsets, segment: number, payload: PayloadMap): ByteRange[] {
  const ranges = namedRanges(view, payload, { segment, offsetBytes: 0 });
  if (ranges.length === 0 && !finder.hasMagicAtStart(segment)) return [];
  let offsetBytes: number | undefined = 0;
  for (let steps = 0; offsetBytes !== undefined && steps < view.context.geometry.segmentDataBytes; steps++) {
    let behind: number = offsetBytes;
    walkLog(view, { segment, offsetBytes }, (kset, place) => {
      if (place.segment !== segment) return false;
      for (let index = 0; index < kset.keyCount; index++) {
        if (judgeKey(view, kset, index) === 'current') ranges.push(keyRange(kset, index));
      }
      behind = place.offsetBytes + kset.lengthBytes;
      return true;
    });
    appendTo(ranges, namedRanges(view, payload, { segment, offsetBytes: behind }));
    offsetBytes = finder.nextKset(segment, behind + 8);
  }
  return ranges;
}

/** What is given up with ksets that stale keys show to be collected: nothing, unless a generation is wrong. */
function lossOfPassed(view: PlanView, start: Position, passed: readonly ByteRange[]): Loss[] {
  const ranges = subtractRanges(passed, coveredFrom(view, start));
  if (ranges.length === 0) return [];
  const reason = 'stale keys show that the ksets before were collected; if they were not, what they hold is gone';
  return [{ kind: 'perhaps-lost', where: 'key_tail', reason, ranges, mayBeMore: false }];
}

/**
 * What keys are for that may be dead: their segment may have had a newer generation, and nothing tells whether the
 * log reached so far back, or whether their payload is still there.
 */
function lossOfDoubtful(view: PlanView, start: Position): Loss[] {
  if (checksPayload(view) || !hasFinding(view, 'GENERATION_COPY_LOST', 'GENERATION_SEQ_SUSPECT', 'GENERATION_LOST')) {
    return [];
  }
  const isInDoubt = Uint8Array.from(view.chain.physicalId, (_, logical) => Number(isGenerationInDoubt(view, logical)));
  const ranges: ByteRange[] = [];
  walkLog(view, start, (kset) => {
    for (let index = 0; index < kset.keyCount; index++) {
      const verdict = judgeKey(view, kset, index);
      if ((verdict === 'current' || verdict === 'future') && isInDoubt[kset.keySegment(index)] === 1) {
        ranges.push(keyRange(kset, index));
      }
    }
  });
  if (ranges.length === 0) return [];
  const reason = 'the newest generation of a segment may be lost; if it is, keys are dead that look like current ones';
  return [{ kind: 'perhaps-lost', where: 'key_tail', reason, ranges: mergeRanges(ranges), mayBeMore: false }];
}

/** A dirty_tail that no kset leads to may be right: then the log went on to there, and what it said is gone. */
function lossBeyondEnd(view: PlanView): Loss[] {
  const { header, log } = view;
  if (log === undefined || header.dirtyTail === undefined || !hasFinding(view, 'DIRTY_TAIL_NOT_IN_LOG')) return [];
  const { end, payload } = log.facts;
  const places = header.dirtyTail.segment < view.chain.length ? [end, header.dirtyTail] : [end];
  const ranges = mergeRanges(places.flatMap((place) => namedRanges(view, payload, place)));
  const place = positionText(header.dirtyTail);
  const reason = `dirty_tail says that the log went on to ${place}; if it did, what it said from there on is gone`;
  const where = `kset ${positionText(end)}`;
  return [{ kind: 'perhaps-lost', where, reason, ranges, mayBeMore: true }];
}

/** Everything from `from` on counts as dirty, but for what lies before the last stale key. */
function planDirtyFromStart(view: PlanView, from: Position, codes: FindingCode[]): Fix[] {
  const { start, passed } = behindStaleKeys(view, from);
  const fixes: Fix[] = [];
  if (!isAt(start, view.header.dirtyTail)) {
    const losses = lossBeyondEnd(view);
    fixes.push(moveTail(view, 'dirty_tail', start, codes, { assumed: 'everything counts as dirty', losses }));
  }
  if (!isAt(start, view.header.keyTail)) {
    fixes.push(moveTail(view, 'key_tail', start, codes, { losses: lossOfPassed(view, start, passed) }));
  }
  return fixes;
}

/** @returns the place behind the last kset with a stale key, and what the keys passed by going there are for. */
export function behindStaleKeys(
  view: PlanView,
  from: Position,
): { start: Position; passed: ByteRange[]; sawStale: boolean } {
  let sawStale = false;
  let start = from;
  let passed: ByteRange[] = [];
  let pending: ByteRange[] = [];
  let takeNext = false;
  const { end } = walkLog(view, from, (kset, place) => {
    if (takeNext) start = place;
    takeNext = false;
    for (let index = 0; index < kset.keyCount; index++) {
      const verdict = judgeKey(view, kset, index);
      if (verdict === 'stale') takeNext = true;
      if (verdict !== 'bad' && !kset.keyIsClean(index)) pending.push(keyRange(kset, index));
    }
    if (takeNext) {
      sawStale = true;
      passed = passed.concat(pending);
      pending = [];
    }
  });
  return { start: takeNext ? end : start, passed, sawStale };
}

/** Copies that are lost or out of step, where the other one stands. */
export function planTailCopies(view: PlanView): Fix[] {
  const fixes: Fix[] = [];
  for (const name of ['key_tail', 'dirty_tail'] as const) {
    const dual = dualOf(view, name);
    const verdict = judgeDual(dual, view.header.found.attachesMax);
    if (verdict === 'good' || verdict === 'lost') continue;
    const prefix = name === 'key_tail' ? 'KEY_TAIL' : 'DIRTY_TAIL';
    fixes.push({
      id: `copy ${dual.offsets[0]}`,
      codes: [verdict === 'seq-suspect' ? `${prefix}_SEQ_SUSPECT` : `${prefix}_COPY_LOST`],
      action: `write copy ${1 - dual.winner} of ${name} again from copy ${dual.winner}`,
      consent: 'plain',
      losses: [],
      steps: rewriteLostCopy(view.context, dual, POSITION_BYTES),
    });
  }
  return fixes;
}
