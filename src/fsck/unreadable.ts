/**
 * Reports where the medium cannot read metadata or the log. The check has read past it: a copy there counts as broken,
 * and a kset there as one that ends the log, which have findings of their own.
 */
import type { ByteRange } from '../engine/media/byte-range.js';
import {
  DATA_OFFSET_IN_SEGMENT_BYTES,
  SEGMENTS_OFFSET_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
} from '../engine/media/geometry.js';
import { KSET_BYTES_MAX } from '../engine/media/kset.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';
import type { LogFacts } from './log-check.js';

/** @param unreadable what could not be read, in the order of the device; payload among it is for the payload check */
export function reportUnreadable(
  context: CheckContext,
  chain: CheckedChain,
  facts: LogFacts | undefined,
  unreadable: readonly ByteRange[],
): void {
  for (const { offsetBytes, lengthBytes } of unreadable) {
    if (!isMetadata(context, offsetBytes, lengthBytes) && !isLog(chain, facts, offsetBytes, lengthBytes)) continue;
    const detail = `bytes ${offsetBytes} to ${offsetBytes + lengthBytes} cannot be read`;
    context.findings.add('METADATA_UNREADABLE', 'device', detail);
  }
}

/** Structures lie before the segments, and before the data area of each. */
function isMetadata({ geometry }: CheckContext, offsetBytes: number, lengthBytes: number): boolean {
  if (offsetBytes < SEGMENTS_OFFSET_BYTES) return offsetBytes + lengthBytes > SUPERBLOCK_OFFSET_BYTES;
  return (offsetBytes - SEGMENTS_OFFSET_BYTES) % geometry.segmentBytes < DATA_OFFSET_IN_SEGMENT_BYTES;
}

/** The log, and as far behind its end as a kset reaches. */
function isLog(chain: CheckedChain, facts: LogFacts | undefined, offsetBytes: number, lengthBytes: number): boolean {
  for (const [segment, { startBytes, endBytes }] of facts?.extents ?? []) {
    const start = chain.dataOffsetBytes[segment] + startBytes;
    const end = chain.dataOffsetBytes[segment] + endBytes + KSET_BYTES_MAX;
    if (offsetBytes < end && offsetBytes + lengthBytes > start) return true;
  }
  return false;
}
