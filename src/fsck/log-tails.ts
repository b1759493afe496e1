/** Where a check begins with the log, and whether dirty_tail is a position in it; nothing on media says either. */
import type { Position } from '../engine/media/codecs.js';
import { KSET_BYTES_MAX, KsetView } from '../engine/media/kset.js';
import { positionText } from '../engine/media/position-text.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';
import type { LogFacts } from './log-check.js';
import { walkFrom } from './walk-from.js';

/**
 * Where to begin with the log: key_tail, or the kset that it points into the middle of, or dirty_tail where
 * key_tail is lost, or the first segment. Undefined when there is no kset at any of these.
 */
export function chooseLogStart(
  context: CheckContext,
  chain: CheckedChain,
  keyTail: Position | undefined,
  dirtyTail: Position | undefined,
): Position | undefined {
  const usable = (tail: Position | undefined): tail is Position => tail !== undefined && tail.segment < chain.length;
  if (!usable(keyTail)) {
    if (usable(dirtyTail)) return dirtyTail;
    return chain.length > 0 && ksetLength(context, chain, { segment: 0, offsetBytes: 0 }) > 0
      ? { segment: 0, offsetBytes: 0 }
      : undefined;
  }
  if (ksetLength(context, chain, keyTail) > 0) return keyTail;
  for (let back = 8; back < KSET_BYTES_MAX && back <= keyTail.offsetBytes; back += 8) {
    const start = { segment: keyTail.segment, offsetBytes: keyTail.offsetBytes - back };
    if (ksetLength(context, chain, start) > back) {
      const inside = positionText(start);
      const detail = `it is ${positionText(keyTail)}, inside the kset ${inside}`;
      context.findings.add('KEY_TAIL_NOT_ON_KSET', 'key_tail', detail);
      return start;
    }
  }
  return keyTail;
}

/** Length of the good kset at `position`, or 0 when there is none. */
function ksetLength(context: CheckContext, chain: CheckedChain, position: Position): number {
  const { source, geometry } = context;
  const offset = chain.dataOffsetBytes[position.segment] + position.offsetBytes;
  const available = geometry.segmentDataBytes - position.offsetBytes;
  const bytes = new Uint8Array(Math.min(KSET_BYTES_MAX, available));
  source.read(offset, bytes, 0, bytes.length);
  const kset = new KsetView(context.crc).attach(bytes, 0);
  return kset.verdict(bytes.length, available) === 'ok' ? kset.lengthBytes : 0;
}

/**
 * Reports a dirty_tail that the walk did not pass.
 * @param start where the walk began: key_tail, or the kset that it points into
 */
export function checkDirtyTail(
  context: CheckContext,
  chain: CheckedChain,
  facts: LogFacts,
  start: Position,
  dirtyTail: Position,
): void {
  if (facts.passedDirtyTail) return;
  const { findings } = context;
  const at = positionText(dirtyTail);
  const extent = facts.extents.get(dirtyTail.segment);
  if (extent !== undefined && dirtyTail.offsetBytes > extent.startBytes && dirtyTail.offsetBytes < extent.endBytes) {
    findings.add('DIRTY_TAIL_NOT_ON_KSET', 'dirty_tail', `it is ${at}, inside a kset`);
  } else if (leadsAstray(context, chain, dirtyTail)) {
    const detail = `it is ${at}, and the LAST ksets from there on lead to no end`;
    findings.add('DIRTY_TAIL_LEADS_ASTRAY', 'dirty_tail', detail);
  } else if (leadsTo(context, chain, dirtyTail, start)) {
    const detail = `it is ${at}, the log begins at ${positionText(start)}`;
    findings.add('DIRTY_TAIL_BEFORE_KEY_TAIL', 'dirty_tail', detail);
  } else {
    const detail = `it is ${at}; the log ends at ${positionText(facts.end)}`;
    findings.add('DIRTY_TAIL_NOT_IN_LOG', 'dirty_tail', detail);
  }
}

/** Do the ksets from `from` on run in a circle, or out of the cache? */
function leadsAstray(context: CheckContext, chain: CheckedChain, from: Position): boolean {
  if (from.segment >= chain.length) return false;
  const walker = walkFrom(context, chain, from);
  while (walker.next());
  return walker.endReason === 'last-out-of-range' || walker.endReason === 'too-many-hops';
}

/** Do the ksets from `from` on lead to `to`? */
function leadsTo(context: CheckContext, chain: CheckedChain, from: Position, to: Position): boolean {
  if (from.segment >= chain.length) return false;
  const walker = walkFrom(context, chain, from);
  const entered = new Set([from.segment]);
  while (walker.next()) {
    if (walker.isAt(to)) return true;
    if (!walker.kset.isLast) continue;
    if (entered.has(walker.kset.nextSegment)) return false;
    entered.add(walker.kset.nextSegment);
  }
  return walker.isAt(to);
}
