/**
 * What lies over the beginning of an empty log: headers before key_tail of ksets that would reach beyond it. What is
 * before key_tail in its segment is dead, so they may go. They must where the log's first bytes are written over: what
 * is written there may make such a kset whole, and the log would seem to begin in the middle of it.
 */
import type { Position } from '../../engine/media/codecs.js';
import { KSET_BYTES_MAX, KSET_HEADER_BYTES, KSET_KEYS_MAX, KsetView } from '../../engine/media/kset.js';
import { deviceOffset } from './log-walk.js';
import type { Change, PlanView } from './types.js';

/** Places that a kset can begin at. */
const STEP_BYTES = 8;

/** @returns changes that blank the headers of whatever may reach over `start`, where the log begins and ends */
export function blankOverlappingHeaders(view: PlanView, start: Position): Change[] {
  const from = Math.max(0, start.offsetBytes - KSET_BYTES_MAX + STEP_BYTES);
  const length = Math.min(start.offsetBytes - from + KSET_HEADER_BYTES, view.context.geometry.segmentDataBytes - from);
  const bytes = new Uint8Array(length);
  const base = deviceOffset(view, { segment: start.segment, offsetBytes: from });
  view.context.source.read(base, bytes, 0, length);
  const kset = new KsetView();
  const changes: Change[] = [];
  for (let at = (start.offsetBytes - from) % STEP_BYTES; from + at < start.offsetBytes; at += STEP_BYTES) {
    if (at + KSET_HEADER_BYTES > length) break;
    kset.attach(bytes, at);
    const beforeBytes = start.offsetBytes - from - at;
    const canReach = kset.keyCount <= KSET_KEYS_MAX && kset.lengthBytes > beforeBytes;
    // Of a header that reaches over it, the flags may become others; what lies there is up to the next writer.
    if (!kset.magicOk || !(canReach || beforeBytes < KSET_HEADER_BYTES)) continue;
    changes.push({ offsetBytes: base + at, bytes: new Uint8Array(Math.min(KSET_HEADER_BYTES, beforeBytes)) });
  }
  return changes;
}
