/**
 * Replies of one connection: their encoding, into the reply ring, and their way out. Replies that lie one
 * behind another in the ring leave as one piece.
 */
import type { PcacheError, PcacheErrorCode } from '../engine/index.js';
import type { Allocation } from './allocation.js';
import {
  ALLOCATION_ID,
  Chunk,
  CHUNK_HEADER_BYTES,
  ChunkFlag,
  DATA_CHUNK_BYTES,
  ERROR_CHUNK_BYTES,
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

export class Replies {
  readonly ring: ReplyRing;
  private readonly view: DataView;
  /** Replies collected and not sent yet: regions in order, and the bytes they fill. */
  private firstRegion = -1;
  private lastRegion = -1;
  private from = 0;
  private until = 0;
  private isCorked = false;
  /** Nothing is sent any more. */
  isDead = false;

  constructor(
    private readonly memory: Uint8Array,
    ringOffsetBytes: number,
    private readonly transport: Transport,
    readonly isStructured: boolean,
    private readonly onRoom: () => void,
  ) {
    this.ring = new ReplyRing(ringOffsetBytes);
    this.view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
  }

  /** Bytes before the data of a read. */
  get readHeaderBytes(): number {
    return this.isStructured ? DATA_CHUNK_BYTES : SIMPLE_REPLY_BYTES;
  }

  /** Encodes a simple reply at `at`. */
  private simple(at: number, error: number, cookieHigh: number, cookieLow: number): void {
    const { view } = this;
    view.setUint32(at, SIMPLE_REPLY_MAGIC);
    view.setUint32(at + 4, error);
    view.setUint32(at + 8, cookieHigh);
    view.setUint32(at + 12, cookieLow);
  }

  private chunk(at: number, isLast: boolean, type: number, cookieHigh: number, cookieLow: number, bytes: number): void {
    const { view } = this;
    view.setUint32(at, STRUCTURED_REPLY_MAGIC);
    view.setUint16(at + 4, isLast ? ChunkFlag.done : 0);
    view.setUint16(at + 6, type);
    view.setUint32(at + 8, cookieHigh);
    view.setUint32(at + 12, cookieLow);
    view.setUint32(at + 16, bytes);
  }

  /** Sends the data of a read, which lie in `region` behind room for the header; where there is none, as they are. */
  data(
    region: number,
    headerBytes: number,
    lengthBytes: number,
    offsetBytes: number,
    isLast: boolean,
    cookieHigh: number,
    cookieLow: number,
  ): void {
    const at = this.ring.startOf(region);
    if (headerBytes === DATA_CHUNK_BYTES) {
      this.chunk(at, isLast, Chunk.offsetData, cookieHigh, cookieLow, lengthBytes + 8);
      this.view.setUint32(at + CHUNK_HEADER_BYTES, Math.floor(offsetBytes / 2 ** 32));
      this.view.setUint32(at + CHUNK_HEADER_BYTES + 4, offsetBytes >>> 0);
    } else if (headerBytes > 0) {
      this.simple(at, NbdError.none, cookieHigh, cookieLow);
    }
    this.add(region, headerBytes + lengthBytes);
  }

  /** Sends an error in a region that has room for it: that of a read, or one of `errorBytes`. */
  error(region: number, error: number, text: Uint8Array, isLast: boolean, cookieHigh: number, cookieLow: number): void {
    const at = this.ring.startOf(region);
    if (!this.isStructured) {
      this.simple(at, error, cookieHigh, cookieLow);
      this.add(region, SIMPLE_REPLY_BYTES);
      return;
    }
    this.chunk(at, isLast, Chunk.error, cookieHigh, cookieLow, 6 + text.length);
    this.view.setUint32(at + CHUNK_HEADER_BYTES, error);
    this.view.setUint16(at + CHUNK_HEADER_BYTES + 4, text.length);
    this.memory.set(text, at + ERROR_CHUNK_BYTES);
    this.add(region, ERROR_CHUNK_BYTES + text.length);
  }

  /** What an error reply says for people; nothing where replies have no place for it. */
  textOf(message: string): Uint8Array {
    const { read } = encoder.encodeInto(message, scratch);
    return this.isStructured ? encoder.encode(message.slice(0, read)) : NO_TEXT;
  }

  /** Answers a request that has no data. @returns false when there is no room for it now. */
  acknowledge(error: number, message: string, cookieHigh: number, cookieLow: number): boolean {
    if (this.isDead) return true;
    if (error === NbdError.none) {
      const region = this.ring.take(SIMPLE_REPLY_BYTES);
      if (region < 0) return false;
      this.simple(this.ring.startOf(region), error, cookieHigh, cookieLow);
      this.add(region, SIMPLE_REPLY_BYTES);
      return true;
    }
    const text = this.textOf(message);
    const region = this.ring.take(this.isStructured ? ERROR_CHUNK_BYTES + text.length : SIMPLE_REPLY_BYTES);
    if (region < 0) return false;
    this.error(region, error, text, true, cookieHigh, cookieLow);
    return true;
  }

  /** Answers a request for `base:allocation`. @returns false when there is no room for it now. */
  allocation(allocation: Allocation, cookieHigh: number, cookieLow: number): boolean {
    if (this.isDead) return true;
    const bytes = CHUNK_HEADER_BYTES + 4 + 4 * allocation.length;
    const region = this.ring.take(bytes);
    if (region < 0) return false;
    const at = this.ring.startOf(region);
    this.chunk(at, true, Chunk.blockStatus, cookieHigh, cookieLow, bytes - CHUNK_HEADER_BYTES);
    this.view.setUint32(at + CHUNK_HEADER_BYTES, ALLOCATION_ID);
    for (let i = 0; i < allocation.length; i++) {
      this.view.setUint32(at + CHUNK_HEADER_BYTES + 4 + 4 * i, allocation[i]);
    }
    this.add(region, bytes);
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
      if (!this.isCorked) this.transport.cork();
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
    this.transport.uncork();
  }

  private sendRun(): void {
    const { firstRegion, lastRegion, ring } = this;
    this.firstRegion = -1;
    this.transport.send(this.memory.subarray(this.from, this.until), () => {
      ring.release(firstRegion, lastRegion);
      this.onRoom();
    });
  }
}

const NO_TEXT = new Uint8Array(0);
const scratch = new Uint8Array(TEXT_BYTES_MAX);
