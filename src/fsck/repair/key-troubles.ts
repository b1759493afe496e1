/** Keys that cannot be, and what to do with each. */
import { KEY_FLAG_CLEAN, KEY_FLAG_EMPTY, type KsetView } from '../../engine/media/kset.js';
import { SECTOR_BYTES, SUBTREE_BYTES } from '../../engine/media/geometry.js';
import type { FindingCode } from '../catalogue.js';
import { boundsProblem } from '../keys.js';
import { checksPayload, payloadMatches } from './log-walk.js';
import type { Consent, PlanView } from './types.js';

export interface KeyTrouble {
  readonly code: FindingCode;
  /** It goes; else it is set right. */
  readonly drop: boolean;
  readonly consent: Consent;
  /** Nothing is lost with it. */
  readonly lossless: boolean;
  /** What it says of the range it is for cannot be relied on. */
  readonly isNonsense?: boolean;
}

/** @param index of a key that `keyProblem` finds wrong */
export function judgeBadKey(view: PlanView, kset: KsetView, index: number): KeyTrouble {
  const { chain, context } = view;
  const base = { drop: true, consent: 'plain', lossless: false, isNonsense: true } as const;
  if (boundsProblem(context, chain.length, kset, index) !== '') return { ...base, code: 'KEY_OUT_OF_BOUNDS' };
  const offset = kset.keyOffsetBytes(index);
  const length = kset.keyLengthBytes(index);
  if (
    offset % SECTOR_BYTES !== 0 ||
    length % SECTOR_BYTES !== 0 ||
    kset.keySegmentOffsetBytes(index) % SECTOR_BYTES !== 0
  )
    return { ...base, code: 'KEY_UNALIGNED' };
  if (Math.floor(offset / SUBTREE_BYTES) !== Math.floor((offset + length - 1) / SUBTREE_BYTES))
    return { ...base, code: 'KEY_CROSSES_SUBTREE' };
  // The wrong backing device may have been given: such keys are not to be dropped lightly.
  if (offset + length > context.backingBytes) return { ...base, code: 'KEY_BEYOND_BACKING', consent: 'drop-corrupt' };
  const onlyEmpty = (kset.keyFlags(index) & ~(KEY_FLAG_EMPTY | KEY_FLAG_CLEAN)) === 0;
  const proven = onlyEmpty && checksPayload(view) && payloadMatches(view, kset, index);
  return { ...base, code: 'KEY_EMPTY_FLAG', drop: !proven, lossless: proven };
}
