/**
 * Parses requests where they were received and puts them into batches for the store. It knows one request at a time:
 * the header, and of a write how much of the payload is still to come.
 */
import { Op, RequestFlag } from '../engine/index.js';
import type { Answers } from './answers.js';
import { whyRefused, type Exported, type Refusal } from './checks.js';
import type { Batch, Ops } from './ops.js';
import {
  Command,
  CommandFlag,
  EXTENDED_REQUEST_BYTES,
  EXTENDED_REQUEST_MAGIC,
  NbdError,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  SKIPPED_PAYLOAD_MAX_BYTES,
} from './protocol.js';
import { WINDOW_BYTES, type ReceiveWindows } from './receive-windows.js';
import type { Replies } from './replies.js';
import type { ServerStats } from './stats.js';

/** A read of at most so many bytes is answered in one piece. */
export const READ_WHOLE_BYTES = 2 * 1024 * 1024;

/**
 * Minimum size of the pieces in which a longer payload is written as it arrives. A piece is then still in the processor's
 * caches, and the front of the same window receives the next one. A multiple of the block.
 */
const PIECE_MIN_BYTES = 128 * 1024;
/** A piece ends at a multiple of this on the device. */
const BLOCK_BYTES = 4096;

/** What a call of `next` came to: something was taken, or what it lacks, or why no further request can be taken. */
export type Parsed = 'taken' | 'needs bytes' | 'needs room' | 'goodbye' | 'violation';

export interface RequestParserContext {
  readonly exported: Exported;
  readonly stats: ServerStats;
  readonly memory: Uint8Array;
  readonly windows: ReceiveWindows;
  readonly isExtended: boolean;
  readonly ops: Ops;
  readonly replies: Replies;
  readonly answers: Answers;
  readonly nowMs: () => number;
  /** Whether the next request has to wait for one before it. */
  readonly isHeldUp: () => boolean;
  /** @returns a batch with room for a request; undefined when too many are under way */
  readonly openBatch: () => Batch | undefined;
  /** Called with a request that is done in several steps. */
  readonly beginLong: (op: number, command: number, flags: number, offsetBytes: number, lengthBytes: number) => void;
  /** Called with a request for `base:allocation`. */
  readonly beginAllocation: (op: number, isOneExtent: boolean, offsetBytes: number, lengthBytes: number) => void;
}

export class RequestParser {
  /** How the client has broken the protocol; set when `next` returns `violation`. */
  violation = '';

  private readonly view: DataView;
  private readonly headerBytes: number;
  private readonly magic: number;
  /** The header that was taken last. */
  private flags = 0;
  private command = 0;
  private offsetBytes = 0;
  private lengthBytes = 0;
  private hasPayload = false;
  /** Of a request whose payload is being received: its op, the bytes still to come, and why it is refused. */
  private writeOp = -1;
  private writeLeftBytes = 0;
  private writeRefusal: Refusal | undefined;

  constructor(private readonly context: RequestParserContext) {
    const { buffer, byteOffset, byteLength } = context.memory;
    this.view = new DataView(buffer, byteOffset, byteLength);
    this.headerBytes = context.isExtended ? EXTENDED_REQUEST_BYTES : REQUEST_BYTES;
    this.magic = context.isExtended ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC;
  }

  /** How many bytes have to follow one another in a window for `next` to take something. */
  get neededBytes(): number {
    if (this.writeLeftBytes === 0) return this.headerBytes;
    return this.writeRefusal ? 1 : Math.min(this.writeLeftBytes, this.pieceMinBytes);
  }

  /** Takes the next request, or more of a payload. Has done nothing unless it returns `taken`. */
  next(): Parsed {
    if (this.writeLeftBytes > 0) return this.takePayload();
    const { view } = this;
    const { windows } = this.context;
    const at = windows.start;
    if (windows.end - at < this.headerBytes) return 'needs bytes';
    if (this.context.isHeldUp()) return 'needs room';
    if (view.getUint32(at) !== this.magic) return this.violate('a request does not begin with its magic');
    this.command = view.getUint16(at + 6);
    this.offsetBytes = view.getUint32(at + 16) * 2 ** 32 + view.getUint32(at + 20);
    this.readFlagsAndLength(at);
    if (this.command === Command.disconnect) return 'goodbye';
    if (this.hasPayload && this.lengthBytes > SKIPPED_PAYLOAD_MAX_BYTES)
      return this.violate(`a payload of ${this.lengthBytes} bytes`);
    if (!this.begin(at)) return 'needs room';
    windows.start = at + this.headerBytes;
    return 'taken';
  }

  /** The rest of a payload will not come: its request is not answered. */
  dropWrite(): void {
    if (this.writeLeftBytes === 0) return;
    const { ops } = this.context;
    this.writeLeftBytes = 0;
    ops.isSilent[this.writeOp] = 1;
    if (--ops.parts[this.writeOp] === 0) ops.release(this.writeOp);
  }

  /** What the length is of depends on the flags with extended headers, else on the command. */
  private readFlagsAndLength(at: number): void {
    const { view } = this;
    const flags = view.getUint16(at + 4);
    if (this.context.isExtended) {
      this.hasPayload = (flags & CommandFlag.payloadLength) !== 0;
      this.flags = flags & ~CommandFlag.payloadLength;
      this.lengthBytes = view.getUint32(at + 24) * 2 ** 32 + view.getUint32(at + 28);
    } else {
      this.hasPayload = this.command === Command.write;
      this.flags = flags;
      this.lengthBytes = view.getUint32(at + 24);
    }
  }

  private violate(what: string): 'violation' {
    this.violation = what;
    return 'violation';
  }

  /** With FUA every piece is made durable by itself, so they are few. */
  private get pieceMinBytes(): number {
    return this.isFua ? WINDOW_BYTES : PIECE_MIN_BYTES;
  }

  private get isFua(): boolean {
    return (this.flags & CommandFlag.fua) !== 0;
  }

  /** @returns false when there is no room for the request; then nothing has happened */
  private begin(at: number): boolean {
    const { command, lengthBytes } = this;
    const { exported, stats, ops, replies, answers } = this.context;
    const refusal =
      this.whyMisfit() ?? whyRefused(exported, command, this.flags, this.offsetBytes, lengthBytes) ?? this.whyWhole();
    const isLong =
      command === Command.read ? lengthBytes > READ_WHOLE_BYTES : command !== Command.write && lengthBytes > 0;
    const writes = command === Command.write || command === Command.writeZeroes;
    if (writes && answers.held.isOverdrawn) return false;
    const batch = this.context.openBatch();
    if (batch === undefined) return false;
    let region = -1;
    if (command === Command.read && !refusal && !isLong) {
      region = replies.ring.take(replies.readHeaderBytes + lengthBytes);
      if (region < 0) return false;
    }
    const op = ops.take(this.view, at, command, this.context.nowMs());
    if (op < 0) {
      if (region >= 0) replies.ring.release(region);
      return false;
    }
    if (writes && !refusal) ops.writeBytes[op] = lengthBytes;
    stats.requests++;
    if (this.isFua) stats.fuaRequests++;
    if (this.hasPayload) this.beginPayload(op, refusal);
    else if (refusal) this.refuse(op, refusal);
    else if (command === Command.blockStatus) this.beginAllocation(op);
    else if (isLong) this.beginLong(op);
    else if (command === Command.read) this.addRead(batch, op, region);
    else this.addFlush(batch, op);
    return true;
  }

  /** A write has a payload, and nothing else has. */
  private whyMisfit(): Refusal | undefined {
    if (this.hasPayload === (this.command === Command.write)) return undefined;
    const what = this.hasPayload ? 'has no payload' : 'needs a payload';
    return { error: NbdError.invalid, text: `command ${this.command} ${what}` };
  }

  private whyWhole(): Refusal | undefined {
    if (this.command !== Command.read || (this.flags & CommandFlag.dontFragment) === 0) return undefined;
    if (this.lengthBytes <= READ_WHOLE_BYTES) return undefined;
    return { error: NbdError.overflow, text: `at most ${READ_WHOLE_BYTES} bytes are sent in one piece` };
  }

  private refuse(op: number, { error, text }: Refusal): void {
    this.context.ops.refuse(op, error, text);
    this.context.answers.finish(op);
  }

  private addRead(batch: Batch, op: number, region: number): void {
    const { stats, ops, replies } = this.context;
    stats.readRequests++;
    stats.readBytes += this.lengthBytes;
    ops.parts[op] = 1;
    const dataAt = replies.ring.startOf(region) + replies.readHeaderBytes;
    const i = batch.group.add(Op.read, this.offsetBytes, this.lengthBytes, dataAt);
    batch.op[i] = op;
    batch.region[i] = region;
  }

  private addFlush(batch: Batch, op: number): void {
    this.context.stats.flushRequests++;
    this.context.ops.parts[op] = 1;
    batch.op[batch.group.add(Op.flush, 0, 0, 0)] = op;
  }

  private beginLong(op: number): void {
    this.context.stats.countLong(this.command, this.lengthBytes);
    this.context.beginLong(op, this.command, this.flags, this.offsetBytes, this.lengthBytes);
  }

  private beginAllocation(op: number): void {
    const isOneExtent = (this.flags & CommandFlag.requestOne) !== 0;
    this.context.beginAllocation(op, isOneExtent, this.offsetBytes, this.lengthBytes);
  }

  private beginPayload(op: number, refusal: Refusal | undefined): void {
    const { stats, ops } = this.context;
    if (this.command === Command.write) {
      stats.writeRequests++;
      stats.writeBytes += this.lengthBytes;
    }
    if (this.lengthBytes === 0) {
      this.refuse(op, refusal!);
      return;
    }
    this.writeOp = op;
    this.writeLeftBytes = this.lengthBytes;
    this.writeRefusal = refusal;
    ops.parts[op] = 1; // until all of it has gone to the store
  }

  private takePayload(): Parsed {
    const { writeOp, writeRefusal } = this;
    const { windows, ops } = this.context;
    const left = this.writeLeftBytes;
    let length = Math.min(windows.end - windows.start, left);
    if (writeRefusal) {
      windows.start += length;
      this.writeLeftBytes -= length;
      if (this.writeLeftBytes > 0) return 'needs bytes';
      this.refuse(writeOp, writeRefusal);
      return 'taken';
    }
    const offset = this.offsetBytes + this.lengthBytes - left;
    if (length < left) {
      if (length < this.pieceMinBytes) return 'needs bytes';
      length -= (offset + length) % BLOCK_BYTES;
    }
    const batch = this.context.openBatch();
    if (batch === undefined) return 'needs room';
    const i = batch.group.add(Op.write, offset, length, windows.start, this.isFua ? RequestFlag.fua : 0);
    batch.op[i] = writeOp;
    batch.window[i] = windows.current;
    windows.pin(windows.current);
    windows.start += length;
    this.writeLeftBytes -= length;
    if (this.writeLeftBytes > 0) ops.parts[writeOp]++;
    return 'taken';
  }
}
