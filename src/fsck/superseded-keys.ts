/**
 * Finds data that shows though something newer was there: a current key over whose range a stale one lies later in
 * the log. What is collected is collected in log order, so a stale key shows that its kset, and all before it, are
 * behind key_tail: the older key is dead, and what counts is on the backing device. Goes through the log again, only
 * when it has stale keys.
 */
import type { Position } from '../engine/media/codecs.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';
import { positionText } from '../engine/media/position-text.js';
import { walkFrom } from './walk-from.js';

/** Stale keys that are looked at; a log has a few at most, at its beginning, after a crash. */
const STALE_KEYS_MAX = 100_000;

interface StaleRange {
  readonly start: number;
  readonly end: number;
  /** Number of its kset. */
  readonly kset: number;
}

/** @param dirtyTail ends what is looked at: from there on no key can rightly be stale, which is a finding of its own */
export function findSupersededKeys(
  context: CheckContext,
  chain: CheckedChain,
  start: Position,
  dirtyTail: Position,
): void {
  const stale: StaleRange[] = [];
  eachKey(context, chain, start, dirtyTail, (isStale, from, end, kset) => {
    if (isStale && stale.length < STALE_KEYS_MAX) stale.push({ start: from, end, kset });
  });
  stale.sort((a, b) => a.start - b.start);
  let longest = 0;
  for (const range of stale) longest = Math.max(longest, range.end - range.start);
  eachKey(context, chain, start, dirtyTail, (isStale, from, end, kset, position) => {
    if (isStale) return;
    for (let at = firstFrom(stale, from - longest); at < stale.length && stale[at].start < end; at++) {
      if (stale[at].end <= from || stale[at].kset < kset) continue;
      const detail = `bytes ${from} to ${end}: a later key for bytes ${stale[at].start} to ${stale[at].end} is stale`;
      context.findings.add('OLD_DATA_SHOWS', position(), detail);
      return;
    }
  });
}

function firstFrom(stale: readonly StaleRange[], start: number): number {
  let low = 0;
  let high = stale.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (stale[middle].start < start) low = middle + 1;
    else high = middle;
  }
  return low;
}

function eachKey(
  context: CheckContext,
  chain: CheckedChain,
  start: Position,
  dirtyTail: Position,
  visit: (isStale: boolean, from: number, end: number, kset: number, position: () => string) => void,
): void {
  const walker = walkFrom(context, chain, start);
  for (let number = 0; walker.next() && !walker.isAt(dirtyTail); number++) {
    const { kset } = walker;
    for (let index = 0; index < kset.keyCount; index++) {
      if (kset.keyProblem(index, context.geometry, chain.length, context.backingBytes) !== '') continue;
      const from = kset.keyOffsetBytes(index);
      visit(
        kset.keyGeneration(index) < chain.generation[kset.keySegment(index)],
        from,
        from + kset.keyLengthBytes(index),
        number,
        () => `kset ${positionText(walker)} key ${index}`,
      );
    }
  }
}
