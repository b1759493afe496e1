/**
 * A cache whose request path runs in several threads: the coordinator. The thread that opens the cache has the metadata,
 * both tails, write-back, GC and the freeing of segments. Each shard (`shard.ts`), in its own thread, has the request
 * path of its subtrees: those with `subtree % jobs` equal to its number, as the kernel assigns subtrees to ksets.
 *
 * The coordinator sleeps when it has nothing to do, and says so in a shared word; a shard that closes a kset or waits for
 * room wakes it. It wakes shards that wait when a segment is free. Both check once more after they have announced that
 * they are about to sleep.
 */
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { Cache, type WritePressure } from '../cache.js';
import type { CacheOptions } from '../core.js';
import { CacheDriver, type CloseReport } from '../driver.js';
import { assert, errorOf, noteOf, PcacheError } from '../errors.js';
import type { LogWriter } from '../log/log-writer.js';
import { KERNEL_GEOMETRY, type Geometry } from '../media/geometry.js';
import type { SegmentChain } from '../media/metadata.js';
import { closedError } from '../request/requests.js';
import type { DirtyInLog } from '../status.js';
import type { FromShard, ShardStatus, ToShard } from './messages.js';
import type { ShardSeed } from './shard.js';
import { SharedLog } from './shared-log.js';
import { SharedSegments } from './shared-segments.js';
import { FlushField, makeSharedMemory, SharedState, Word } from './shared-state.js';

/** With more shards a small cache would have no segments left beside those of the data heads. */
export const JOBS_MAX = 64;

export type ShardedOptions = Omit<CacheOptions, 'slots' | 'verifyReads' | 'punches' | 'sharing'> & {
  readonly jobs: number;
};

/** The coordinator's cache: it takes no requests. */
class CoordinatorCache extends Cache {
  readonly state: SharedState;
  /** Sends a message to shard `to`, or to all shards if that is not given. */
  broadcast: (message: ToShard, to?: number) => void = () => {};
  /** Number of shards that have not answered the last `yield`, and the count of segments taken when it was sent. */
  private yieldsLeft = 0;
  private takenAtYield = -1;
  /** Number of the last flush of the backing device, and of failures of write-back, that the shards were told of. */
  private flushTold = 0;
  private failuresTold = 0;
  private takenSeen = 0;
  private readonly log: SharedLog;
  private readonly shared: SharedSegments;

  constructor(options: ShardedOptions) {
    let state: SharedState | undefined;
    super({
      ...options,
      sharing: {
        makeSegments: (geometry: Geometry, chain: SegmentChain) => {
          state = new SharedState(makeSharedMemory(options.jobs, chain.length));
          return new SharedSegments(geometry, chain, state);
        },
        makeLog: (...args: ConstructorParameters<typeof LogWriter>) => new SharedLog(state!, ...args),
        owns: () => false,
      },
    });
    this.state = state!;
    this.log = this.core.log as SharedLog;
    this.shared = this.core.segments as SharedSegments;
    this.log.publish();
    this.writeback.flushes.onChange = (begun, done) => {
      this.state.raiseBackingFlush(FlushField.begun, begun);
      this.state.raiseBackingFlush(FlushField.done, done);
    };
  }

  /** Brings the log's head and the segments up to what the shards have done. */
  refresh(): void {
    this.log.refresh();
    this.shared.takeOrphans();
  }

  override step(): boolean {
    const { state, core } = this;
    const wasIdle = state.get(Word.coordinatorIdle) === 1;
    this.refresh();
    const freedBefore = state.get(Word.freed);
    const { flushes } = this.writeback;
    if (state.isBackingFlushWanted && !flushes.isWanted) flushes.request();
    this.prepareMemory();
    const worked = super.step();
    if (core.failure) state.set(Word.failed, 1);
    state.set(Word.hopeless, this.isWritebackHopeless ? 1 : 0);
    this.tellFlushes();
    if (state.get(Word.freed) !== freedBefore) this.wakeWaiting();
    if (worked) {
      this.takenAtYield = -1; // the shards may have given up the segments that they had then
      state.set(Word.coordinatorIdle, 0);
      return true;
    }
    this.judgeShards();
    if (wasIdle) return false;
    state.set(Word.coordinatorIdle, 1);
    return true;
  }

  /** Looks ahead when shards have taken segments. */
  private prepareMemory(): void {
    const taken = this.state.get(Word.taken);
    if (taken === this.takenSeen) return;
    this.takenSeen = taken;
    this.ahead?.look();
  }

  private get hasWaitingShards(): boolean {
    const { state } = this;
    for (let shard = 0; shard < state.jobs; shard++) if (state.isWaiting(shard)) return true;
    return false;
  }

  /** Tells the shards how the flush of the backing device went that one of them asked for. */
  private tellFlushes(): void {
    const { state, writeback } = this;
    const { writebackFailures } = this.stats;
    const done = state.backingFlush(FlushField.done);
    const hasFailed = writeback.failures > 0 && (writebackFailures !== this.failuresTold || writeback.stopped);
    if (done !== this.flushTold && state.backingFlush(FlushField.wanted) > this.flushTold) {
      this.broadcast({ kind: 'wake' });
    }
    if (hasFailed && state.isBackingFlushWanted) {
      this.broadcast({ kind: 'unflushed', error: noteOf(writeback.lastError) });
    }
    this.flushTold = done;
    this.failuresTold = writebackFailures;
  }

  /** Wakes the shards that wait for room. */
  wakeWaiting(): void {
    const { state } = this;
    for (let shard = 0; shard < state.jobs; shard++)
      if (state.isWaiting(shard)) this.broadcast({ kind: 'wake' }, shard);
  }

  /** Nothing makes progress: fails the requests that wait in the shards if nothing ever will. */
  private judgeShards(): void {
    const { core, writeback } = this;
    if (core.failure || this.isBackingBusy || !this.hasWaitingShards) return;
    if (this.isWritebackHopeless) {
      const reason = writeback.lastError?.message ?? 'write-back has stopped';
      this.failWaiting(`the cache is full and cannot be written back: ${reason}`);
      return;
    }
    if (writeback.failures > 0 || this.holdWriteback || !core.logIsClean) return;
    if (this.yieldsLeft > 0) return;
    const taken = this.state.get(Word.taken);
    if (taken === this.takenAtYield) {
      // No shard has a segment, none took one meanwhile, everything is written back: there never will be room.
      this.takenAtYield = -1;
      this.failWaiting(`its ${core.segments.count} segments are too few for this number of jobs`);
      return;
    }
    // Everything is written back and still nothing can be freed: data heads hold the last segments.
    this.takenAtYield = taken;
    this.yieldsLeft = this.state.jobs;
    this.broadcast({ kind: 'yield' });
  }

  /** A shard has answered a `yield`. */
  yielded(): void {
    this.yieldsLeft--;
  }

  private failWaiting(why: string): void {
    const error = new PcacheError('CACHE_FULL', `${this.core.pmem.path}: ${why}`);
    this.broadcast({ kind: 'fail', error: noteOf(error) });
  }

  /** The cache device failed under a shard. */
  stopOn(error: PcacheError): void {
    this.core.fail(error);
    this.state.set(Word.failed, 1);
  }
}

/** Collects one answer from each of `left` shards. */
class Answers<T> {
  private readonly given: T[] = [];
  private resolve!: (answers: readonly T[]) => void;
  private reject!: (error: PcacheError) => void;
  readonly all: Promise<readonly T[]>;

  constructor(private left: number) {
    this.all = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    if (left === 0) this.resolve([]);
  }
  give(shard: number, answer: T): void {
    this.given[shard] = answer;
    if (--this.left === 0) this.resolve(Object.values(this.given)); // without the shards that have ended, in order
  }
  fail(error: PcacheError): void {
    this.reject(error);
  }
}

export class ShardedCache {
  /** One seed for each thread, which passes it to `openShard`. */
  readonly seeds: readonly ShardSeed[];
  private readonly cache: CoordinatorCache;
  private readonly ports: readonly MessagePort[];
  private readonly waits: { [Kind in FromShard['kind']]?: Answers<FromShard> } = {};
  /** Shards that are not closed and whose threads have not ended. */
  private readonly alive: Set<number>;
  private driver: CacheDriver<CoordinatorCache> | undefined;
  private held = false;

  /**
   * Opens the cache, as `Cache` does. The shards start when threads were given their seeds.
   * @throws PcacheError what `Cache` throws; UNSUPPORTED in the modes that write through; USAGE for too many jobs
   */
  constructor(private readonly options: ShardedOptions) {
    const { jobs, pmem } = options;
    if (!Number.isInteger(jobs) || jobs < 1 || jobs > JOBS_MAX) {
      throw new PcacheError('USAGE', `${jobs} jobs: must be a whole number from 1 to ${JOBS_MAX}`);
    }
    this.cache = new CoordinatorCache(options);
    if (this.cache.isThrough) {
      throw new PcacheError(
        'UNSUPPORTED',
        `${pmem.path}: its mode is ${this.cache.mode}; several jobs need the mode writeback or writeonly`,
      );
    }
    const channels = Array.from({ length: jobs }, () => new MessageChannel());
    this.ports = channels.map(({ port1 }) => port1);
    this.seeds = channels.map(({ port2 }, shard) => ({
      shard,
      memory: this.cache.state.memory,
      port: port2,
      segmentBytes: (options.geometry ?? KERNEL_GEOMETRY).segmentBytes,
    }));
    this.ports.forEach((port, shard) => {
      port.on('message', (message: FromShard) => this.heard(shard, message));
      port.on('close', () => this.lost(shard));
    });
    this.alive = new Set(this.ports.keys());
    this.cache.broadcast = (message, to) => {
      if (to === undefined) this.tellAll(message);
      else this.ports[to].postMessage(message);
    };
    this.waits.ready = new Answers(jobs);
  }

  /** Resolves when all shards have built their index; the log does not change before. Rejects when a shard cannot. */
  async ready(): Promise<void> {
    await this.waits.ready!.all;
    this.driver = new CacheDriver(this.cache, this.options.clock);
  }

  private tellAll(message: ToShard): void {
    for (const port of this.ports) port.postMessage(message);
  }

  private async ask<Kind extends FromShard['kind']>(
    question: ToShard,
    kind: Kind,
  ): Promise<readonly Extract<FromShard, { kind: Kind }>[]> {
    assert(this.waits[kind] === undefined, 'a question to the shards is asked again before it is answered');
    if (this.alive.size < this.ports.length && kind !== 'closed') {
      throw this.cache.failure ?? closedError(this.options.pmem.path);
    }
    const answers = new Answers<FromShard>(this.alive.size);
    this.waits[kind] = answers;
    this.tellAll(question);
    try {
      return (await answers.all) as readonly Extract<FromShard, { kind: Kind }>[];
    } finally {
      delete this.waits[kind];
    }
  }

  private heard(shard: number, message: FromShard): void {
    switch (message.kind) {
      case 'failed':
        this.stopOn(errorOf(message.error));
        break;
      case 'kick':
        this.kick();
        break;
      case 'flush asked':
        this.ports.forEach((port, other) => {
          if (other !== shard) port.postMessage({ kind: 'wake' } satisfies ToShard);
        });
        break;
      case 'flush ended':
        this.ports.forEach((port, holding) => {
          if (this.cache.state.holds(holding)) port.postMessage({ kind: 'wake' } satisfies ToShard);
        });
        break;
      case 'yielded':
        this.cache.yielded();
        this.kick();
        break;
      case 'closed':
        this.alive.delete(shard);
        this.waits.closed?.give(shard, message);
        break;
      default:
        this.waits[message.kind]?.give(shard, message);
    }
  }

  private stopOn(error: PcacheError): void {
    this.cache.stopOn(error);
    this.waits.ready?.fail(error);
    this.tellAll({ kind: 'wake' });
    this.kick();
  }

  /** The port of a shard was closed: its thread has ended, or soon will. Keys that were not in the log are lost. */
  private lost(shard: number): void {
    if (!this.alive.delete(shard)) return;
    const why = 'a thread ended without closing its share of the cache; open the cache again';
    const error = new PcacheError('CLOSED', `${this.options.pmem.path}: ${why}`);
    this.stopOn(error);
    const { closed, drained, status } = this.waits;
    for (const answers of [drained, status]) answers?.fail(error);
    closed?.give(shard, { kind: 'closed', error: noteOf(error) });
  }

  private kick(): void {
    if (!this.held) this.driver?.kick();
  }

  /** While true nothing is written back or collected, and no shard wakes the coordinator. */
  set hold(hold: boolean) {
    this.held = hold;
    this.cache.holdWriteback = hold;
    this.cache.state.set(Word.coordinatorIdle, 0);
    this.kick();
  }

  /** Why the cache has stopped, if it has. */
  get failure(): PcacheError | undefined {
    return this.cache.failure;
  }
  get segmentDataBytes(): number {
    return this.cache.segmentDataBytes;
  }
  /** Counters of the background work; the shards count requests. */
  get stats(): Cache['stats'] {
    return this.cache.stats;
  }
  status(): ReturnType<Cache['status']> {
    this.cache.refresh();
    return this.cache.status();
  }
  setGcPercent(gcPercent: number): void {
    this.cache.setGcPercent(gcPercent);
    this.cache.state.set(Word.coordinatorIdle, 0);
    this.kick();
  }
  /** Why write-back fails, as `Cache.writebackError`. */
  get writebackError(): PcacheError | undefined {
    return this.cache.writebackError;
  }
  /** Some shard has keys in open ksets, or had a moment ago. */
  get hasOpenKeys(): boolean {
    return this.cache.state.hasOpenKeys;
  }
  /** As `Cache.dirtyKsets`. */
  get dirtyKsets(): Cache['dirtyKsets'] {
    this.cache.refresh();
    const { oldest, newest } = this.cache.dirtyKsets;
    return { oldest, newest: newest + (this.hasOpenKeys ? 1 : 0) };
  }
  /** As `Cache.pressure`, without the room in segments that shards have taken. */
  pressure(): WritePressure | undefined {
    return this.cache.pressure();
  }
  /** As `Cache.writebackCycleMs`. */
  set writebackCycleMs(cycleMs: number) {
    this.cache.writebackCycleMs = cycleMs;
  }
  dirtyInLog(): DirtyInLog {
    return this.cache.dirtyInLog();
  }
  /** Has all shards put what they have acknowledged into the log, soon. */
  commitSoon(): void {
    this.tellAll({ kind: 'commit' });
  }
  /** Status of each shard. */
  async shardStatus(): Promise<readonly ShardStatus[]> {
    return (await this.ask({ kind: 'status' }, 'status')).map(({ status }) => status);
  }

  /**
   * Writes back everything that was acknowledged before the call.
   * @throws PcacheError the failure of write-back or of the cache device
   */
  async drain(): Promise<void> {
    for (const { error } of await this.ask({ kind: 'drain' }, 'drained')) if (error) throw errorOf(error);
    this.cache.refresh();
    await this.driver!.drain();
  }

  /** Lets GC run to its end. Nobody may write meanwhile. */
  async collectGarbage(): Promise<void> {
    while (this.cache.step()) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Closes in order, the shards first; see `CacheDriver.close`. The threads may end afterwards. */
  async close(): Promise<CloseReport> {
    const answers = await this.ask({ kind: 'close' }, 'closed');
    for (const port of this.ports) port.close();
    this.cache.refresh();
    const report = await this.driver!.close();
    for (const { error } of answers) if (error) throw errorOf(error);
    return report;
  }
}
