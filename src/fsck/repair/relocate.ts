/**
 * Parts of the log that go to a free segment, with a LAST kset that leads there: where ksets cannot stay where they
 * are, or where what lies before them cannot.
 */
import type { Position } from '../../engine/media/codecs.js';
import { encodeLastKset, KSET_HEADER_BYTES } from '../../engine/media/kset.js';
import { freeSegment, type FreeSegment } from './free-segment.js';
import { deviceOffset, walkLog } from './log-walk.js';
import type { Change, PlanView } from './types.js';

type Log = NonNullable<PlanView['log']>;

/** Is there room at `position` for the LAST kset that leads on? */
export function hasRoomToLeave(view: PlanView, position: Position): boolean {
  return position.offsetBytes + KSET_HEADER_BYTES <= view.context.geometry.segmentDataBytes;
}

/**
 * Leads the log from `from` to a free segment that holds what lies from `to` on, in the same segment, up to its end:
 * it may go on behind further breaks there.
 * @returns undefined when no segment is free, or `from` has no room for a LAST kset
 */
export function moveRest(
  view: PlanView,
  log: Log,
  from: Position,
  to: Position,
): (FreeSegment & { steps: Change[][] }) | undefined {
  const free = freeSegment(view, log, (use) => void walkLog(view, to, use));
  if (free === undefined || !hasRoomToLeave(view, from)) return undefined;
  const { segmentDataBytes } = view.context.geometry;
  const rest = new Uint8Array(segmentDataBytes);
  view.context.source.read(deviceOffset(view, to), rest, 0, segmentDataBytes - to.offsetBytes);
  // What lay there may be of an earlier time: nothing of it may follow what was moved.
  const length = Math.min(segmentDataBytes, segmentDataBytes - to.offsetBytes + KSET_HEADER_BYTES);
  return { ...free, steps: leadTo(view, from, free.segment, rest.subarray(0, length)) };
}

/** Writes `bytes` to the beginning of a segment, then a LAST kset that leads there. */
export function leadTo(view: PlanView, from: Position, segment: number, bytes: Uint8Array): Change[][] {
  return [
    [{ offsetBytes: deviceOffset(view, { segment, offsetBytes: 0 }), bytes }],
    [{ offsetBytes: deviceOffset(view, from), bytes: encodeLastKset(segment) }],
  ];
}
