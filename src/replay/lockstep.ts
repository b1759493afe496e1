/**
 * Drives a cache with a trace step by step, so that the outcome depends on the trace and the cache alone and
 * not on how fast anything is: a simulation and a replay on real devices make the same decisions.
 *
 * Time is the trace's. Requests go in groups: a group is submitted, then background work runs until there is
 * none left, every call of the backing device being answered, in order, as soon as it was made; then comes the
 * next group. Deadlines of the cache that fall between two groups are kept at their time.
 */
import { assert, CacheDriver, Op, RequestFlag, RequestGroup, RequestState } from '../engine/index.js';
import type { Cache, CloseReport } from '../engine/index.js';
import type { Arena, Pmem } from '../engine/device/pmem.js';
import { MIB, SECTOR_SHIFT } from '../engine/media/geometry.js';
import { TraceFlag, TraceOp, type TraceBatch } from '../trace/index.js';
import type { ReplayParts } from './replay-result.js';
import { TimelineRecorder } from './timeline-recorder.js';
import { RunTotals } from './totals.js';
import type { Verifier } from './verifier.js';
import type { VirtualClock } from './virtual-clock.js';

/** Requests in a group at most, and bytes of them; a larger request is alone in its group. */
export const LOCKSTEP_GROUP_REQUESTS = 32;
const GROUP_BYTES = 8 * MIB;

/** What a lockstep run needs of a backing device. */
export interface AnsweringBacking {
  /** Calls wait for their answer. */
  readonly isBusy: boolean;
  /**
   * Answers all calls that wait, those that an answer leads to as well, in the order they were made.
   * @returns undefined when that is done, or what has to be awaited.
   */
  answerAll(): Promise<void> | undefined;
}

/** What cannot be told where time is the trace's. */
type Timeless = 'latency' | 'latencyHistogram' | 'latencyWithoutCache' | 'model' | 'maxLagNs';

export interface LockstepOptions {
  readonly cache: Cache;
  readonly pmem: Pmem;
  readonly backing: AnsweringBacking;
  /** The cache's. */
  readonly clock: VirtualClock;
  /** Stop after that many requests. */
  readonly limit: number;
  readonly verifier: Verifier | undefined;
  readonly onProgress: (requests: number) => void;
}

export class LockstepRunner {
  readonly totals = new RunTotals();
  private readonly recorder: TimelineRecorder;
  private arena: Arena;
  private group: RequestGroup;
  private groupBytes = 0;
  /** Time of its last request. */
  private groupAtMs = 0;
  /** Of `--verify`: a version for each sector of the arena. */
  private versions: Uint32Array;
  /** When the cache wants to be stepped next; changes only when a group has been served. */
  private deadlineMs: number;
  /** The group is under way. */
  private submitted = false;
  private stopped = false;

  constructor(private readonly options: LockstepOptions) {
    ({ arena: this.arena, group: this.group, versions: this.versions } = this.makeGroup(GROUP_BYTES));
    this.recorder = new TimelineRecorder(options.cache);
    this.deadlineMs = options.cache.nextDeadlineMs;
  }

  private makeGroup(bytes: number) {
    const { pmem, verifier } = this.options;
    const arena = pmem.registerArena(new Uint8Array(bytes));
    const group = new RequestGroup(LOCKSTEP_GROUP_REQUESTS, arena);
    return { arena, group, versions: new Uint32Array(verifier ? bytes >>> SECTOR_SHIFT : 0) };
  }

  /** Asks the run to end after the group that is being served. */
  stop(): void {
    this.stopped = true;
  }
  get isStopped(): boolean {
    return this.stopped;
  }

  /**
   * Replays everything.
   * @throws the first failure of a request
   */
  async run(batches: AsyncIterable<TraceBatch>): Promise<void> {
    const { totals, options } = this;
    reading: for await (const batch of batches) {
      for (let i = 0; i < batch.count; i++) {
        if (this.stopped || totals.requests >= options.limit) break reading;
        if (batch.op[i] === TraceOp.discard) {
          totals.discard(batch.lengthBytes[i]);
          continue;
        }
        const atMs = batch.timeNs[i] / 1e6;
        const length = batch.op[i] === TraceOp.flush ? 0 : batch.lengthBytes[i];
        if (!this.mayJoin(atMs, length)) {
          const wait = this.serve(atMs);
          if (wait) await wait;
        }
        this.add(batch.op[i], batch.flags[i], batch.offsetBytes[i], length);
        this.groupAtMs = atMs;
      }
      options.onProgress(totals.requests);
    }
    await this.serve(this.groupAtMs);
  }

  /** Closes the open ksets and has everything written back, if the backing device takes it. */
  async drain(): Promise<void> {
    const { cache, clock } = this.options;
    cache.requestClose();
    cache.hurryWriteback = true;
    await this.serve(clock.nowMs());
    while (cache.writebackError && !cache.isWritebackHopeless && this.deadlineMs < Infinity) {
      await this.serve(this.deadlineMs); // when it is tried again
    }
  }

  /** Drains and closes the cache. */
  async close(): Promise<CloseReport> {
    const { cache, clock, pmem } = this.options;
    await this.drain();
    pmem.unregisterArena(this.arena);
    return new CacheDriver(cache, clock).close();
  }

  /** What a result says of the run, once it is over; no latency, for time was the trace's. */
  describe(): Pick<ReplayParts, 'run' | 'timeline'> & Record<Timeless, null> {
    const timeline = this.recorder.finish(this.options.clock.nowMs() * 1e6);
    return {
      run: this.totals,
      latency: null,
      latencyHistogram: null,
      latencyWithoutCache: null,
      model: null,
      maxLagNs: null,
      timeline,
    };
  }

  // ---- groups -----------------------------------------------------------------------------------------

  /** Whether a request of that time and length may be in the group that is being filled. */
  private mayJoin(atMs: number, lengthBytes: number): boolean {
    if (atMs >= this.deadlineMs) return false;
    if (this.group.count === 0) return lengthBytes <= this.arena.memory.length;
    return this.group.count < LOCKSTEP_GROUP_REQUESTS && this.groupBytes + lengthBytes <= GROUP_BYTES;
  }

  private add(traceOp: number, traceFlags: number, offsetBytes: number, lengthBytes: number): void {
    if (lengthBytes > this.arena.memory.length) this.enlarge(lengthBytes);
    const { totals, group } = this;
    let flags = 0;
    let op: number = Op.flush;
    if (traceOp === TraceOp.read) {
      op = Op.read;
      totals.readBytes += lengthBytes;
    } else if (traceOp === TraceOp.write) {
      op = Op.write;
      totals.writeBytes += lengthBytes;
      if ((traceFlags & TraceFlag.fua) !== 0) flags |= RequestFlag.fua;
      if ((traceFlags & TraceFlag.preflush) !== 0) flags |= RequestFlag.preflush;
      if (flags !== 0) totals.forced(flags);
    }
    group.add(op, offsetBytes, lengthBytes, this.groupBytes, flags);
    this.groupBytes += lengthBytes;
    totals.requests++;
  }

  /** Makes room for a single request that is larger than all before; the group is empty. */
  private enlarge(bytes: number): void {
    this.options.pmem.unregisterArena(this.arena);
    ({ arena: this.arena, group: this.group, versions: this.versions } = this.makeGroup(bytes));
  }

  /**
   * Submits the group, if there is one, and does all background work up to the time `atMs`.
   * @returns undefined when that is done, or what has to be awaited.
   */
  private serve(atMs: number): Promise<void> | undefined {
    const { cache, backing, clock } = this.options;
    if (!this.submitted && this.group.count > 0) this.submit();
    for (;;) {
      for (let worked = true; worked;) {
        worked = cache.step();
        if (!backing.isBusy) continue;
        const wait = backing.answerAll();
        if (wait) return wait.then(() => this.serve(atMs));
        worked = true;
      }
      this.deadlineMs = cache.nextDeadlineMs;
      if (this.group.pending > 0) {
        assert(this.deadlineMs < Infinity, 'requests wait, and nothing is going to happen');
      } else {
        if (this.submitted) this.ended();
        if (this.deadlineMs > atMs) return undefined;
      }
      clock.reach(this.deadlineMs);
    }
  }

  private submit(): void {
    const { cache, clock, verifier } = this.options;
    const { group } = this;
    if (verifier) {
      this.eachPayload((op, offset, length, words, versions) => {
        if (op === Op.write) verifier.beforeWrite(offset, length, words, versions);
        else verifier.beforeRead(offset, length, versions);
      });
    }
    this.submitted = true;
    clock.moveTo(this.groupAtMs);
    const nowNs = clock.nowMs() * 1e6;
    this.recorder.submits(nowNs, group, nowNs);
    cache.submit(group);
  }

  /** All requests of the group have ended. */
  private ended(): void {
    const { cache, verifier } = this.options;
    const { group, totals } = this;
    this.submitted = false;
    totals.sample(cache.segmentsUsed);
    const failed =
      cache.stats.failedRequests > 0 ? group.state.subarray(0, group.count).indexOf(RequestState.failed) : -1;
    const failure = failed < 0 ? undefined : group.errors[failed];
    if (verifier && !failure) {
      this.eachPayload((op, offset, length, words, versions) => {
        if (op === Op.write) verifier.writeEnded(offset, length, versions);
        else verifier.readEnded(offset, length, words, versions);
      });
    }
    group.clear();
    this.groupBytes = 0;
    if (failure) throw failure;
  }

  /** Calls `body` with the memory of each read and write of the group. */
  private eachPayload(
    body: (op: number, offsetBytes: number, lengthBytes: number, words: Uint32Array, versions: Uint32Array) => void,
  ): void {
    const { group } = this;
    for (let i = 0; i < group.count; i++) {
      const length = group.lengthBytes[i];
      if (length === 0) continue;
      const at = group.arenaOffsetBytes[i];
      const words = new Uint32Array(this.arena.memory.buffer, at, length / 4);
      body(group.op[i], group.offsetBytes[i], length, words, this.versions.subarray(at >>> SECTOR_SHIFT));
    }
  }
}
