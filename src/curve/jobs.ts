/**
 * One part of a curve, which stands for itself: a simulation of one size, or the LRU curve. What goes in and comes
 * out is plain data, so that a job can run in a worker thread; each reads the trace itself.
 */
import { setNativeEnabled } from '../engine/device/native.js';
import type { CacheMode } from '../engine/media/codecs.js';
import type { ReplayResult } from '../replay/replay-result.js';
import { simulate, traceOfFile, type LatencyModel } from '../simulate/index.js';
import type { TraceFootprint, TraceOptions } from '../trace/index.js';
import type { LruCurve, LruMethod } from './lru-curve.js';
import { countBatch, makeLru } from './lru.js';

/** What all jobs of a curve have in common. */
export interface JobTrace {
  /** A file: what can be read only once was copied. */
  readonly path: string;
  readonly options: TraceOptions;
  readonly footprint: TraceFootprint;
  readonly loops: number;
  readonly limit: number;
  /** May the native helper be used? */
  readonly native: boolean;
}

export interface SimulationJob {
  readonly kind: 'simulation';
  readonly trace: JobTrace;
  readonly cacheBytes: number;
  readonly dataCrc: boolean;
  readonly gcPercent: number | undefined;
  readonly mode: CacheMode | undefined;
  readonly model: LatencyModel | undefined;
  /** With a model: 1 for the trace's pace. */
  readonly speed: number;
}

export interface LruJob {
  readonly kind: 'lru';
  readonly trace: JobTrace;
  readonly sizesBytes: readonly number[];
  readonly method: LruMethod;
}

export type CurveJob = SimulationJob | LruJob;

export type CurveOutcome =
  { readonly kind: 'simulation'; readonly result: ReplayResult } | { readonly kind: 'lru'; readonly curve: LruCurve };

/** @param onProgress is told how many requests are done. */
export async function runJob(job: CurveJob, onProgress: (requests: number) => void): Promise<CurveOutcome> {
  const { path, options, footprint, loops, limit, native } = job.trace;
  setNativeEnabled(native);
  const trace = traceOfFile(path, options, footprint, loops);
  if (job.kind === 'simulation') {
    const { cacheBytes, dataCrc, gcPercent, mode, model, speed } = job;
    const result = await simulate({ trace, cacheBytes, dataCrc, gcPercent, mode, model, speed, limit, onProgress });
    return { kind: 'simulation', result };
  }
  const lru = makeLru(job.sizesBytes, job.method);
  let requests = 0;
  for await (const batch of trace.batches()) {
    requests += countBatch(lru, batch, limit - requests);
    onProgress(requests);
    if (requests >= limit) break;
  }
  return { kind: 'lru', curve: lru.curve() };
}
