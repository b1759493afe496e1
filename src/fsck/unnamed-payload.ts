/**
 * Payload that was written and that no key of the log names: evidence that a part of the log is gone. Segments are
 * written from their beginning on and creation blanks the first 24 bytes of each (format §1), so a data area that begins
 * with other bytes was written by this cache. A segment that was collected since has a later generation, and keeps its
 * bytes; so has one that a crash cut off before its keys were in a closed kset. Bounded: one short read per segment, and
 * some in those that nothing names.
 */
import type { ByteRange } from '../engine/media/byte-range.js';
import type { Geometry } from '../engine/media/geometry.js';
import { KSET_HEADER_BYTES } from '../engine/media/kset.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';
import type { LogFacts } from './log-check.js';

export interface UnnamedPayload {
  /** Written segments of which no key names anything. */
  readonly segments: readonly number[];
  /** Those of them that were never collected and that are written to their end, or nearly so. */
  readonly full: readonly number[];
  /** About how many bytes they hold. */
  readonly bytes: number;
  /** Bytes between those that keys name, in other segments. */
  readonly holeBytes: number;
}

/** Places in a segment that are looked at to tell how far it was written. */
const SAMPLES = 64;
const SAMPLE_BYTES = 64;

export function findUnnamedPayload(
  context: CheckContext,
  chain: CheckedChain,
  { extents, payload }: Pick<LogFacts, 'extents' | 'payload'>,
): UnnamedPayload {
  const segments: number[] = [];
  const full: number[] = [];
  let bytes = 0;
  let holeBytes = 0;
  for (let segment = 0; segment < chain.length; segment++) {
    if (extents.has(segment) || !payload.covers(segment)) continue;
    if (payload.endOfClaims(segment) > 0) {
      holeBytes += payload.unclaimedBytes(segment);
      continue;
    }
    if (!beginsWritten(context, chain, segment)) continue;
    const written = writtenBytes(context, chain, segment);
    segments.push(segment);
    bytes += written;
    const isFull = written > context.geometry.segmentDataBytes * (1 - 2 / SAMPLES);
    if (isFull && chain.generation[segment] === 0) full.push(segment);
  }
  return { segments, full, bytes, holeBytes };
}

/** Was something written to the beginning of a segment's data area since the cache was made? */
export function beginsWritten(context: CheckContext, chain: CheckedChain, segment: number): boolean {
  return !isBlank(context, chain.dataOffsetBytes[segment], KSET_HEADER_BYTES);
}

/** About how far a segment's data area is written; a multiple of a part of it. */
function writtenBytes(context: CheckContext, chain: CheckedChain, segment: number): number {
  const samples = writtenSamples(context.geometry);
  for (const { offsetBytes, lengthBytes } of samples.toReversed()) {
    if (!isBlank(context, chain.dataOffsetBytes[segment] + offsetBytes, lengthBytes)) return offsetBytes + lengthBytes;
  }
  return samples[0].offsetBytes + samples[0].lengthBytes;
}

/** Ranges of a data area that tell how far it is written, by which of their bytes are zero. */
export function writtenSamples({ segmentDataBytes }: Geometry): ByteRange[] {
  const stepBytes = Math.floor(segmentDataBytes / SAMPLES);
  return Array.from({ length: SAMPLES }, (_, n) => ({
    offsetBytes: (n + 1) * stepBytes - SAMPLE_BYTES,
    lengthBytes: SAMPLE_BYTES,
  }));
}

function isBlank(context: CheckContext, offsetBytes: number, lengthBytes: number): boolean {
  const bytes = new Uint8Array(lengthBytes);
  context.source.read(offsetBytes, bytes, 0, lengthBytes);
  return bytes.every((byte) => byte === 0);
}
