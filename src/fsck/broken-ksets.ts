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
import { KEY_FLAG_CLEAN, KSET_KEYS_MAX, type KsetView } from '../engine/media/kset.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';
import type { LogFacts } from './log-check.js';
import { OrphanKsets, type BrokenSearch } from './orphan-ksets.js';

/** A single key may point to a segment that is being filled, which keeps its generation. */
const KEYS_MIN = 2;
/** More are told of when these are dealt with. */
const BROKEN_MAX = 256;

/** Gathers such ksets while the segment that the log ends in is searched for whole ones. */
export class BrokenKsets implements BrokenSearch {
  readonly positions: Position[] = [];
  isComplete = false;

  constructor(
    private readonly context: CheckContext,
    private readonly chain: CheckedChain,
    private readonly facts: LogFacts,
  ) {}

  look(kset: KsetView, readableBytes: number, offsetBytes: number): void {
    if (this.positions.length === BROKEN_MAX) return;
    if (!isOfLog(this.context, this.chain, this.facts, kset, readableBytes)) return;
    this.positions.push({ segment: this.facts.end.segment, offsetBytes });
  }
}

/** @returns positions of such ksets in the segment that the log ends in, at most so many, in order */
export function findBrokenKsets(context: CheckContext, chain: CheckedChain, facts: LogFacts): Position[] {
  const broken = new BrokenKsets(context, chain, facts);
  const look = (kset: KsetView, readableBytes: number, offsetBytes: number): boolean => {
    broken.look(kset, readableBytes, offsetBytes);
    return false;
  };
  new OrphanKsets(context, chain, facts).nextKset(facts.end.segment, facts.end.offsetBytes + 8, look);
  return broken.positions;
}

function isOfLog(
  context: CheckContext,
  chain: CheckedChain,
  facts: LogFacts,
  kset: KsetView,
  readableBytes: number,
): boolean {
  return (
    kset.magicOk &&
    kset.flags === 0 &&
    kset.keyCount <= KSET_KEYS_MAX &&
    keysInUnusedSegments(context, chain, facts, kset, readableBytes) >= KEYS_MIN &&
    kset.verdict(readableBytes, readableBytes) !== 'ok'
  );
}

/** How many keys in a row, from the first, are whole, of present generations, and for segments no other key is for. */
function keysInUnusedSegments(
  context: CheckContext,
  chain: CheckedChain,
  { extents, payload }: LogFacts,
  kset: KsetView,
  readableBytes: number,
): number {
  const count = kset.keysWithin(readableBytes);
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
