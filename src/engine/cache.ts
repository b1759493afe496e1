/**
 * The running cache: takes groups of requests, does background work in explicit steps (seed:
 * `pcache_cache_handle_req`, `pcache_cache_flush`, and the kernel's workers). Single-threaded and
 * synchronous but for the backing device's answers.
 *
 * A request is acknowledged only after its payload is fenced; a FLUSH or FUA only after its keys are in the
 * log and persisted. Requests that find no room wait in order and go on when GC has freed a segment; they
 * fail only when write-back cannot make progress. When the cache device itself fails, the cache stops: what
 * is in memory is not trusted to match it any more, and a new open recovers from the log.
 */
import { openCore, type CacheOptions, type Core } from './core.js';
import { assert, PcacheError } from './errors.js';
import { GarbageCollector } from './gc.js';
import { SECTOR_BYTES } from './media/geometry.js';
import { MissReads } from './miss-reads.js';
import { stageRead } from './read-path.js';
import { Op, RequestFlag, RequestState, whyRefused, type RequestGroup } from './request-group.js';
import type { EngineStats } from './stats.js';
import { describeStatus, dirtyInLog, type CacheStatus, type DirtyInLog } from './status.js';
import { WaitQueue } from './wait-queue.js';
import { Writeback } from './writeback.js';
import { stageWrite } from './write-path.js';

/** An open kset is closed this long after its first key (format §2). */
export const KSET_MAX_AGE_MS = 1000;
/** Waiting requests fail once write-back has failed this often in a row. */
const WRITEBACK_FAILURES_UNTIL_WAITERS_FAIL = 5;
/** Subtrees the cleaner looks at in one step. */
const SWEEP_SUBTREES_PER_STEP = 512;

export class Cache {
  private readonly core: Core;
  private readonly misses: MissReads;
  private readonly writeback: Writeback;
  private readonly gc: GarbageCollector;
  private readonly waiting = new WaitQueue();
  private sweepLeft = 0;
  private accepting = true;
  private nowMs: number;
  /** While true no pass of write-back is started: for an orderly close, and for tests. */
  holdWriteback = false;
  /** Keeps the loads of `touch` alive. */
  touched = 0;

  /**
   * Called when an answer of the backing device has made new work possible: whoever drives the cache should
   * call `step()` soon. Never called from within `submit` or `step`.
   */
  onProgress: () => void = () => {};

  /** @throws PcacheError NOT_PCACHE, BAD_MEDIA, UNSUPPORTED, IO. */
  constructor(options: CacheOptions) {
    this.core = openCore(options);
    this.nowMs = options.clock.nowMs();
    const progress = () => this.onProgress();
    this.writeback = new Writeback(this.core, progress);
    this.gc = new GarbageCollector(this.core);
    this.misses = new MissReads(
      this.core,
      (group, request, error) => {
        this.partDone(group, request, error);
        progress();
      },
      () => this.waiting.length === 0,
    );
  }

  /** Size of the logical device: the backing device's. */
  get sizeBytes(): number {
    return this.core.backing.sizeBytes;
  }
  get stats(): EngineStats {
    return this.core.stats;
  }
  get segmentsUsed(): number {
    return this.core.segments.usedCount;
  }
  /** Why the cache has stopped, if it has. */
  get failure(): PcacheError | undefined {
    return this.core.failure;
  }
  /** Nothing dirty is left: no open kset, and the whole log is on the backing device. */
  get isClean(): boolean {
    return !this.core.log.hasOpenKeys && this.core.logIsClean;
  }
  /** Requests or passes wait for an answer of the backing device. */
  get isBackingBusy(): boolean {
    return this.misses.pending > 0 || this.writeback.isBusy;
  }
  /** Keys are in open ksets that are not in the log yet. */
  get hasOpenKeys(): boolean {
    return this.core.log.hasOpenKeys;
  }
  /** The log has no segment to go on in: only write-back and GC can make room for open ksets. */
  get isLogStuck(): boolean {
    return this.core.log.isStuck;
  }
  /** Reads wait for the backing device. */
  get hasPendingReads(): boolean {
    return this.misses.pending > 0;
  }
  get hasWaitingRequests(): boolean {
    return this.waiting.length > 0;
  }
  /** The last failure of write-back, while it has not succeeded again. */
  get writebackError(): PcacheError | undefined {
    return this.writeback.lastError;
  }
  /** Write-back has stopped for good, or has failed too often in a row to be waited for. */
  get isWritebackHopeless(): boolean {
    return this.writeback.stopped || this.writeback.failures >= WRITEBACK_FAILURES_UNTIL_WAITERS_FAIL;
  }

  // ---- requests ---------------------------------------------------------------------------------------

  /**
   * Takes a group. At return every request that needed neither the backing device nor room is done or has
   * failed; the others end later, each with a call of `group.onRequestDone`.
   * @returns how many are pending.
   */
  submit(group: RequestGroup): number {
    const { core } = this;
    const { count } = group;
    this.nowMs = core.clock.nowMs();
    group.pending = count;
    for (let i = 0; i < count; i++) {
      group.state[i] = RequestState.pending;
      group.parts[i] = 1;
      group.doneBytes[i] = 0;
      group.missBytes[i] = 0;
      group.errors[i] = undefined;
    }
    const silent = group.onRequestDone;
    group.onRequestDone = undefined; // whoever submits sees what ended at once by `state`
    try {
      this.run(group, count);
    } finally {
      group.onRequestDone = silent;
    }
    return group.pending;
  }

  private run(group: RequestGroup, count: number): void {
    const { core } = this;
    const refusal = core.failure ?? (this.accepting ? undefined : closedError(core.pmem.path));
    if (refusal) {
      for (let i = 0; i < count; i++) this.partDone(group, i, refusal);
      return;
    }
    if (count > 1) this.touchAll(group, count);
    try {
      core.stage.begin(group.arena);
      for (let i = 0; i < count; i++) this.start(group, i);
      const logged = core.commit();
      for (let i = 0; i < count; i++) this.settle(group, i, logged);
    } catch (error) {
      this.stopOn(error, group);
    }
  }

  /** Loads the index lines of the group's requests side by side before they are needed one by one. */
  private touchAll(group: RequestGroup, count: number): void {
    const { index } = this.core;
    const limit = this.sizeBytes;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const offset = group.offsetBytes[i];
      if (offset >= 0 && offset < limit) sum += index.touch(offset / SECTOR_BYTES);
    }
    this.touched = sum | 0;
  }

  /** Starts request `i`: stages what can be staged; what finds no room is left with `doneBytes` short. */
  private start(group: RequestGroup, i: number): void {
    const { core } = this;
    const wrong = whyRefused(group, i, this.sizeBytes);
    if (wrong) {
      this.partDone(group, i, wrong);
      return;
    }
    const { stats } = core;
    const bytes = group.lengthBytes[i];
    const op = group.op[i];
    if (op === Op.read) {
      stats.reads++;
      stats.readBytes += bytes;
      stageRead(core, this.misses, group, i);
      if (group.missBytes[i] === 0) stats.readHits++;
      else stats.readMissBytes += group.missBytes[i];
    } else if (op === Op.write) {
      stats.writes++;
      stats.writeBytes += bytes;
      if ((group.flags[i] & RequestFlag.fua) !== 0) stats.fuaWrites++;
      if (this.waiting.length === 0) this.advanceWrite(group, i);
    } else {
      stats.flushes++;
      core.log.markAllDue();
    }
  }

  /** @returns whether the whole write is staged. */
  private advanceWrite(group: RequestGroup, i: number): boolean {
    const { core } = this;
    if ((group.flags[i] & RequestFlag.preflush) !== 0 && group.doneBytes[i] === 0) {
      core.log.markAllDue();
      if (!core.commit()) return false;
    }
    return stageWrite(core, group, i, this.nowMs);
  }

  /** After the commit: acknowledges request `i`, or makes it wait. */
  private settle(group: RequestGroup, i: number, logged: boolean): void {
    if (group.state[i] !== RequestState.pending) return;
    if (this.isServed(group, i, logged)) {
      this.partDone(group, i, undefined);
    } else {
      this.core.stats.deferredRequests++;
      this.waiting.push(group, i);
    }
  }

  /** Whether all that request `i` asks of the cache device is done, given that the log is closed or not. */
  private isServed(group: RequestGroup, i: number, logged: boolean): boolean {
    const op = group.op[i];
    if (op === Op.read) return true;
    if (op === Op.write && group.doneBytes[i] < group.lengthBytes[i]) return false;
    // A write with something to write did its preflush before it took room.
    const forced = group.lengthBytes[i] === 0 ? RequestFlag.fua | RequestFlag.preflush : RequestFlag.fua;
    const needsLog = op === Op.flush || (group.flags[i] & forced) !== 0;
    return logged || !needsLog;
  }

  /** A part of a request has ended; the last part ends the request. */
  private partDone(group: RequestGroup, i: number, error: PcacheError | undefined): void {
    if (error) group.errors[i] ??= error;
    assert(group.parts[i] > 0, 'a request ends twice');
    if (--group.parts[i] > 0) return;
    if (group.errors[i]) {
      group.state[i] = RequestState.failed;
      this.core.stats.failedRequests++;
    } else {
      group.state[i] = RequestState.done;
    }
    group.pending--;
    group.onRequestDone?.(group, i);
  }

  /** The cache device failed in the middle of a group: nothing more can be acknowledged. */
  private stopOn(error: unknown, group?: RequestGroup): void {
    if (!(error instanceof PcacheError)) throw error;
    this.core.failure ??= error;
    if (group) {
      for (let i = 0; i < group.count; i++) {
        if (group.state[i] === RequestState.pending && !this.waiting.has(group, i)) this.partDone(group, i, error);
      }
    }
    this.failWaiting(error);
  }

  private failWaiting(error: PcacheError): void {
    this.waiting.drain((group, request) => this.partDone(group, request, error));
  }

  // ---- background work --------------------------------------------------------------------------------

  /**
   * Does a bounded piece of each kind of background work: closes ksets that are due, collects, writes back,
   * serves waiting requests, cleans the index.
   * @returns true when something was done, so that another step may find more; false when only an answer of
   *   the backing device, a new request, or the clock reaching `nextDeadlineMs` can change anything.
   */
  step(): boolean {
    const { core } = this;
    if (core.failure) {
      this.failWaiting(core.failure);
      return false;
    }
    this.nowMs = core.clock.nowMs();
    try {
      let worked = this.closeKsets();
      if (this.gc.step()) {
        worked = true;
        this.sweepLeft = core.index.subtreeCount;
      }
      if (!this.holdWriteback && this.writeback.step(this.nowMs)) worked = true;
      if (this.serveWaiting()) worked = true;
      if (this.sweep()) worked = true;
      return worked || this.judgeWaiting();
    } catch (error) {
      this.stopOn(error);
      return false;
    }
  }

  /** When `step()` should be called even if nothing else happens; Infinity when there is no need. */
  get nextDeadlineMs(): number {
    if (this.core.failure) return Infinity;
    return Math.min(this.core.log.nextDueMs(KSET_MAX_AGE_MS), this.writeback.nextRetryMs);
  }

  private closeKsets(): boolean {
    const { log } = this.core;
    // Those who wait for room need their predecessors' keys written back, and open ones cannot be.
    if (this.waiting.length > 0) log.markAllDue();
    else log.markAgedDue(this.nowMs, KSET_MAX_AGE_MS);
    if (!log.hasDue) return false;
    const before = log.ksetsClosed;
    this.core.commit();
    return log.ksetsClosed > before;
  }

  private serveWaiting(): boolean {
    const { core } = this;
    let worked = false;
    while (this.waiting.length > 0) {
      const group = this.waiting.firstGroup;
      const i = this.waiting.firstRequest;
      const before = group.doneBytes[i];
      core.stage.begin(group.arena);
      if (group.op[i] === Op.write) this.advanceWrite(group, i);
      const logged = core.commit();
      if (!this.isServed(group, i, logged)) return worked || group.doneBytes[i] > before;
      this.waiting.shift();
      this.partDone(group, i, undefined);
      worked = true;
    }
    return worked;
  }

  private sweep(): boolean {
    if (this.sweepLeft <= 0) return false;
    const subtrees = Math.min(this.sweepLeft, SWEEP_SUBTREES_PER_STEP);
    this.core.index.sweep(subtrees);
    this.sweepLeft -= subtrees;
    return true;
  }

  /**
   * Nothing moves: fails those who wait, if nothing will.
   * @returns true when something was done about it.
   */
  private judgeWaiting(): boolean {
    if (this.waiting.length === 0 || this.isBackingBusy) return false;
    const { core, writeback } = this;
    if (this.isWritebackHopeless) {
      const reason = writeback.lastError?.message ?? 'write-back has stopped';
      this.failWaiting(
        new PcacheError('CACHE_FULL', `${core.pmem.path}: the cache is full and cannot be written back: ${reason}`),
      );
      return true;
    }
    if (writeback.failures > 0 || this.holdWriteback || !core.logIsClean) return false;
    // All is written back and still nothing can be freed: heads of idle slots sit on the last segments.
    for (const head of core.heads) head.close();
    if (!core.segments.hasDead) {
      this.failWaiting(
        new PcacheError(
          'CACHE_FULL',
          `${core.pmem.path}: its ${core.segments.count} segments are too few for this many slots`,
        ),
      );
    }
    return true;
  }

  // ---- control ----------------------------------------------------------------------------------------

  /** Asks for every open kset to be closed; `step()` does it. */
  requestClose(): void {
    this.core.log.markAllDue();
  }

  /** Refuses further requests; those already taken are served. */
  stopAccepting(): void {
    this.accepting = false;
  }

  /**
   * Sets gc_percent durably, as the kernel's message does.
   * @throws PcacheError USAGE when it is not a whole number from 0 to 90.
   */
  setGcPercent(gcPercent: number): void {
    if (!Number.isInteger(gcPercent) || gcPercent < 0 || gcPercent > 90) {
      throw new PcacheError('USAGE', `gc_percent ${gcPercent}: must be a whole number from 0 to 90`);
    }
    this.core.setGcPercent(gcPercent);
  }

  /** What the log still holds for the backing device. Open ksets are not in the log yet. */
  dirtyInLog(): DirtyInLog {
    return dirtyInLog(this.core);
  }

  status(): CacheStatus {
    return describeStatus(this.core, {
      waitingRequests: this.waiting.length,
      pendingBackingReads: this.misses.pending,
      writebackError: this.writeback.lastError,
    });
  }

  /** Asserts the invariants of the index; linear, for tests. */
  check(): void {
    this.core.index.check();
  }
}

function closedError(path: string): PcacheError {
  return new PcacheError('CLOSED', `${path}: the cache is closed`);
}
