/**
 * Requests as the engine takes them: a group, preallocated once and refilled for ever, as a struct of
 * arrays. Payload lies in an arena that was registered with the pmem device. All requests of a group share
 * one fence; each is acknowledged (`state` done) only after it. A single request is a group of one.
 */
import { internalError, PcacheError } from '../errors.js';
import type { Arena } from '../device/pmem.js';
import { SECTOR_BYTES, SUBTREE_BYTES, SUBTREE_SECTORS } from '../media/geometry.js';

export const Op = { read: 0, write: 1, flush: 2 } as const;

export const RequestFlag = {
  /** Durable before it is acknowledged (REQ_FUA); of writes. */
  fua: 1,
  /** Everything acknowledged before it is durable first (REQ_PREFLUSH); of writes. */
  preflush: 2,
} as const;

export const RequestState = { done: 0, pending: 1, failed: 2 } as const;

// See `pieces.ts` about constants of the hot path; and the processor multiplies faster than it divides.
const { read: READ, write: WRITE } = Op;
const FUA = RequestFlag.fua;
const PENDING = RequestState.pending;
const BYTES_OF_SECTOR = SECTOR_BYTES;
const BYTES_OF_SUBTREE = SUBTREE_BYTES;
const SECTORS_OF_BYTE = 1 / SECTOR_BYTES;
const SECTOR_MASK = SUBTREE_SECTORS - 1;
const SUBTREES_OF_BYTE = 1 / SUBTREE_BYTES;

export class RequestGroup {
  /** How many requests are in the group; set by `add`. */
  count = 0;
  /** `Op` values. */
  readonly op: Uint8Array;
  /** `RequestFlag` bits. */
  readonly flags: Uint8Array;
  /** Logical offset, bytes, a multiple of 512. */
  readonly offsetBytes: Float64Array;
  /** Length, bytes, a multiple of 512; 0 for a flush. */
  readonly lengthBytes: Uint32Array;
  /** Where the payload lies in the arena, bytes. */
  readonly arenaOffsetBytes: Uint32Array;

  /** `RequestState` values: pending from `add` on, and then set by the engine. */
  readonly state: Uint8Array;
  /** Why request i failed, when its state says so. */
  readonly errors: (PcacheError | undefined)[];
  /** Bytes of a read that came from the backing device; 0 for a full hit. */
  readonly missBytes: Uint32Array;
  /** How many requests are not done yet. */
  pending = 0;

  /** Called for each request that ends after `submit` returned. */
  onRequestDone: ((group: RequestGroup, index: number) => void) | undefined;

  /**
   * Engine's: not all are writes that can be begun together, if they are inside the device: in order, and without
   * preflushes. How far they reach, bytes, and how many are FUA. And whether there are reads.
   */
  isMixed = false;
  endBytes = 0;
  fuaWrites = 0;
  hasReads = false;
  /** Engine's: it is being submitted. */
  isBeingTaken = false;
  readonly arenaBytes: number;
  /** Engine's: where request i begins. */
  readonly subtree: Int32Array;
  readonly startSector: Uint16Array;
  /** Engine's: where in the index request i begins, as far as that is known. */
  readonly hint: Int32Array;
  /** Engine's: parts of request i under way at the backing device, and bytes of it that are finished. */
  readonly parts: Uint32Array;
  readonly doneBytes: Uint32Array;
  /** Engine's: `errors`, `missBytes`, `hasKeys` and `flush` are empty from here on; few groups need any of them. */
  blankFrom = 0;
  /** Engine's: 1 when a key of write i went into the log; the flush of the backing device it waits for, or 0. */
  readonly hasKeys: Uint8Array;
  readonly flush: Float64Array;

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

  /** Empties the group for refilling; none of it may be pending. */
  clear(): void {
    if (this.pending !== 0) internalError('a group is refilled while requests of it are pending');
    this.count = 0;
    this.isMixed = false;
    this.endBytes = 0;
    this.fuaWrites = 0;
    this.hasReads = false;
  }

  /** Empties the columns that `blankFrom` is about. */
  blank(): void {
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
    const length = lengthBytes | 0; // as the columns do: what is not known to be an integer is stored as slowly as others
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

/** Whether read or write `i` is made of sectors and inside its arena. */
function isInOrder(group: RequestGroup, i: number): boolean {
  const length = group.lengthBytes[i];
  const firstByte = group.subtree[i] * SUBTREE_BYTES + group.startSector[i] * SECTOR_BYTES;
  const isOfSectors = firstByte === group.offsetBytes[i] && length % SECTOR_BYTES === 0;
  return isOfSectors && group.arenaOffsetBytes[i] + length <= group.arenaBytes;
}

/** Why request `i` cannot be taken by a device of `deviceBytes`, or undefined when it can. */
export function whyRefused(group: RequestGroup, i: number, deviceBytes: number): PcacheError | undefined {
  if (group.op[i] === Op.flush) return undefined;
  const offset = group.offsetBytes[i];
  const length = group.lengthBytes[i];
  const isInside = offset >= 0 && offset + length <= deviceBytes;
  if (isInside && isInOrder(group, i)) return undefined;
  if (offset / SECTOR_BYTES !== Math.floor(offset / SECTOR_BYTES) || length % SECTOR_BYTES !== 0) {
    return new PcacheError('MISALIGNED', `${describe(group, i)}: both must be multiples of ${SECTOR_BYTES}`);
  }
  if (!isInside) {
    return new PcacheError('OUT_OF_RANGE', `${describe(group, i)}: the device has ${deviceBytes}`);
  }
  return new PcacheError('OUT_OF_RANGE', `${describe(group, i)}: its buffer ends beyond its arena`);
}

function describe(group: RequestGroup, i: number): string {
  return `request at byte ${group.offsetBytes[i]} of ${group.lengthBytes[i]} bytes`;
}
