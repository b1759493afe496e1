/**
 * Requests of one connection that are not answered yet, as a struct of arrays, and the groups in which their
 * parts go to the engine. A request has one part unless it is long (`long-request.ts`, a write longer than a
 * receive window). All of it is made once and used again; what there is of it bounds what is under way.
 */
import type { Arena } from '../engine/device/pmem.js';
import { RequestGroup } from '../engine/index.js';

export const OPS_MAX = 1024;
const GROUP_CAPACITY = 128;
const GROUPS_MAX = 128;
export const NO_WINDOW = 0xff;

export class Ops {
  readonly cookieHigh = new Uint32Array(OPS_MAX);
  readonly cookieLow = new Uint32Array(OPS_MAX);
  /** Its offset as the client sent it. */
  readonly offsetHigh = new Uint32Array(OPS_MAX);
  readonly offsetLow = new Uint32Array(OPS_MAX);
  /** `Command` values. */
  readonly command = new Uint8Array(OPS_MAX);
  /** Parts that have not ended, and 1 more while not all have been given to the engine. */
  readonly parts = new Uint32Array(OPS_MAX);
  /** `NbdError` value of the first part that failed, or 0. */
  readonly error = new Uint32Array(OPS_MAX);
  /** And what it says for people. */
  readonly text = new Array<string>(OPS_MAX).fill('');
  /** 1 when nobody waits for the reply. */
  readonly isSilent = new Uint8Array(OPS_MAX);
  /** 1 when a part of a read came from the backing device. */
  readonly missed = new Uint8Array(OPS_MAX);
  /** Bytes that it writes. */
  readonly writeBytes = new Float64Array(OPS_MAX);
  /** When it was received, ms. */
  readonly receivedMs = new Float64Array(OPS_MAX);

  private readonly free = Uint16Array.from({ length: OPS_MAX }, (_, n) => OPS_MAX - 1 - n);
  private freeCount = OPS_MAX;

  get inUse(): number {
    return OPS_MAX - this.freeCount;
  }

  /**
   * @param header view of the client's request
   * @param at offset of the request in it
   * @returns a number, or -1 when none is free
   */
  take(header: DataView, at: number, command: number, receivedMs: number): number {
    if (this.freeCount === 0) return -1;
    const op = this.free[--this.freeCount];
    this.cookieHigh[op] = header.getUint32(at + 8);
    this.cookieLow[op] = header.getUint32(at + 12);
    this.offsetHigh[op] = header.getUint32(at + 16);
    this.offsetLow[op] = header.getUint32(at + 20);
    this.command[op] = command;
    this.parts[op] = 0;
    this.error[op] = 0;
    this.text[op] = '';
    this.isSilent[op] = 0;
    this.missed[op] = 0;
    this.writeBytes[op] = 0;
    this.receivedMs[op] = receivedMs;
    return op;
  }

  /** It is to be answered with an error. */
  refuse(op: number, error: number, text: string): void {
    this.error[op] = error;
    this.text[op] = text;
  }

  release(op: number): void {
    this.free[this.freeCount++] = op;
  }
}

/** A group, and for each of its requests what it is a part of. */
export class Batch {
  readonly group: RequestGroup;
  readonly op = new Uint16Array(GROUP_CAPACITY);
  /** Reply region of a read. */
  readonly region = new Uint16Array(GROUP_CAPACITY);
  /** Receive window of a write's payload, or NO_WINDOW. */
  readonly window = new Uint8Array(GROUP_CAPACITY);

  constructor(arena: Arena, onRequestDone: (batch: Batch, request: number) => void) {
    this.group = new RequestGroup(GROUP_CAPACITY, arena);
    this.group.onRequestDone = (_, request) => onRequestDone(this, request);
  }

  get isFull(): boolean {
    return this.group.count === GROUP_CAPACITY;
  }
}

export class BatchPool {
  private readonly free: Batch[] = [];
  private made = 0;

  constructor(
    private readonly arena: Arena,
    private readonly onRequestDone: (batch: Batch, request: number) => void,
  ) {}

  /** An empty batch, or undefined when too many are under way. */
  take(): Batch | undefined {
    const batch = this.free.pop();
    if (batch !== undefined) {
      batch.group.clear();
      return batch;
    }
    if (this.made === GROUPS_MAX) return undefined;
    this.made++;
    return new Batch(this.arena, this.onRequestDone);
  }

  give(batch: Batch): void {
    this.free.push(batch);
  }
}
