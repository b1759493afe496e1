/** Walks over the log for repairs. Every walk is bounded as `LogWalker` is, and stops where the log loops. */
import type { Position } from '../../engine/media/codecs.js';
import { KEY_BYTES, KSET_HEADER_BYTES, type KsetView } from '../../engine/media/kset.js';
import type { LogWalker } from '../../engine/media/log-walker.js';
import type { ByteRange } from './ranges.js';
import type { PlanView } from './types.js';
import { payloadMatch } from '../payload-match.js';
import { walkFrom } from '../walk-from.js';

/** Told of each kset, LAST ksets included, with its position. @returns false to stop */
export type KsetVisitor = (kset: KsetView, position: Position) => boolean | void;

/** @returns where it stopped, and whether that is the log's end or a LAST kset back into the log */
export function walkLog(
  view: Pick<PlanView, 'context' | 'chain'>,
  start: Position,
  visit: KsetVisitor,
): { end: Position; loops: boolean; walker: LogWalker } {
  const { context, chain } = view;
  const walker = walkFrom(context, chain, start);
  const entered = new Set([start.segment]);
  while (walker.next()) {
    const { kset } = walker;
    if (visit(kset, walker.position) === false) break;
    if (!kset.isLast) continue;
    if (entered.has(kset.nextSegment)) return { end: walker.position, loops: true, walker };
    entered.add(kset.nextSegment);
  }
  return { end: walker.position, loops: false, walker };
}

export function isAt(position: Position, other: Position | undefined): boolean {
  return other !== undefined && position.segment === other.segment && position.offsetBytes === other.offsetBytes;
}

/** `good` keys are valid, current, and (under data_crc) have their payload. */
export type KeyVerdict = 'bad' | 'stale' | 'future' | 'current';

export function judgeKey(view: PlanView, kset: KsetView, index: number): KeyVerdict {
  const { context, chain } = view;
  if (kset.keyProblem(index, context.geometry, chain.length, context.backingBytes) !== '') return 'bad';
  const present = chain.generation[kset.keySegment(index)];
  const generation = kset.keyGeneration(index);
  return generation < present ? 'stale' : generation > present ? 'future' : 'current';
}

export function keyRange(kset: KsetView, index: number): ByteRange {
  return { offsetBytes: kset.keyOffsetBytes(index), lengthBytes: kset.keyLengthBytes(index) };
}

/** Whether payload can be checked against its CRC here. */
export function checksPayload(view: PlanView): boolean {
  return view.options.data && view.header.flags?.dataCrc === true;
}

/** Does the payload of a key that is not `bad` match its CRC? False where the medium cannot read it. */
export function payloadMatches(view: PlanView, kset: KsetView, index: number): boolean {
  return payloadMatch(view.context, view.chain, kset, index) === true;
}

/** The 40 bytes of a key. */
export function keyBytes(view: PlanView, position: Position, index: number): Uint8Array {
  const bytes = new Uint8Array(KEY_BYTES);
  const at = deviceOffset(view, position) + KSET_HEADER_BYTES + index * KEY_BYTES;
  view.context.source.read(at, bytes, 0, KEY_BYTES);
  return bytes;
}

/** Byte offset on the device of a place in the log. */
export function deviceOffset(view: Pick<PlanView, 'chain'>, position: Position): number {
  return view.chain.dataOffsetBytes[position.segment] + position.offsetBytes;
}

/** A key of the log that may be written once more beside itself without changing anything, and is a sound one. */
export function isRepeatable(view: PlanView, kset: KsetView, index: number): boolean {
  if (view.log?.facts.extents.has(kset.keySegment(index)) === true) return false;
  return judgeKey(view, kset, index) === 'current' && (!checksPayload(view) || payloadMatches(view, kset, index));
}

/**
 * A key to fill the gap between two positions in the log with: the last one before it, or the first one behind it,
 * if it may be repeated there.
 * @param behind where the log goes on; undefined when it does not
 */
export function keyBeside(
  view: PlanView,
  start: Position,
  gap: Position,
  behind: Position | undefined,
): Uint8Array | undefined {
  let found: Uint8Array | undefined;
  walkLog(view, start, (kset, position) => {
    if (isAt(position, gap)) return false;
    if (kset.keyCount === 0) return true;
    const index = kset.keyCount - 1;
    found = isRepeatable(view, kset, index) ? keyBytes(view, position, index) : undefined;
    return true;
  });
  if (found !== undefined || behind === undefined) return found;
  walkLog(view, behind, (kset, position) => {
    if (kset.keyCount === 0) return true;
    if (isRepeatable(view, kset, 0)) found = keyBytes(view, position, 0);
    return false;
  });
  return found;
}

/** What current keys from `position` on cover: it reads as they say, whatever came before. */
export function coveredFrom(view: PlanView, position: Position): ByteRange[] {
  const ranges: ByteRange[] = [];
  walkLog(view, position, (kset) => {
    for (let index = 0; index < kset.keyCount; index++) {
      if (judgeKey(view, kset, index) === 'current') ranges.push(keyRange(kset, index));
    }
  });
  return ranges;
}
