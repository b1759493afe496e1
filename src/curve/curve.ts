/**
 * The curve of a trace from beginning to end: looks at the trace, chooses sizes, simulates them all at once beside
 * the LRU reference, and says what they did.
 */
import { availableParallelism } from 'node:os';
import { nativeAddonIfAvailable } from '../engine/device/native.js';
import { PcacheError } from '../engine/errors.js';
import { layout } from '../layout/layout.js';
import { GC_PERCENT_DEFAULT, type CacheMode } from '../engine/media/codecs.js';
import { GIB } from '../engine/media/geometry.js';
import { withScannedTrace, type ReplayObserver, type ScannedTrace, type TraceChoice } from '../replay/replay.js';
import { describeTrace } from '../replay/replay-result.js';
import type { LatencyModel } from '../simulate/index.js';
import type { TraceFootprint } from '../trace/index.js';
import type { CurveJob, CurveOutcome, JobTrace } from './jobs.js';
import { LRU_BLOCK_BYTES, type LruMethod } from './lru-curve.js';
import { DEFAULT_SAMPLING } from './lru-sampled.js';
import type { PolicyName } from './policies.js';
import { runInThreads } from './pool.js';
import { describePoint, describeRequests, describeWithoutCache, type CurveResult } from './result.js';
import { chooseSizes, lruSizes, policySizes } from './sizes.js';
import { sizingAnswers } from './sizing.js';

/** The exact LRU curve takes about 40 bytes a block: up to a footprint of 64 GiB. */
const EXACT_BLOCKS_MAX = 2 ** 24;

/** How the LRU reference is made; `auto` is exact where that fits into memory. */
export type LruChoice = 'auto' | 'none' | LruMethod;

/** A simulation of another policy takes about 9 bytes a block at each size: up to a footprint of 32 GiB. */
const POLICY_BLOCKS_MAX = 2 ** 23;

export interface CurveChoice extends TraceChoice {
  /** Rising sizes of the cache device; chosen from the trace when undefined. */
  readonly sizesBytes: readonly number[] | undefined;
  readonly lru: LruChoice;
  /** Other policies to compare with. */
  readonly policies: readonly PolicyName[];
  readonly dataCrc: boolean;
  readonly gcPercent: number | undefined;
  readonly mode: CacheMode | undefined;
  /** Has the devices take their time; without it the backing device answers at once. */
  readonly model: LatencyModel | undefined;
  /** Infinity when not asked for; else there must be a model. */
  readonly speed: number;
}

/**
 * Simulates all sizes. An interrupt gives a result too, of those that were done.
 * @throws PcacheError for what keeps it from being done
 */
export async function curve(choice: CurveChoice, observer: ReplayObserver): Promise<CurveResult> {
  if (choice.model === undefined && choice.speed !== Infinity) {
    throw new PcacheError('USAGE', 'simulations have a speed only with a model of the devices; give --model as well');
  }
  const interrupt = new AbortController();
  observer.onInterrupt(() => interrupt.abort());
  return withScannedTrace(choice, observer, async (scanned) => {
    const { loops, limit } = choice;
    const trace: JobTrace = {
      path: scanned.path,
      options: scanned.options,
      footprint: scanned.footprint,
      loops,
      limit,
      native: nativeAddonIfAvailable() !== undefined,
    };
    const jobs = makeJobs(trace, choice);
    const threads = Math.min(availableParallelism(), jobs.length);
    const startedMs = performance.now();
    const outcomes = await runJobs(jobs, scanned, threads, observer, interrupt.signal);
    const found = describeOutcomes(outcomes, choice);
    return {
      trace: { ...describeTrace(choice.trace, choice.action, scanned.footprint), loops },
      ...found.shown,
      answers: sizingAnswers(found.shown.curve, found.shown.lru, found.workingSet),
      threads,
      elapsedNs: Math.round((performance.now() - startedMs) * 1e6),
      interrupted: interrupt.signal.aborted,
    };
  });
}

function makeJobs(trace: JobTrace, choice: CurveChoice): CurveJob[] {
  const { dataCrc, gcPercent, mode, model, policies } = choice;
  const speed = choice.speed === Infinity ? 1 : choice.speed;
  const { uniqueBytes, endBytes } = trace.footprint;
  const sizes = choice.sizesBytes ?? chooseSizes(uniqueBytes ?? endBytes);
  const jobs: CurveJob[] = [];
  if (choice.lru !== 'none') {
    const method = choice.lru === 'auto' ? chooseMethod(trace.footprint) : choice.lru;
    jobs.push({ kind: 'lru', trace, sizesBytes: lruSizes(sizes, uniqueBytes), method });
  }
  if (policies.length > 0) refuseTooManyBlocks(choice.trace, uniqueBytes);
  for (const policy of policies) {
    jobs.push({ kind: 'policy', trace, sizesBytes: policySizes(sizes, uniqueBytes), policy });
  }
  jobs.push({ kind: 'working-set', trace });
  for (const cacheBytes of sizes) {
    jobs.push({ kind: 'simulation', trace, cacheBytes, dataCrc, gcPercent, mode, model, speed });
  }
  return jobs;
}

function chooseMethod({ uniqueBytes }: TraceFootprint): LruMethod {
  const fits = uniqueBytes !== undefined && uniqueBytes / LRU_BLOCK_BYTES <= EXACT_BLOCKS_MAX;
  return fits ? { kind: 'exact' } : DEFAULT_SAMPLING;
}

function refuseTooManyBlocks(name: string, uniqueBytes: number | undefined): void {
  const maxBytes = POLICY_BLOCKS_MAX * LRU_BLOCK_BYTES;
  if (uniqueBytes !== undefined && uniqueBytes <= maxBytes) return;
  throw new PcacheError(
    'USAGE',
    `${name}: the trace touches more than ${maxBytes / GIB} GiB, too much to simulate other policies; leave --policy out`,
  );
}

function runJobs(
  jobs: readonly CurveJob[],
  { expected }: ScannedTrace,
  threads: number,
  observer: ReplayObserver,
  signal: AbortSignal,
): Promise<(CurveOutcome | undefined)[]> {
  const done = new Float64Array(jobs.length);
  observer.begins('replay', expected * jobs.length);
  const tell = (job: number, requestsDone: number) => {
    done[job] = requestsDone;
    observer.progress(done.reduce((sum, ofJob) => sum + ofJob, 0));
  };
  return runInThreads<CurveJob, CurveOutcome>(jobs, {
    module: layout.workerModule('curve'),
    threads,
    signal,
    onProgress: tell,
    onEnded: (job) => tell(job, expected),
  });
}

function describeOutcomes(outcomes: readonly (CurveOutcome | undefined)[], choice: CurveChoice) {
  const results = outcomes.flatMap((outcome) => (outcome?.kind === 'simulation' ? [outcome.result] : []));
  const lru = outcomes.flatMap((outcome) => (outcome?.kind === 'lru' ? [outcome.curve] : []));
  const workingSet = outcomes.flatMap((outcome) => (outcome?.kind === 'working-set' ? [outcome.workingSet] : []));
  const { mode = 'writeback', dataCrc, gcPercent = GC_PERCENT_DEFAULT } = choice;
  const shown = {
    cache: { mode, dataCrc, gcPercent },
    requests: results.length > 0 ? describeRequests(results[0]) : null,
    curve: results.map(describePoint),
    lru: lru.length > 0 ? lru[0] : null,
    policies: outcomes.flatMap((outcome) => (outcome?.kind === 'policy' ? [outcome.curve] : [])),
    withoutCache: results.length > 0 ? describeWithoutCache(results[0]) : null,
  };
  return { shown, workingSet: workingSet.length > 0 ? workingSet[0] : null };
}
