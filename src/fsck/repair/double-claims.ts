/**
 * Keys whose payload is claimed twice: by another key, or by the log. Bounded as the check is: only so many
 * doubly claimed ranges are looked into at a time.
 */
import { KeyFields, type KsetView } from '../../engine/media/kset.js';
import type { FindingCode } from '../catalogue.js';
import { MAX_OVERLAPS, overlap, type PayloadRange } from '../overlaps.js';
import { LastClaim, PayloadMap } from '../payload-map.js';
import { judgeKey, walkLog } from './log-walk.js';
import { hasFinding, type PlanView } from './types.js';

export class DoubleClaims {
  private readonly claimedTwice: PayloadRange[] = [];

  constructor(private readonly view: PlanView) {
    const { context, log } = view;
    if (log === undefined || !hasFinding(view, 'PAYLOAD_OVERLAP')) return;
    const map = new PayloadMap(context.geometry);
    const last = new LastClaim();
    const key = new KeyFields();
    walkLog(view, log.start, (kset) => {
      for (let index = 0; index < kset.keyCount; index++) {
        const segment = kset.keySegment(index);
        if (judgeKey(view, kset, index) !== 'current' || !map.covers(segment)) continue;
        if (last.isRepeatedBy(kset.readKey(index, key))) continue;
        const range = rangeOf(kset, index);
        const twice = map.claim(segment, range.offsetBytes, range.lengthBytes);
        if (twice && this.claimedTwice.length < MAX_OVERLAPS) this.claimedTwice.push(range);
      }
    });
  }

  /** The finding that a current key is part of. */
  codeFor(kset: KsetView, index: number): FindingCode | undefined {
    const extent = this.view.log?.facts.extents.get(kset.keySegment(index));
    if (extent !== undefined) {
      return extent.enteredFrom === undefined ? 'KEY_SEGMENT_HOLDS_PAYLOAD' : 'LAST_INTO_PAYLOAD';
    }
    const range = rangeOf(kset, index);
    return this.claimedTwice.some((other) => overlap(other, range)) ? 'PAYLOAD_OVERLAP' : undefined;
  }
}

function rangeOf(kset: KsetView, index: number): PayloadRange {
  return {
    segment: kset.keySegment(index),
    offsetBytes: kset.keySegmentOffsetBytes(index),
    lengthBytes: kset.keyLengthBytes(index),
  };
}
