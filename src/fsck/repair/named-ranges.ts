/** What keys are for that lie in the log without a kset that is whole around them. */
import type { Position } from '../../engine/media/codecs.js';
import { KEY_BYTES, KSET_HEADER_BYTES, KSET_KEYS_MAX, ksetBytes, KsetView } from '../../engine/media/kset.js';
import type { PayloadMap } from '../payload-map.js';
import { deviceOffset, keyRange } from './log-walk.js';
import type { ByteRange } from './ranges.js';
import type { PlanView } from './types.js';

/** Places that a kset can begin at, and so its keys. */
const STEP_BYTES = 8;

/** What the keys of the log claim: a key that claims it too is of an earlier time. */
type Claims = Pick<PayloadMap, 'isClaimed'>;

/** What is named from a place of the log on, as far as there are keys that no earlier lap can have left. */
export function namedRanges(view: PlanView, claimed: Claims, place: Position): ByteRange[] {
  const { segmentDataBytes } = view.context.geometry;
  const piece = ksetBytes(KSET_KEYS_MAX);
  const ranges: ByteRange[] = [];
  for (let at = place.offsetBytes; at < segmentDataBytes; at += piece) {
    // A key that lies across two pieces is seen whole in the first.
    const bytes = new Uint8Array(Math.min(piece + KEY_BYTES - STEP_BYTES, segmentDataBytes - at));
    view.context.source.read(deviceOffset(view, { ...place, offsetBytes: at }), bytes, 0, bytes.length);
    const found = rangesIn(view, claimed, bytes);
    if (found.length === 0) break;
    ranges.push(...found);
  }
  return ranges;
}

/**
 * What keys that lie in bytes of the log are for, wherever they begin: damage may have cut them off from their kset.
 * Other bytes look like a key so seldom that what is listed too much hardly counts.
 */
export function rangesIn(view: PlanView, claimed: Claims, bytes: Uint8Array): ByteRange[] {
  const { chain, context } = view;
  const ranges: ByteRange[] = [];
  const key = new KsetView();
  for (let at = 0; at + KEY_BYTES <= bytes.length; at += STEP_BYTES) {
    // The view counts keys from behind a header.
    key.attach(bytes, at - KSET_HEADER_BYTES);
    if (key.keyProblem(0, context.geometry, chain.length, context.backingBytes) !== '') continue;
    const segment = key.keySegment(0);
    if (key.keyGeneration(0) < chain.generation[segment]) continue;
    const isClaimed = claimed.isClaimed(segment, key.keySegmentOffsetBytes(0), key.keyLengthBytes(0));
    if (!isClaimed) ranges.push(keyRange(key, 0));
  }
  return ranges;
}
