/**
 * A trace that nobody recorded: so many requests of one size, a fifth of the device getting four fifths of them.
 * Streamed, hence of any length. The same seed gives the same requests.
 */
import { makeBatch, type TraceBatch } from '../../src/trace/types.js';
import { TraceOp } from '../../src/trace/index.js';

export interface GeneratedTrace {
  readonly requests: number;
  /** Of all that is read and written, bytes. */
  readonly spanBytes: number;
  readonly lengthBytes: number;
  /** Of requests, 0 to 1. */
  readonly readShare: number;
  /** Every so many requests one is a flush. */
  readonly flushEvery: number;
  /** Between two requests. */
  readonly intervalNs: number;
  readonly seed: number;
}

const BATCH_REQUESTS = 4096;
const HOT_SHARE = 0.2;
const HOT_REQUESTS = 0.8;

export function* generateTrace(trace: GeneratedTrace): Generator<TraceBatch, void, undefined> {
  const { requests, spanBytes, lengthBytes, readShare, flushEvery, intervalNs } = trace;
  const batch = makeBatch(BATCH_REQUESTS);
  const blocks = Math.floor(spanBytes / lengthBytes);
  const hotBlocks = Math.floor(blocks * HOT_SHARE);
  let state = trace.seed | 0;
  /** From 0 to below 1 (xorshift). */
  const random = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  for (let n = 0; n < requests;) {
    batch.count = Math.min(BATCH_REQUESTS, requests - n);
    for (let i = 0; i < batch.count; i++, n++) {
      const isFlush = n % flushEvery === flushEvery - 1;
      const isRead = random() < readShare;
      const block = random() < HOT_REQUESTS ? random() * hotBlocks : hotBlocks + random() * (blocks - hotBlocks);
      batch.timeNs[i] = n * intervalNs;
      batch.op[i] = isFlush ? TraceOp.flush : isRead ? TraceOp.read : TraceOp.write;
      batch.offsetBytes[i] = isFlush ? 0 : Math.floor(block) * lengthBytes;
      batch.lengthBytes[i] = isFlush ? 0 : lengthBytes;
    }
    yield batch;
  }
}
