/**
 * One connection after negotiation: parses requests where they were received, hands them to the store in
 * groups (all of one socket read share a fence), and answers.
 *
 * Bounded by construction: what is under way by `Ops` and `BatchPool`, replies by the ring, payload by the
 * windows. When any of them has no room the connection stalls: it parses no further and receives nothing
 * more until room has come back. Nothing is answered before the store has ended it.
 */
import type { Arena } from '../engine/device/pmem.js';
import { assert, Op, RequestFlag, RequestState, type PcacheError } from '../engine/index.js';
import { EXTENTS_MAX, type Allocation } from './allocation.js';
import { Answers } from './answers.js';
import { whyRefused, type Exported, type Refusal } from './checks.js';
import { LongRequest } from './long-request.js';
import { RING_OFFSET_BYTES } from './memory.js';
import { BatchPool, Ops, type Batch } from './ops.js';
import { Command, CommandFlag, NbdError, REQUEST_BYTES, REQUEST_MAGIC, SKIPPED_PAYLOAD_MAX_BYTES } from './protocol.js';
import { ReceiveWindows, WINDOW_BYTES } from './receive-windows.js';
import { Replies } from './replies.js';
import type { ServerStats } from './stats.js';
import type { Store } from './store.js';
import type { Receiver, Transport } from './transport.js';
import type { WritePacer } from './write-pacer.js';

/** A read of at most so many bytes is answered in one piece. */
export const READ_WHOLE_BYTES = 2 * 1024 * 1024;

export interface TransmissionOptions {
  readonly store: Store;
  readonly arena: Arena;
  readonly transport: Transport;
  readonly stats: ServerStats;
  readonly pacer?: WritePacer | undefined;
  readonly nowMs: () => number;
  readonly isStructured: boolean;
  /** The client may ask for `base:allocation`. */
  readonly hasAllocation?: boolean;
  /** Called when the client has broken the protocol, which ends the connection. */
  readonly onProtocolError: (what: string) => void;
  /** Called with the `Command` and the reason when the store has failed a request. */
  readonly onFailure?: (command: number, text: string) => void;
  /** Called once, when the socket is gone and nothing uses the arena any more. */
  readonly onReleased: () => void;
}

export class Transmission implements Receiver {
  readonly ops = new Ops();
  readonly replies: Replies;
  private readonly windows: ReceiveWindows;
  private readonly batches: BatchPool;
  private readonly answers: Answers;
  private readonly view: DataView;
  private readonly exported: Exported;
  private batch: Batch | undefined;

  /** The write whose payload is being received: its request, and what is still to come. -1 when refused. */
  private writeOp = -1;
  private writeFlags = 0;
  private writeOffsetBytes = 0;
  private writeLeftBytes = 0;
  private writeRefusal: Refusal | undefined;

  private long: LongRequest | undefined;
  /** Received elsewhere, and not yet put into a window. */
  private held: Uint8Array | undefined;
  /** Something is to be parsed, and has no room. */
  private isStalled = false;
  /** The receiver has been asked for more: the windows must stay as they are. */
  private isReceiving = true;
  private isRunning = false;
  private isScheduled = false;
  /** No further request is taken; those under way are answered. */
  private isEnding = false;
  private isEndSent = false;
  private isClosed = false;
  private isReleased = false;
  private nowMs: number;

  constructor(private readonly options: TransmissionOptions) {
    const { memory } = options.arena;
    const { sizeBytes, isReadOnly } = options.store;
    this.exported = { sizeBytes, isReadOnly, hasAllocation: options.hasAllocation === true };
    this.windows = new ReceiveWindows(memory, 0);
    this.view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
    this.batches = new BatchPool(options.arena, (batch, request) => this.endedLater(batch, request));
    this.replies = new Replies(memory, RING_OFFSET_BYTES, options.transport, options.isStructured, () => {
      this.hasRoomAgain();
    });
    this.answers = new Answers({
      ops: this.ops,
      replies: this.replies,
      windows: this.windows,
      stats: options.stats,
      pacer: options.pacer,
      onReleased: () => this.schedule(),
      nowMs: () => this.nowMs,
      onPartEnded: (op) => this.long?.partEnded(op),
      onFailure: (command, text) => options.onFailure?.(command, text),
      onUnanswerable: () => {
        this.isEnding = true;
        options.transport.destroy();
      },
    });
    this.nowMs = options.nowMs();
  }

  // ---- receiving ----------------------------------------------------------------------------------------

  get target(): Uint8Array | undefined {
    return this.isReceiving ? this.windows.target : undefined;
  }

  taken(count: number): boolean {
    this.windows.end += count;
    return this.goOn();
  }

  take(bytes: Uint8Array): boolean {
    assert(this.held === undefined, 'bytes are given to a connection that takes none');
    this.held = bytes;
    return this.goOn();
  }

  ended(): void {
    this.stop();
  }

  closed(): void {
    this.isClosed = true;
    this.replies.isDead = true;
    this.long?.giveUp();
    this.stop();
  }

  /** Takes no further request, and closes when those under way are answered. */
  stop(): void {
    this.isEnding = true;
    this.options.pacer?.drop(this.answers.held);
    this.held = undefined;
    if (this.writeLeftBytes > 0) this.dropWrite();
    this.proceed();
  }

  /** After bytes were received. @returns whether more can be. */
  private goOn(): boolean {
    this.isReceiving = false;
    this.nowMs = this.options.nowMs();
    this.run();
    this.isReceiving = this.canReceive();
    return this.isReceiving;
  }

  private canReceive(): boolean {
    return !this.isStalled && !this.isEnding && this.held === undefined && this.windows.makeRoom(this.neededBytes);
  }

  /** How much has to follow one another in a window for the parser to go on. */
  private get neededBytes(): number {
    if (this.writeLeftBytes === 0) return REQUEST_BYTES;
    return this.writeRefusal ? 1 : Math.min(this.writeLeftBytes, WINDOW_BYTES);
  }

  /** Moves held bytes into the window. @returns whether there were any, and room for them. */
  private takeHeld(): boolean {
    const { held, windows } = this;
    if (held === undefined || this.isEnding || !windows.makeRoom(this.neededBytes)) return false;
    const count = Math.min(held.length, windows.limit - windows.end);
    this.options.arena.memory.set(count === held.length ? held : held.subarray(0, count), windows.end);
    windows.end += count;
    this.held = count === held.length ? undefined : held.subarray(count);
    return true;
  }

  // ---- going on -----------------------------------------------------------------------------------------

  /** Something has ended: answers, parses what had stalled, and receives again if that is possible. */
  private proceed(): void {
    this.run();
    if (!this.isReceiving && !this.isEnding && this.canReceive()) {
      // The socket's next read goes elsewhere and is given with `take`: the window stays movable until then.
      this.options.transport.resume();
    }
    this.endIfDone();
  }

  private hasRoomAgain(): void {
    if (this.isStalled || this.isEnding || this.answers.isLate || this.long !== undefined) this.schedule();
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
      this.isStalled = false;
      while (this.takeNext());
      const submitted = this.submitBatch();
      const stepped = this.long?.step() ?? false;
      if (this.long?.isOver) this.long = undefined;
      if (this.isStalled ? !submitted && !stepped : !this.takeHeld()) break;
    }
    this.replies.flush();
    this.isRunning = false;
  }

  private endIfDone(): void {
    if (!this.isEnding || this.ops.inUse > 0) return;
    if (this.isClosed) {
      if (!this.isReleased) this.options.onReleased();
      this.isReleased = true;
    } else if (!this.isEndSent && this.replies.ring.isEmpty) {
      this.isEndSent = true;
      this.options.transport.end();
    }
  }

  /** The client can't be understood any more. */
  private fail(what: string): false {
    this.isEnding = true;
    this.options.onProtocolError(what);
    this.options.transport.destroy();
    return false;
  }

  // ---- parsing ------------------------------------------------------------------------------------------

  private stall(): false {
    this.isStalled = true;
    return false;
  }

  /** Takes the next request, or more of a payload. @returns false when that needs more bytes, or room. */
  private takeNext(): boolean {
    if (this.isEnding) return false;
    if (this.writeLeftBytes > 0) return this.takePayload();
    const { windows, view } = this;
    const at = windows.start;
    if (windows.end - at < REQUEST_BYTES) return false;
    if (this.long !== undefined || this.answers.isLate) return this.stall();
    if (view.getUint32(at) !== REQUEST_MAGIC) return this.fail('a request does not begin with its magic');
    const flags = view.getUint16(at + 4);
    const command = view.getUint16(at + 6);
    const offset = view.getUint32(at + 16) * 2 ** 32 + view.getUint32(at + 20);
    const length = view.getUint32(at + 24);
    if (command === Command.disconnect) {
      this.isEnding = true;
      this.schedule();
      return false;
    }
    if (command === Command.write && length > SKIPPED_PAYLOAD_MAX_BYTES) return this.fail(`a write of ${length} bytes`);
    if (!this.begin(at, flags, command, offset, length)) return this.stall();
    windows.start = at + REQUEST_BYTES;
    return true;
  }

  /** @returns false when there is no room for it; then nothing has happened. */
  private begin(at: number, flags: number, command: number, offset: number, length: number): boolean {
    const { stats } = this.options;
    const refusal = whyRefused(this.exported, command, flags, offset, length) ?? this.whyWhole(command, flags, length);
    const isLong = command === Command.read ? length > READ_WHOLE_BYTES : command !== Command.write && length > 0;
    const writes = command === Command.write || command === Command.writeZeroes;
    if (writes && this.answers.held.isOverdrawn) return false;
    const batch = this.openBatch();
    if (batch === undefined) return false;
    let region = -1;
    if (command === Command.read && !refusal && !isLong) {
      region = this.replies.ring.take(this.replies.readHeaderBytes + length);
      if (region < 0) return false;
    }
    const op = this.ops.take(this.view.getUint32(at + 8), this.view.getUint32(at + 12), command, this.nowMs);
    if (op < 0) {
      if (region >= 0) this.replies.ring.release(region);
      return false;
    }
    if (writes && !refusal) this.ops.writeBytes[op] = length;
    stats.requests++;
    if ((flags & CommandFlag.fua) !== 0) stats.fuaRequests++;
    if (command === Command.write) this.beginWrite(op, flags, offset, length, refusal);
    else if (refusal) this.refuse(op, refusal);
    else if (command === Command.blockStatus) this.beginAllocation(op, flags, offset, length);
    else if (isLong) this.beginLong(op, command, flags, offset, length);
    else if (command === Command.read) this.addRead(batch, op, region, offset, length);
    else this.addFlush(batch, op);
    return true;
  }

  private whyWhole(command: number, flags: number, length: number): Refusal | undefined {
    if (command !== Command.read || (flags & CommandFlag.dontFragment) === 0) return undefined;
    if (length <= READ_WHOLE_BYTES) return undefined;
    return { error: NbdError.overflow, text: `at most ${READ_WHOLE_BYTES} bytes are sent in one piece` };
  }

  private refuse(op: number, { error, text }: Refusal): void {
    this.ops.refuse(op, error, text);
    this.answers.finish(op);
  }

  private addRead(batch: Batch, op: number, region: number, offset: number, length: number): void {
    const { stats } = this.options;
    stats.readRequests++;
    stats.readBytes += length;
    this.ops.parts[op] = 1;
    const i = batch.group.add(
      Op.read,
      offset,
      length,
      this.replies.ring.startOf(region) + this.replies.readHeaderBytes,
    );
    batch.op[i] = op;
    batch.region[i] = region;
  }

  private addFlush(batch: Batch, op: number): void {
    this.options.stats.flushRequests++;
    this.ops.parts[op] = 1;
    batch.op[batch.group.add(Op.flush, 0, 0, 0)] = op;
  }

  private beginLong(op: number, command: number, flags: number, offset: number, length: number): void {
    this.options.stats.countLong(command, length);
    this.long = new LongRequest(
      {
        ops: this.ops,
        ring: this.replies.ring,
        batches: this.batches,
        submit: (batch) => this.submit(batch),
        end: (ended) => this.answers.end(ended),
        later: (step) =>
          setImmediate(() => {
            step();
            this.proceed();
          }),
        readHeaderBytes: this.replies.readHeaderBytes,
        isStructured: this.replies.isStructured,
      },
      op,
      command,
      (flags & CommandFlag.fua) !== 0,
      offset,
      length,
    );
  }

  private beginAllocation(op: number, flags: number, offset: number, length: number): void {
    const { store, nowMs } = this.options;
    const extentsMax = (flags & CommandFlag.requestOne) === 0 ? EXTENTS_MAX : 1;
    const done = (error: PcacheError | null, allocation: Allocation): void => {
      this.nowMs = nowMs();
      this.answers.finishAllocation(op, error, allocation);
      this.schedule();
    };
    if (store.allocation) store.allocation(offset, length, extentsMax, done);
    else queueMicrotask(() => done(null, [length, 0]));
  }

  private beginWrite(op: number, flags: number, offset: number, length: number, refusal: Refusal | undefined): void {
    const { stats } = this.options;
    stats.writeRequests++;
    stats.writeBytes += length;
    if (length === 0) {
      this.refuse(op, refusal!);
      return;
    }
    this.writeOp = op;
    this.writeFlags = (flags & CommandFlag.fua) === 0 ? 0 : RequestFlag.fua;
    this.writeOffsetBytes = offset;
    this.writeLeftBytes = length;
    this.writeRefusal = refusal;
    this.ops.parts[op] = 1; // until all of it has gone to the store
  }

  private takePayload(): boolean {
    const { windows, writeOp, writeRefusal } = this;
    const left = this.writeLeftBytes;
    const length = Math.min(windows.end - windows.start, left);
    if (writeRefusal) {
      windows.start += length;
      this.writeLeftBytes -= length;
      if (this.writeLeftBytes > 0) return false;
      this.refuse(writeOp, writeRefusal);
      return true;
    }
    // Of a longer one each piece fills a window, which `makeRoom` lets it begin.
    if (length < left && length < WINDOW_BYTES) return false;
    const batch = this.openBatch();
    if (batch === undefined) return this.stall();
    const i = batch.group.add(Op.write, this.writeOffsetBytes, length, windows.start, this.writeFlags);
    batch.op[i] = writeOp;
    batch.window[i] = windows.current;
    windows.pin(windows.current);
    windows.start += length;
    this.writeOffsetBytes += length;
    this.writeLeftBytes -= length;
    if (this.writeLeftBytes > 0) this.ops.parts[writeOp]++;
    return true;
  }

  /** The rest of the payload will not come: the request is not answered. */
  private dropWrite(): void {
    const { ops, writeOp } = this;
    this.writeLeftBytes = 0;
    ops.isSilent[writeOp] = 1;
    if (--ops.parts[writeOp] === 0) ops.release(writeOp);
  }

  // ---- to the store and back ----------------------------------------------------------------------------

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
