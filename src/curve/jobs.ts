/**
 * One independent part of a curve: a simulation of one size, the LRU curve, or another policy at all sizes. Its input and
 * output are plain data, so that a job can run in a worker thread; each job reads the trace itself.
 */
import { setNativeEnabled } from '../engine/device/native.js';
import type { CacheMode } from '../engine/media/codecs.js';
import type { ReplayResult } from '../replay/replay-result.js';
import { simulate, traceOfFile, type LatencyModel } from '../simulate/index.js';
import type { TraceBatch, TraceFootprint, TraceOptions } from '../trace/index.js';
import type { LruCurve, LruMethod } from './lru-curve.js';
import { countBatch, makeLru } from './lru.js';
import type { PolicyName } from './policies.js';
import { PolicyCounter, type PolicyCurve } from './policy-counter.js';
import { WorkingSetCounter, type WorkingSet } from './working-set.js';

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

export interface PolicyJob {
  readonly kind: 'policy';
  readonly trace: JobTrace;
  readonly sizesBytes: readonly number[];
  readonly policy: PolicyName;
}

export interface WorkingSetJob {
  readonly kind: 'working-set';
  readonly trace: JobTrace;
}

export type CurveJob = SimulationJob | LruJob | PolicyJob | WorkingSetJob;

export type CurveOutcome =
  | { readonly kind: 'simulation'; readonly result: ReplayResult }
  | { readonly kind: 'lru'; readonly curve: LruCurve }
  | { readonly kind: 'policy'; readonly curve: PolicyCurve }
  | { readonly kind: 'working-set'; readonly workingSet: WorkingSet };

/** @param onProgress is told how many requests are done. */
export async function runJob(job: CurveJob, onProgress: (requests: number) => void): Promise<CurveOutcome> {
  const { path, options, footprint, limit, native } = job.trace;
  // The working set is that of the recording, however often it is replayed.
  const loops = job.kind === 'working-set' ? 1 : job.trace.loops;
  setNativeEnabled(native);
  const trace = traceOfFile(path, options, footprint, loops);
  if (job.kind === 'simulation') {
    const { cacheBytes, dataCrc, gcPercent, mode, model, speed } = job;
    const result = await simulate({ trace, cacheBytes, dataCrc, gcPercent, mode, model, speed, limit, onProgress });
    return { kind: 'simulation', result };
  }
  const countAll = async (count: (batch: TraceBatch, limit: number) => number) => {
    let requests = 0;
    for await (const batch of trace.batches()) {
      requests += count(batch, limit - requests);
      onProgress(requests);
      if (requests >= limit) return;
    }
  };
  if (job.kind === 'working-set') {
    const counter = new WorkingSetCounter(footprint.durationNs, footprint.uniqueBytes, footprint.endBytes);
    await countAll((batch, rest) => counter.count(batch, rest));
    return { kind: 'working-set', workingSet: counter.result() };
  }
  if (job.kind === 'policy') {
    const counter = new PolicyCounter(job.policy, job.sizesBytes);
    await countAll((batch, rest) => countBatch(counter, batch, rest));
    return { kind: 'policy', curve: counter.curve() };
  }
  const lru = makeLru(job.sizesBytes, job.method);
  await countAll((batch, rest) => countBatch(lru, batch, rest));
  return { kind: 'lru', curve: lru.curve() };
}
