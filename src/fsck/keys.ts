/** Checks single keys of the log (format §1 "Key"), without their payload. Good keys cost no allocation. */
import { KEY_FLAG_CLEAN, KEY_FLAG_EMPTY, type KeyFields, type KsetView } from '../engine/media/kset.js';
import { SECTOR_BYTES, SUBTREE_BYTES } from '../engine/media/geometry.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';

const KEY_FLAGS_KNOWN = KEY_FLAG_EMPTY | KEY_FLAG_CLEAN;

/** `bad` keys say nothing that can be relied on. */
export type KeyState = 'current' | 'stale' | 'bad';

/** Why the end of this key's logical range, or its place in the cache, cannot be. */
export function boundsProblem(context: CheckContext, segmentCount: number, kset: KsetView, index: number): string {
  const length = kset.keyLengthBytes(index);
  if (length === 0) return 'its length is 0';
  if (!Number.isSafeInteger(kset.keyOffsetBytes(index) + length)) return 'its offset is beyond 2^53';
  const segment = kset.keySegment(index);
  if (segment >= segmentCount) return `it is in segment ${segment} of ${segmentCount}`;
  const end = kset.keySegmentOffsetBytes(index) + length;
  const { segmentDataBytes } = context.geometry;
  return end > segmentDataBytes ? `it ends at byte ${end} of its segment, which has ${segmentDataBytes}` : '';
}

/** Reports what is wrong with a key that `keyProblem` found wrong. */
function reportBadKey(context: CheckContext, segmentCount: number, kset: KsetView, index: number, where: string): void {
  const { findings, backingBytes } = context;
  const bounds = boundsProblem(context, segmentCount, kset, index);
  if (bounds !== '') {
    findings.add('KEY_OUT_OF_BOUNDS', where, bounds);
    return;
  }
  const offset = kset.keyOffsetBytes(index);
  const length = kset.keyLengthBytes(index);
  const segmentOffset = kset.keySegmentOffsetBytes(index);
  const range = `bytes ${offset} to ${offset + length}`;
  if (offset + length > backingBytes) {
    findings.add('KEY_BEYOND_BACKING', where, `${range}; the backing device has ${backingBytes}`);
  }
  if (offset % SECTOR_BYTES !== 0 || length % SECTOR_BYTES !== 0 || segmentOffset % SECTOR_BYTES !== 0) {
    findings.add('KEY_UNALIGNED', where, `${range}, at byte ${segmentOffset} of its segment`);
  }
  if (Math.floor(offset / SUBTREE_BYTES) !== Math.floor((offset + length - 1) / SUBTREE_BYTES)) {
    findings.add('KEY_CROSSES_SUBTREE', where, range);
  }
  if ((kset.keyFlags(index) & KEY_FLAG_EMPTY) !== 0) findings.add('KEY_EMPTY_FLAG', where, range);
}

function where(position: () => string, index: number): string {
  return `kset ${position()} key ${index}`;
}

/**
 * @param key number `index` of `kset`
 * @param segmentCount segments the cache should have; the chain may be known for fewer
 * @param position names the kset; called only when there is something to report
 */
export function checkKey(
  context: CheckContext,
  chain: CheckedChain,
  segmentCount: number,
  key: KeyFields,
  kset: KsetView,
  index: number,
  position: () => string,
): KeyState {
  const { findings } = context;
  if (key.problem(context.geometry, segmentCount, context.backingBytes) !== '') {
    reportBadKey(context, segmentCount, kset, index, where(position, index));
    return 'bad';
  }
  const unknown = key.flags & ~KEY_FLAGS_KNOWN;
  if (unknown !== 0)
    findings.add('KEY_UNKNOWN_FLAGS', where(position, index), `flags 0x${(unknown >>> 0).toString(16)}`);
  if (key.reserved !== 0) {
    findings.add('KEY_RESERVED_NOT_ZERO', where(position, index), `it is 0x${(key.reserved >>> 0).toString(16)}`);
  }
  const { segment } = key;
  if (segment >= chain.length) return 'bad';
  const { generation } = key;
  const isAt = chain.generation[segment];
  if (generation > isAt) {
    const detail = `generation ${generation}, segment ${segment} is at ${isAt}`;
    findings.add('KEY_FROM_FUTURE', where(position, index), detail);
  }
  return generation < isAt ? 'stale' : 'current';
}
