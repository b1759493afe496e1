/**
 * The requests of a ublk device: from its queue to the store in groups (all that have come together share a fence), and
 * the results back. Their payload stays where the driver puts it and takes it from, which is the arena of the groups.
 * Nothing is answered before the store has ended it.
 *
 * Every write is answered only when it is in the log, as with FUA. The device outlives a server that is killed, and its
 * users do not notice: an answered write that was lost with the server would be missing although a later flush, answered
 * by the next server, succeeds. So are zeroes. A DISCARD is not durable when it is answered: what is lost is given back
 * again by the next one.
 */
import { RequestOp } from '../block-device/ublk-abi.js';
import type { QueueServer, UblkQueue } from '../block-device/ublk-queue.js';
import { assert, Op, RequestFlag, RequestState } from '../engine/index.js';
import { BatchPool, type Batch } from './ops.js';
import { errorNumber } from './replies.js';
import { Kind, type ServerStats } from './stats.js';
import type { Store } from './store.js';
import { HeldReplies, type WritePacer } from './write-pacer.js';

export interface UblkRequestsOptions {
  readonly store: Store;
  readonly stats: ServerStats;
  readonly pacer: WritePacer;
  readonly nowMs: () => number;
  /** Receives what belongs in a log. */
  readonly tell: (kind: string, text: string) => void;
}

const EOPNOTSUPP = 95;
const NAMES: Readonly<Record<number, string>> = {
  [RequestOp.read]: 'read',
  [RequestOp.write]: 'write',
  [RequestOp.flush]: 'flush',
  [RequestOp.discard]: 'discard',
  [RequestOp.writeZeroes]: 'write of zeroes',
};

export class UblkRequests implements QueueServer {
  readonly memory: Uint8Array;
  private readonly batches: BatchPool;
  /** Reads that are being gathered; apart from the rest, which may wait for a sync. */
  private reads: Batch | undefined;
  private writes: Batch | undefined;
  private readonly held: HeldReplies;
  /** Writes that wait until fewer replies are held back. */
  private readonly waiting: number[] = [];
  private isFlushScheduled = false;

  // By tag: what the driver has asked for.
  private readonly op: Uint8Array;
  private readonly offsetBytes: Float64Array;
  private readonly lengthBytes: Uint32Array;
  private readonly receivedMs: Float64Array;
  private readonly missed: Uint8Array;

  constructor(
    private readonly queue: UblkQueue,
    private readonly options: UblkRequestsOptions,
  ) {
    const { depth, maxIoBytes } = queue;
    const arena = options.store.makeArena(depth * maxIoBytes);
    this.memory = arena.memory;
    this.batches = new BatchPool(arena, (batch, i) => this.endedLater(batch, i));
    this.held = new HeldReplies(
      (tag) => this.complete(tag, this.lengthBytes[tag]),
      () => this.goOn(),
    );
    this.op = new Uint8Array(depth);
    this.offsetBytes = new Float64Array(depth);
    this.lengthBytes = new Uint32Array(depth);
    this.receivedMs = new Float64Array(depth);
    this.missed = new Uint8Array(depth);
  }

  take(count: number): void {
    const { columns } = this.queue;
    const nowMs = this.options.nowMs();
    for (let i = 0; i < count; i++) {
      const tag = columns.tag[i];
      this.op[tag] = columns.op[i];
      this.offsetBytes[tag] = columns.offsetBytes[i];
      this.lengthBytes[tag] = columns.lengthBytes[i];
      this.receivedMs[tag] = nowMs;
      this.missed[tag] = 0;
      this.begin(tag);
    }
    this.submit();
    this.queue.flush();
  }

  private begin(tag: number): void {
    const { stats } = this.options;
    const length = this.lengthBytes[tag];
    stats.requests++;
    switch (this.op[tag]) {
      case RequestOp.read:
        stats.readRequests++;
        stats.readBytes += length;
        this.reads = this.add(this.reads, tag, Op.read, 0);
        break;
      case RequestOp.write:
        stats.writeRequests++;
        stats.writeBytes += length;
        this.addChange(tag);
        break;
      case RequestOp.writeZeroes:
        stats.zeroRequests++;
        stats.zeroBytes += length;
        this.addChange(tag);
        break;
      case RequestOp.discard:
        stats.trimRequests++;
        stats.trimBytes += length;
        this.writes = this.add(this.writes, tag, Op.trim, 0);
        break;
      case RequestOp.flush:
        stats.flushRequests++;
        this.lengthBytes[tag] = 0;
        this.offsetBytes[tag] = 0;
        this.writes = this.add(this.writes, tag, Op.flush, 0);
        break;
      default: // not offered
        this.complete(tag, -EOPNOTSUPP);
    }
  }

  /** A write or zeroes, which may take room in the cache. */
  private addChange(tag: number): void {
    if (this.held.isOverdrawn) {
      this.waiting.push(tag);
    } else if (this.op[tag] === RequestOp.write) {
      this.writes = this.add(this.writes, tag, Op.write, RequestFlag.fua);
    } else {
      // The driver does not always say whether the space may be given up, so it is kept.
      this.writes = this.add(this.writes, tag, Op.zero, RequestFlag.fua | RequestFlag.keepsSpace);
    }
  }

  /** @returns the batch that the request is in */
  private add(batch: Batch | undefined, tag: number, op: number, flags: number): Batch {
    batch ??= this.batches.take();
    assert(batch !== undefined, 'more groups are under way than a ublk device has tags');
    const at = tag * this.queue.maxIoBytes;
    batch.op[batch.group.add(op, this.offsetBytes[tag], this.lengthBytes[tag], at, flags)] = tag;
    return batch;
  }

  /** Gives the store what was gathered. */
  private submit(): void {
    const { reads, writes } = this;
    this.reads = this.writes = undefined;
    if (writes !== undefined) this.submitBatch(writes);
    if (reads !== undefined) this.submitBatch(reads);
  }

  private submitBatch(batch: Batch): void {
    const { store, stats } = this.options;
    const { group } = batch;
    stats.groups++;
    const left = store.submit(group);
    for (let i = 0; i < group.count; i++) if (group.state[i] !== RequestState.pending) this.ended(batch, i);
    if (left === 0) this.batches.give(batch);
  }

  private endedLater(batch: Batch, i: number): void {
    this.ended(batch, i);
    if (batch.group.pending === 0) this.batches.give(batch);
    this.scheduleFlush();
  }

  private ended(batch: Batch, i: number): void {
    const { group } = batch;
    const tag = batch.op[i];
    if (group.missBytes[i] > 0) this.missed[tag] = 1;
    if (group.state[i] === RequestState.failed) {
      const cause = group.errors[i];
      this.complete(tag, -errorNumber(cause)); // the protocol's numbers are the system's
      const name = NAMES[this.op[tag]];
      this.options.tell(`failed ${name}`, `${name} failed: ${cause?.message ?? ''}`);
    } else if (!this.isHeld(tag, group.op[i] === Op.zero ? group.missBytes[i] : 0)) {
      this.complete(tag, this.lengthBytes[tag]);
    }
  }

  /** Whether the reply is held back to slow the writers. @param pastBytes those that took no room in the cache */
  private isHeld(tag: number, pastBytes: number): boolean {
    if (this.op[tag] !== RequestOp.write && this.op[tag] !== RequestOp.writeZeroes) return false;
    const bytes = this.lengthBytes[tag] - pastBytes;
    return bytes > 0 && this.options.pacer.hold(this.held, tag, bytes);
  }

  private complete(tag: number, result: number): void {
    const { stats, nowMs } = this.options;
    const op = this.op[tag];
    if (result < 0) stats.failedRequests++;
    let kind: number = Kind.write;
    if (op === RequestOp.read) kind = this.missed[tag] === 0 ? Kind.readHit : Kind.readMiss;
    else if (op === RequestOp.flush) kind = Kind.flush;
    stats.latency[kind].record((nowMs() - this.receivedMs[tag]) * 1e6);
    this.queue.complete(tag, result);
  }

  /** Replies that were held back have gone. */
  private goOn(): void {
    while (this.waiting.length > 0 && !this.held.isOverdrawn) this.addChange(this.waiting.shift()!);
    this.submit();
    this.queue.flush();
  }

  /** Answers soon: with what else ends meanwhile. */
  private scheduleFlush(): void {
    if (this.isFlushScheduled) return;
    this.isFlushScheduled = true;
    queueMicrotask(() => {
      this.isFlushScheduled = false;
      this.queue.flush();
    });
  }
}
