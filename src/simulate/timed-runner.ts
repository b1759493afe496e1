/**
 * Drives a cache with a trace in simulated time: requests come at their time, the backing device's answers and
 * the cache's deadlines at theirs, and after each of these the cache works until it has nothing to do. What the
 * cache itself computes takes no time; what it stores and loads takes what the model of pmem says, and that
 * delays only the request itself.
 */
import { assert, CacheDriver, Op, RequestFlag, RequestGroup, RequestState } from '../engine/index.js';
import type { Cache, CloseReport, PcacheError } from '../engine/index.js';
import type { Arena, Pmem } from '../engine/device/pmem.js';
import { MIB } from '../engine/media/geometry.js';
import { latencyHistogram, latencyKind, LatencyRecorder } from '../replay/latency.js';
import type { ReplayParts } from '../replay/replay-result.js';
import { TimelineRecorder } from '../replay/timeline-recorder.js';
import { RunTotals } from '../replay/totals.js';
import type { VirtualClock } from '../replay/virtual-clock.js';
import { TraceFlag, TraceOp, type TraceBatch } from '../trace/index.js';
import type { LatencyModel } from './latency-model.js';
import { QueueModel } from './queue-model.js';
import type { TimedBacking } from './timed-backing.js';

/** Requests under way at most; more wait before the cache, and their waiting counts. */
const UNDER_WAY_MAX = 1024;
const FIRST_ARENA_BYTES = MIB;
const NS_PER_MS = 1e6;

/** A request under way. */
class Slot {
  op = 0;
  lengthBytes = 0;
  atMs = 0;
  constructor(readonly group: RequestGroup) {}
}

export interface TimedOptions {
  readonly cache: Cache;
  readonly pmem: Pmem;
  readonly backing: TimedBacking;
  readonly clock: VirtualClock;
  readonly model: LatencyModel;
  /** Of the backing device. */
  readonly queue: QueueModel;
  /** 1 for the trace's pace, 2 for twice as fast. */
  readonly speed: number;
  readonly limit: number;
  readonly onProgress: (requests: number) => void;
}

export class TimedRunner {
  private readonly totals = new RunTotals();
  private readonly recorder: TimelineRecorder;
  private readonly latency = {
    readHit: new LatencyRecorder(),
    readMiss: new LatencyRecorder(),
    write: new LatencyRecorder(),
    flush: new LatencyRecorder(),
  };
  private readonly alone: AloneModel;
  private readonly free: Slot[] = [];
  private underWay = 0;
  private arena: Arena;
  private maxLagMs = 0;
  private failure: PcacheError | undefined;
  private stopped = false;

  constructor(private readonly options: TimedOptions) {
    this.alone = new AloneModel(options.model, options.backing.sizeBytes);
    this.recorder = new TimelineRecorder(options.cache);
    this.arena = options.pmem.registerArena(new Uint8Array(FIRST_ARENA_BYTES));
  }

  /** Asks the run to end after what is under way. */
  stop(): void {
    this.stopped = true;
  }
  get isStopped(): boolean {
    return this.stopped;
  }

  /** Replays everything, and goes on until the last request has ended. @throws the first failure of a request */
  async run(batches: AsyncIterable<TraceBatch>): Promise<void> {
    const { totals, options } = this;
    reading: for await (const batch of batches) {
      for (let i = 0; i < batch.count; i++) {
        if (this.stopped || this.failure || totals.requests >= options.limit) break reading;
        if (batch.op[i] === TraceOp.discard) totals.discard(batch.lengthBytes[i]);
        else this.take(batch, i);
      }
      options.onProgress(totals.requests);
    }
    while (this.underWay > 0) this.nextEvent();
    if (this.failure) throw this.failure;
  }

  /** Closes the open ksets, has everything written back, and closes the cache. */
  async close(): Promise<CloseReport> {
    const { cache, clock, pmem, backing } = this.options;
    cache.requestClose();
    cache.hurryWriteback = true;
    this.work();
    while (backing.nextEndMs < Infinity) this.nextEvent();
    pmem.unregisterArena(this.arena);
    return new CacheDriver(cache, clock).close();
  }

  /** What a result says of the run, once it is over. */
  describe(): Pick<
    ReplayParts,
    'run' | 'latency' | 'latencyHistogram' | 'latencyWithoutCache' | 'model' | 'maxLagNs' | 'timeline'
  > {
    const { readHit, readMiss, write, flush } = this.latency;
    const { model, queue, clock } = this.options;
    const availableNs = clock.nowMs() * NS_PER_MS * model.backing.depth;
    const share = (busyNs: number) => (availableNs > 0 ? busyNs / availableNs : null);
    return {
      model: {
        ...model,
        backingBusy: share(queue.busyNs),
        backingBusyWithoutCache: share(this.alone.queue.busyNs),
      },
      run: this.totals,
      latency: {
        readHit: readHit.summary(),
        readMiss: readMiss.summary(),
        write: write.summary(),
        flush: flush.summary(),
      },
      latencyHistogram: latencyHistogram(this.latency),
      latencyWithoutCache: this.alone.summaries(),
      maxLagNs: Math.round(this.maxLagMs * NS_PER_MS),
      timeline: this.recorder.finish(this.options.clock.nowMs() * NS_PER_MS),
    };
  }

  // ---- requests ---------------------------------------------------------------------------------------

  private take(batch: TraceBatch, i: number): void {
    const { cache, clock, speed } = this.options;
    const atMs = batch.timeNs[i] / NS_PER_MS / speed;
    while (this.nextEventMs() <= atMs) this.nextEvent();
    while (this.underWay >= UNDER_WAY_MAX) this.nextEvent();
    clock.moveTo(atMs);
    this.maxLagMs = Math.max(this.maxLagMs, clock.nowMs() - atMs);
    const slot = this.fill(batch, i, atMs);
    const { group } = slot;
    this.alone.take(slot.op, group.flags[0], atMs * NS_PER_MS, group.offsetBytes[0], slot.lengthBytes);
    this.recorder.submits(clock.nowMs() * NS_PER_MS, group, batch.timeNs[i]);
    this.underWay++;
    if (cache.submit(group) === 0) this.ended(slot);
    this.work();
    this.totals.sample(cache.segmentsUsed);
  }

  private fill(batch: TraceBatch, i: number, atMs: number): Slot {
    const { totals } = this;
    const traceOp = batch.op[i];
    const lengthBytes = traceOp === TraceOp.flush ? 0 : batch.lengthBytes[i];
    const slot = this.slotFor(lengthBytes);
    let flags = 0;
    slot.op = traceOp === TraceOp.read ? Op.read : traceOp === TraceOp.write ? Op.write : Op.flush;
    if (slot.op === Op.read) totals.readBytes += lengthBytes;
    if (slot.op === Op.write) {
      totals.writeBytes += lengthBytes;
      if ((batch.flags[i] & TraceFlag.fua) !== 0) flags |= RequestFlag.fua;
      if ((batch.flags[i] & TraceFlag.preflush) !== 0) flags |= RequestFlag.preflush;
      totals.forced(flags);
    }
    totals.requests++;
    slot.lengthBytes = lengthBytes;
    slot.atMs = atMs;
    slot.group.clear();
    slot.group.add(slot.op, batch.offsetBytes[i], lengthBytes, 0, flags);
    return slot;
  }

  /** No payload is moved, so all requests share the memory. */
  private slotFor(lengthBytes: number): Slot {
    if (lengthBytes > this.arena.memory.length) {
      this.arena = this.options.pmem.registerArena(new Uint8Array(lengthBytes));
      this.free.length = 0;
    }
    const slot = this.free.pop();
    if (slot) return slot;
    const made = new Slot(new RequestGroup(1, this.arena));
    made.group.onRequestDone = () => this.ended(made);
    return made;
  }

  private ended(slot: Slot): void {
    const { group, op, lengthBytes } = slot;
    const { model, clock } = this.options;
    this.underWay--;
    if (group.arena === this.arena) this.free.push(slot);
    if (group.state[0] === RequestState.failed) {
      this.failure ??= group.errors[0];
      return;
    }
    const missBytes = group.missBytes[0];
    const tookMs = clock.nowMs() - slot.atMs + pmemNs(model, op, lengthBytes, missBytes) / NS_PER_MS;
    const kind = latencyKind(op, missBytes);
    this.latency[kind].recordMs(tookMs);
    this.recorder.ended(slot.atMs * NS_PER_MS, kind, tookMs);
  }

  // ---- time -------------------------------------------------------------------------------------------

  private nextEventMs(): number {
    const { cache, backing } = this.options;
    return Math.min(backing.nextEndMs, cache.nextDeadlineMs);
  }

  /** Goes on to the next thing that happens by itself. */
  private nextEvent(): void {
    const { cache, backing, clock } = this.options;
    const endMs = backing.nextEndMs;
    const deadlineMs = cache.nextDeadlineMs;
    assert(endMs < Infinity || deadlineMs < Infinity, 'requests wait, and nothing is going to happen');
    if (endMs <= deadlineMs) {
      clock.moveTo(endMs);
      backing.answerNext();
    } else clock.reach(deadlineMs);
    this.work();
  }

  private work(): void {
    const { cache } = this.options;
    while (cache.step());
  }
}

/** What the cache device adds to a request. */
export function pmemNs({ pmem }: LatencyModel, op: number, lengthBytes: number, missBytes: number): number {
  if (op === Op.flush) return pmem.writeNs;
  if (op === Op.write) return pmem.writeNs + (lengthBytes / pmem.writeBytesPerSecond) * 1e9;
  const hitNs = ((lengthBytes - missBytes) / pmem.readBytesPerSecond) * 1e9;
  return pmem.readNs + hitNs + (missBytes / pmem.writeBytesPerSecond) * 1e9;
}

/** The same requests on the backing device without a cache. */
class AloneModel {
  readonly queue: QueueModel;
  private readonly latency = {
    read: new LatencyRecorder(),
    write: new LatencyRecorder(),
    flush: new LatencyRecorder(),
  };

  constructor(model: LatencyModel, backingBytes: number) {
    this.queue = new QueueModel(model.backing, backingBytes);
  }

  take(op: number, flags: number, nowNs: number, offsetBytes: number, lengthBytes: number): void {
    const { queue, latency } = this;
    if (op === Op.read) {
      latency.read.recordMs((queue.read(nowNs, offsetBytes, lengthBytes) - nowNs) / NS_PER_MS);
    } else if (op === Op.write) {
      if ((flags & RequestFlag.preflush) !== 0) queue.flush(nowNs);
      const written = queue.write(nowNs, offsetBytes, lengthBytes);
      const end = (flags & RequestFlag.fua) !== 0 ? queue.flush(nowNs) : written;
      latency.write.recordMs((end - nowNs) / NS_PER_MS);
    } else {
      latency.flush.recordMs((queue.flush(nowNs) - nowNs) / NS_PER_MS);
    }
  }

  summaries(): NonNullable<ReplayParts['latencyWithoutCache']> {
    const { read, write, flush } = this.latency;
    return { read: read.summary(), write: write.summary(), flush: flush.summary() };
  }
}
