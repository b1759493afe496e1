/**
 * One connection after negotiation: has requests parsed (`request-parser.ts`) where they were received (`intake.ts`),
 * hands them to the store in groups (all of one socket read share a fence), and answers.
 *
 * Bounded by construction: what is under way by `Ops` and `BatchPool`, replies by the ring, payload by the
 * windows. When any of them has no room the connection stalls: it parses no further and receives nothing
 * more until room has come back. Nothing is answered before the store has ended it.
 */
import type { Arena } from '../engine/device/pmem.js';
import { assert, Op, RequestState, type PcacheError } from '../engine/index.js';
import { EXTENTS_MAX, type Allocation } from './allocation.js';
import { Answers } from './answers.js';
import { Intake } from './intake.js';
import { LongRequest } from './long-request.js';
import { RING_OFFSET_BYTES } from './memory.js';
import { BatchPool, Ops, type Batch } from './ops.js';
import { ReceiveWindows } from './receive-windows.js';
import { Replies } from './replies.js';
import { RequestParser } from './request-parser.js';
import type { ServerStats } from './stats.js';
import type { Store } from './store.js';
import type { Receiver, Transport } from './transport.js';
import type { WritePacer } from './write-pacer.js';

export interface TransmissionOptions {
  readonly store: Store;
  readonly arena: Arena;
  readonly transport: Transport;
  readonly stats: ServerStats;
  readonly pacer?: WritePacer | undefined;
  readonly nowMs: () => number;
  readonly isStructured: boolean;
  readonly isExtended: boolean;
  /** The client may ask for `base:allocation`. */
  readonly hasAllocation?: boolean;
  /** Called when the client has broken the protocol, which ends the connection. */
  readonly onProtocolError: (what: string) => void;
  /** Called with the `Command` and the reason when the store has failed a request. */
  readonly onFailure?: (command: number, text: string) => void;
  /** Called once, when the socket is gone and nothing uses the arena any more. */
  readonly onReleased: () => void;
}

/**
 * How far a connection has come; it only goes forward, and may leave some out. `open`: parses requests, and is stalled
 * while one of them has no room. `ending`: takes no further request and answers those under way. `end sent`: has
 * answered all of them. `closed`: the socket is gone. `released`: and nothing uses the arena any more.
 */
type Phase = 'open' | 'stalled' | 'ending' | 'end sent' | 'closed' | 'released';

export class Transmission implements Receiver {
  readonly ops = new Ops();
  readonly replies: Replies;
  private readonly windows: ReceiveWindows;
  private readonly intake: Intake;
  private readonly parser: RequestParser;
  private readonly batches: BatchPool;
  private readonly answers: Answers;
  private batch: Batch | undefined;
  private long: LongRequest | undefined;
  private phase: Phase = 'open';
  private isScheduled = false;
  private isRunning = false;
  private nowMs: number;

  constructor(private readonly options: TransmissionOptions) {
    const { arena, store, stats, transport } = options;
    const { memory } = arena;
    const { sizeBytes, isReadOnly } = store;
    this.windows = new ReceiveWindows(memory, 0);
    this.intake = new Intake(memory, this.windows);
    this.batches = new BatchPool(arena, (batch, request) => this.endedLater(batch, request));
    const { ops } = this;
    const { isStructured, isExtended } = options;
    this.replies = new Replies({
      memory,
      ringOffsetBytes: RING_OFFSET_BYTES,
      transport,
      ops,
      isStructured,
      isExtended,
      onRoom: () => this.hasRoomAgain(),
    });
    this.answers = new Answers({
      ops,
      replies: this.replies,
      windows: this.windows,
      stats,
      pacer: options.pacer,
      onReleased: () => this.schedule(),
      nowMs: () => this.nowMs,
      onPartEnded: (op) => this.long?.partEnded(op),
      onFailure: (command, text) => options.onFailure?.(command, text),
      onUnanswerable: () => {
        this.takeNoMore();
        transport.destroy();
      },
    });
    this.parser = new RequestParser({
      exported: {
        sizeBytes,
        isReadOnly,
        hasAllocation: options.hasAllocation === true,
        zeroesFast: (offsetBytes, lengthBytes) => store.zeroesFast?.(offsetBytes, lengthBytes) === true,
      },
      stats,
      memory,
      windows: this.windows,
      isExtended,
      ops,
      replies: this.replies,
      answers: this.answers,
      nowMs: () => this.nowMs,
      isHeldUp: () => this.long !== undefined || this.answers.isLate,
      openBatch: () => this.openBatch(),
      beginLong: (...request) => this.beginLong(...request),
      beginAllocation: (...request) => this.beginAllocation(...request),
    });
    this.nowMs = options.nowMs();
  }

  // ---- receiving ----------------------------------------------------------------------------------------

  get target(): Uint8Array | undefined {
    return this.intake.target;
  }

  taken(count: number): boolean {
    this.intake.taken(count);
    return this.goOn();
  }

  take(bytes: Uint8Array): boolean {
    this.intake.take(bytes);
    return this.goOn();
  }

  ended(): void {
    this.stop();
  }

  closed(): void {
    this.phase = 'closed';
    this.replies.isDead = true;
    this.long?.giveUp();
    this.stop();
  }

  /** Takes no further request, and closes when those under way are answered. */
  stop(): void {
    this.takeNoMore();
    this.options.pacer?.drop(this.answers.held);
    this.intake.drop();
    this.parser.dropWrite();
    this.proceed();
  }

  private takeNoMore(): void {
    if (this.takesRequests) this.phase = 'ending';
  }

  private get takesRequests(): boolean {
    return this.phase === 'open' || this.phase === 'stalled';
  }

  /** After bytes were received. @returns whether more can be */
  private goOn(): boolean {
    this.nowMs = this.options.nowMs();
    this.run();
    if (!this.canReceive()) return false;
    this.intake.ask();
    return true;
  }

  private canReceive(): boolean {
    return this.phase === 'open' && this.intake.hasRoom(this.parser.neededBytes);
  }

  // ---- going on -----------------------------------------------------------------------------------------

  /** Something has ended: answers, parses what had stalled, and receives again if that is possible. */
  private proceed(): void {
    this.run();
    // The socket's next read goes elsewhere and is given with `take`: the windows stay movable until then.
    if (!this.intake.isReceiving && this.canReceive()) this.options.transport.resume();
    this.endIfDone();
  }

  private hasRoomAgain(): void {
    if (this.phase !== 'open' || this.answers.isLate || this.long !== undefined) this.schedule();
  }

  /** Goes on soon: not from within whatever has called. */
  private schedule(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    queueMicrotask(() => {
      this.isScheduled = false;
      this.proceed();
    });
  }

  private run(): void {
    assert(!this.isRunning, 'a connection runs within itself');
    this.isRunning = true;
    this.answers.late();
    for (;;) {
      this.parse();
      const submitted = this.submitBatch();
      const stepped = this.long?.step() ?? false;
      if (this.long?.isOver) this.long = undefined;
      if (this.phase === 'stalled' ? !submitted && !stepped : !this.takeHeld()) break;
    }
    this.replies.flush();
    this.isRunning = false;
  }

  /** Parses until bytes are missing, or room. */
  private parse(): void {
    if (this.phase === 'stalled') this.phase = 'open';
    while (this.phase === 'open') {
      const parsed = this.parser.next();
      if (parsed === 'taken') continue;
      if (parsed === 'needs bytes') return;
      if (parsed === 'needs room') this.phase = 'stalled';
      else this.endOfRequests(parsed);
    }
  }

  private endOfRequests(reason: 'goodbye' | 'violation'): void {
    this.takeNoMore();
    if (reason === 'goodbye') {
      this.schedule();
    } else {
      this.options.onProtocolError(this.parser.violation);
      this.options.transport.destroy();
    }
  }

  private takeHeld(): boolean {
    return this.takesRequests && this.intake.fill(this.parser.neededBytes);
  }

  private endIfDone(): void {
    if (this.ops.inUse > 0) return;
    if (this.phase === 'closed') {
      this.phase = 'released';
      this.options.onReleased();
    } else if (this.phase === 'ending' && this.replies.ring.isEmpty) {
      this.phase = 'end sent';
      this.options.transport.end();
    }
  }

  // ---- to the store and back ----------------------------------------------------------------------------

  private beginLong(op: number, command: number, flags: number, offsetBytes: number, lengthBytes: number): void {
    const context = {
      ops: this.ops,
      ring: this.replies.ring,
      batches: this.batches,
      submit: (batch: Batch) => this.submit(batch),
      end: (ended: number) => this.answers.end(ended),
      later: (step: () => void) =>
        setImmediate(() => {
          step();
          this.proceed();
        }),
      readHeaderBytes: this.replies.readHeaderBytes,
      isStructured: this.replies.isStructured,
    };
    this.long = new LongRequest(context, op, command, flags, offsetBytes, lengthBytes);
  }

  private beginAllocation(op: number, isOneExtent: boolean, offsetBytes: number, lengthBytes: number): void {
    const { store, nowMs } = this.options;
    const done = (error: PcacheError | null, allocation: Allocation): void => {
      this.nowMs = nowMs();
      this.answers.finishAllocation(op, error, allocation);
      this.schedule();
    };
    if (store.allocation) store.allocation(offsetBytes, lengthBytes, isOneExtent ? 1 : EXTENTS_MAX, done);
    else queueMicrotask(() => done(null, [lengthBytes, 0]));
  }

  /** A batch with room for a request; undefined when too many are under way. */
  private openBatch(): Batch | undefined {
    if (this.batch?.isFull) this.submitBatch();
    this.batch ??= this.batches.take();
    return this.batch;
  }

  /** @returns whether there was anything to submit. */
  private submitBatch(): boolean {
    const { batch } = this;
    if (batch === undefined || batch.group.count === 0) return false;
    this.batch = undefined;
    this.submit(batch);
    return true;
  }

  private submit(batch: Batch): void {
    const { group } = batch;
    const { store, stats, nowMs } = this.options;
    stats.groups++;
    const left = store.submit(group);
    this.nowMs = nowMs();
    // Reads first: their replies then lie one behind another, and the short ones behind them.
    for (let i = 0; i < group.count; i++) {
      if (group.op[i] === Op.read && group.state[i] !== RequestState.pending) this.answers.partEnded(batch, i);
    }
    for (let i = 0; i < group.count; i++) {
      if (group.op[i] !== Op.read && group.state[i] !== RequestState.pending) this.answers.partEnded(batch, i);
    }
    if (left === 0) this.batches.give(batch);
  }

  /** A request of a batch has ended after `submit`. */
  private endedLater(batch: Batch, i: number): void {
    this.nowMs = this.options.nowMs();
    this.answers.partEnded(batch, i);
    if (batch.group.pending === 0) this.batches.give(batch);
    this.schedule();
  }
}
