/**
 * Names the keys behind payload that was claimed twice. Goes through the log once more, only when the map
 * found such payload. A key that is in the log twice, word for word, is no finding.
 */
import type { Position } from '../engine/media/codecs.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';
import { positionText } from '../engine/media/position-text.js';
import { walkFrom } from './walk-from.js';

/** Double claims that are looked into. */
export const MAX_OVERLAPS = 64;

/** A part of a segment's data area. */
export interface PayloadRange {
  readonly segment: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

interface Claimant extends PayloadRange {
  readonly where: string;
  readonly logicalBytes: number;
}

export function overlap(a: PayloadRange, b: PayloadRange): boolean {
  return (
    a.segment === b.segment &&
    a.offsetBytes < b.offsetBytes + b.lengthBytes &&
    b.offsetBytes < a.offsetBytes + a.lengthBytes
  );
}

function same(a: Claimant, b: Claimant): boolean {
  return a.logicalBytes === b.logicalBytes && a.offsetBytes === b.offsetBytes && a.lengthBytes === b.lengthBytes;
}

/** @param ranges payload that a key claimed though another had claimed part of it */
export function findOverlaps(
  context: CheckContext,
  chain: CheckedChain,
  start: Position,
  segmentCount: number,
  ranges: readonly PayloadRange[],
): void {
  if (ranges.length === 0) return;
  const segments = new Set(ranges.map((range) => range.segment));
  const firstClaimants = new Map<PayloadRange, Claimant>();
  const reported = new Set<PayloadRange>();
  const visited = new Set([start.segment]);
  const walker = walkFrom(context, chain, start);
  while (walker.next()) {
    const { kset } = walker;
    if (kset.isLast) {
      if (visited.has(kset.nextSegment)) return;
      visited.add(kset.nextSegment);
      continue;
    }
    for (let index = 0; index < kset.keyCount; index++) {
      const segment = kset.keySegment(index);
      if (!segments.has(segment) || kset.keyGeneration(index) < chain.generation[segment]) continue;
      if (kset.keyProblem(index, context.geometry, segmentCount, context.backingBytes) !== '') continue;
      const claimant = {
        where: `kset ${positionText(walker)} key ${index}`,
        logicalBytes: kset.keyOffsetBytes(index),
        segment,
        offsetBytes: kset.keySegmentOffsetBytes(index),
        lengthBytes: kset.keyLengthBytes(index),
      };
      for (const range of ranges) {
        if (reported.has(range) || !overlap(claimant, range)) continue;
        const first = firstClaimants.get(range);
        if (first === undefined) firstClaimants.set(range, claimant);
        else if (overlap(first, claimant) && !same(first, claimant)) {
          reported.add(range);
          report(context, first, claimant);
        }
      }
    }
  }
}

function report(context: CheckContext, first: Claimant, second: Claimant): void {
  const text = (claimant: Claimant): string =>
    `${positionText(claimant)}+${claimant.lengthBytes} for bytes from ${claimant.logicalBytes}`;
  context.findings.add(
    'PAYLOAD_OVERLAP',
    second.where,
    `it claims ${text(second)}; ${first.where} claims ${text(first)}`,
  );
}
