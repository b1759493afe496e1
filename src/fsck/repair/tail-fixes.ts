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
import { placeText } from '../findings.js';
import { zeroBytesAt } from '../runs.js';
import { judgeDual } from '../twins.js';
import { copyOverTwin, rewriteBoth } from './dual.js';
import { findLogStart } from './log-start.js';
import { isAt, judgeKey, keyRange, walkLog } from './log-walk.js';
import { mergeRanges, type ByteRange } from './ranges.js';
import { hasFinding, type Fix, type Loss, type PlanView } from './types.js';

const KEY_TAIL_GONE: readonly FindingCode[] = ['KEY_TAIL_LOST', 'KEY_TAIL_OUT_OF_RANGE'];
const DIRTY_TAIL_GONE: readonly FindingCode[] = [
  'DIRTY_TAIL_LOST',
  'DIRTY_TAIL_OUT_OF_RANGE',
  'DIRTY_TAIL_NOT_ON_KSET',
  'DIRTY_TAIL_BEFORE_KEY_TAIL',
  'DIRTY_TAIL_NOT_IN_LOG',
];

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
    id: `${name} ${placeText(to.segment, to.offsetBytes)}`,
    codes,
    action: `set ${name} to ${placeText(to.segment, to.offsetBytes)}`,
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
    return [moveTail(view, 'key_tail', log.start, ['KEY_TAIL_NOT_ON_KSET'])];
  }
  return [];
}

/** A dirty_tail that is lost, or is no place in the log. To be called when the log is whole. */
export function planDirtyTail(view: PlanView): Fix[] {
  const { header, log } = view;
  const dirtyCodes = DIRTY_TAIL_GONE.filter((code) => hasFinding(view, code));
  if (dirtyCodes.length === 0 || log === undefined) return [];
  const { dirtyTail } = header;
  if (hasFinding(view, 'DIRTY_TAIL_NOT_IN_LOG') && dirtyTail !== undefined && isEmptyLogAfter(view, dirtyTail)) {
    const assumed = 'it was where the log went on next, so what was in the log has been written back';
    return [moveTail(view, 'key_tail', dirtyTail, dirtyCodes, { assumed })];
  }
  // Ksets from dirty_tail on lead to key_tail: if key_tail is the wrong one of the two, they are the log as well.
  const from = hasFinding(view, 'DIRTY_TAIL_BEFORE_KEY_TAIL') ? dirtyTail : undefined;
  return planDirtyFromStart(view, from ?? log.start, dirtyCodes);
}

/** Whether `place` can be the end of a log whose last ksets are gone: behind its present end, and blank. */
function isEmptyLogAfter(view: PlanView, place: Position): boolean {
  const end = view.log?.facts.end;
  if (end === undefined || place.segment !== end.segment || place.offsetBytes <= end.offsetBytes) return false;
  return zeroBytesAt(view.context, view.chain, place, KSET_HEADER_BYTES) === KSET_HEADER_BYTES;
}

function planLostKeyTail(view: PlanView, codes: FindingCode[]): Fix[] {
  const { dirtyTail } = view.header;
  if (dirtyTail !== undefined && dirtyTail.segment < view.chain.length) {
    const assumed = 'what lies before dirty_tail is written back, and is given up';
    return [moveTail(view, 'key_tail', dirtyTail, codes, { assumed })];
  }
  const start = findLogStart(view);
  if (start === undefined) return [];
  const assumed = `the log is the one row of ksets that ends as a log ends, from behind its last stale key on`;
  // dirty_tail first: with a key_tail that is good it could be taken for a place before it.
  return [
    moveTail(view, 'dirty_tail', start, ['DIRTY_TAIL_LOST'], { assumed: 'everything counts as dirty' }),
    moveTail(view, 'key_tail', start, codes, { assumed }),
  ];
}

/** Everything from `from` on counts as dirty, but for what lies before the last stale key. */
function planDirtyFromStart(view: PlanView, from: Position, codes: FindingCode[]): Fix[] {
  const { start, passed } = behindStaleKeys(view, from);
  const fixes: Fix[] = [];
  if (!isAt(start, view.header.dirtyTail)) {
    fixes.push(moveTail(view, 'dirty_tail', start, codes, { assumed: 'everything counts as dirty' }));
  }
  if (!isAt(start, view.header.keyTail)) {
    const reason = 'stale keys show that these ksets were collected, so they were written back';
    const ranges = mergeRanges(passed);
    const loss: Loss = { kind: 'perhaps-lost', where: 'key_tail', reason, ranges, mayBeMore: false };
    fixes.push(moveTail(view, 'key_tail', start, codes, passed.length > 0 ? { assumed: reason, losses: [loss] } : {}));
  }
  return fixes;
}

/** @returns the place behind the last kset with a stale key, and the current keys passed by going there. */
export function behindStaleKeys(view: PlanView, from: Position): { start: Position; passed: ByteRange[] } {
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
      else if (verdict !== 'bad' && !kset.keyIsClean(index)) pending.push(keyRange(kset, index));
    }
    if (takeNext) {
      passed = passed.concat(pending);
      pending = [];
    }
  });
  return { start: takeNext ? end : start, passed };
}

/** Copies that are lost or out of step, where the other one stands. */
export function planTailTwins(view: PlanView): Fix[] {
  const fixes: Fix[] = [];
  for (const name of ['key_tail', 'dirty_tail'] as const) {
    const dual = dualOf(view, name);
    const verdict = judgeDual(dual, view.header.found.attachesMax);
    if (verdict === 'good' || verdict === 'lost') continue;
    const prefix = name === 'key_tail' ? 'KEY_TAIL' : 'DIRTY_TAIL';
    fixes.push({
      id: `twin ${dual.offsets[0]}`,
      codes: [verdict === 'seq-suspect' ? `${prefix}_SEQ_SUSPECT` : `${prefix}_COPY_LOST`],
      action: `write copy ${1 - dual.winner} of ${name} again from copy ${dual.winner}`,
      consent: 'plain',
      losses: [],
      steps: copyOverTwin(view.context, dual, POSITION_BYTES),
    });
  }
  return fixes;
}
