/**
 * A group of requests, as a struct of arrays: allocated once and refilled as often as its owner likes. The payload lies
 * in an arena that is registered with the pmem device. All requests of a group share one fence, and each is acknowledged
 * (its `state` is `done`) only after it. A single request is a group of one.
 *
 * `RequestGroup` is what a caller sees. `EngineGroup` is the same object as the request path sees it: a class by type
 * only, so that looking behind the face costs nothing.
 */
import { internalError, PcacheError } from '../errors.js';
import type { Arena } from '../device/pmem.js';
import { SECTOR_BYTES, SUBTREE_BYTES, SUBTREE_SECTORS } from '../media/geometry.js';

export const Op = {
  read: 0,
  write: 1,
  flush: 2,
  /** Gives up a range, which may be read as it was or as zeroes afterwards. No payload. */
  trim: 3,
  /** Writes zeroes. No payload. */
  zero: 4,
} as const;

export const RequestFlag = {
  /** A write that is durable before it is acknowledged (REQ_FUA). */
  fua: 1,
  /** A write before which everything acknowledged earlier is made durable (REQ_PREFLUSH). */
  preflush: 2,
  /** Of zeroes: the backing device keeps its space for the range. */
  keepsSpace: 4,
} as const;

export const RequestState = { done: 0, pending: 1, failed: 2 } as const;

// Why constants are copied: see `pieces.ts`. Reciprocals, because the processor multiplies faster than it divides.
const { read: READ, write: WRITE } = Op;
const FUA = RequestFlag.fua;
const PENDING = RequestState.pending;
const BYTES_OF_SECTOR = SECTOR_BYTES;
const BYTES_OF_SUBTREE = SUBTREE_BYTES;
const SECTORS_OF_BYTE = 1 / SECTOR_BYTES;
const SECTOR_MASK = SUBTREE_SECTORS - 1;
const SUBTREES_OF_BYTE = 1 / SUBTREE_BYTES;

export class RequestGroup {
  /** Number of requests in the group; set by `add`. */
  count = 0;
  /** `Op` values. */
  readonly op: Uint8Array;
  /** `RequestFlag` bits. */
  readonly flags: Uint8Array;
  /** Logical offset, bytes, a multiple of 512. */
  readonly offsetBytes: Float64Array;
  /** Length, bytes, a multiple of 512; 0 for a flush. */
  readonly lengthBytes: Uint32Array;
  /** Offset of the payload in the arena, bytes. */
  readonly arenaOffsetBytes: Uint32Array;

  /** `RequestState` values: pending from `add` on, then set by the engine. */
  readonly state: Uint8Array;
  /** Why request i failed, when its state is `failed`. */
  readonly errors: (PcacheError | undefined)[];
  /** Bytes of a read that came from the backing device, 0 for a full hit; of a TRIM or zeroes, those that went there. */
  readonly missBytes: Uint32Array;
  /** Number of requests that have not ended. */
  pending = 0;

  /** Called for each request that ends after `submit` returned. */
  onRequestDone: ((group: RequestGroup, index: number) => void) | undefined;

  // The engine's own, described at `EngineGroup`.
  protected isMixed = false;
  protected endBytes = 0;
  protected fuaWrites = 0;
  protected hasReads = false;
  protected isBeingTaken = false;
  protected readonly arenaBytes: number;
  protected readonly subtree: Int32Array;
  protected readonly startSector: Uint16Array;
  protected readonly hint: Int32Array;
  protected readonly parts: Uint32Array;
  protected readonly doneBytes: Uint32Array;
  protected blankFrom = 0;
  protected readonly hasKeys: Uint8Array;
  protected readonly flush: Float64Array;

  constructor(
    readonly capacity: number,
    readonly arena: Arena,
  ) {
    this.arenaBytes = arena.memory.length;
    this.op = new Uint8Array(capacity);
    this.flags = new Uint8Array(capacity);
    this.offsetBytes = new Float64Array(capacity);
    this.lengthBytes = new Uint32Array(capacity);
    this.arenaOffsetBytes = new Uint32Array(capacity);
    this.state = new Uint8Array(capacity);
    this.errors = new Array<PcacheError | undefined>(capacity).fill(undefined);
    this.missBytes = new Uint32Array(capacity);
    this.subtree = new Int32Array(capacity);
    this.startSector = new Uint16Array(capacity);
    this.hint = new Int32Array(capacity);
    this.parts = new Uint32Array(capacity);
    this.doneBytes = new Uint32Array(capacity);
    this.hasKeys = new Uint8Array(capacity);
    this.flush = new Float64Array(capacity);
  }

  /** Empties the group for refilling; no request of it may be pending. */
  clear(): void {
    if (this.pending !== 0) internalError('a group is refilled while requests of it are pending');
    this.count = 0;
    this.isMixed = false;
    this.endBytes = 0;
    this.fuaWrites = 0;
    this.hasReads = false;
  }

  protected blank(): void {
    const { blankFrom } = this;
    this.errors.fill(undefined, 0, blankFrom);
    this.missBytes.fill(0, 0, blankFrom);
    this.hasKeys.fill(0, 0, blankFrom);
    this.flush.fill(0, 0, blankFrom);
    this.blankFrom = 0;
  }

  /** Adds a request and returns its index. The group must have room. */
  add(op: number, offsetBytes: number, lengthBytes: number, arenaOffsetBytes: number, flags = 0): number {
    const i = this.count;
    if (i >= this.capacity) internalError('a request is added to a full group');
    const length = lengthBytes | 0; // what the compiler does not know to be an integer is stored slowly
    const arenaOffset = arenaOffsetBytes | 0;
    this.op[i] = op | 0;
    this.flags[i] = flags | 0;
    this.offsetBytes[i] = offsetBytes;
    this.lengthBytes[i] = length;
    this.arenaOffsetBytes[i] = arenaOffset;
    this.state[i] = PENDING;
    this.doneBytes[i] = 0;
    this.count = i + 1;
    const subtree = (offsetBytes * SUBTREES_OF_BYTE) | 0;
    const inSubtree = offsetBytes - subtree * BYTES_OF_SUBTREE;
    const sector = (inSubtree * SECTORS_OF_BYTE) & SECTOR_MASK;
    this.subtree[i] = subtree;
    this.startSector[i] = sector;
    const endBytes = offsetBytes + lengthBytes;
    if (endBytes > this.endBytes) this.endBytes = endBytes;
    const isOfSectors = sector * BYTES_OF_SECTOR === inSubtree && (length & (BYTES_OF_SECTOR - 1)) === 0;
    const endInArena = (arenaOffset >>> 0) + (length >>> 0);
    if (op !== WRITE || flags > FUA || !isOfSectors || endInArena > this.arenaBytes) {
      this.isMixed = true;
      if (op === READ) this.hasReads = true;
    } else if (flags !== 0) {
      this.fuaWrites += flags;
    }
    return i;
  }
}

/** A group as the request path sees it. Never constructed: every `RequestGroup` is one. */
export abstract class EngineGroup extends RequestGroup {
  /** False only if every request is an aligned write without PREFLUSH, so that all can be started together. */
  declare isMixed: boolean;
  /** Highest end of a request on the logical device, bytes. */
  declare endBytes: number;
  /** Number of aligned FUA writes without PREFLUSH. */
  declare fuaWrites: number;
  declare hasReads: boolean;
  /** The group is inside `submit`: requests that end now are reported by `state` alone. */
  declare isBeingTaken: boolean;
  declare readonly arenaBytes: number;
  /** First sector of request i: its subtree, and the sector there. */
  declare readonly subtree: Int32Array;
  declare readonly startSector: Uint16Array;
  /** Where a lookup of request i in the index should begin, or NO_HINT. */
  declare readonly hint: Int32Array;
  /** Parts of request i under way at the backing device. */
  declare readonly parts: Uint32Array;
  /** Bytes of a write, TRIM or zeroes that are in the cache or past it. */
  declare readonly doneBytes: Uint32Array;
  /** `errors`, `missBytes`, `hasKeys` and `flush` are empty from this index on: few groups need any of them. */
  declare blankFrom: number;
  /** 1 when a key of write i went into the log. */
  declare readonly hasKeys: Uint8Array;
  /** Ticket of the flush of the backing device that request i waits for, or 0. */
  declare readonly flush: Float64Array;

  /** Empties the columns that `blankFrom` is about. */
  declare blank: () => void;
}

/**
 * Reports the requests that have ended in a `submit` whose caller does not look at their states. Those that are not told yet
 * count as pending, so that the owner of the group sees which is the last. @param left what `submit` returned
 */
export function reportEnded(group: RequestGroup, left: number): void {
  const ended: number[] = [];
  for (let i = 0; i < group.count; i++) if (group.state[i] !== PENDING) ended.push(i);
  group.pending = left + ended.length;
  for (const i of ended) {
    group.pending--;
    group.onRequestDone?.(group, i);
  }
}

/** Whether request `i` is made of whole sectors, and its payload inside its arena. */
function isAligned(group: EngineGroup, i: number): boolean {
  const length = group.lengthBytes[i];
  const firstByte = group.subtree[i] * SUBTREE_BYTES + group.startSector[i] * SECTOR_BYTES;
  const isOfSectors = firstByte === group.offsetBytes[i] && length % SECTOR_BYTES === 0;
  const hasPayload = group.op[i] < Op.flush;
  return isOfSectors && (!hasPayload || group.arenaOffsetBytes[i] + length <= group.arenaBytes);
}

/** Error of request `i` if a logical device of `deviceBytes` cannot take it; undefined if it can. */
export function whyRefused(group: EngineGroup, i: number, deviceBytes: number): PcacheError | undefined {
  if (group.op[i] === Op.flush) return undefined;
  const offset = group.offsetBytes[i];
  const length = group.lengthBytes[i];
  const isInside = offset >= 0 && offset + length <= deviceBytes;
  if (isInside && isAligned(group, i)) return undefined;
  if (offset / SECTOR_BYTES !== Math.floor(offset / SECTOR_BYTES) || length % SECTOR_BYTES !== 0) {
    return new PcacheError(
      'MISALIGNED',
      `${describe(group, i)}: offset and length must be multiples of ${SECTOR_BYTES}`,
    );
  }
  if (!isInside) {
    return new PcacheError('OUT_OF_RANGE', `${describe(group, i)}: the device ends at byte ${deviceBytes}`);
  }
  return new PcacheError('OUT_OF_RANGE', `${describe(group, i)}: its buffer extends beyond its arena`);
}

function describe(group: RequestGroup, i: number): string {
  return `request at byte ${group.offsetBytes[i]} of ${group.lengthBytes[i]} bytes`;
}
