/**
 * The cache device through the native helper: a shared mapping of a file, block device or DAX device. The
 * helper checks handles and bounds on every call; this file adds the device's name to its errors.
 *
 * The file stays open, and locked, until `close()`.
 */
import { closeSync, fdatasync, fdatasyncSync, fstatSync, statfsSync, writeSync } from 'node:fs';
import { assert, fromSystemError, internalError, PcacheError } from '../errors.js';
import { KIB } from '../media/geometry.js';
import type { PmemRanges } from './backing.js';
import { reopen } from './device-file.js';
import { asSystemError, type NativeAddon, type NativeError } from './native.js';
import {
  PIECE_WORDS,
  type Arena,
  type CopyList,
  type CrcRanges,
  type Durability,
  type IndexMemory,
  type PieceList,
  type Pmem,
  type PmemReader,
} from './pmem.js';
import { TolerantReader } from './tolerant-reader.js';

/** Linux writes over what it cannot read in blocks of this size. */
const BLOCK_BYTES = 4 * KIB;

export interface MapOptions {
  readonly path: string;
  /** Open file with the access that the mapping needs. The new object closes it, once its constructor has returned. */
  readonly fd: number;
  readonly sizeBytes: number;
  /** Pages of the device that another thread has mapped, to be shared. */
  readonly region?: number | undefined;
}

/** Everything that another thread of the process needs to map the same device (`mapAgain` in `open.ts`). */
export interface MappedDevice extends MapOptions {
  readonly ephemeral: boolean;
}

/** A read-only mapping. */
export class MappedReader implements PmemReader {
  readonly path: string;
  readonly sizeBytes: number;
  readonly durability: Durability;
  /** A memory filesystem is behind it. */
  protected readonly isInMemory: boolean;
  protected readonly handle: number;
  protected readonly fd: number;
  protected readonly region: number;
  private open = true;

  constructor(
    protected readonly addon: NativeAddon,
    options: MapOptions,
    writable = false,
    ephemeral = false,
  ) {
    this.path = options.path;
    this.fd = options.fd;
    this.sizeBytes = options.sizeBytes;
    try {
      const shared: [] | [number] = options.region === undefined ? [] : [options.region];
      const { handle, durability, isInMemory, region } = addon.map(
        this.fd,
        this.sizeBytes,
        writable,
        ephemeral,
        ...shared,
      );
      this.handle = handle;
      this.region = region;
      this.isInMemory = isInMemory;
      // The helper sees a mapping; that nothing but the device is behind it is seen from the device.
      this.durability = durability === 'dax' && fstatSync(this.fd).isCharacterDevice() ? 'device-dax' : durability;
    } catch (error) {
      throw fromSystemError(asSystemError(error as NativeError), this.path, 'mapping it');
    }
  }

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    try {
      this.addon.read(this.handle, offsetBytes, target, targetOffset, lengthBytes);
    } catch (error) {
      throw this.explain(error, 'reading', offsetBytes, lengthBytes);
    }
  }

  crc32c(offsetBytes: number, lengthBytes: number, seed: number): number {
    try {
      return this.addon.crcRange(this.handle, offsetBytes, lengthBytes, seed);
    } catch (error) {
      throw this.explain(error, 'reading', offsetBytes, lengthBytes);
    }
  }

  beginCrcs({ offsetBytes, lengthBytes, crc }: CrcRanges, count: number, seed: number, threads: number): () => void {
    const explained = (call: () => void) => {
      try {
        call();
      } catch (error) {
        throw this.explain(error, 'reading');
      }
    };
    explained(() => this.addon.beginCrcs(this.handle, offsetBytes, lengthBytes, crc, count, seed, threads));
    return () => explained(() => this.addon.endCrcs());
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.addon.unmap(this.handle);
    closeSync(this.fd);
  }

  /** Turns an error of the addon into a PcacheError that names the device and the operation. */
  protected explain(thrown: unknown, doing: string, offsetBytes?: number, lengthBytes?: number): Error {
    const error = thrown as NativeError;
    const options = { cause: error };
    const range = offsetBytes === undefined ? '' : ` (offset ${offsetBytes}, length ${lengthBytes})`;
    switch (error.code) {
      case 'CLOSED':
        return new PcacheError('CLOSED', `${this.path}: used after it was closed, while ${doing}${range}`, options);
      case 'OUT_OF_RANGE':
        return new PcacheError(
          'OUT_OF_RANGE',
          `${this.path}: ${doing} beyond its ${this.sizeBytes} bytes or the buffer${range}`,
          options,
        );
      case 'FAULT':
      case 'FAULT_MEMORY':
        return this.explainFault(error, doing);
      case 'ERRNO':
        return fromSystemError(asSystemError(error), this.path, doing);
      default:
        return error;
    }
  }

  private explainFault(error: NativeError, doing: string): PcacheError {
    const options = { cause: error };
    const where = `${doing} at byte ${error.offsetBytes}`;
    if (error.code === 'FAULT_MEMORY') {
      return new PcacheError(
        'IO',
        `${this.path}: uncorrectable memory error while ${where}; restore from the backing device or replace the medium`,
        options,
      );
    }
    const status = fstatSync(this.fd);
    if (status.isFile() && status.size < this.sizeBytes) {
      return new PcacheError(
        'TRUNCATED',
        `${this.path}: shrank from ${this.sizeBytes} to ${status.size} bytes while in use; restore it from a copy`,
        options,
      );
    }
    if (status.isFile() && statfsSync(this.path).bavail === 0) {
      return new PcacheError(
        'NO_SPACE',
        `${this.path}: no space left on its filesystem while ${where}; free some space`,
        options,
      );
    }
    return new PcacheError(
      'IO',
      `${this.path}: I/O error while ${where}; check the device and the kernel log`,
      options,
    );
  }
}

interface RegisteredArena extends Arena {
  readonly registeredBytes: number;
}

/** Detached memory would leave the helper with a dangling address. */
function assertAttached(arena: Arena): void {
  const { memory, registeredBytes } = arena as RegisteredArena;
  if (memory.length !== registeredBytes) internalError('a registered arena was detached or resized');
}

/** The part of a list that the helper reads. */
interface Registered {
  /** Number of entries to run, then the id of the arena. */
  readonly call: Uint32Array;
  handle: number;
  run: () => void;
}
interface PiecesCall {
  /** One element: the offset on the device that the pieces of the list are relative to. */
  readonly pmemOffsetBytes: Float64Array;
}
type RegisteredList = CopyList & Registered;
type RegisteredPieces = PieceList & Registered & PiecesCall;

/**
 * Syncs the device on another thread through an open file of its own: the system reports an error of write-back once
 * to each open file, and `persist()` must not miss it.
 */
class Syncer {
  private fd = -1;
  private underWay = 0;
  private isClosed = false;

  constructor(
    private readonly path: string,
    private readonly deviceFd: number,
  ) {}

  begin(done: () => void): void {
    if (this.isClosed) {
      setImmediate(done);
      return;
    }
    if (this.fd < 0) this.fd = reopen(this.path, this.deviceFd);
    this.underWay++;
    fdatasync(this.fd, () => {
      this.underWay--;
      this.closeIfUnused();
      done();
    });
  }

  close(): void {
    this.isClosed = true;
    this.closeIfUnused();
  }

  /** A number that another file has by then must not be synced. */
  private closeIfUnused(): void {
    if (!this.isClosed || this.underWay > 0 || this.fd < 0) return;
    closeSync(this.fd);
    this.fd = -1;
  }
}

/** A read-write mapping. */
export class MappedPmem extends MappedReader implements Pmem {
  private readonly arenas = new Set<number>();
  private readonly lists = new Set<number>();
  private readonly pieces = new Set<number>();
  private readonly fenceCall: () => void;
  readonly beginPersist?: (done: () => void) => void;
  touchAhead: Pmem['touchAhead'];
  private readonly syncer: Syncer | undefined;

  /** For `mapAgain` in other threads; valid while this object is open. */
  get device(): MappedDevice {
    const { path, fd, sizeBytes, region } = this;
    return { path, fd, sizeBytes, region, ephemeral: this.durability === 'volatile' };
  }

  /** Page faults read single pages from now on, not all that the disk reads ahead. */
  expectScattered(): void {
    this.addon.expectScattered(this.handle);
  }

  /** @param ephemeral no durability is needed: `persist` is only a fence on any device. */
  constructor(addon: NativeAddon, options: MapOptions, ephemeral: boolean) {
    super(addon, options, true, ephemeral);
    this.fenceCall = addon.fence;
    if (this.isInMemory) this.touchAhead = (...range) => addon.touchAhead(this.handle, ...range);
    if (this.durability === 'page-cache') {
      const syncer = new Syncer(options.path, options.fd);
      this.syncer = syncer;
      this.beginPersist = (done) => syncer.begin(done);
    }
  }

  write(offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number): void {
    try {
      this.addon.write(this.handle, offsetBytes, source, sourceOffset, lengthBytes);
    } catch (error) {
      throw this.explain(error, 'writing', offsetBytes, lengthBytes);
    }
  }

  writeOver(offsetBytes: number, source: Uint8Array): void {
    if (this.durability === 'device-dax') {
      throw new PcacheError(
        'UNSUPPORTED',
        `${this.path}: bytes ${offsetBytes} to ${offsetBytes + source.length} cannot be read, and a DAX character device ` +
          'can only be mapped; clear its errors with "ndctl clear-errors", then repeat',
      );
    }
    const end = Math.min(Math.ceil((offsetBytes + source.length) / BLOCK_BYTES) * BLOCK_BYTES, this.sizeBytes);
    const start = offsetBytes - (offsetBytes % BLOCK_BYTES);
    const blocks = new Uint8Array(end - start);
    new TolerantReader(this).read(start, blocks, 0, blocks.length);
    blocks.set(source, offsetBytes - start);
    try {
      for (let done = 0; done < blocks.length;)
        done += writeSync(this.fd, blocks, done, blocks.length - done, start + done);
      fdatasyncSync(this.fd);
    } catch (error) {
      throw fromSystemError(error, this.path, `writing bytes ${start} to ${end}, which cannot be read`);
    }
  }

  zero(offsetBytes: number, lengthBytes: number): void {
    try {
      this.addon.zero(this.handle, offsetBytes, lengthBytes);
    } catch (error) {
      throw this.explain(error, 'zeroing', offsetBytes, lengthBytes);
    }
  }

  fence(): void {
    this.fenceCall();
  }

  persist(): void {
    try {
      this.addon.persist(this.handle);
    } catch (error) {
      throw this.explain(error, 'making it durable');
    }
  }

  registerArena(memory: Uint8Array): Arena {
    const id = this.addon.registerArena(memory);
    this.arenas.add(id);
    const arena: RegisteredArena = { id, memory, registeredBytes: memory.byteLength };
    return arena;
  }

  unregisterArena(arena: Arena): void {
    if (!this.arenas.delete(arena.id)) throw this.explain({ code: 'CLOSED' }, 'unregistering an arena');
    this.addon.unregisterArena(arena.id);
  }

  createCopyList(capacity: number): CopyList {
    assert(Number.isInteger(capacity) && capacity > 0 && capacity <= 2 ** 20, 'copy list capacity out of range');
    // All columns share one buffer: V8 may move a small buffer of its own, and the helper keeps the addresses.
    const buffer = new ArrayBuffer(capacity * 16 + 8);
    const list: RegisteredList = {
      capacity,
      pmemOffsetBytes: new Float64Array(buffer, 0, capacity),
      arenaOffsetBytes: new Uint32Array(buffer, capacity * 8, capacity),
      lengthBytes: new Uint32Array(buffer, capacity * 12, capacity),
      call: new Uint32Array(buffer, capacity * 16, 2),
      handle: 0,
      run: () => {},
    };
    Object.assign(list, this.addon.registerList(this.handle, list));
    this.lists.add(list.handle);
    return Object.freeze(list);
  }

  runReads(list: CopyList, count: number, arena: Arena): void {
    assertAttached(arena);
    const { call, run } = list as RegisteredList;
    call[0] = count;
    call[1] = arena.id;
    try {
      run();
    } catch (error) {
      throw this.explain(error, 'reading payload');
    }
  }

  createPieceList(capacity: number, withCrc: boolean): PieceList {
    assert(Number.isInteger(capacity) && capacity > 0 && capacity <= 2 ** 20, 'piece list capacity out of range');
    const wordBytes = capacity * PIECE_WORDS * Int32Array.BYTES_PER_ELEMENT;
    const buffer = new ArrayBuffer(wordBytes + 16);
    const list: RegisteredPieces = {
      capacity,
      withCrc,
      words: new Int32Array(buffer, 0, capacity * PIECE_WORDS),
      call: new Uint32Array(buffer, wordBytes, 2),
      pmemOffsetBytes: new Float64Array(buffer, wordBytes + 8, 1),
      handle: 0,
      run: () => {},
    };
    Object.assign(list, this.addon.registerPieces(this.handle, list));
    this.pieces.add(list.handle);
    return Object.freeze(list);
  }

  searchIn(list: PieceList, { words, subtrees, groups }: IndexMemory): void {
    try {
      this.addon.searchIn((list as RegisteredPieces).handle, words, subtrees, groups);
    } catch (error) {
      throw this.explain(error, 'looking into an index');
    }
  }

  writePieces(list: PieceList, count: number, pmemOffsetBytes: number, arena: Arena): void {
    assertAttached(arena);
    const { call, pmemOffsetBytes: target, run } = list as RegisteredPieces;
    target[0] = pmemOffsetBytes;
    call[0] = count;
    call[1] = arena.id;
    try {
      run();
    } catch (error) {
      throw this.explain(error, 'writing payload');
    }
  }

  /**
   * Starts writing ranges of the mapping into an open file. `done` receives an errno, or 0, and the number of ranges
   * that were written whole. Throws OUT_OF_RANGE if a range is not inside the mapping, and CLOSED.
   */
  writeOut(fd: number, ranges: PmemRanges, count: number, done: (errno: number, written: number) => void): void {
    try {
      this.addon.writeOut(this.handle, fd, ranges, count, done);
    } catch (error) {
      throw this.explain(error, 'writing it out');
    }
  }

  /**
   * The limit that memory sets, for benchmarks: runs only the copies of `list[0, count)`, in one native loop, with a
   * fence after every `group` copies.
   * @param isRead 1 for a copy out, 0 for one into the device
   * @returns nanoseconds
   */
  limitCopies(list: CopyList, count: number, arena: Arena, group: number, isRead: Uint8Array): number {
    try {
      return this.addon.limitCopies(this.handle, (list as RegisteredList).handle, count, arena.id, group, isRead);
    } catch (error) {
      throw this.explain(error, 'copying without the engine');
    }
  }

  override close(): void {
    this.syncer?.close();
    this.touchAhead = undefined;
    for (const id of this.arenas) this.addon.unregisterArena(id);
    for (const handle of this.lists) this.addon.unregisterList(handle);
    for (const handle of this.pieces) this.addon.unregisterPieces(handle);
    this.arenas.clear();
    this.lists.clear();
    this.pieces.clear();
    super.close();
  }
}
