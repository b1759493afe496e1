/**
 * A replay without devices: the engine itself, with its allocation, index, log, write-back and GC, over a cache
 * device that keeps no payload and a backing device that only answers. Its decisions are those of a lockstep
 * replay on real devices (`src/replay/lockstep.ts`).
 */
import { bestCrc32c } from '../engine/device/native.js';
import { formatDevice, planFormat } from '../engine/format.js';
import { Cache, type CloseReport } from '../engine/index.js';
import { GC_PERCENT_DEFAULT, type CacheMode } from '../engine/media/codecs.js';
import { MIB } from '../engine/media/geometry.js';
import { defaultCacheBytes } from '../replay/devices.js';
import { LockstepRunner } from '../replay/lockstep.js';
import { describeResult, type ReplayResult } from '../replay/result.js';
import { VirtualClock } from '../replay/virtual-clock.js';
import type { TraceBatch } from '../trace/index.js';
import { CountingBacking } from './counting-backing.js';
import { LogPmem } from './log-pmem.js';

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
  readonly onProgress?: (requests: number) => void;
  /** Gets what ends the simulation early, and in order. */
  readonly onStoppable?: (stop: () => void) => void;
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
  const backing = new CountingBacking(backingBytes);
  const clock = new VirtualClock();
  const cache = new Cache({ pmem, backing, clock, crc: bestCrc32c() });
  const openedStatus = cache.status();
  const runner = new LockstepRunner({
    cache,
    pmem,
    backing,
    clock,
    limit: options.limit ?? Infinity,
    verifier: undefined,
    onProgress: options.onProgress ?? (() => {}),
  });
  options.onStoppable?.(() => runner.stop());
  const startedMs = performance.now();
  await runner.run(trace.batches());
  const described = runner.describe();
  const closed: CloseReport = await runner.close();
  return describeResult({
    simulated: true,
    lockstep: true,
    trace: trace.describe(),
    devices: { cache: 'simulated', cacheBytes, durability: null, backing: 'simulated', backingBytes },
    ...described,
    latencyWithoutCache: null,
    openedStatus,
    status: cache.status(),
    closed,
    elapsedMs: performance.now() - startedMs,
    verify: null,
    interrupted: runner.isStopped,
  });
}
