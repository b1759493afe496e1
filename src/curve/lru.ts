/** Feeds a trace to the LRU curve and to other policies. */
import { TraceOp, type TraceBatch } from '../trace/index.js';
import type { LruCounter, LruMethod, RequestCounter } from './lru-curve.js';
import { ExactLru } from './lru-exact.js';
import { SampledLru } from './lru-sampled.js';

/** @param sizesBytes rising multiples of 4 KiB. */
export function makeLru(sizesBytes: readonly number[], method: LruMethod): LruCounter {
  return method.kind === 'exact' ? new ExactLru(sizesBytes) : new SampledLru(sizesBytes, method);
}

/** Counts up to `limit` requests of a batch; flushes are requests, discards are not. @returns how many they were. */
export function countBatch(counter: RequestCounter, batch: TraceBatch, limit: number): number {
  let requests = 0;
  for (let i = 0; i < batch.count && requests < limit; i++) {
    const op = batch.op[i];
    if (op === TraceOp.discard) continue;
    requests++;
    if (op === TraceOp.flush || batch.lengthBytes[i] === 0) continue;
    counter.request(op === TraceOp.read, batch.offsetBytes[i], batch.offsetBytes[i] + batch.lengthBytes[i]);
  }
  return requests;
}
