/** A cache whose shards are in the threads that serve its clients; this thread writes back and collects. */
import { performance } from 'node:perf_hooks';
import type { BackingFile } from '../engine/device/backing-file.js';
import { bestCrc32c } from '../engine/device/native.js';
import type { MappedPmem } from '../engine/device/mapped.js';
import { EngineStats, ShardedCache, type CacheStatus, type CloseReport, type DirtyInLog } from '../engine/index.js';
import { makeExchangeSeeds } from '../engine/shards/exchange-seed.js';
import type { ServedCache } from './served-cache.js';
import type { Tell } from './service.js';
import { ServingThreads } from './serving-threads.js';
import { makePressureMemory, SharedPressure } from './shared-pressure.js';
import { CYCLE_MS, CYCLE_NEARLY_FULL_MS } from './store.js';
import type { TlsRequest } from './tls.js';

/** How often the threads that serve hear how much room is left. */
const PRESSURE_EVERY_MS = 20;

export interface ThreadedOptions {
  readonly pmem: MappedPmem;
  readonly backing: BackingFile;
  readonly jobs: number;
  readonly description: string;
  readonly exportName: string | undefined;
  readonly tls: TlsRequest;
  readonly tell: Tell;
}

export class ThreadedCache implements ServedCache {
  readonly threads: ServingThreads;
  private readonly cache: ShardedCache;
  private readonly timer: NodeJS.Timeout;
  private drains: Promise<void> = Promise.resolve();

  private constructor({ pmem, backing, jobs, description, exportName, tls, tell }: ThreadedOptions) {
    const clock = { nowMs: () => performance.now() };
    this.cache = new ShardedCache({ pmem, backing, clock, crc: bestCrc32c(), jobs, preparesMemory: true });
    this.cache.writebackCycleMs = CYCLE_MS;
    const exchanges = makeExchangeSeeds(jobs);
    const pressure = makePressureMemory(jobs);
    this.threads = new ServingThreads(
      this.cache.seeds.map((shard, thread) => ({
        shard,
        exchange: exchanges[thread],
        device: pmem.device,
        backing: backing.shared,
        sizeBytes: backing.sizeBytes,
        description,
        exportName,
        tls,
        pressure,
      })),
      tell,
    );
    const shared = new SharedPressure(pressure);
    this.timer = setInterval(() => this.publishPressure(shared), PRESSURE_EVERY_MS).unref();
  }

  /** Opens the cache and starts the threads. @throws PcacheError what `ShardedCache` throws */
  static async open(options: ThreadedOptions): Promise<ThreadedCache> {
    const opened = new ThreadedCache(options);
    try {
      await Promise.race([opened.cache.ready(), opened.threads.broken]);
      return opened;
    } catch (error) {
      clearInterval(opened.timer);
      await opened.threads.stop();
      throw error;
    }
  }

  private publishPressure(shared: SharedPressure): void {
    const pressure = this.cache.pressure();
    const isNear = pressure !== undefined && pressure.roomBytes < pressure.zoneBytes;
    this.cache.writebackCycleMs = isNear ? CYCLE_NEARLY_FULL_MS : CYCLE_MS;
    shared.publish(pressure);
  }

  get failure(): ServedCache['failure'] {
    return this.cache.failure;
  }
  get writebackError(): ServedCache['writebackError'] {
    return this.cache.writebackError;
  }
  get dirtyKsets(): ServedCache['dirtyKsets'] {
    return this.cache.dirtyKsets;
  }
  get hasOpenKeys(): boolean {
    return this.cache.hasOpenKeys;
  }
  /** Of the background work. */
  get stats(): EngineStats {
    return this.cache.stats;
  }
  commitSoon(): void {
    this.cache.commitSoon();
  }
  setGcPercent(gcPercent: number): void {
    this.cache.setGcPercent(gcPercent);
  }
  /** One after the other, where several are asked for. */
  drain(): Promise<void> {
    const drained = this.drains.then(() => this.cache.drain());
    this.drains = drained.catch(() => {});
    return drained;
  }
  dirtyInLog(): DirtyInLog {
    return this.cache.dirtyInLog();
  }

  async status(): Promise<CacheStatus> {
    const shards = (await this.threads.statuses()).map(({ shard }) => shard);
    const status = this.cache.status();
    const sumOf = (valueOf: (shard: (typeof shards)[number]) => number) =>
      shards.reduce((sum, shard) => sum + valueOf(shard), 0);
    const stats = Object.assign(new EngineStats(), status.stats);
    for (const name of Object.keys(stats) as (keyof EngineStats)[]) {
      const all = sumOf((shard) => shard.stats[name]);
      stats[name] += all;
    }
    return {
      ...status,
      stats,
      openKeys: status.openKeys || shards.some(({ openKeys }) => openKeys),
      waitingRequests: sumOf(({ waitingRequests }) => waitingRequests),
      pendingBackingReads: sumOf(({ pendingBackingReads }) => pendingBackingReads),
      indexEntries: sumOf(({ indexEntries }) => indexEntries),
      indexMemoryBytes: sumOf(({ indexMemoryBytes }) => indexMemoryBytes),
    };
  }

  async close(): Promise<CloseReport> {
    clearInterval(this.timer);
    try {
      return await this.cache.close();
    } finally {
      await this.threads.end();
    }
  }
}
