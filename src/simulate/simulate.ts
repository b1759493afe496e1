/**
 * A replay without devices: the engine itself, with its allocation, index, log, write-back and GC, over a cache
 * device that keeps no payload and a backing device that only answers. Its decisions are those of a lockstep
 * replay on real devices (`src/replay/lockstep.ts`); with a latency model, those of devices that are as fast as
 * the model says.
 */
import { formatDevice, planFormat } from '../engine/create/create-cache.js';
import { Cache, type CloseReport } from '../engine/index.js';
import { GC_PERCENT_DEFAULT, type CacheMode } from '../engine/media/codecs.js';
import { MIB } from '../engine/media/geometry.js';
import { defaultCacheBytes } from '../replay/replay-devices.js';
import { LockstepRunner } from '../replay/lockstep.js';
import { describeResult, type ReplayParts, type ReplayResult } from '../replay/replay-result.js';
import { VirtualClock } from '../replay/virtual-clock.js';
import type { TraceBatch } from '../trace/index.js';
import { CountingBacking } from './counting-backing.js';
import type { LatencyModel } from './latency-model.js';
import { LogPmem } from './log-pmem.js';
import { QueueModel } from './queue-model.js';
import { TimedBacking } from './timed-backing.js';
import { TimedRunner } from './timed-runner.js';

const BACKING_UNIT_BYTES = MIB;

/** What is simulated: requests in the order of their times, and what a result says of them. */
export interface SimulatedTrace {
  /** Asked once. A batch may be refilled once the next one is asked for. */
  batches(): AsyncIterable<TraceBatch>;
  /** What the requests need at least: one past the last byte of any of them. */
  readonly endBytes: number;
  /** Asked at the end, when all of it has been seen. */
  describe(): ReplayResult['trace'];
}

export interface SimulateOptions {
  readonly trace: SimulatedTrace;
  /** Size of the cache device; chosen as for an ephemeral one when undefined. */
  readonly cacheBytes?: number | undefined;
  readonly dataCrc?: boolean;
  readonly gcPercent?: number | undefined;
  readonly mode?: CacheMode | undefined;
  /** Stop after that many requests. */
  readonly limit?: number;
  /**
   * Has requests and the backing device's answers take their time, so that latencies can be told. Without it the
   * simulation is in lockstep.
   */
  readonly model?: LatencyModel | undefined;
  /** With a model: 1 for the trace's pace (the default), 2 for twice as fast. */
  readonly speed?: number;
  readonly onProgress?: (requests: number) => void;
  /** Gets what ends the simulation early, and in order. */
  readonly onStoppable?: (stop: () => void) => void;
}

/** How the cache is driven: in lockstep or in time. */
interface Runner {
  readonly isStopped: boolean;
  stop(): void;
  run(batches: AsyncIterable<TraceBatch>): Promise<void>;
  close(): Promise<CloseReport>;
  describe(): Pick<
    ReplayParts,
    'run' | 'latency' | 'latencyHistogram' | 'latencyWithoutCache' | 'model' | 'maxLagNs' | 'timeline'
  >;
}

/**
 * Simulates a trace.
 * @throws PcacheError for sizes that no cache can have, and what reading the trace throws
 */
export async function simulate(options: SimulateOptions): Promise<ReplayResult> {
  const { trace, gcPercent = GC_PERCENT_DEFAULT, mode = 'writeback', dataCrc = false } = options;
  const backingBytes = Math.max(1, Math.ceil(trace.endBytes / BACKING_UNIT_BYTES)) * BACKING_UNIT_BYTES;
  const cacheBytes = options.cacheBytes ?? defaultCacheBytes(backingBytes);
  const pmem = new LogPmem(cacheBytes);
  formatDevice(pmem, planFormat(cacheBytes, { dataCrc, gcPercent, mode }));
  const { cache, runner } = assemble(options, pmem, backingBytes);
  const openedStatus = cache.status();
  options.onStoppable?.(() => runner.stop());
  const startedMs = performance.now();
  await runner.run(trace.batches());
  const described = runner.describe();
  const elapsedMs = performance.now() - startedMs;
  const closed = await runner.close();
  return describeResult({
    simulated: true,
    lockstep: options.model === undefined,
    trace: trace.describe(),
    devices: { cache: 'simulated', cacheBytes, durability: null, backing: 'simulated', backingBytes },
    ...described,
    openedStatus,
    status: cache.status(),
    closed,
    elapsedMs,
    verify: null,
    interrupted: runner.isStopped,
  });
}

/** Nothing of a simulated log is ever lost or torn, so nobody needs to know; they are half of what a kset costs. */
export const noCrc = () => 0;

function assemble(options: SimulateOptions, pmem: LogPmem, backingBytes: number): { cache: Cache; runner: Runner } {
  const { limit = Infinity, onProgress = () => {}, model, speed = 1 } = options;
  const clock = new VirtualClock();
  if (model === undefined) {
    const backing = new CountingBacking(backingBytes);
    const cache = new Cache({ pmem, backing, clock, crc: noCrc });
    const runner = new LockstepRunner({ cache, pmem, backing, clock, limit, verifier: undefined, onProgress });
    return { cache, runner };
  }
  const queue = new QueueModel(model.backing, backingBytes);
  const backing = new TimedBacking(backingBytes, queue, clock);
  const cache = new Cache({ pmem, backing, clock, crc: noCrc });
  const runner = new TimedRunner({ cache, pmem, backing, clock, model, queue, speed, limit, onProgress });
  return { cache, runner };
}
