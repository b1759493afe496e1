/**
 * The running cache: takes groups of requests, and does background work (the kernel's workers) in explicit steps. It is
 * single-threaded, and synchronous except for the answers of the backing device.
 *
 * Requests that wait for room fail only when write-back cannot make progress. When the cache device itself fails, the
 * cache stops: its memory may not match the device any more, and a new open recovers from the log.
 */
import { openCore, type CacheOptions, type Core } from './core.js';
import { PcacheError } from './errors.js';
import { GarbageCollector } from './background/gc.js';
import { cachedRanges, type CachedRanges } from './index/cached-ranges.js';
import { IndexSweeper } from './index/index-sweeper.js';
import { KSET_TIMER_MS } from './log/kset-timer.js';
import type { ByteRange } from './media/byte-range.js';
import type { CacheMode } from './media/codecs.js';
import { SECTOR_BYTES } from './media/geometry.js';
import type { RequestGroup } from './request/request-group.js';
import { Requests } from './request/requests.js';
import { SegmentSurvey } from './segment-survey.js';
import { PagesAhead } from './space/pages-ahead.js';
import { LOG_RESERVE_SEGMENTS } from './space/segment-table.js';
import type { EngineStats } from './stats.js';
import { describeStatus, dirtyInLog, type CacheStatus, type DirtyInLog } from './status.js';
import { Writeback } from './background/write-back.js';

/** Waiting requests fail once write-back has failed this often in a row. */
const WRITEBACK_FAILURES_UNTIL_WAITERS_FAIL = 5;

/** Free segments below which writes should be slowed: an eighth of the cache, within these bounds. */
const ZONE_SEGMENTS_MIN = 6;
const ZONE_SEGMENTS_MAX = 64;

/** What writers have to go by when the cache is nearly full. */
export interface WritePressure {
  /** Free space for payload. */
  readonly roomBytes: number;
  /** With less room than this, writes should be slowed. */
  readonly zoneBytes: number;
  /** Payload that the backing device takes, bytes a millisecond; 0 when not known yet. */
  readonly writebackBytesPerMs: number;
}

export class Cache {
  protected readonly core: Core;
  private readonly requests: Requests;
  protected readonly writeback: Writeback;
  private readonly gc: GarbageCollector;
  private readonly sweeper: IndexSweeper;
  protected readonly ahead: PagesAhead | undefined;
  private nowMs: number;
  /** While true write-back starts nothing: for an orderly close, and for tests. */
  holdWriteback = false;
  /** While true the backing device is flushed as soon as everything is written, in all modes: for drains. */
  hurryWriteback = false;
  /**
   * Time that a slow backing device may take from one flush to the next, ms. Infinity leaves it at 64 ksets and
   * 32 MiB: for replays, which must not depend on the speed of this machine.
   */
  writebackCycleMs = Infinity;

  /**
   * Called when an answer of the backing device has made new work possible: the driver should call `step()` soon. Never
   * called from within `submit` or `step`.
   */
  onProgress: () => void = () => {};

  /** @throws PcacheError NOT_PCACHE, BAD_MEDIA, UNSUPPORTED, IO. */
  constructor(options: CacheOptions) {
    const { core, dirtyKsets } = openCore(options);
    this.core = core;
    this.nowMs = options.clock.nowMs();
    const progress = () => this.onProgress();
    this.writeback = new Writeback(core, dirtyKsets, progress);
    this.gc = new GarbageCollector(core);
    this.sweeper = new IndexSweeper(core.index, core.segments.count);
    this.requests = new Requests(core, this.writeback, progress);
    if (options.preparesMemory === true) {
      this.ahead = new PagesAhead(core.pmem, core.segments);
      this.ahead.begin();
    }
  }

  /** Size of the logical device, which is that of the backing device. */
  get sizeBytes(): number {
    return this.core.backing.sizeBytes;
  }
  /** Capacity of a segment for payload or ksets, bytes. */
  get segmentDataBytes(): number {
    return this.core.geometry.segmentDataBytes;
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
  /** Nothing is dirty: no kset is open, and everything in the log is on the backing device. */
  get isClean(): boolean {
    return !this.core.log.hasOpenKeys && this.core.logIsClean;
  }
  /** Data that was written or zeroed past the cache may still be lost in a crash. */
  get hasUnsettledWrites(): boolean {
    return this.requests.hasUnsettledWrites;
  }
  /** Number of ranges that are kept for that. */
  get unsettledRanges(): number {
    return this.requests.unsettledRanges;
  }
  /** The mode says how the cache handles writes, and reads that miss. */
  get mode(): CacheMode {
    return this.core.mode;
  }
  /** Writes are acknowledged only when the backing device has them, too (writethrough, writearound). */
  get isThrough(): boolean {
    return this.core.isThrough;
  }
  /** Requests or write-back wait for an answer of the backing device. */
  get isBackingBusy(): boolean {
    return this.hasPendingParts || this.writeback.isBusy;
  }
  /**
   * Numbers of the oldest kset that is not durable on the backing device, and of the newest with data in it, an open one
   * included; those closed since the cache was opened count from 1. Nothing is dirty when `newest` is below `oldest`.
   */
  get dirtyKsets(): { readonly oldest: number; readonly newest: number } {
    const { log } = this.core;
    return { oldest: this.writeback.oldestDirtyKset, newest: log.ksetsClosed + (log.hasOpenKeys ? 1 : 0) };
  }
  /** Some keys are in open ksets, which are not in the log yet. */
  get hasOpenKeys(): boolean {
    return this.core.log.hasOpenKeys;
  }
  /** The log needs a segment and none is free: only write-back and GC can make room for open ksets. */
  get isLogStuck(): boolean {
    return this.core.log.isStuck;
  }
  /** Parts of requests are under way at the backing device. */
  get hasPendingParts(): boolean {
    return this.requests.hasPendingParts;
  }
  /** Requests wait for room, or for write-back. */
  get hasWaitingRequests(): boolean {
    return this.requests.hasWaiting || this.requests.hasThroughWaits;
  }
  /** Why write-back is failing, has stopped, or cannot finish; undefined when all is well. */
  get writebackError(): PcacheError | undefined {
    return this.writeback.lastError;
  }
  /** Ranges of dirty data that do not match their CRC and are not written back (at most 1000). */
  get corruptRanges(): readonly ByteRange[] {
    return this.writeback.corruptRanges;
  }
  /**
   * Write-back has stopped for good, has failed so often in a row that requests no longer wait for it, or has written
   * everything except corrupt payload.
   */
  get isWritebackHopeless(): boolean {
    const { log } = this.core;
    const { stopped, failures, isHeld, isDone } = this.writeback;
    if (stopped || failures >= WRITEBACK_FAILURES_UNTIL_WAITERS_FAIL) return true;
    return isHeld && isDone && (!log.hasOpenKeys || log.isStuck);
  }

  /**
   * Takes a group. At return every request that needed neither the backing device nor room has ended; each of the
   * others ends later, with a call of `group.onRequestDone`.
   * @returns the number of pending requests
   */
  submit(group: RequestGroup): number {
    return this.requests.submit(group);
  }

  // ---- background work --------------------------------------------------------------------------------

  /**
   * Does a bounded amount of each kind of background work: closes due ksets, runs GC, writes back, serves waiting
   * requests, removes stale index entries.
   * @returns true when it did something, so that another step may find more; false when nothing can change before an
   *   answer of the backing device, a new request, or the time `nextDeadlineMs`
   */
  step(): boolean {
    const { core } = this;
    if (core.failure) {
      this.requests.failWaiting(core.failure);
      return false;
    }
    this.nowMs = core.clock.nowMs();
    try {
      let worked = this.closeKsets();
      if (this.gc.step()) worked = true;
      if (this.stepWriteback()) worked = true;
      if (this.requests.serveWaiting()) worked = true;
      if (this.sweeper.step(core.stats.segmentsFreed)) worked = true;
      return worked || this.judgeWaiting();
    } catch (error) {
      this.requests.stopOn(error);
      return false;
    }
  }

  /** When `step()` should be called even if nothing else happens; Infinity when there is no need. */
  get nextDeadlineMs(): number {
    if (this.core.failure) return Infinity;
    return Math.min(this.core.log.nextDueMs(KSET_TIMER_MS), this.writeback.nextDueMs);
  }

  private closeKsets(): boolean {
    const { log } = this.core;
    // Stalled requests wait for write-back, and keys in open ksets cannot be written back.
    if (this.requests.needsRoom) log.markAllDue();
    else log.markAgedDue(this.nowMs, KSET_TIMER_MS);
    if (!log.hasDue) return false;
    const before = log.ksetsClosed;
    this.core.commit();
    return log.ksetsClosed > before;
  }

  private stepWriteback(): boolean {
    const { core, writeback, requests, nowMs } = this;
    // In the modes that write through the flush is deferred until a request needs it.
    const needsRoom = requests.needsRoom || this.gc.isCacheFull;
    if (this.hurryWriteback && requests.hasUnsettledWrites && !writeback.flushes.isWanted) {
      writeback.flushes.request();
    }
    const hurry = !core.isThrough || this.hurryWriteback || needsRoom || writeback.failures > 0;
    const worked = writeback.step({ nowMs, hold: this.holdWriteback, hurry, cycleMs: this.writebackCycleMs });
    return requests.settleThrough() || worked;
  }

  /**
   * Nothing makes progress: fails the waiting requests if nothing ever will.
   * @returns true when it did something
   */
  private judgeWaiting(): boolean {
    const { core, writeback, requests } = this;
    if (!requests.hasWaiting || this.isBackingBusy) return false;
    if (this.isWritebackHopeless) {
      const reason = writeback.lastError?.message ?? 'write-back has stopped';
      requests.failWaiting(
        new PcacheError('CACHE_FULL', `${core.pmem.path}: the cache is full and cannot be written back: ${reason}`),
      );
      return true;
    }
    if (writeback.failures > 0 || this.holdWriteback || !core.logIsClean) return false;
    // Everything is written back and still nothing can be freed: heads of idle slots hold the last segments.
    for (const head of core.heads) head.close();
    if (!core.segments.hasDead) {
      requests.failWaiting(
        new PcacheError(
          'CACHE_FULL',
          `${core.pmem.path}: its ${core.segments.count} segments are too few for this number of slots`,
        ),
      );
    }
    return true;
  }

  /**
   * How much room is left for writes, once the cache is as full as gc_percent allows; undefined before, and in the
   * modes that write through, where writes are as slow as the backing device anyway.
   */
  pressure(): WritePressure | undefined {
    const { core, gc, writeback } = this;
    if (core.isThrough || core.failure || !gc.isCacheFull) return undefined;
    const { segments, heads } = core;
    const { segmentDataBytes } = core.geometry;
    const freeSegments = Math.max(0, segments.freeCount - LOG_RESERVE_SEGMENTS);
    let headSectors = 0;
    for (const head of heads) if (head.segment >= 0) headSectors += head.leftSectors;
    const zoneSegments = Math.min(ZONE_SEGMENTS_MAX, Math.max(ZONE_SEGMENTS_MIN, Math.floor(segments.count / 8)));
    return {
      roomBytes: freeSegments * segmentDataBytes + headSectors * SECTOR_BYTES,
      zoneBytes: zoneSegments * segmentDataBytes,
      writebackBytesPerMs: writeback.pace.rate(core.clock.nowMs()),
    };
  }

  // ---- control ----------------------------------------------------------------------------------------

  /** Asks for all open ksets to be closed; `step()` does it. */
  requestClose(): void {
    this.core.log.markAllDue();
  }

  /** Refuses further requests; those already taken are served. */
  stopAccepting(): void {
    this.requests.isClosed = true;
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

  /** Dirty keys and bytes in the log. Open ksets are not in the log yet. */
  dirtyInLog(): DirtyInLog {
    return dirtyInLog(this.core);
  }

  status(): CacheStatus {
    return describeStatus(this.core, {
      waitingRequests: this.requests.waitingCount,
      pendingBackingReads: this.requests.pendingReads,
      writebackError: this.writeback.lastError,
    });
  }

  /** Which parts of a range the cache holds; the walk ends after `rangesMax` of them. */
  cachedRanges(offsetBytes: number, lengthBytes: number, rangesMax: number): CachedRanges {
    return cachedRanges(this.core.index, offsetBytes, lengthBytes, rangesMax);
  }

  /** Makes a survey of the use of each segment; it is empty until its `take()` is called. */
  makeSurvey(): SegmentSurvey {
    return new SegmentSurvey(this.core);
  }

  /**
   * Offset on the cache device of a byte of the logical device, or −1 when it is not cached. For benchmarks and tests:
   * any request may change it.
   */
  locate(offsetBytes: number): number {
    return this.core.locate(offsetBytes);
  }

  /** Asserts the invariants of the index. For tests: linear in the entries. */
  check(): void {
    this.core.index.check();
  }
}
