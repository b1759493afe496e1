/**
 * Simulated persistent memory with 64-byte lines and atomic 8-byte stores. `bytes` is the memory that the program
 * sees; a journal of the stores that are not durable yet gives the states that a loss of power may leave.
 *
 * Persistence model: a store reaches the medium at any moment between the store itself (a line may be evicted
 * without a flush) and the next barrier. So after a crash each line holds its state after some number of the stores
 * made to it since the last barrier, from none to all, or an 8-byte-wise mixture of two neighbouring states. Lines
 * are independent of one another.
 *
 * Barriers: 'dax' makes everything durable at `fence()` and `persist()`; 'page-cache' only at `persist()`, like a
 * file mapping that is written back only then.
 *
 * A crash state is made in place from the journal and undone afterwards. Its cost depends on the number of stores
 * that are not durable, not on the size of the device.
 */
import { PcacheError } from '../errors.js';
import {
  plainCopyList,
  plainPieceList,
  writePlainly,
  type Arena,
  type CopyList,
  type Durability,
  type PieceList,
  type Pmem,
  type PmemReader,
} from '../device/pmem.js';
import { crc32cRaw, type Crc32c } from '../media/crc32c.js';
import type { Random } from './random.js';

export const LINE_BYTES = 64;
const WORD_BYTES = 8;
const FIRST_JOURNAL_BYTES = 64 * 1024;
/** Number of past stores whose offsets are remembered; a power of two. */
const HISTORY_STORES = 4096;

export type BarrierKind = 'fence' | 'persist';

/** The fate of a line, or of a whole store, in a crash. */
const Fate = { kept: 0, lost: 1, torn: 2, perLine: 3 } as const;
/** How one crash assigns fates. Extremes find as many bugs as mixtures. */
const Style = { allLost: 0, allKept: 1, perStore: 2, perLine: 3 } as const;
const STYLES = 4;

export interface SimPmemOptions {
  readonly model: 'dax' | 'page-cache';
  readonly path?: string;
  /** CRC-32C over a buffer: the native one where there is one, for speed. */
  readonly crc?: Crc32c;
}

/** Which calls fail, counted in stores and barriers from now. */
export interface FaultPlan {
  /** Number of calls that still succeed. */
  readonly after: number;
  /** Number of calls that fail after them; Infinity for a dead device. */
  readonly times: number;
}

export class SimPmem implements Pmem {
  readonly path: string;
  readonly sizeBytes: number;
  readonly durability: Durability;
  /** Called before a store, with its range and its bytes; undefined bytes mean zeroes. */
  onStore: ((offsetBytes: number, lengthBytes: number, stored: Uint8Array | undefined) => void) | undefined;
  /** Called before a barrier takes effect, when the most stores are not durable. */
  onBarrier: ((kind: BarrierKind) => void) | undefined;
  /** Stores and barriers so far, failed ones included. */
  calls = 0;
  /** Number of stores so far, and the number of the next store. */
  storeCount = 0;

  private readonly model: 'dax' | 'page-cache';
  private readonly crc: Crc32c;
  private closed = false;
  private arenas = 0;
  private failFrom = Infinity;
  private failUntil = Infinity;

  // The journal: the stores since the last barrier and the bytes that they overwrote, in order.
  private stores = 0;
  private storeOffset = new Int32Array(64);
  private storeLength = new Int32Array(64);
  private journalAt = new Int32Array(64);
  private undo: Uint8Array = new Uint8Array(FIRST_JOURNAL_BYTES);
  private redo: Uint8Array = new Uint8Array(FIRST_JOURNAL_BYTES);
  private journalBytes = 0;
  /** 1 for lines whose fate is decided, while a crash state is made. */
  private readonly settled: Uint8Array;

  // Ring buffers of the ranges of the last stores, by store number.
  private readonly historyOffset = new Int32Array(HISTORY_STORES);
  private readonly historyLength = new Int32Array(HISTORY_STORES);
  private historyFrom = 0;

  /** @param bytes contents of the whole device, which the new object owns. */
  constructor(
    readonly bytes: Uint8Array,
    private readonly options: SimPmemOptions,
  ) {
    this.sizeBytes = bytes.length;
    this.model = options.model;
    this.durability = options.model;
    this.path = options.path ?? 'simulated-pmem';
    this.crc = options.crc ?? crc32cRaw;
    this.settled = new Uint8Array(Math.ceil(bytes.length / LINE_BYTES));
  }

  // ---- the device interface ---------------------------------------------------------------------------

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    this.check(offsetBytes, lengthBytes);
    copyBytes(this.bytes, offsetBytes, target, targetOffset, lengthBytes);
  }

  crc32c(offsetBytes: number, lengthBytes: number, seed: number): number {
    this.check(offsetBytes, lengthBytes);
    return this.crc(seed, this.bytes, offsetBytes, offsetBytes + lengthBytes);
  }

  write(offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number): void {
    this.check(offsetBytes, lengthBytes);
    this.maybeFail();
    this.onStore?.(offsetBytes, lengthBytes, source.subarray(sourceOffset, sourceOffset + lengthBytes));
    this.journal(offsetBytes, lengthBytes);
    copyBytes(source, sourceOffset, this.bytes, offsetBytes, lengthBytes);
  }

  zero(offsetBytes: number, lengthBytes: number): void {
    this.check(offsetBytes, lengthBytes);
    this.maybeFail();
    this.onStore?.(offsetBytes, lengthBytes, undefined);
    this.journal(offsetBytes, lengthBytes);
    this.bytes.fill(0, offsetBytes, offsetBytes + lengthBytes);
  }

  fence(): void {
    this.barrier('fence');
  }

  persist(): void {
    this.barrier('persist');
  }

  registerArena(memory: Uint8Array): Arena {
    return { id: ++this.arenas, memory };
  }

  unregisterArena(_arena: Arena): void {
    this.check(0, 0);
  }

  createCopyList(capacity: number): CopyList {
    return plainCopyList(capacity);
  }

  runReads(list: CopyList, count: number, arena: Arena): void {
    for (let i = 0; i < count; i++) {
      this.read(list.pmemOffsetBytes[i], arena.memory, list.arenaOffsetBytes[i], list.lengthBytes[i]);
    }
  }

  createPieceList(capacity: number, withCrc: boolean): PieceList {
    return plainPieceList(capacity, withCrc);
  }

  writePieces(list: PieceList, count: number, pmemOffsetBytes: number, arena: Arena): void {
    writePlainly(this, list, count, pmemOffsetBytes, arena, this.crc);
  }

  close(): void {
    this.closed = true;
  }

  private check(offsetBytes: number, lengthBytes: number): void {
    if (this.closed) throw new PcacheError('CLOSED', `${this.path}: closed`);
    if (!(offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes + lengthBytes <= this.sizeBytes)) {
      throw new PcacheError('OUT_OF_RANGE', `${this.path}: ${offsetBytes}+${lengthBytes} is beyond the device`);
    }
  }

  private barrier(kind: BarrierKind): void {
    this.check(0, 0);
    this.maybeFail();
    this.onBarrier?.(kind);
    if (kind === 'persist' || this.model === 'dax') this.forgetStores();
  }

  // ---- faults -----------------------------------------------------------------------------------------

  /** Makes later stores and barriers fail; those that fail do nothing. */
  fail(plan: FaultPlan): void {
    this.failFrom = this.calls + plan.after;
    this.failUntil = this.failFrom + plan.times;
  }

  private maybeFail(): void {
    const call = this.calls++;
    if (call >= this.failFrom && call < this.failUntil) throw new PcacheError('IO', `${this.path}: failed as asked`);
  }

  /** Corrupts one byte of the medium, for which no store is pending. */
  spoil(offsetBytes: number, mask: number): void {
    this.check(offsetBytes, 1);
    this.bytes[offsetBytes] ^= mask;
    this.historyFrom = this.storeCount; // this byte changed without a store
  }

  // ---- crashes ----------------------------------------------------------------------------------------

  /** Bytes stored and not durable. */
  get pendingBytes(): number {
    return this.journalBytes;
  }

  /**
   * Number of the oldest store that is not durable. A crash state differs from the present only where this
   * store and later ones went.
   */
  get firstPendingStore(): number {
    return this.storeCount - this.stores;
  }
  /** Number of the oldest store whose range is remembered; the ranges of all later changes are too. */
  get firstKnownStore(): number {
    return Math.max(this.historyFrom, this.storeCount - HISTORY_STORES);
  }
  /** Range of store number `store`. */
  offsetOfStore(store: number): number {
    return this.historyOffset[store % HISTORY_STORES];
  }
  lengthOfStore(store: number): number {
    return this.historyLength[store % HISTORY_STORES];
  }

  /**
   * Calls `look` with the device in a state that a crash at this moment may leave, then restores it.
   * `look` must not change the device.
   */
  withCrash<T>(random: Random, look: (device: PmemReader) => T): T {
    this.lose(random);
    const { onBarrier } = this;
    this.onBarrier = undefined;
    try {
      return look(this);
    } finally {
      for (let i = 0; i < this.stores; i++) {
        copyBytes(this.redo, this.journalAt[i], this.bytes, this.storeOffset[i], this.storeLength[i]);
      }
      this.onBarrier = onBarrier;
    }
  }

  /** Loses power: `bytes` becomes the contents that the medium kept. */
  crash(random: Random): void {
    this.lose(random);
    this.forgetStores();
    this.historyFrom = this.storeCount; // lost stores changed bytes without a store
  }

  /** A separate device with the same bytes, all durable. */
  copy(): SimPmem {
    return new SimPmem(this.bytes.slice(), this.options);
  }

  /** The state that is certain to survive a crash now: the device without the stores that are not durable. */
  durableImage(): Uint8Array {
    const image = this.bytes.slice();
    for (let i = this.stores - 1; i >= 0; i--) {
      copyBytes(this.undo, this.journalAt[i], image, this.storeOffset[i], this.storeLength[i]);
    }
    return image;
  }

  private journal(offset: number, length: number): void {
    const at = this.journalBytes;
    if (this.stores === this.storeOffset.length) this.growStores();
    while (at + length > this.undo.length) {
      this.undo = grown(this.undo);
      this.redo = new Uint8Array(this.undo.length);
    }
    copyBytes(this.bytes, offset, this.undo, at, length);
    this.storeOffset[this.stores] = offset;
    this.storeLength[this.stores] = length;
    this.journalAt[this.stores] = at;
    this.stores++;
    this.journalBytes = at + length;
    this.historyOffset[this.storeCount % HISTORY_STORES] = offset;
    this.historyLength[this.storeCount % HISTORY_STORES] = length;
    this.storeCount++;
  }

  private growStores(): void {
    const wider = (column: Int32Array) => {
      const next = new Int32Array(2 * column.length);
      next.set(column);
      return next;
    };
    this.storeOffset = wider(this.storeOffset);
    this.storeLength = wider(this.storeLength);
    this.journalAt = wider(this.journalAt);
  }

  private forgetStores(): void {
    this.stores = 0;
    this.journalBytes = 0;
  }

  /** Undoes stores at random, newest first. `redo` then holds the bytes that restore the present state. */
  private lose(random: Random): void {
    const style = random.below(STYLES);
    for (let i = this.stores - 1; i >= 0; i--) {
      const offset = this.storeOffset[i];
      const length = this.storeLength[i];
      copyBytes(this.bytes, offset, this.redo, this.journalAt[i], length);
      const fate = storeFate(style, random);
      if (fate === Fate.kept && style === Style.allKept) continue;
      this.loseStore(i, fate, random);
    }
    for (let i = 0; i < this.stores; i++) {
      const first = Math.floor(this.storeOffset[i] / LINE_BYTES);
      const last = Math.floor((this.storeOffset[i] + this.storeLength[i] - 1) / LINE_BYTES);
      this.settled.fill(0, first, last + 1);
    }
  }

  private loseStore(store: number, storesFate: number, random: Random): void {
    const start = this.storeOffset[store];
    const end = start + this.storeLength[store];
    const undoShift = this.journalAt[store] - start;
    let from = start;
    while (from < end) {
      const line = Math.floor(from / LINE_BYTES);
      const until = Math.min(end, (line + 1) * LINE_BYTES);
      if (this.settled[line] === 0) {
        const fate = storesFate === Fate.perLine ? lineFate(random) : storesFate;
        if (fate === Fate.lost) {
          copyBytes(this.undo, from + undoShift, this.bytes, from, until - from);
        } else {
          // The line has kept this store, so it has kept those before it.
          this.settled[line] = 1;
          if (fate === Fate.torn) this.tear(from, until, undoShift, random);
        }
      }
      from = until;
    }
  }

  private tear(from: number, until: number, undoShift: number, random: Random): void {
    const pattern = random.next();
    let bit = 0;
    for (let at = from; at < until; bit++) {
      const wordEnd = Math.min(until, at - (at % WORD_BYTES) + WORD_BYTES);
      if ((pattern >>> bit) & 1) copyBytes(this.undo, at + undoShift, this.bytes, at, wordEnd - at);
      at = wordEnd;
    }
  }
}

function storeFate(style: number, random: Random): number {
  if (style === Style.allLost) return Fate.lost;
  if (style === Style.allKept) return Fate.kept;
  if (style === Style.perLine) return Fate.perLine;
  const dice = random.below(8);
  return dice < 3 ? Fate.kept : dice < 6 ? Fate.lost : Fate.perLine;
}

function lineFate(random: Random): number {
  const dice = random.below(8);
  return dice < 3 ? Fate.kept : dice < 6 ? Fate.lost : Fate.torn;
}

function grown(bytes: Uint8Array): Uint8Array {
  const next = new Uint8Array(2 * bytes.length);
  next.set(bytes);
  return next;
}

/** Below this many bytes a loop is faster than making a view. */
const LOOP_BYTES = 48;

function copyBytes(from: Uint8Array, fromAt: number, to: Uint8Array, toAt: number, length: number): void {
  if (length <= LOOP_BYTES) {
    for (let i = 0; i < length; i++) to[toAt + i] = from[fromAt + i];
  } else {
    to.set(from.subarray(fromAt, fromAt + length), toAt);
  }
}
