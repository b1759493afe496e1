/**
 * What may be lost where the log is broken: what lay in the gap, and what is led to again behind it, which need not be
 * what was there before the damage.
 */
import type { Position } from '../../engine/media/codecs.js';
import { positionText } from '../../engine/media/position-text.js';
import type { LostRun } from '../orphan-ksets.js';
import { ksetSizesFor } from './fill.js';
import { walkLog } from './log-walk.js';
import { namedRanges, rangesIn } from './named-ranges.js';
import { mergeRanges, subtractRanges, type ByteRange } from './ranges.js';
import type { Loss, PlanView } from './types.js';

type Log = NonNullable<PlanView['log']>;

export const NOTHING_TELLS = 'keys lie behind the end of the log, and nothing tells whether they belong to it';

export function lossOf(position: Position, reason: string, ranges: ByteRange[]): Loss {
  return {
    kind: 'perhaps-lost',
    where: `kset ${positionText(position)}`,
    reason,
    ranges: mergeRanges(ranges),
    mayBeMore: true,
  };
}

/** What the ksets of a gap may have said, as far as they can be read, and what of it was kept. */
export function lossesOfGap(
  view: PlanView,
  log: Log,
  gap: Uint8Array,
  kept: readonly ByteRange[],
  covered: readonly ByteRange[],
): Loss[] {
  const losses = [
    lossOf(
      log.facts.end,
      'what the ksets there said cannot be relied on',
      subtractRanges(subtractRanges(rangesIn(view, log.facts.payload, gap), kept), covered),
    ),
  ];
  const keptReason = 'the key was kept, since its payload matches its CRC, but nothing proves the range that it is for';
  const keptRanges = subtractRanges(kept, covered);
  return keptRanges.length === 0
    ? losses
    : [...losses, { ...lossOf(log.facts.end, keptReason, keptRanges), mayBeMore: false }];
}

/**
 * What lies behind a run that goes into the log again, or behind a LAST kset in it that may be a left over one: where
 * the log is damaged in one place, blocks of it may have changed places.
 */
export function lossesBehind(view: PlanView, log: Log, run: LostRun, covered: readonly ByteRange[]): Loss[] {
  let last: Position | undefined;
  const { end } = walkLog(view, run.first, (kset, position) => {
    if (kset.isLast) last ??= { segment: position.segment, offsetBytes: position.offsetBytes + kset.lengthBytes };
  });
  const named = [last, end].flatMap((position) =>
    position === undefined ? [] : namedRanges(view, log.facts.payload, position),
  );
  const ranges = subtractRanges(named, covered);
  return ranges.length === 0 ? [] : [{ ...lossOf(end, NOTHING_TELLS, ranges), mayBeMore: false }];
}

/**
 * What a run says that goes into the log again though no ksets can have filled the gap before it: then it does not lie
 * where it was written, and damage may have put ksets of an earlier time there.
 */
export function lossesOfMisplaced(run: LostRun, gapBytes: number, covered: readonly ByteRange[]): Loss[] {
  if (ksetSizesFor(gapBytes) !== undefined || covered.length === 0) return [];
  const reason = 'no ksets fill the gap before it, so it may have been put there by the damage, and be an old one';
  return [{ ...lossOf(run.first, reason, [...covered]), mayBeMore: false }];
}
