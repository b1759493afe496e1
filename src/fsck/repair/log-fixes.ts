/**
 * Repairs of the log where it ends though it should not (format §2): a broken kset with good ones behind it, a
 * LAST kset that leads nowhere, a torn end. A broken kset is mended where its CRC tells how; else ksets that
 * change nothing go in its place, so that what follows is in the log again, in its order, and what it may have
 * said is listed as lost.
 *
 * Before dirty_tail there is nothing to lose: key_tail moves behind the damage.
 */
import type { Position } from '../../engine/media/codecs.js';
import {
  encodeLastKset,
  KEY_BYTES,
  KEY_FLAG_CLEAN,
  KSET_HEADER_BYTES,
  KSET_KEYS_MAX,
  ksetBytes,
  KsetView,
} from '../../engine/media/kset.js';
import { placeText } from '../findings.js';
import { findLostRun } from '../log-end.js';
import { RunFinder, zeroBytesAt, type LostRun } from '../runs.js';
import { closeGap, ksetSizesOf } from './fill.js';
import {
  checksPayload,
  coveredFrom,
  deviceOffset,
  isAt,
  isRepeatable,
  judgeKey,
  keyBeside,
  keyRange,
  walkLog,
} from './log-walk.js';
import { mendKset } from './mend.js';
import { mergeRanges, subtractRanges, type ByteRange } from './ranges.js';
import { moveTail } from './tail-fixes.js';
import { hasFinding, type Fix, type Loss, type PlanView } from './types.js';

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
  if (beyond !== undefined) return [beyond];
  const run = findLostRun(view.context, view.chain, log.facts);
  const mended = mend(view, log, run);
  if (mended !== undefined) return [mended];
  if (run === undefined) return [blankEnd(view, log)];
  const doubtful = hasFinding(view, 'LOG_MAYBE_CUT_SHORT');
  if (doubtful && !view.options.relinkDoubtful) return [forgetRun(view, log, run)];
  const bridge = run.first.segment === log.facts.end.segment ? bridgeTo(view, log, run) : hopTo(view, log, run);
  return bridge === undefined ? [] : [bridge];
}

function textOf(place: Position): string {
  return placeText(place.segment, place.offsetBytes);
}

function codesOf(view: PlanView): Fix['codes'] {
  return [...REFUSED_ENDS, ...BROKEN_ENDS].filter((code) => hasFinding(view, code));
}

/** Where the damage lies before dirty_tail. */
function moveBehindDamage(view: PlanView, log: Log): Fix | undefined {
  const { dirtyTail } = view.header;
  const { end, passedDirtyTail } = log.facts;
  if (passedDirtyTail || dirtyTail === undefined || dirtyTail.segment >= view.chain.length) return undefined;
  // The log goes on to where it would end without the damage: if dirty_tail leads there too, it is a place in it.
  const run = findLostRun(view.context, view.chain, log.facts);
  let met = false;
  const fromRun = run && walkLog(view, run.first, (_kset, place) => (met = isAt(place, dirtyTail)) === false);
  if (fromRun !== undefined) met ||= isAt(fromRun.end, dirtyTail);
  const first = met ? run!.first : dirtyTail;
  if (!met) {
    let ksets = 0;
    const fromTail = walkLog(view, dirtyTail, (kset) => {
      if (!kset.isLast) for (let i = 0; i < kset.keyCount; i++) if (judgeKey(view, kset, i) !== 'current') return false;
      ksets++;
      return true;
    });
    const goesOn = ksets > 0 && !fromTail.loops && !log.facts.extents.has(fromTail.end.segment);
    const sameSegment = dirtyTail.segment === end.segment && dirtyTail.offsetBytes > end.offsetBytes;
    const blank = zeroBytesAt(view.context, view.chain, dirtyTail, KSET_HEADER_BYTES) === KSET_HEADER_BYTES;
    if (!goesOn && !(sameSegment && (ksets > 0 || blank))) return undefined;
  }
  const assumed = 'what lies before dirty_tail is written back, and is given up';
  return moveTail(view, 'key_tail', first, codesOf(view), { assumed });
}

function mend(view: PlanView, log: Log, run: LostRun | undefined): Fix | undefined {
  const { end } = log.facts;
  const bytes = mendKset(view, end, run === undefined);
  if (bytes === undefined) return undefined;
  return {
    id: `mend ${textOf(end)}`,
    codes: codesOf(view),
    action: `mend the kset ${textOf(end)}: its CRC tells what it was`,
    consent: 'plain',
    losses: [],
    steps: [[{ offsetBytes: deviceOffset(view, end), bytes }]],
  };
}

/** Ends the log before a kset that is not whole. */
function blankEnd(view: PlanView, log: Log): Fix {
  const { end } = log.facts;
  const named = namedRanges(view, end);
  const reason = 'it is not whole: either a crash tore it, and nothing in it was acknowledged, or it was damaged';
  const length = Math.min(KSET_HEADER_BYTES, view.context.geometry.segmentDataBytes - end.offsetBytes);
  return {
    id: `blank ${textOf(end)}`,
    codes: codesOf(view),
    action: `blank the torn kset ${textOf(end)}`,
    consent: 'plain',
    losses: [lossOf(end, reason, named)],
    steps: [[{ offsetBytes: deviceOffset(view, end), bytes: BLANK.subarray(0, length) }]],
  };
}

function lossOf(place: Position, reason: string, ranges: ByteRange[]): Loss {
  return {
    kind: 'perhaps-lost',
    where: `kset ${textOf(place)}`,
    reason,
    ranges: mergeRanges(ranges),
    mayBeMore: true,
  };
}

/** What the keys of a kset that is not whole name, as far as they can be keys. */
function namedRanges(view: PlanView, place: Position): ByteRange[] {
  const bytes = new Uint8Array(ksetBytes(KSET_KEYS_MAX));
  const length = Math.min(bytes.length, view.context.geometry.segmentDataBytes - place.offsetBytes);
  view.context.source.read(deviceOffset(view, place), bytes, 0, length);
  const said = new KsetView().attach(bytes, 0).keyCount;
  return rangesOfKeys(view, bytes, said >= 1 && said <= KSET_KEYS_MAX ? said : KSET_KEYS_MAX);
}

function rangesOfKeys(view: PlanView, bytes: Uint8Array, keyCount: number): ByteRange[] {
  const { context, chain } = view;
  const kset = new KsetView().attach(bytes, 0);
  const ranges: ByteRange[] = [];
  for (let index = 0; index < keyCount && ksetBytes(index + 1) <= bytes.length; index++) {
    if (kset.keyProblem(index, context.geometry, chain.length, context.backingBytes) !== '') continue;
    ranges.push(keyRange(kset, index));
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
  if (bridge === undefined) return skipGap(view, log, run);
  const losses = lossesOfGap(view, end, gap, bridge.kept, coveredFrom(view, run.first));
  const what = bridge.ksets === 1 ? 'a kset' : `${bridge.ksets} ksets`;
  return {
    id: `bridge ${textOf(end)} ${textOf(run.first)}`,
    codes: codesOf(view),
    action: `put ${what} of the same length in the place of what is broken at ${textOf(end)}, so that the log goes on with ${run.ksets} ksets from ${textOf(run.first)}`,
    consent: 'plain',
    losses,
    steps: [[{ offsetBytes: deviceOffset(view, end), bytes: bridge.bytes }]],
  };
}

/** What the ksets of a gap may have said, as far as they can be read, and what of it was kept. */
function lossesOfGap(
  view: PlanView,
  place: Position,
  gap: Uint8Array,
  kept: readonly ByteRange[],
  covered: readonly ByteRange[],
): Loss[] {
  const named: ByteRange[] = [];
  let at = 0;
  for (const keys of ksetSizesOf(gap) ?? [Math.floor((gap.length - KSET_HEADER_BYTES) / KEY_BYTES)]) {
    named.push(...rangesOfKeys(view, gap.subarray(at), keys));
    at += ksetBytes(keys);
  }
  const losses = [
    lossOf(
      place,
      'what the ksets there said cannot be relied on',
      subtractRanges(subtractRanges(named, kept), covered),
    ),
  ];
  const keptReason = 'the key was kept, since its payload matches its CRC, but nothing proves the range that it is for';
  const keptRanges = subtractRanges(kept, covered);
  return keptRanges.length === 0 ? losses : [...losses, { ...lossOf(place, keptReason, keptRanges), mayBeMore: false }];
}

/** A key of a broken kset whose payload shows that it is whole, but for the range that it is for. */
function isProven(view: PlanView, log: Log, kset: KsetView, index: number): boolean {
  if (!checksPayload(view) || !isRepeatable(view, kset, index) || kset.keyReserved(index) !== 0) return false;
  if ((kset.keyFlags(index) & ~KEY_FLAG_CLEAN) !== 0) return false;
  const { payload } = log.facts;
  return !payload.isClaimed(kset.keySegment(index), kset.keySegmentOffsetBytes(index), kset.keyLengthBytes(index));
}

/** When nothing can fill the gap, but there is nothing before it either: the log begins behind it. */
function skipGap(view: PlanView, log: Log, run: LostRun): Fix | undefined {
  if (!isAt(log.facts.end, log.start)) return undefined;
  const reason = 'what the ksets there said cannot be read';
  const named = subtractRanges(namedRanges(view, log.start), coveredFrom(view, run.first));
  return moveTail(view, 'key_tail', run.first, codesOf(view), { losses: [lossOf(log.start, reason, named)] });
}

/** Sends the log to a run in another segment: what was there was a LAST kset, or ksets up to one. */
function hopTo(view: PlanView, log: Log, run: LostRun): Fix | undefined {
  const { end } = log.facts;
  if (end.offsetBytes + KSET_HEADER_BYTES > view.context.geometry.segmentDataBytes) return undefined;
  const named = subtractRanges(namedRanges(view, end), coveredFrom(view, run.first));
  const reason = 'a kset may have been there before the one that led on';
  return {
    id: `hop ${textOf(end)} ${run.first.segment}`,
    codes: codesOf(view),
    action: `lead the log from ${textOf(end)} on to segment ${run.first.segment}, where it goes on with ${run.ksets} ksets`,
    consent: 'plain',
    losses: [lossOf(end, reason, named)],
    steps: [[{ offsetBytes: deviceOffset(view, end), bytes: encodeLastKset(run.first.segment) }]],
  };
}

/** A LAST kset that leads out of the cache, or back into the log. */
function redirect(view: PlanView, log: Log): Fix[] {
  const { end } = log.facts;
  const runs = new RunFinder(view.context, view.chain, log.facts);
  const run = runs.longestElsewhere();
  if (run !== undefined) {
    const hop = hopTo(view, log, run);
    // The kset that led there is whole: nothing but where it led is lost.
    return hop === undefined ? [] : [{ ...hop, losses: [] }];
  }
  const reason = 'the log ends there now; where it led to is not known';
  const losses = hasFinding(view, 'LOG_LOOPS') ? [] : [lossOf(end, reason, [])];
  return [
    {
      id: `end ${textOf(end)}`,
      codes: codesOf(view),
      action: `end the log at ${textOf(end)}, before a LAST kset that leads nowhere`,
      consent: 'plain',
      losses,
      steps: [[{ offsetBytes: deviceOffset(view, end), bytes: BLANK }]],
    },
  ];
}

/** Takes the ksets behind the end of the log for those of an earlier cache. */
function forgetRun(view: PlanView, log: Log, run: LostRun): Fix {
  const ranges: ByteRange[] = [];
  const changes: { offsetBytes: number; bytes: Uint8Array }[] = [];
  const { segment } = run.first;
  const finder = new RunFinder(view.context, view.chain, log.facts);
  const { end } = log.facts;
  const gap = new Uint8Array(run.first.offsetBytes - end.offsetBytes);
  view.context.source.read(deviceOffset(view, end), gap, 0, gap.length);
  ranges.push(...rangesOfKeys(view, gap, KSET_KEYS_MAX));
  walkLog(view, run.first, (kset) => {
    for (let index = 0; index < kset.keyCount; index++) {
      if (judgeKey(view, kset, index) === 'current') ranges.push(keyRange(kset, index));
    }
  });
  const limit = view.context.geometry.segmentDataBytes / ksetBytes(0);
  let at: number | undefined = run.first.offsetBytes;
  for (let count = 0; at !== undefined && count < limit; count++) {
    changes.push({ offsetBytes: deviceOffset(view, { segment, offsetBytes: at }), bytes: BLANK });
    at = finder.nextKset(segment, at + KSET_HEADER_BYTES);
  }
  const reason = 'nothing tells whether ksets there belong to the log or are left from an earlier cache';
  return {
    id: `forget ${textOf(run.first)}`,
    codes: ['LOG_MAYBE_CUT_SHORT'],
    action: `blank ${changes.length} ksets behind the end of the log, from ${textOf(run.first)} on`,
    assumed: 'they are left from an earlier cache on this device',
    consent: 'plain',
    losses: [lossOf(run.first, reason, ranges)],
    steps: [changes],
  };
}

/** Moves a kset that its segment cannot hold to a free one. */
function continueElsewhere(view: PlanView, log: Log): Fix[] {
  const { end } = log.facts;
  const { context } = view;
  const kset = new Uint8Array(ksetBytes(KSET_KEYS_MAX));
  const at = deviceOffset(view, end);
  context.source.read(at, kset, 0, Math.min(kset.length, context.source.sizeBytes - at));
  const last = new KsetView().attach(kset, 0);
  const { lengthBytes } = last;
  const segment = freeSegment(view, log, last);
  if (segment === undefined || end.offsetBytes + KSET_HEADER_BYTES > context.geometry.segmentDataBytes) return [];
  const start = deviceOffset(view, { segment, offsetBytes: 0 });
  const moved = new Uint8Array(lengthBytes + KSET_HEADER_BYTES);
  moved.set(kset.subarray(0, lengthBytes));
  return [
    {
      id: `continue ${textOf(end)}`,
      codes: ['KSET_TOO_LONG'],
      action: `move the kset ${textOf(end)} to the free segment ${segment}, and lead the log there`,
      consent: 'plain',
      losses: [],
      steps: [[{ offsetBytes: start, bytes: moved }], [{ offsetBytes: at, bytes: encodeLastKset(segment) }]],
    },
  ];
}

/** A segment that neither the log nor a key of it uses, nor a key of `last`, where the log goes on. */
function freeSegment(view: PlanView, log: Log, last: KsetView): number | undefined {
  const { chain } = view;
  const used = new Uint8Array(chain.length);
  const use = (kset: KsetView): void => {
    for (let index = 0; index < kset.keyCount; index++) {
      if (kset.keySegment(index) < chain.length) used[kset.keySegment(index)] = 1;
    }
  };
  for (const segment of log.facts.extents.keys()) used[segment] = 1;
  walkLog(view, log.start, use);
  use(last);
  const found = used.indexOf(0);
  return found < 0 ? undefined : found;
}
