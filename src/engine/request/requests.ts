/**
 * The requests of a running cache, from submission to acknowledgement (kernel: `pcache_cache_handle_req`,
 * `pcache_cache_flush`).
 *
 * A request is acknowledged only after its payload is fenced; a FLUSH or FUA only after its keys are in the log and
 * persisted. Requests that find no room wait in order and go on when GC has freed a segment. In the modes that write
 * through they also wait for the backing device (`fua-waits.ts`).
 */
import type { BackingDurability } from '../background/backing-durability.js';
import type { Core } from '../core.js';
import { NO_HINT } from '../device/pmem.js';
import { DirectWrites } from './direct-writes.js';
import { assert, PcacheError } from '../errors.js';
import { MissReads } from './miss-reads.js';
import { PayloadMender } from './payload-mender.js';
import { ReadChecks } from './read-checks.js';
import { stageRead } from './read-path.js';
import { Op, RequestFlag, RequestState, whyRefused, type EngineGroup, type RequestGroup } from './request-group.js';
import { FuaWaits } from './fua-waits.js';
import { WaitQueue } from './wait-queue.js';
import { WritePath } from './write-path.js';
import { Zeroing } from './zeroing.js';

// Why constants are copied: see `pieces.ts`.
const { read: READ, write: WRITE, flush: FLUSH, trim: TRIM } = Op;
const { fua: FUA, preflush: PREFLUSH } = RequestFlag;
const { done: DONE, pending: PENDING, failed: FAILED } = RequestState;
const UNKNOWN_HINT = NO_HINT;

export class Requests {
  /** No further requests are taken. */
  isClosed = false;

  private readonly deviceBytes: number;
  private readonly misses: MissReads;
  private readonly checks: ReadChecks | undefined;
  private readonly mender: PayloadMender | undefined;
  private readonly writes: WritePath;
  /** Requests that wait for room; in the modes that write through also for their preflush, or for one another. */
  private readonly waiting = new WaitQueue();
  /** A write of the group that is being started has to wait; the writes behind it must not overtake it. */
  private isHeldUp = false;
  private readonly zeroing: Zeroing;
  /** Writes reach the backing device before they are acknowledged. */
  private readonly isThrough: boolean;
  /** Requests that wait for the backing device: in the modes that write through, and with direct writes. */
  private readonly through: FuaWaits | undefined;
  /** With writearound, or when holes are made. */
  private readonly direct: DirectWrites | undefined;

  /** @param durability needed in the modes that write through and when holes are made; its `onChange` is set here */
  constructor(
    private readonly core: Core,
    private readonly durability: BackingDurability | undefined,
    onProgress: () => void,
  ) {
    const partDone = (group: EngineGroup, request: number, error: PcacheError | undefined) => {
      this.partDone(group, request, error);
      onProgress();
    };
    this.deviceBytes = core.backing.sizeBytes;
    if (core.payloadCrcs) {
      this.mender = new PayloadMender(core, partDone);
      this.checks = new ReadChecks(core.pmem, core.segments, core.payloadCrcs, this.mender);
    }
    this.isThrough = core.isThrough;
    const isAround = core.mode === 'writearound';
    if (core.isThrough || core.punches) {
      assert(durability !== undefined, 'requests go to the backing device without knowing what reached it');
      this.through = new FuaWaits(durability, (...end) => this.partDone(...end));
      if (isAround || core.punches) this.direct = new DirectWrites(core, durability, partDone);
      durability.onChange = (error) => {
        if (!error) this.direct?.forgetFlushed();
        // In writeback mode requests wait for flushes alone: corrupt payload, which no flush minds, does not fail them.
        else if (this.isThrough || durability.failures > 0) this.through!.fail(error);
      };
    }
    this.writes = new WritePath(core, isAround ? this.direct : undefined, isAround ? undefined : this.direct);
    this.zeroing = new Zeroing(core, this.direct);
    const fills = core.mode !== 'writeonly';
    this.misses = new MissReads(
      core,
      partDone,
      (start, end) => fills && !this.direct?.isUnsettled(start, end),
      () => !this.needsRoom,
    );
  }

  /** Number of reads under way at the backing device. */
  get pendingReads(): number {
    return this.misses.pending;
  }
  /** Parts of requests are under way at the backing device. */
  get hasPendingParts(): boolean {
    return this.misses.pending > 0 || this.hasDirectWrites || (this.mender?.pending ?? 0) > 0;
  }
  /** Direct writes are under way. */
  get hasDirectWrites(): boolean {
    return (this.direct?.pending ?? 0) > 0;
  }
  /** Some direct write is not known to be durable on the backing device. */
  get hasUnsettledWrites(): boolean {
    return this.direct?.hasUnsettled ?? false;
  }
  /** A FLUSH has to flush the backing device: this thread or another has written past the cache. */
  private get owesFlush(): boolean {
    return this.hasUnsettledWrites || this.durability?.othersOweFlush === true;
  }
  get unsettledRanges(): number {
    return this.direct?.unsettledCount ?? 0;
  }
  /** Requests wait because there is no room. */
  get needsRoom(): boolean {
    const { log, segments } = this.core;
    return this.waiting.length > 0 && (log.isStuck || segments.isFullForData);
  }
  get waitingCount(): number {
    return this.waiting.length;
  }
  get hasWaiting(): boolean {
    return this.waiting.length > 0;
  }
  /** Requests wait for write-back to reach their keys, or for a flush of the backing device. */
  get hasThroughWaits(): boolean {
    return (this.through?.length ?? 0) > 0;
  }

  /**
   * Takes a group. At return every request that needed neither the backing device nor room has ended; each of the
   * others ends later, with a call of `group.onRequestDone`.
   * @returns the number of pending requests
   */
  submit(requests: RequestGroup): number {
    const group = requests as EngineGroup;
    const { core } = this;
    const { count } = group;
    if (group.blankFrom > 0) group.blank();
    group.pending = count;
    group.isBeingTaken = true;
    if (core.failure !== undefined || this.isClosed) {
      this.fail(group, core.failure ?? closedError(core.pmem.path));
    } else {
      try {
        if (group.hasReads) this.lookAhead(group, count);
        const needsMore = this.start(group, count);
        const logged = core.commit();
        if (core.copies.failed.length > 0) this.noteFailedReads(group);
        if (needsMore || group.blankFrom > 0) {
          this.settle(group, logged);
        } else {
          const { state } = group;
          for (let i = 0; i < count; i++) state[i] = DONE;
          group.pending = 0;
        }
      } catch (error) {
        this.stopIn(group, error);
      }
    }
    group.isBeingTaken = false;
    return group.pending;
  }

  /** The medium cannot read part of the payload: the requests that need it fail, and the cache goes on. */
  private noteFailedReads(group: EngineGroup): void {
    group.blankFrom = group.count;
    for (const { arenaOffsetBytes, error } of this.core.copies.failed.splice(0)) {
      for (let i = 0; i < group.count; i++) {
        const at = arenaOffsetBytes - group.arenaOffsetBytes[i];
        if (group.op[i] === READ && at >= 0 && at < group.lengthBytes[i]) group.errors[i] ??= error;
      }
    }
  }

  /** Makes all requests of a group fail that has not been submitted. */
  failGroup(group: RequestGroup, why: PcacheError): void {
    const engineGroup = group as EngineGroup;
    if (engineGroup.blankFrom > 0) engineGroup.blank();
    this.fail(engineGroup, why);
  }

  private fail(group: EngineGroup, why: PcacheError): void {
    group.blankFrom = group.count;
    for (let i = 0; i < group.count; i++) this.partDone(group, i, why);
  }

  /** Looks all requests up in the index side by side before they are needed one by one. A single one gains nothing. */
  private lookAhead(group: EngineGroup, count: number): void {
    if (count === 1) group.hint[0] = UNKNOWN_HINT;
    else this.core.index.lookAhead(group.subtree, group.startSector, count, group.hint);
  }

  /**
   * Starts the requests of a group in their order: begins the copies that can be begun. A write that finds no room is
   * left with `doneBytes` below its length.
   * @returns whether any request needs more than those copies
   */
  private start(group: EngineGroup, count: number): boolean {
    this.isHeldUp = false;
    const isMixed = group.isMixed || group.endBytes > this.deviceBytes;
    return isMixed ? this.startMixed(group, count) : this.startWrites(group, 0, count, group.fuaWrites);
  }

  private startMixed(group: EngineGroup, count: number): boolean {
    this.core.copies.beginReads(group.arena);
    let needsMore = this.isThrough || this.checks !== undefined;
    for (let i = 0; i < count;) {
      const end = this.endOfWrites(group, i, count);
      if (end === i) {
        if (this.startOther(group, i)) needsMore = true;
        i++;
      } else {
        let fuaWrites = 0;
        for (let k = i; k < end; k++) fuaWrites += group.flags[k];
        if (this.startWrites(group, i, end, fuaWrites)) needsMore = true;
        i = end;
      }
    }
    return needsMore;
  }

  /** End of the run of writes from request `i` on that can be begun together. */
  private endOfWrites(group: EngineGroup, i: number, count: number): number {
    let end = i;
    while (end < count && group.op[end] === WRITE && group.flags[end] <= FUA) {
      if (whyRefused(group, end, this.deviceBytes)) break;
      end++;
    }
    return end;
  }

  /**
   * Starts writes [from, to), of which `fuaWrites` are FUA.
   * @returns whether any request needs more than the copies that were begun
   */
  private startWrites(group: EngineGroup, from: number, to: number, fuaWrites: number): boolean {
    const isForced = fuaWrites > 0 || this.isThrough;
    const mustWait = this.waiting.length > 0 || this.isHeldUp;
    if (!mustWait) this.isHeldUp = this.writes.begin(group, from, to, isForced) < to;
    const { stats } = this.core;
    stats.writes += to - from;
    stats.fuaWrites += fuaWrites;
    const { lengthBytes } = group;
    for (let i = from; i < to; i++) stats.writeBytes += lengthBytes[i];
    return mustWait || this.isHeldUp || isForced;
  }

  /** Like `startWrites`, for a single request of any kind. */
  private startOther(group: EngineGroup, i: number): boolean {
    const { core } = this;
    const wrong = whyRefused(group, i, this.deviceBytes);
    if (wrong) {
      this.partDone(group, i, wrong);
      return true;
    }
    const { stats } = core;
    if (group.op[i] === READ) {
      stats.reads++;
      stats.readBytes += group.lengthBytes[i];
      stageRead(core, this.misses, this.checks, group, i);
      stats.readMissBytes += group.missBytes[i];
      if (group.missBytes[i] > 0) return true;
      stats.readHits++;
      return false;
    }
    if (group.op[i] === FLUSH) {
      stats.flushes++;
      core.log.markAllDue();
      return true;
    }
    this.countChange(group, i);
    if (this.waiting.length === 0 && !this.isHeldUp) this.isHeldUp = !this.advanceChange(group, i);
    return true;
  }

  private countChange(group: EngineGroup, i: number): void {
    const { stats } = this.core;
    const bytes = group.lengthBytes[i];
    if (group.op[i] === WRITE) {
      stats.writes++;
      stats.writeBytes += bytes;
      if ((group.flags[i] & FUA) !== 0) stats.fuaWrites++;
    } else if (group.op[i] === TRIM) {
      stats.trims++;
      stats.trimBytes += bytes;
    } else {
      stats.zeroes++;
      stats.zeroBytes += bytes;
    }
  }

  /**
   * Goes on with write, TRIM or zeroes `i` from its `doneBytes` on, as far as there is room and nothing is in the way.
   * @returns whether it is complete
   */
  private advanceChange(group: EngineGroup, i: number): boolean {
    if (group.op[i] !== WRITE) return this.zeroing.advance(group, i);
    if ((group.flags[i] & PREFLUSH) !== 0) {
      const isBegun = group.doneBytes[i] > 0 || group.lengthBytes[i] === 0;
      if (!isBegun && !this.preflush(group, i)) return false;
    }
    return this.writes.begin(group, i, i + 1, true) > i;
  }

  /** @returns whether everything that was acknowledged before write `i` is durable */
  private preflush(group: EngineGroup, i: number): boolean {
    const { core, through } = this;
    if (group.flush[i] === 0) {
      core.log.markAllDue();
      if (!core.commit()) return false;
      if (!this.isThrough && !this.owesFlush) return true;
      through!.requestPreflush(group, i, this.ksetToWaitFor);
    }
    return through!.isFlushed(group, i);
  }

  /** Acknowledges the requests after the commit, or makes them wait. */
  private settle(group: EngineGroup, logged: boolean): void {
    group.blankFrom = group.count;
    this.checks?.run(group);
    for (let i = 0; i < group.count; i++) {
      if (group.state[i] !== PENDING) continue;
      if (this.isServed(group, i, logged)) {
        this.served(group, i);
      } else {
        if (group.flush[i] === 0) this.core.stats.deferredRequests++; // otherwise it waits for its preflush
        this.waiting.push(group, i);
      }
    }
  }

  /**
   * The cache device has all of request `i`. In the modes that write through the backing device must have it, too, and
   * what went there must be durable when a FLUSH or FUA says so.
   */
  private served(group: EngineGroup, i: number): void {
    if (group.op[i] !== READ && this.concernsBacking(group, i)) {
      if (this.through!.add(group, i, this.ksetToWaitFor)) return;
    }
    this.partDone(group, i, undefined);
  }

  private concernsBacking(group: EngineGroup, i: number): boolean {
    if (this.isThrough || group.missBytes[i] > 0) return true;
    const isFlush = group.op[i] === FLUSH || (group.lengthBytes[i] === 0 && (group.flags[i] & (FUA | PREFLUSH)) !== 0);
    return isFlush && this.owesFlush;
  }

  /** In writeback mode no kset has to be on the backing device before a flush of it. */
  private get ksetToWaitFor(): number {
    return this.isThrough ? this.core.log.ksetsClosed : -Infinity;
  }

  /** Whether the cache device has done all that request `i` needs. @param logged all due ksets are in the log */
  private isServed(group: EngineGroup, i: number, logged: boolean): boolean {
    const op = group.op[i];
    if (op === READ) return true;
    if (op !== FLUSH && group.doneBytes[i] < group.lengthBytes[i]) return false;
    // A write that is not empty did its preflush before it took room.
    const forced = group.lengthBytes[i] === 0 ? FUA | PREFLUSH : FUA;
    const needsLog = op === FLUSH || (group.flags[i] & forced) !== 0 || this.isThrough;
    return logged || !needsLog;
  }

  /** A part of a request has ended; the last part ends the request. */
  private partDone(group: EngineGroup, i: number, error: PcacheError | undefined): void {
    if (error) group.errors[i] ??= error;
    assert(group.state[i] === PENDING, 'a request ends twice');
    if (group.parts[i] > 0) {
      group.parts[i]--;
      return;
    }
    if (group.errors[i]) {
      group.state[i] = FAILED;
      this.core.stats.failedRequests++;
    } else {
      group.state[i] = DONE;
    }
    group.pending--;
    if (!group.isBeingTaken) group.onRequestDone?.(group, i); // the caller of `submit` sees by `state` what ended at once
  }

  private stopIn(group: EngineGroup, error: unknown): void {
    group.blankFrom = group.count;
    try {
      this.stopOn(error, group);
    } finally {
      group.isBeingTaken = false;
    }
  }

  /** The cache device failed, perhaps in the middle of a group: nothing more can be acknowledged. */
  stopOn(error: unknown, group?: EngineGroup): void {
    const failure = this.core.fail(error);
    if (group) {
      for (let i = 0; i < group.count; i++) {
        if (group.state[i] === PENDING && !this.waits(group, i)) this.partDone(group, i, failure);
      }
    }
    this.failWaiting(failure);
  }

  private waits(group: EngineGroup, i: number): boolean {
    return this.waiting.has(group, i) || (this.through?.has(group, i) ?? false);
  }

  /** Makes all waiting requests fail. */
  failWaiting(error: PcacheError): void {
    this.waiting.drain((group, request) => this.partDone(group, request, error));
    this.through?.fail(error);
    this.through?.settle();
  }

  /**
   * Goes on with the waiting requests, in their order.
   * @returns whether any of them made progress
   */
  serveWaiting(): boolean {
    const { core } = this;
    let worked = false;
    while (this.waiting.length > 0) {
      const group = this.waiting.firstGroup;
      const i = this.waiting.firstRequest;
      const before = group.doneBytes[i];
      if (group.op[i] !== FLUSH) this.advanceChange(group, i);
      const logged = core.commit();
      if (!this.isServed(group, i, logged)) return worked || group.doneBytes[i] > before;
      this.waiting.shift();
      this.served(group, i);
      worked = true;
    }
    return worked;
  }

  /**
   * Acknowledges the requests whose data write-back has put onto the backing device.
   * @returns whether it did anything
   */
  settleThrough(): boolean {
    return this.through?.settle() ?? false;
  }
}

/** Error of a request to a cache that is closed. */
export function closedError(path: string): PcacheError {
  return new PcacheError('CLOSED', `${path}: the cache is closed`);
}
