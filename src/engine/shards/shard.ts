/**
 * One thread's share of a cache: the request path of its subtrees, with its own index, data head and open kset. The
 * coordinator (`sharded-cache.ts`) does write-back and GC. State that both change is in shared memory.
 *
 * All code that may read payload that the index refers to runs between `enter` and `leave`. A FLUSH covers everything
 * that any shard has acknowledged, as the kernel's FLUSH closes the ksets of all processors: its group is held back
 * until every shard has closed its ksets, and groups behind it wait, too. If any shard has zeroed ranges on the backing
 * device that are not durable, the FLUSH then waits for a flush of that device, too (`shard-durability.ts`).
 */
import type { MessagePort } from 'node:worker_threads';
import type { BackingDevice } from '../device/backing.js';
import type { Pmem } from '../device/pmem.js';
import type { Clock } from '../clock.js';
import { Core } from '../core.js';
import type { Driven } from '../driver.js';
import { assert, noteOf, PcacheError } from '../errors.js';
import { cachedRanges, type CachedRanges } from '../index/cached-ranges.js';
import { IndexSweeper } from '../index/index-sweeper.js';
import { KSET_TIMER_MS } from '../log/kset-timer.js';
import type { LogWriter } from '../log/log-writer.js';
import type { Crc32c } from '../media/crc32c.js';
import { makeGeometry, subtreeOf, type Geometry } from '../media/geometry.js';
import type { SegmentChain } from '../media/metadata.js';
import { loadCacheOrThrow } from '../log/recovery.js';
import { Op, RequestFlag, reportEnded, type RequestGroup } from '../request/request-group.js';
import { Requests } from '../request/requests.js';
import type { DirtyInLog } from '../status.js';
import { HeldGroups } from './held-groups.js';
import type { FromShard, ShardStatus } from './messages.js';
import { ShardDurability } from './shard-durability.js';
import { SharedLog } from './shared-log.js';
import { ShardSegments } from './shared-segments.js';
import { SharedState, Word, type SharedMemory } from './shared-state.js';

/** What a thread needs to become a shard; made by `ShardedCache`. Send it with `port` transferred. */
export interface ShardSeed {
  readonly shard: number;
  readonly memory: SharedMemory;
  readonly port: MessagePort;
  readonly segmentBytes: number;
}

export interface ShardOptions {
  readonly seed: ShardSeed;
  /** The cache device as this thread mapped it (`mapAgain`), and the thread's own backing device. The caller closes both. */
  readonly pmem: Pmem;
  readonly backing: BackingDevice;
  readonly clock: Clock;
  readonly crc?: Crc32c;
  /** As in `CacheOptions`; the same for all shards. */
  readonly punches?: boolean;
  /** For benchmarks that count what the threads share. */
  readonly makeState?: (memory: SharedMemory) => SharedState;
}

export class Shard implements Driven {
  onProgress: () => void = () => {};
  holdWriteback = false;
  hurryWriteback = false;
  readonly isThrough = false;

  private readonly core: Core;
  private readonly log: SharedLog;
  private readonly requests: Requests;
  /** Given when holes are made. */
  private readonly durability: ShardDurability | undefined;
  private readonly state: SharedState;
  private readonly shard: number;
  private readonly jobs: number;
  private readonly held: HeldGroups;
  private flushServed = 0;
  private closedSeen = 0;
  private waitingSeen = 0;
  private openKeysSeen = false;
  /** Nesting depth of `enter`: the callback of a request may submit the next one at once. */
  private depth = 0;
  private readonly sweeper: IndexSweeper;
  private isFailureReported = false;
  private isStuckTold = false;

  /** @throws PcacheError what loading a cache throws */
  constructor({ seed, pmem, backing, clock, crc, punches = false, makeState }: ShardOptions) {
    const state = makeState?.(seed.memory) ?? new SharedState(seed.memory);
    const { shard } = seed;
    const { jobs } = state;
    let log: SharedLog | undefined;
    const options = {
      pmem,
      backing,
      clock,
      punches,
      geometry: makeGeometry(seed.segmentBytes),
      ...(crc ? { crc } : {}),
      sharing: {
        makeSegments: (geometry: Geometry, chain: SegmentChain) => new ShardSegments(geometry, chain, state),
        makeLog: (...args: ConstructorParameters<typeof LogWriter>) => (log = new SharedLog(state, ...args)),
        owns: (subtree: number) => subtree % jobs === shard,
      },
    };
    // The coordinator has checked the payload already.
    const loaded = loadCacheOrThrow(pmem, { ...options, backingBytes: backing.sizeBytes, checkPayload: false });
    this.core = new Core(options, loaded, undefined);
    this.sweeper = new IndexSweeper(this.core.index, this.core.segments.count);
    this.log = log!;
    this.state = state;
    this.shard = shard;
    this.jobs = jobs;
    this.held = new HeldGroups(
      state,
      shard,
      () => this.tell({ kind: 'flush asked' }),
      (...end) => this.runHeld(...end),
    );
    if (this.core.punches) this.durability = new ShardDurability(state, () => this.kickIfIdle());
    this.requests = new Requests(this.core, this.durability, () => this.onProgress());
  }

  get failure(): PcacheError | undefined {
    return this.core.failure;
  }
  get isClean(): boolean {
    return !this.log.hasOpenKeys;
  }
  get hasOpenKeys(): boolean {
    return this.log.hasOpenKeys;
  }
  get isLogStuck(): boolean {
    return this.log.isStuck;
  }
  get isBackingBusy(): boolean {
    return this.requests.hasPendingParts;
  }
  get hasPendingParts(): boolean {
    return this.requests.hasPendingParts;
  }
  get hasWaitingRequests(): boolean {
    return this.requests.hasWaiting || this.requests.hasThroughWaits || this.held.length > 0;
  }
  get hasUnsettledWrites(): boolean {
    return this.requests.hasUnsettledWrites;
  }
  /** Why the backing device cannot be flushed; undefined when it can. */
  get writebackError(): PcacheError | undefined {
    return this.durability?.lastError;
  }
  get isWritebackHopeless(): boolean {
    return this.state.get(Word.hopeless) === 1;
  }
  get nextDeadlineMs(): number {
    return this.core.failure ? Infinity : this.log.nextDueMs(KSET_TIMER_MS);
  }
  get status(): ShardStatus {
    const { core, requests, log } = this;
    return {
      stats: core.stats,
      openKeys: log.hasOpenKeys,
      waitingRequests: requests.waitingCount,
      pendingBackingReads: requests.pendingReads,
      indexEntries: core.index.entryCount,
      indexMemoryBytes: core.index.memoryBytes,
    };
  }

  requestClose(): void {
    this.log.markAllDue();
  }
  stopAccepting(): void {
    this.requests.isClosed = true;
  }
  /** Only the coordinator knows what is dirty in the log. */
  dirtyInLog(): DirtyInLog {
    return { keys: 0, bytes: 0 };
  }
  locate(offsetBytes: number): number {
    return this.core.locate(offsetBytes);
  }
  /** As `Cache.cachedRanges`, in the subtrees of the shard. */
  cachedRanges(offsetBytes: number, lengthBytes: number, rangesMax: number): CachedRanges {
    return cachedRanges(this.core.index, offsetBytes, lengthBytes, rangesMax);
  }

  /** Like `Cache.submit`; all requests must be in the shard's subtrees. */
  submit(group: RequestGroup): number {
    const isFlush = this.checkGroup(group);
    const mustWait = (isFlush && this.jobs > 1) || this.held.mustBeFollowed;
    if (mustWait && !this.requests.isClosed) {
      this.held.hold(group, isFlush);
      this.onProgress();
      return group.pending;
    }
    return this.run(group);
  }

  /** Asserts that the requests belong to this shard. @returns whether one of them is a FLUSH or PREFLUSH */
  private checkGroup(group: RequestGroup): boolean {
    const { jobs, shard } = this;
    let isFlush = false;
    for (let i = 0; i < group.count; i++) {
      if (group.op[i] === Op.flush || (group.flags[i] & RequestFlag.preflush) !== 0) isFlush = true;
      if (group.op[i] === Op.flush || jobs === 1) continue;
      const first = subtreeOf(group.offsetBytes[i]);
      const last = subtreeOf(group.offsetBytes[i] + Math.max(0, group.lengthBytes[i] - 1));
      assert(first === last && first % jobs === shard, 'a request is submitted to the wrong shard');
    }
    return isFlush;
  }

  private run(group: RequestGroup): number {
    this.checkOthers();
    this.enter();
    try {
      return this.requests.submit(group);
    } finally {
      this.leave();
      this.tellOthers();
    }
  }

  private enter(): void {
    if (this.depth++ === 0) this.state.enter(this.shard);
  }
  private leave(): void {
    if (--this.depth === 0) this.state.leave(this.shard);
  }

  // ---- other threads ----------------------------------------------------------------------------------

  /** Sends the coordinator a message. */
  tell: (message: FromShard) => void = () => {};

  /** Stops this shard if the device failed under another thread. */
  private checkOthers(): void {
    const { core } = this;
    if (this.state.get(Word.failed) === 0 || core.failure) return;
    core.fail(
      new PcacheError('IO', `${core.pmem.path}: the cache stopped when its device failed under another thread`),
    );
  }

  /** Tells the other threads what changed; called whenever this one has done some work. */
  private tellOthers(): void {
    const { state, shard, core, log } = this;
    if (core.failure && !this.isFailureReported) {
      this.isFailureReported = true;
      state.set(Word.failed, 1);
      this.tell({ kind: 'failed', error: noteOf(core.failure) });
    }
    if (log.closedHere !== this.closedSeen) {
      this.closedSeen = log.closedHere;
      this.kickIfIdle();
    }
    if (!log.isStuck && this.isStuckTold) this.setStuck(false);
    if (log.hasOpenKeys !== this.openKeysSeen) {
      this.openKeysSeen = log.hasOpenKeys;
      state.setOpenKeys(shard, this.openKeysSeen);
    }
    const waiting = this.waitingForRoom + (log.isStuck ? 1 : 0);
    if (waiting === this.waitingSeen) return;
    const isNew = waiting > this.waitingSeen;
    this.waitingSeen = waiting;
    state.setWaiting(shard, waiting > 0);
    if (!isNew) return;
    this.onProgress(); // a segment may have been freed before the coordinator saw that this shard waits
    this.tell({ kind: 'kick' });
  }

  /** Number of requests that wait for room. None counts while holes are made: the first may wait for one of them. */
  private get waitingForRoom(): number {
    return this.requests.hasDirectWrites ? 0 : this.requests.waitingCount;
  }

  private kickIfIdle(): void {
    const { state } = this;
    // Mostly it is awake: a load leaves the cache line with the others.
    if (state.get(Word.coordinatorIdle) === 1 && state.exchange(Word.coordinatorIdle, 0) === 1)
      this.tell({ kind: 'kick' });
  }

  // ---- flushes ----------------------------------------------------------------------------------------

  private stuckError(): PcacheError {
    const why = 'its log is full, and the cache cannot be written back';
    return new PcacheError('CACHE_FULL', `${this.core.pmem.path}: the last writes cannot be made durable: ${why}`);
  }

  /** Ends a group that was held back. */
  private runHeld(group: RequestGroup, isStuck: boolean): void {
    const { requests } = this;
    if (isStuck) {
      requests.failGroup(group, this.stuckError());
      return;
    }
    const { isClosed } = requests;
    requests.isClosed = false; // the group was taken before
    const left = this.run(group);
    requests.isClosed = isClosed;
    reportEnded(group, left);
  }

  /** Closes the open ksets for a flush that some shard asked for. @returns whether this shard served one */
  private serveFlush(): boolean {
    const { state, log, core } = this;
    const asked = state.get(Word.flushAsked);
    if (asked === this.flushServed) return false;
    log.markAllDue();
    if (!core.commit()) return false;
    this.flushServed = asked;
    state.setFlushServed(this.shard, asked);
    // The last shard to serve it sees that all have.
    if (state.flushState(asked) !== 'pending') this.tell({ kind: 'flush ended' });
    return true;
  }

  // ---- background work --------------------------------------------------------------------------------

  /** Like `Cache.step`, without the coordinator's work. */
  step(): boolean {
    const { core, requests } = this;
    this.checkOthers();
    if (core.failure) {
      requests.failWaiting(core.failure);
      this.held.run(true);
      this.tellOthers();
      return false;
    }
    this.enter();
    let worked = false;
    try {
      worked = this.closeKsets();
      if (this.serveFlush()) worked = true;
      if (requests.serveWaiting()) worked = true;
      if (this.stepHoles()) worked = true;
      if (this.sweeper.step(this.state.get(Word.freed))) worked = true;
    } catch (error) {
      requests.stopOn(error);
    } finally {
      this.leave();
      this.tellOthers();
    }
    return this.held.run(this.failure !== undefined) || worked;
  }

  /** Acknowledges the requests that waited for a flush of the backing device, and asks for one for a drain or close. */
  private stepHoles(): boolean {
    const { durability, requests } = this;
    if (durability === undefined) return false;
    let worked = durability.refresh();
    if (requests.settleThrough()) worked = true;
    if (this.hurryWriteback && requests.hasUnsettledWrites && !durability.isWanted) durability.flushes.request();
    return worked;
  }

  private closeKsets(): boolean {
    const { log, core } = this;
    if (this.requests.needsRoom) log.markAllDue();
    else log.markAgedDue(core.clock.nowMs(), KSET_TIMER_MS);
    if (!log.hasDue) return false;
    const before = log.closedHere;
    core.commit();
    return log.closedHere > before;
  }

  /** Leaves the open segment: everything is written back, and still no segment could be freed. */
  letGo(): void {
    for (const head of this.core.heads) head.close();
    this.log.markAllDue();
  }

  /** There will be no room: makes the requests fail that wait for it. */
  failWaiting(error: PcacheError): void {
    if (this.requests.hasDirectWrites) return; // those that still wait when the holes are made are counted again
    this.requests.failWaiting(error);
    if (this.log.isStuck) this.setStuck(true);
    this.tellOthers();
  }

  /** A FLUSH in any shard fails while this one cannot close its ksets. */
  private setStuck(isStuck: boolean): void {
    this.isStuckTold = isStuck;
    this.state.setStuck(this.shard, isStuck);
    this.tell({ kind: 'flush ended' });
  }

  /** The shard is closed: a FLUSH in another one does not wait for it, and fails if keys of this one are lost. */
  markClosed(): void {
    if (this.log.hasOpenKeys) this.state.setStuck(this.shard, true);
    else this.state.setClosed(this.shard);
    this.tell({ kind: 'flush ended' });
  }

  /** A flush of the backing device that some shard asked for has failed. */
  flushFailed(error: PcacheError): void {
    this.durability?.failed(error);
  }
}
