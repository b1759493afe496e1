/**
 * From the store back to the client: takes the ends of parts of requests, sends what was read, and answers a
 * request when its last part has ended; at once, or when the reply ring has room for it.
 */
import { Op, RequestState, type PcacheError } from '../engine/index.js';
import type { Allocation } from './allocation.js';
import { NO_WINDOW, type Batch, type Ops } from './ops.js';
import { Command } from './protocol.js';
import type { ReceiveWindows } from './receive-windows.js';
import { errorNumber, type Replies } from './replies.js';
import { Kind, type ServerStats } from './stats.js';
import { HeldReplies, type WritePacer } from './write-pacer.js';

export interface AnswersContext {
  readonly ops: Ops;
  readonly replies: Replies;
  readonly windows: ReceiveWindows;
  readonly stats: ServerStats;
  /** Slows writers; undefined where nothing is written. */
  readonly pacer?: WritePacer | undefined;
  readonly nowMs: () => number;
  readonly onPartEnded: (op: number) => void;
  /** Called after replies that were held back have been sent. */
  readonly onReleased: () => void;
  /** Called when the store has failed a request, with its `Command`. */
  readonly onFailure: (command: number, text: string) => void;
  /** Called when a read has failed after a part of its reply was sent, and the reply has no way to say so. */
  readonly onUnanswerable: () => void;
}

export class Answers {
  /** Requests that have ended and found no room for their reply. */
  private readonly waiting: number[] = [];

  /** Answers to BLOCK_STATUS that are not sent yet, by request. */
  private readonly allocations = new Map<number, Allocation>();

  /** Replies to writes that wait for their turn. */
  readonly held: HeldReplies;

  constructor(private readonly context: AnswersContext) {
    this.held = new HeldReplies((op) => this.finish(op), context.onReleased);
  }

  /** Replies wait for room. */
  get isLate(): boolean {
    return this.waiting.length > 0;
  }

  /** Sends the replies that have waited for room, as far as there is some. */
  late(): void {
    let answered = 0;
    while (answered < this.waiting.length && this.answer(this.waiting[answered])) answered++;
    if (answered > 0) this.waiting.splice(0, answered);
  }

  /** Request `i` of a batch, which is a part of a client's request, has ended. */
  partEnded(batch: Batch, i: number): void {
    const { ops, windows, onPartEnded } = this.context;
    const { group } = batch;
    const op = batch.op[i];
    ops.parts[op]--;
    const failed = group.state[i] === RequestState.failed;
    if (failed && ops.error[op] === 0) {
      const cause = group.errors[i];
      ops.refuse(op, errorNumber(cause), cause?.message ?? '');
      this.context.onFailure(ops.command[op], cause?.message ?? '');
    }
    if (group.op[i] === Op.zero) ops.writeBytes[op] -= group.missBytes[i]; // those took no room in the cache
    if (group.op[i] === Op.read) this.readEnded(batch, i, failed);
    else if (group.op[i] === Op.write && batch.window[i] !== NO_WINDOW) windows.unpin(batch.window[i]);
    onPartEnded(op);
    if (ops.parts[op] === 0) this.end(op);
  }

  private readEnded(batch: Batch, i: number, failed: boolean): void {
    const { ops, replies, onUnanswerable } = this.context;
    const { group } = batch;
    const op = batch.op[i];
    const region = batch.region[i];
    if (group.missBytes[i] > 0) ops.missed[op] = 1;
    if (ops.command[op] === Command.cache) {
      replies.ring.release(region);
      return;
    }
    const isLast = ops.parts[op] === 0;
    const header = group.arenaOffsetBytes[i] - replies.ring.startOf(region);
    if (!failed) {
      const { offsetBytes, lengthBytes } = group;
      replies.data(region, header, lengthBytes[i], offsetBytes[i], isLast, op);
    } else if (header > 0) {
      const text = replies.textOf(ops.text[op]);
      replies.error(region, ops.error[op], text, isLast, op);
    } else {
      replies.ring.release(region);
      onUnanswerable();
    }
  }

  /** All parts of a request have ended. */
  end(op: number): void {
    const { ops, pacer } = this.context;
    if (ops.command[op] === Command.read) this.answered(op);
    else if (ops.error[op] !== 0 || ops.writeBytes[op] === 0) this.finish(op);
    else if (!pacer?.hold(this.held, op, ops.writeBytes[op])) this.finish(op);
  }

  /** Answers a request that has ended and whose reply has no data. */
  finish(op: number): void {
    if (!this.answer(op)) this.waiting.push(op);
  }

  /** Answers a request for `base:allocation`. */
  finishAllocation(op: number, error: PcacheError | null, allocation: Allocation): void {
    const { ops, onFailure } = this.context;
    if (error) {
      ops.refuse(op, errorNumber(error), error.message);
      onFailure(ops.command[op], error.message);
    } else {
      this.allocations.set(op, allocation);
    }
    this.finish(op);
  }

  private answer(op: number): boolean {
    const { ops, replies } = this.context;
    if (ops.isSilent[op] === 1) {
      ops.release(op);
      return true;
    }
    const allocation = this.allocations.get(op);
    const isSent = allocation
      ? replies.allocation(allocation, op)
      : replies.acknowledge(ops.error[op], ops.text[op], op);
    if (!isSent) return false;
    if (allocation) this.allocations.delete(op);
    this.answered(op);
    return true;
  }

  private answered(op: number): void {
    const { ops, stats, nowMs } = this.context;
    const command = ops.command[op];
    if (ops.error[op] !== 0) stats.failedRequests++;
    let kind: number = Kind.write;
    if (command === Command.read) kind = ops.missed[op] === 0 ? Kind.readHit : Kind.readMiss;
    else if (command === Command.flush) kind = Kind.flush;
    if (command !== Command.cache && command !== Command.blockStatus)
      stats.latency[kind].record((nowMs() - ops.receivedMs[op]) * 1e6);
    ops.release(op);
  }
}
