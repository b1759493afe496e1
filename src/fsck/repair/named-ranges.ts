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

/** Told of a key, as the first of a view. */
type KeyVisitor = (key: KsetView) => void;

/** What is named from a position in the log on, as far as there are keys that no earlier lap can have left. */
export function namedRanges(view: PlanView, claimed: Claims, position: Position): ByteRange[] {
  const ranges: ByteRange[] = [];
  visitPieces(view, position, (bytes) => visitKeysIn(view, claimed, bytes, (key) => ranges.push(keyRange(key, 0))) > 0);
  return ranges;
}

/** Is there such a key at the beginning of what `namedRanges` looks through? */
export function namesAnything(view: PlanView, claimed: Claims, position: Position): boolean {
  let keys = 0;
  visitPieces(view, position, (bytes) => {
    keys = visitKeysIn(view, claimed, bytes, () => undefined);
    return false;
  });
  return keys > 0;
}

/** All keys from a position in the log to the end of its segment that no earlier lap can have left. */
export function visitNamed(view: PlanView, claimed: Claims, position: Position, visit: KeyVisitor): void {
  visitPieces(view, position, (bytes) => visitKeysIn(view, claimed, bytes, visit) >= 0);
}

/** @param visit returns whether to go on to the next piece */
function visitPieces(view: PlanView, position: Position, visit: (bytes: Uint8Array) => boolean): void {
  const { segmentDataBytes } = view.context.geometry;
  const piece = ksetBytes(KSET_KEYS_MAX);
  for (let at = position.offsetBytes; at < segmentDataBytes; at += piece) {
    // A key that lies across two pieces is seen whole in the first.
    const bytes = new Uint8Array(Math.min(piece + KEY_BYTES - STEP_BYTES, segmentDataBytes - at));
    view.context.source.read(deviceOffset(view, { ...position, offsetBytes: at }), bytes, 0, bytes.length);
    if (!visit(bytes)) break;
  }
}

/**
 * What keys that lie in bytes of the log are for, wherever they begin: damage may have cut them off from their kset.
 * Other bytes look like a key so seldom that what is listed too much hardly counts.
 */
export function rangesIn(view: PlanView, claimed: Claims, bytes: Uint8Array): ByteRange[] {
  const ranges: ByteRange[] = [];
  visitKeysIn(view, claimed, bytes, (key) => ranges.push(keyRange(key, 0)));
  return ranges;
}

/** @returns how many there were */
function visitKeysIn(view: PlanView, claimed: Claims, bytes: Uint8Array, visit: KeyVisitor): number {
  const { chain, context } = view;
  let keys = 0;
  const key = new KsetView();
  for (let at = 0; at + KEY_BYTES <= bytes.length; at += STEP_BYTES) {
    // The view counts keys from behind a header.
    key.attach(bytes, at - KSET_HEADER_BYTES);
    if (key.keyProblem(0, context.geometry, chain.length, context.backingBytes) !== '') continue;
    const segment = key.keySegment(0);
    if (key.keyGeneration(0) < chain.generation[segment]) continue;
    if (claimed.isClaimed(segment, key.keySegmentOffsetBytes(0), key.keyLengthBytes(0))) continue;
    visit(key);
    keys++;
  }
  return keys;
}
