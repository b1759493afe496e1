/**
 * Replies of one connection: their encoding, into the reply ring, and their way out. Replies that lie one
 * behind another in the ring leave as one piece.
 */
import type { PcacheError, PcacheErrorCode } from '../engine/index.js';
import type { Allocation } from './allocation.js';
import type { Ops } from './ops.js';
import {
  ALLOCATION_ID,
  Chunk,
  CHUNK_HEADER_BYTES,
  ChunkFlag,
  DATA_OFFSET_BYTES,
  ERROR_FIELDS_BYTES,
  EXTENDED_CHUNK_HEADER_BYTES,
  EXTENDED_REPLY_MAGIC,
  NbdError,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from './protocol.js';
import { ReplyRing } from './reply-ring.js';
import type { Transport } from './transport.js';

/** Longest text of an error reply; it fits into the region of the shortest read. */
const TEXT_BYTES_MAX = 480;
const encoder = new TextEncoder();

const ERROR_NUMBERS: Partial<Record<PcacheErrorCode, number>> = {
  CACHE_FULL: NbdError.noSpace,
  NO_SPACE: NbdError.noSpace,
  NO_ACCESS: NbdError.notPermitted,
  OUT_OF_RANGE: NbdError.invalid,
  MISALIGNED: NbdError.invalid,
  CLOSED: NbdError.shutdown,
};

/** The protocol's number for why a request failed. */
export function errorNumber(error: PcacheError | undefined): number {
  return (error && ERROR_NUMBERS[error.code]) ?? NbdError.io;
}

export interface RepliesContext {
  readonly memory: Uint8Array;
  readonly ringOffsetBytes: number;
  readonly transport: Transport;
  /** What is answered: replies repeat the cookie, extended ones the offset as well. */
  readonly ops: Ops;
  readonly isStructured: boolean;
  /** Headers are extended; needs `isStructured`. */
  readonly isExtended: boolean;
  readonly onRoom: () => void;
}

export class Replies {
  readonly ring: ReplyRing;
  /** Bytes before the data of a read. */
  readonly readHeaderBytes: number;
  private readonly view: DataView;
  private readonly chunkHeaderBytes: number;
  /** Replies collected and not sent yet: regions in order, and the bytes they fill. */
  private firstRegion = -1;
  private lastRegion = -1;
  private from = 0;
  private until = 0;
  private isCorked = false;
  /** Nothing is sent any more. */
  isDead = false;

  constructor(private readonly context: RepliesContext) {
    const { memory, ringOffsetBytes, isStructured, isExtended } = context;
    this.ring = new ReplyRing(ringOffsetBytes);
    this.view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
    this.chunkHeaderBytes = isExtended ? EXTENDED_CHUNK_HEADER_BYTES : CHUNK_HEADER_BYTES;
    this.readHeaderBytes = isStructured ? this.chunkHeaderBytes + DATA_OFFSET_BYTES : SIMPLE_REPLY_BYTES;
  }

  get isStructured(): boolean {
    return this.context.isStructured;
  }

  /** Encodes a simple reply at `at`. */
  private simple(at: number, error: number, op: number): void {
    const { view } = this;
    const { ops } = this.context;
    view.setUint32(at, SIMPLE_REPLY_MAGIC);
    view.setUint32(at + 4, error);
    view.setUint32(at + 8, ops.cookieHigh[op]);
    view.setUint32(at + 12, ops.cookieLow[op]);
  }

  /** Encodes the header of a chunk at `at`. @returns where its `bytes` go */
  private chunk(at: number, isLast: boolean, type: number, bytes: number, op: number): number {
    const { view } = this;
    const { ops, isExtended } = this.context;
    view.setUint32(at, isExtended ? EXTENDED_REPLY_MAGIC : STRUCTURED_REPLY_MAGIC);
    view.setUint16(at + 4, isLast ? ChunkFlag.done : 0);
    view.setUint16(at + 6, type);
    view.setUint32(at + 8, ops.cookieHigh[op]);
    view.setUint32(at + 12, ops.cookieLow[op]);
    if (isExtended) {
      view.setUint32(at + 16, ops.offsetHigh[op]);
      view.setUint32(at + 20, ops.offsetLow[op]);
      view.setUint32(at + 24, 0);
    }
    view.setUint32(at + this.chunkHeaderBytes - 4, bytes);
    return at + this.chunkHeaderBytes;
  }

  /** Sends the data of a read, which lie in `region` behind room for the header; where there is none, as they are. */
  data(
    region: number,
    headerBytes: number,
    lengthBytes: number,
    offsetBytes: number,
    isLast: boolean,
    op: number,
  ): void {
    const at = this.ring.startOf(region);
    if (this.isStructured) {
      const offsetAt = this.chunk(at, isLast, Chunk.offsetData, lengthBytes + DATA_OFFSET_BYTES, op);
      this.view.setUint32(offsetAt, Math.floor(offsetBytes / 2 ** 32));
      this.view.setUint32(offsetAt + 4, offsetBytes >>> 0);
    } else if (headerBytes > 0) {
      this.simple(at, NbdError.none, op);
    }
    this.add(region, headerBytes + lengthBytes);
  }

  /** Sends an error in a region that has room for it: that of a read, or one of `errorBytes`. */
  error(region: number, error: number, text: Uint8Array, isLast: boolean, op: number): void {
    const at = this.ring.startOf(region);
    if (!this.isStructured) {
      this.simple(at, error, op);
      this.add(region, SIMPLE_REPLY_BYTES);
      return;
    }
    const errorAt = this.chunk(at, isLast, Chunk.error, ERROR_FIELDS_BYTES + text.length, op);
    this.view.setUint32(errorAt, error);
    this.view.setUint16(errorAt + 4, text.length);
    this.context.memory.set(text, errorAt + ERROR_FIELDS_BYTES);
    this.add(region, this.errorBytes(text));
  }

  private errorBytes(text: Uint8Array): number {
    return this.isStructured ? this.chunkHeaderBytes + ERROR_FIELDS_BYTES + text.length : SIMPLE_REPLY_BYTES;
  }

  /** What an error reply says for people; nothing where replies have no place for it. */
  textOf(message: string): Uint8Array {
    const { read } = encoder.encodeInto(message, scratch);
    return this.isStructured ? encoder.encode(message.slice(0, read)) : NO_TEXT;
  }

  /** Answers a request that has no data. @returns false when there is no room for it now. */
  acknowledge(error: number, message: string, op: number): boolean {
    if (this.isDead) return true;
    if (error === NbdError.none) {
      const { isExtended } = this.context;
      const bytes = isExtended ? this.chunkHeaderBytes : SIMPLE_REPLY_BYTES;
      const region = this.ring.take(bytes);
      if (region < 0) return false;
      if (isExtended) this.chunk(this.ring.startOf(region), true, Chunk.none, 0, op);
      else this.simple(this.ring.startOf(region), error, op);
      this.add(region, bytes);
      return true;
    }
    const text = this.textOf(message);
    const region = this.ring.take(this.errorBytes(text));
    if (region < 0) return false;
    this.error(region, error, text, true, op);
    return true;
  }

  /** Answers a request for `base:allocation`. @returns false when there is no room for it now. */
  allocation(allocation: Allocation, op: number): boolean {
    if (this.isDead) return true;
    const { isExtended } = this.context;
    const bodyBytes = isExtended ? 8 + 8 * allocation.length : 4 + 4 * allocation.length;
    const region = this.ring.take(this.chunkHeaderBytes + bodyBytes);
    if (region < 0) return false;
    const { view } = this;
    const type = isExtended ? Chunk.blockStatusExtended : Chunk.blockStatus;
    let at = this.chunk(this.ring.startOf(region), true, type, bodyBytes, op);
    view.setUint32(at, ALLOCATION_ID);
    at += 4;
    if (isExtended) {
      view.setUint32(at, allocation.length / 2);
      at += 4;
      for (const word of allocation) {
        view.setBigUint64(at, BigInt(word));
        at += 8;
      }
    } else {
      for (const word of allocation) {
        view.setUint32(at, word);
        at += 4;
      }
    }
    this.add(region, this.chunkHeaderBytes + bodyBytes);
    return true;
  }

  private add(region: number, lengthBytes: number): void {
    const { ring } = this;
    if (this.isDead) {
      ring.release(region);
      return;
    }
    const at = ring.startOf(region);
    if (this.firstRegion >= 0 && at === this.until && region === ReplyRing.after(this.lastRegion)) {
      this.lastRegion = region;
      this.until = at + lengthBytes;
      return;
    }
    if (this.firstRegion >= 0) {
      if (!this.isCorked) this.context.transport.cork();
      this.isCorked = true;
      this.sendRun();
    }
    this.firstRegion = this.lastRegion = region;
    this.from = at;
    this.until = at + lengthBytes;
  }

  /** Hands everything to the socket. */
  flush(): void {
    if (this.firstRegion >= 0) this.sendRun();
    if (!this.isCorked) return;
    this.isCorked = false;
    this.context.transport.uncork();
  }

  private sendRun(): void {
    const { firstRegion, lastRegion, ring } = this;
    this.firstRegion = -1;
    const { transport, memory, onRoom } = this.context;
    transport.send(memory.subarray(this.from, this.until), () => {
      ring.release(firstRegion, lastRegion);
      onRoom();
    });
  }
}

const NO_TEXT = new Uint8Array(0);
const scratch = new Uint8Array(TEXT_BYTES_MAX);
