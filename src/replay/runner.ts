/**
 * Drives a cache with a trace. Requests are submitted in trace order, each as what it is; a bounded number is
 * under way at once. At full speed the next one goes as soon as there is a place for it; with pacing, not
 * before its time.
 */
import type { CacheDriver, PcacheError } from '../engine/index.js';
import { Op, RequestFlag, RequestState } from '../engine/index.js';
import type { Pmem } from '../engine/device/pmem.js';
import { TraceFlag, TraceOp, type TraceBatch } from '../trace/index.js';
import { latencyKind, LatencyRecorder } from './latency.js';
import { Slot } from './slot.js';
import { TimelineRecorder, type ReplayTimeline } from './timeline-recorder.js';
import { RunTotals } from './totals.js';
import type { Verifier } from './verifier.js';

/** Requests under way at most, and bytes of them: what bounds memory. */
const SLOTS = 32;
const BYTES_UNDER_WAY = 32 * 1024 * 1024;
/** Requests between two turns of the event loop, where write-back and GC get theirs. */
const REQUESTS_PER_TURN = 64;

export interface RunnerOptions {
  readonly driver: CacheDriver;
  readonly pmem: Pmem;
  /** 1 replays in the time of the trace, 2 twice as fast; Infinity does not wait. */
  readonly speed: number;
  /** Stop after that many requests. */
  readonly limit: number;
  readonly verifier: Verifier | undefined;
  /** Milliseconds, of the highest resolution there is. */
  readonly nowMs: () => number;
  readonly onProgress: (requests: number) => void;
}

export class Runner {
  readonly totals = new RunTotals();
  /** How late a paced request was submitted at worst, ms. */
  maxLagMs = 0;
  readonly latency = {
    readHit: new LatencyRecorder(),
    readMiss: new LatencyRecorder(),
    write: new LatencyRecorder(),
    flush: new LatencyRecorder(),
  };
  private readonly recorder: TimelineRecorder;
  private readonly free: Slot[] = [];
  private readonly all: Slot[] = [];
  private bytesUnderWay = 0;
  private wake: (() => void) | undefined;
  private failure: PcacheError | undefined;
  private stopped = false;
  private readonly startedMs: number;

  constructor(private readonly options: RunnerOptions) {
    for (let n = 0; n < SLOTS; n++) this.all.push(new Slot(options.pmem, (slot) => this.ended(slot)));
    this.free.push(...this.all);
    this.recorder = new TimelineRecorder(options.driver.cache);
    this.startedMs = options.nowMs();
  }

  /** Asks the run to end after what is under way. */
  stop(): void {
    this.stopped = true;
    this.wake?.();
  }

  get isStopped(): boolean {
    return this.stopped;
  }

  /** Replays everything, and waits for the last request to end. Throws the first failure of a request. */
  async run(batches: AsyncIterable<TraceBatch>): Promise<void> {
    try {
      for await (const batch of batches) {
        if (!(await this.runBatch(batch))) break;
      }
    } finally {
      while (this.free.length < SLOTS) await this.oneEnds();
      for (const slot of this.all) slot.release();
    }
    if (this.failure) throw this.failure;
  }

  /** @returns false when the run is over. */
  private async runBatch(batch: TraceBatch): Promise<boolean> {
    for (let i = 0; i < batch.count; i++) {
      if (this.stopped || this.failure || this.totals.requests >= this.options.limit) return false;
      const op = batch.op[i];
      if (op === TraceOp.discard) {
        this.totals.discard(batch.lengthBytes[i]);
        continue;
      }
      const length = op === TraceOp.flush ? 0 : batch.lengthBytes[i];
      while (!this.hasRoom(length)) await this.oneEnds();
      if (this.options.speed !== Infinity) await this.waitUntil(batch.timeNs[i] / 1e6 / this.options.speed);
      if (this.stopped || this.failure) return false;
      this.submit(op, batch.flags[i], batch.offsetBytes[i], length, batch.timeNs[i]);
      if (this.totals.requests % REQUESTS_PER_TURN === 0) await this.turn();
    }
    return true;
  }

  private hasRoom(length: number): boolean {
    if (this.free.length === 0) return false;
    return this.bytesUnderWay === 0 || this.bytesUnderWay + length <= BYTES_UNDER_WAY;
  }

  private oneEnds(): Promise<void> {
    return new Promise((resolve) => {
      this.wake = () => {
        this.wake = undefined;
        resolve();
      };
    });
  }

  private async turn(): Promise<void> {
    this.totals.sample(this.options.driver.cache.segmentsUsed);
    this.options.onProgress(this.totals.requests);
    await new Promise((resolve) => setImmediate(resolve));
  }

  private async waitUntil(dueMs: number): Promise<void> {
    const { nowMs } = this.options;
    for (;;) {
      const early = dueMs - (nowMs() - this.startedMs);
      if (early <= 0) {
        this.maxLagMs = Math.max(this.maxLagMs, -early);
        return;
      }
      if (this.stopped) return;
      // A timer is a millisecond off at best; the rest is waited for turn by turn.
      if (early > 2) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, Math.min(early - 1, 100));
          if (this.stopped) {
            clearTimeout(timer);
            resolve();
          }
        });
      } else await new Promise((resolve) => setImmediate(resolve));
      this.recorder.passes(this.elapsedNs());
      this.options.onProgress(this.totals.requests);
    }
  }

  /** What happened over time, up to now; to be asked once, when the run has ended. */
  finishTimeline(): ReplayTimeline {
    return this.recorder.finish(this.elapsedNs());
  }

  private elapsedNs(): number {
    return (this.options.nowMs() - this.startedMs) * 1e6;
  }

  private submit(traceOp: number, traceFlags: number, offsetBytes: number, lengthBytes: number, traceNs: number): void {
    const { verifier, driver, nowMs } = this.options;
    const slot = this.free.pop()!;
    const op = traceOp === TraceOp.read ? Op.read : traceOp === TraceOp.write ? Op.write : Op.flush;
    let flags = 0;
    if (op === Op.write) {
      if ((traceFlags & TraceFlag.fua) !== 0) flags |= RequestFlag.fua;
      if ((traceFlags & TraceFlag.preflush) !== 0) flags |= RequestFlag.preflush;
    }
    slot.set(op, flags, offsetBytes, lengthBytes);
    this.totals.requests++;
    this.bytesUnderWay += lengthBytes;
    if (op === Op.read) {
      this.totals.readBytes += lengthBytes;
      verifier?.beforeRead(offsetBytes, lengthBytes, slot.versions);
    } else if (op === Op.write) {
      this.totals.writeBytes += lengthBytes;
      this.totals.forced(flags);
      verifier?.beforeWrite(offsetBytes, lengthBytes, slot.words, slot.versions);
    }
    slot.submittedMs = nowMs();
    this.recorder.submits((slot.submittedMs - this.startedMs) * 1e6, slot.group, traceNs);
    const pending = driver.cache.submit(slot.group);
    driver.kick();
    if (pending === 0) this.ended(slot);
  }

  private ended(slot: Slot): void {
    const { verifier, nowMs } = this.options;
    const tookMs = nowMs() - slot.submittedMs;
    const { group } = slot;
    this.bytesUnderWay -= slot.lengthBytes;
    this.free.push(slot);
    if (group.state[0] === RequestState.failed) {
      this.failure ??= group.errors[0];
      this.wake?.();
      return;
    }
    const kind = latencyKind(slot.op, group.missBytes[0]);
    this.latency[kind].recordMs(tookMs);
    this.recorder.ended((slot.submittedMs - this.startedMs) * 1e6, kind, tookMs);
    if (slot.op === Op.read) {
      verifier?.readEnded(slot.offsetBytes, slot.lengthBytes, slot.words, slot.versions);
    } else if (slot.op === Op.write) {
      verifier?.writeEnded(slot.offsetBytes, slot.lengthBytes, slot.versions);
    }
    this.wake?.();
  }
}
