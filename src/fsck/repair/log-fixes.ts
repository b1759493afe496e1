/**
 * Repairs of the log where it ends though it should not (format §2): a broken kset with good ones behind it, a
 * LAST kset that leads nowhere, a torn end. A broken kset is mended where its CRC tells how; else ksets that
 * change nothing go in its place, so that what follows is in the log again, in its order, and what it may have
 * said is listed as lost.
 *
 * Before dirty_tail there is nothing to lose: key_tail moves behind the damage.
 */
import type { Position } from '../../engine/media/codecs.js';
import { SECTOR_BYTES } from '../../engine/media/geometry.js';
import {
  encodeLastKset,
  KEY_FLAG_CLEAN,
  KSET_HEADER_BYTES,
  KSET_KEYS_MAX,
  ksetBytes,
  KsetView,
} from '../../engine/media/kset.js';
import { findBrokenKsets } from '../broken-ksets.js';
import { positionText } from '../../engine/media/position-text.js';
import { bodyKeys, findLostRun } from '../torn-or-lost.js';
import { OrphanKsets, type LostRun } from '../orphan-ksets.js';
import { closeGap } from './fill.js';
import { lossesBehind, lossesOfGap, lossesOfMisplaced, lossOf } from './gap-losses.js';
import { lengthenOver } from './lengthen-ksets.js';
import { checksPayload, coveredFrom, deviceOffset, isAt, isRepeatable, keyBeside, walkLog } from './log-walk.js';
import { mendKset } from './mend.js';
import { namedRanges } from './named-ranges.js';
import { appendTo, subtractRanges, type ByteRange } from './ranges.js';
import { freeSegment } from './free-segment.js';
import { hasRoomToLeave, leadTo, moveRest } from './relocate.js';
import { beginAtDirtyTail, isTrustworthy, moveTail } from './tail-fixes.js';
import { hasFinding, type Change, type Fix, type PlanView } from './types.js';
import { blankOverlappingHeaders } from './overlapping-headers.js';

type Log = NonNullable<PlanView['log']>;

const REFUSED_ENDS = ['LOG_LOOPS', 'LAST_OUT_OF_RANGE'] as const;
const BROKEN_ENDS = ['LOG_CUT_SHORT', 'LOG_MAYBE_CUT_SHORT', 'LOG_END_TORN'] as const;
const BLANK = new Uint8Array(KSET_HEADER_BYTES);

export function planLogEnd(view: PlanView): Fix[] {
  const { log } = view;
  if (log === undefined) return [];
  if (hasFinding(view, 'KSET_TOO_LONG')) return continueElsewhere(view, log);
  if (hasFinding(view, ...REFUSED_ENDS)) return redirect(view, log);
  if (!hasFinding(view, ...BROKEN_ENDS)) return [];
  const beyond = moveBehindDamage(view, log);
  if (beyond !== undefined) return beyond;
  if (!hasRoomToLeave(view, log.facts.end)) return makeRoomAtEnd(view, log);
  const run = findLostRun(view.context, view.chain, log.facts);
  const doubtful = hasFinding(view, 'LOG_MAYBE_CUT_SHORT');
  if (doubtful && run === undefined) return [forgetBroken(view, log)];
  const mended = mend(view, log, run);
  if (mended !== undefined) return [mended];
  if (run === undefined) return [blankEnd(view, log)];
  if (doubtful && !view.options.relinkDoubtful) return [forgetRun(view, log, run)];
  const bridge = run.first.segment === log.facts.end.segment ? bridgeTo(view, log, run) : hopTo(view, log, run);
  return bridge === undefined ? [] : [bridge];
}

function codesOf(view: PlanView): Fix['codes'] {
  return [...REFUSED_ENDS, ...BROKEN_ENDS].filter((code) => hasFinding(view, code));
}

/** Where the damage lies before dirty_tail. */
function moveBehindDamage(view: PlanView, log: Log): Fix[] | undefined {
  const { dirtyTail } = view.header;
  if (log.facts.passedDirtyTail || dirtyTail === undefined) return undefined;
  // The log goes on to where it would end without the damage: if that passes dirty_tail, it may stay from there.
  const run = findLostRun(view.context, view.chain, log.facts);
  let met = false;
  if (run !== undefined) {
    const { end } = walkLog(view, run.first, (_kset, position) => (met = isAt(position, dirtyTail)) === false);
    met ||= isAt(end, dirtyTail);
  }
  if (!met && !isTrustworthy(view, log, dirtyTail)) return undefined;
  // Not further back, though more may be whole: what lies between may have been put there by the damage.
  return beginAtDirtyTail(view, dirtyTail, codesOf(view));
}

function mend(view: PlanView, log: Log, run: LostRun | undefined): Fix | undefined {
  const { end } = log.facts;
  const bytes = mendKset(view, end, run === undefined);
  if (bytes === undefined) return undefined;
  return {
    id: `mend ${positionText(end)}`,
    codes: codesOf(view),
    action: `mend the kset ${positionText(end)}: its CRC tells what it was`,
    consent: 'plain',
    losses: [],
    steps: [[{ offsetBytes: deviceOffset(view, end), bytes }]],
  };
}

/** Ends the log before a kset that is not whole. */
function blankEnd(view: PlanView, log: Log): Fix {
  const { end } = log.facts;
  const named = [...namedRanges(view, log.facts.payload, end), ...namedElsewhere(view, log)];
  const reason = 'it is not whole: either a crash tore it, and nothing in it was acknowledged, or it was damaged';
  return {
    // With the keys there: other generations make others of the log.
    id: `blank ${positionText(end)} ${bodyKeys(view.context, view.chain, log.facts)}`,
    codes: codesOf(view),
    action: `blank the torn kset ${positionText(end)}`,
    consent: 'plain',
    losses: [lossOf(end, reason, named)],
    steps: [endingAt(view, log)],
  };
}

/** What is named at the beginning of segments that nobody uses: a LAST kset may have led there, and is lost. */
function namedElsewhere(view: PlanView, log: Log): ByteRange[] {
  const { chain } = view;
  const ranges: ByteRange[] = [];
  for (let segment = 0; segment < chain.length; segment++) {
    if (log.facts.extents.has(segment) || log.facts.payload.isClaimed(segment, 0, SECTOR_BYTES)) continue;
    appendTo(ranges, namedRanges(view, log.facts.payload, { segment, offsetBytes: 0 }));
  }
  return ranges;
}

/** Closes the gap between the end of the log and a run in the same segment. */
function bridgeTo(view: PlanView, log: Log, run: LostRun): Fix | undefined {
  const { end } = log.facts;
  const gapBytes = run.first.offsetBytes - end.offsetBytes;
  const gap = new Uint8Array(gapBytes);
  view.context.source.read(deviceOffset(view, end), gap, 0, gapBytes);
  const bridge = closeGap(gap, keyBeside(view, log.start, end, run.first), (kset, index) =>
    isProven(view, log, kset, index),
  );
  // Nothing before the gap, and nothing in it that could be kept: there is nothing to lead the log on from.
  if (bridge?.kept.length === 0 && isAt(end, log.start)) return skipGap(view, log, run);
  if (bridge === undefined) {
    return relocate(view, log, run) ?? widen(view, log, run) ?? skipGap(view, log, run) ?? giveUp(view, log, run);
  }
  const covered = coveredFrom(view, run.first);
  const losses = [...lossesOfGap(view, log, gap, bridge.kept, covered), ...lossesBehind(view, log, run, covered)];
  const what = bridge.ksets === 1 ? 'a kset' : `${bridge.ksets} ksets`;
  return {
    id: `bridge ${positionText(end)} ${positionText(run.first)}`,
    codes: codesOf(view),
    action: `put ${what} of the same length in the place of what is broken at ${positionText(end)}, so that the log goes on with ${run.ksets} ksets from ${positionText(run.first)}`,
    consent: 'plain',
    losses,
    steps: [[{ offsetBytes: deviceOffset(view, end), bytes: bridge.bytes }]],
  };
}

/** A key of a broken kset whose payload shows that it is whole, but for the range that it is for. */
function isProven(view: PlanView, log: Log, kset: KsetView, index: number): boolean {
  if (!checksPayload(view) || !isRepeatable(view, kset, index) || kset.keyReserved(index) !== 0) return false;
  if ((kset.keyFlags(index) & ~KEY_FLAG_CLEAN) !== 0) return false;
  const { payload } = log.facts;
  return !payload.isClaimed(kset.keySegment(index), kset.keySegmentOffsetBytes(index), kset.keyLengthBytes(index));
}

/** When nothing can fill the gap: the ksets behind it go to a free segment, and the log is led there. */
function relocate(view: PlanView, log: Log, run: LostRun): Fix | undefined {
  const { end } = log.facts;
  const moved = moveRest(view, log, end, run.first);
  if (moved === undefined) return undefined;
  const covered = coveredFrom(view, run.first);
  const gap = new Uint8Array(run.first.offsetBytes - end.offsetBytes);
  view.context.source.read(deviceOffset(view, end), gap, 0, gap.length);
  return {
    id: `relocate ${positionText(end)} ${positionText(run.first)}`,
    codes: codesOf(view),
    action: `move the ksets from ${positionText(run.first)} on to the free segment ${moved.segment}, and lead the log there from ${positionText(end)}`,
    consent: 'plain',
    losses: [
      ...lossesOfGap(view, log, gap, [], covered),
      ...lossesOfMisplaced(run, gap.length, covered),
      ...lossesBehind(view, log, run, covered),
      ...moved.losses,
    ],
    steps: moved.steps,
  };
}

/** When nothing can fill the gap, and no segment is free: the ksets behind it become longer, to the front. */
function widen(view: PlanView, log: Log, run: LostRun): Fix | undefined {
  const { end } = log.facts;
  const bytes = lengthenOver(view, end, run.first);
  if (bytes === undefined) return undefined;
  const covered = coveredFrom(view, run.first);
  const gap = new Uint8Array(run.first.offsetBytes - end.offsetBytes);
  view.context.source.read(deviceOffset(view, end), gap, 0, gap.length);
  return {
    id: `widen ${positionText(end)} ${positionText(run.first)}`,
    codes: codesOf(view),
    action: `write the ksets from ${positionText(run.first)} on again so that they take the place of what is broken at ${positionText(end)} too`,
    consent: 'plain',
    losses: [
      ...lossesOfGap(view, log, gap, [], covered),
      ...lossesOfMisplaced(run, gap.length, covered),
      ...lossesBehind(view, log, run, covered),
    ],
    steps: [[{ offsetBytes: deviceOffset(view, end), bytes }]],
  };
}

/** When nothing leads over the gap: the log ends before it. */
function giveUp(view: PlanView, log: Log, run: LostRun): Fix {
  const { end } = log.facts;
  const named = [...namedRanges(view, log.facts.payload, end), ...coveredFrom(view, run.first)];
  const reason = 'the log cannot be led over a broken kset to what follows';
  return {
    id: `give up ${positionText(end)}`,
    codes: codesOf(view),
    action: `end the log at ${positionText(end)}, and give up the ${run.ksets} ksets from ${positionText(run.first)} on`,
    consent: 'drop-corrupt',
    losses: [lossOf(end, reason, named)],
    steps: [forgetting(view, log, run.first)],
  };
}

/** When nothing can fill the gap, but there is nothing before it either: the log begins behind it. */
function skipGap(view: PlanView, log: Log, run: LostRun): Fix | undefined {
  if (!isAt(log.facts.end, log.start)) return undefined;
  const reason = 'what the ksets there said cannot be read';
  const covered = coveredFrom(view, run.first);
  const named = subtractRanges(namedRanges(view, log.facts.payload, log.start), covered);
  const misplaced = lossesOfMisplaced(run, run.first.offsetBytes - log.start.offsetBytes, covered);
  const losses = [lossOf(log.start, reason, named), ...misplaced];
  const move = moveTail(view, 'key_tail', run.first, codesOf(view), { losses });
  if (!isAt(log.start, view.header.dirtyTail)) return move;
  // Both were there: nothing of what follows is known to be written back.
  return { ...move, steps: [...moveTail(view, 'dirty_tail', run.first, []).steps, ...move.steps] };
}

/** Sends the log to a run in another segment: what was there was a LAST kset, or ksets up to one. */
function hopTo(view: PlanView, log: Log, run: LostRun): Fix | undefined {
  const { end } = log.facts;
  const named = subtractRanges(namedRanges(view, log.facts.payload, end), coveredFrom(view, run.first));
  const reason = 'a kset may have been there before the one that led on';
  return {
    id: `hop ${positionText(end)} ${run.first.segment}`,
    codes: codesOf(view),
    action: `lead the log from ${positionText(end)} on to segment ${run.first.segment}, where it goes on with ${run.ksets} ksets`,
    consent: 'plain',
    losses: [lossOf(end, reason, named)],
    steps: [[{ offsetBytes: deviceOffset(view, end), bytes: encodeLastKset(run.first.segment) }]],
  };
}

/** A LAST kset that leads out of the cache, or back into the log. */
function redirect(view: PlanView, log: Log): Fix[] {
  const { end } = log.facts;
  const runs = new OrphanKsets(view.context, view.chain, log.facts);
  const run = runs.longestElsewhere();
  if (run !== undefined) {
    const hop = hopTo(view, log, run);
    // The kset that led there is whole: nothing but where it led is lost.
    return hop === undefined ? [] : [{ ...hop, losses: [] }];
  }
  const reason = 'the log ends there now; where it led to is not known';
  const losses = [lossOf(end, reason, namedRanges(view, log.facts.payload, end))];
  return [
    {
      id: `end ${positionText(end)}`,
      codes: codesOf(view),
      action: `end the log at ${positionText(end)}, before a LAST kset that leads nowhere`,
      consent: 'plain',
      losses,
      steps: [endingAt(view, log)],
    },
  ];
}

/** Takes the ksets behind the end of the log for those of an earlier cache. */
function forgetRun(view: PlanView, log: Log, run: LostRun): Fix {
  const changes = forgetting(view, log, run.first);
  const ranges = [...namedRanges(view, log.facts.payload, log.facts.end), ...coveredFrom(view, run.first)];
  const reason = 'nothing tells whether ksets there belong to the log or are left from an earlier cache';
  return {
    id: `forget ${positionText(run.first)}`,
    codes: ['LOG_MAYBE_CUT_SHORT'],
    action: `blank ${run.ksets} ksets behind the end of the log, from ${positionText(run.first)} on`,
    assumed: 'they are left from an earlier cache on this device',
    consent: 'plain',
    losses: [lossOf(run.first, reason, ranges)],
    steps: [changes],
  };
}

/** Ends the log where it does, before broken ksets that can be led on to no more. */
function forgetBroken(view: PlanView, log: Log): Fix {
  const { end, payload } = log.facts;
  const positions = findBrokenKsets(view.context, view.chain, log.facts);
  const named = [end, ...positions].flatMap((position) => namedRanges(view, payload, position));
  const what = positions.length === 1 ? 'a broken kset' : `${positions.length} broken ksets`;
  const reason = 'broken ksets lie behind the end of the log, and nothing tells how it went on';
  return {
    id: `forget ${positionText(positions[0])}`,
    codes: ['LOG_MAYBE_CUT_SHORT'],
    action: `blank what is left of ${what} behind the end of the log, from ${positionText(positions[0])} on`,
    consent: 'plain',
    losses: [lossOf(positions[0], reason, named)],
    steps: [positions.map((position) => ({ offsetBytes: deviceOffset(view, position), bytes: BLANK }))],
  };
}

/** Blanks the end of the log, so that it is one, with the keys of a kset there whose header is gone. */
function endingAt(view: PlanView, log: Log): Change[] {
  const { end } = log.facts;
  const keys = bodyKeys(view.context, view.chain, log.facts);
  const length = Math.min(ksetBytes(keys), view.context.geometry.segmentDataBytes - end.offsetBytes);
  const blank = { offsetBytes: deviceOffset(view, end), bytes: new Uint8Array(length) };
  // Behind a kset of the log nothing can lie over its end.
  return isAt(end, log.start) ? [...blankOverlappingHeaders(view, end), blank] : [blank];
}

/** Blanks the end of the log, and the ksets of a run that lie in its first segment. */
function forgetting(view: PlanView, log: Log, first: Position): Change[] {
  const changes = endingAt(view, log);
  walkLog(view, first, (_kset, position) => {
    if (position.segment === first.segment) changes.push({ offsetBytes: deviceOffset(view, position), bytes: BLANK });
  });
  return changes;
}

/** Moves a kset that its segment cannot hold to a free one. */
function continueElsewhere(view: PlanView, log: Log): Fix[] {
  const { end } = log.facts;
  const { context } = view;
  const kset = new Uint8Array(ksetBytes(KSET_KEYS_MAX));
  const at = deviceOffset(view, end);
  context.source.read(at, kset, 0, Math.min(kset.length, context.source.sizeBytes - at));
  const last = new KsetView().attach(kset, 0);
  const free = freeSegment(view, log, (use) => use(last));
  if (free === undefined || !hasRoomToLeave(view, end)) return [];
  const moved = new Uint8Array(last.lengthBytes + KSET_HEADER_BYTES);
  moved.set(kset.subarray(0, last.lengthBytes));
  return [
    {
      id: `continue ${positionText(end)}`,
      codes: ['KSET_TOO_LONG'],
      action: `move the kset ${positionText(end)} to the free segment ${free.segment}, and lead the log there`,
      consent: 'plain',
      losses: free.losses,
      steps: leadTo(view, end, free.segment, moved),
    },
  ];
}

/** Moves the last kset to a free segment: behind it there is no room for the LAST kset that the log needs to go on. */
function makeRoomAtEnd(view: PlanView, log: Log): Fix[] {
  let last: Position | undefined;
  walkLog(view, log.start, (_kset, position) => void (last = position));
  const moved = last === undefined ? undefined : moveRest(view, log, last, last);
  if (last === undefined || moved === undefined) return [];
  return [
    {
      id: `continue ${positionText(last)}`,
      codes: codesOf(view),
      action: `move the kset ${positionText(last)} to the free segment ${moved.segment}, and lead the log there: it left no room to go on`,
      consent: 'plain',
      losses: moved.losses,
      steps: moved.steps,
    },
  ];
}
