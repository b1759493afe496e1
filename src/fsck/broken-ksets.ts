/**
 * Finds broken ksets behind the end of the log that were a part of it: blocks that changed places can end the log
 * properly before them, and leave no kset whole.
 *
 * Nothing but the log leaves a header with keys like these behind its end. The log, and payload, are written from the
 * beginning of a segment to its end: what they lie over of an older kset is its beginning. A kset that a crash tore is
 * where the log ends, and the next one is written over its header. That leaves a torn kset that lay over the end of an
 * older one; but that was collected, and a segment that no key of the log needs any more has a new generation since.
 */
import type { Position } from '../engine/media/codecs.js';
import { KEY_BYTES, KEY_FLAG_CLEAN, KSET_HEADER_BYTES, KSET_KEYS_MAX, type KsetView } from '../engine/media/kset.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';
import type { LogFacts } from './log-check.js';
import { RunFinder } from './runs.js';

/** A single key may point to a segment that is being filled, which keeps its generation. */
const KEYS_MIN = 2;
/** More are told of when these are dealt with. */
const BROKEN_MAX = 256;

/** @returns places of such ksets in the segment that the log ends in, at most so many, in order */
export function findBrokenKsets(context: CheckContext, chain: CheckedChain, facts: LogFacts): Position[] {
  const { segment, offsetBytes } = facts.end;
  const finder = new RunFinder(context, chain, facts);
  const isOfLog = (kset: KsetView, readableBytes: number): boolean =>
    kset.magicOk &&
    kset.flags === 0 &&
    kset.keyCount <= KSET_KEYS_MAX &&
    keysInUnusedSegments(context, chain, facts, kset, readableBytes) >= KEYS_MIN &&
    kset.verdict(readableBytes, readableBytes) !== 'ok';
  const found: Position[] = [];
  for (let from = offsetBytes + 8; found.length < BROKEN_MAX; from = found.at(-1)!.offsetBytes + 8) {
    const at = finder.nextKset(segment, from, isOfLog);
    if (at === undefined) break;
    found.push({ segment, offsetBytes: at });
  }
  return found;
}

/** How many keys in a row, from the first, are whole, of present generations, and for segments no other key is for. */
function keysInUnusedSegments(
  context: CheckContext,
  chain: CheckedChain,
  { extents, payload }: LogFacts,
  kset: KsetView,
  readableBytes: number,
): number {
  const count = Math.min(kset.keyCount, Math.floor((readableBytes - KSET_HEADER_BYTES) / KEY_BYTES));
  for (let index = 0; index < count; index++) {
    if (kset.keyProblem(index, context.geometry, chain.length, context.backingBytes) !== '') return index;
    if ((kset.keyFlags(index) & ~KEY_FLAG_CLEAN) !== 0 || kset.keyReserved(index) !== 0) return index;
    const segment = kset.keySegment(index);
    if (kset.keyGeneration(index) !== chain.generation[segment]) return index;
    if (extents.has(segment) || !payload.covers(segment)) return index;
    if (payload.isClaimed(segment, 0, context.geometry.segmentDataBytes)) return index;
  }
  return count;
}
