/**
 * Loads the native helper (native/) once, when it is first needed. Every native call goes through
 * `nativeAddon()`. Code outside the engine decides with `setNativeEnabled` whether it may be used.
 */
import { getSystemErrorName } from 'node:util';
import { layout } from '../../layout/layout.js';
import { PcacheError } from '../errors.js';
import { crc32cRaw, type Crc32c } from '../media/crc32c.js';
import type { PmemRanges } from './backing.js';
import type { CopyList, Durability, PieceList } from './pmem.js';

/** Instructions in use for copies, from least to best. */
export type CopyInstructions = 'portable' | 'sse2' | 'avx' | 'avx512';
export type WriteBackInstruction = 'none' | 'clflush' | 'clflushopt' | 'clwb' | 'dc-cvap' | 'dc-cvadp';
/** Tables, the crc32 instruction, or carry-less multiplication of whole vectors. */
export type CrcMethod = 'table' | 'hardware' | 'vector';

export interface NativeFeatures {
  readonly cpu: Readonly<
    Record<
      | ('clwb' | 'clflushopt' | 'clflush' | 'sse42' | 'pclmul' | 'avx' | 'avx2' | 'avx512f' | 'vpclmulqdq')
      | ('crc32' | 'dcpop' | 'dcpodp'),
      boolean
    >
  >;
  readonly writeBack: WriteBackInstruction;
  readonly copy: CopyInstructions;
  readonly crc: CrcMethod;
}

/** Transfers between memory and a file, a struct of arrays. Offsets and lengths in bytes. */
export interface TransferBatch {
  readonly isWrite: Uint8Array;
  readonly offsetBytes: Float64Array;
  readonly lengthBytes: Float64Array;
  readonly bytesOffset: Float64Array;
  readonly memory: Uint8Array[];
  readonly movedBytes: Float64Array;
  readonly errno: Int32Array;
}

/** Requests of a ublk device and their results, a struct of arrays with an element for each tag. */
export interface UblkColumns {
  /** Number of tags: requests under way at most. */
  readonly depth: number;
  readonly tag: Uint16Array;
  /** Operations of the driver: 0 read, 1 write, 2 flush, and others. */
  readonly op: Uint8Array;
  readonly offsetBytes: Float64Array;
  readonly lengthBytes: Uint32Array;
  readonly commitTag: Uint16Array;
  /** Bytes, or a negative errno. */
  readonly commitResult: Int32Array;
}

/**
 * Searches the memory of an extent index for `count` pairs of subtree and sector at once. Each hint is the number of
 * entries of the subtree that start at or before the sector; 0 for a subtree out of range. A hint may be wrong when
 * the search would take many steps.
 */
export type HintFinder = (
  words: Int32Array,
  subtrees: Int32Array,
  groups: Int32Array,
  subtree: Int32Array,
  sector: Uint16Array,
  count: number,
  hints: Int32Array,
) => void;

/**
 * The addon's calls. Handles are integers that are never live again once released. A wrong call throws an
 * Error with `code` CLOSED, OUT_OF_RANGE, READ_ONLY, INVALID, ERRNO (with `errno`), or, when the mapped
 * memory itself fails, FAULT or FAULT_MEMORY (with `offsetBytes`).
 */
export interface NativeAddon {
  /**
   * Maps a device, or shares the mapped pages of another thread, whose `region` is given, if it finds them.
   * `isInMemory`: a memory filesystem is behind it, whose pages are its only copy.
   */
  map(
    fd: number,
    sizeBytes: number,
    writable: boolean,
    ephemeral: boolean,
    ...region: [] | [number]
  ): { handle: number; durability: Durability; isInMemory: boolean; region: number };
  unmap(mapping: number): void;
  /** Has page faults of the mapping read single pages. */
  expectScattered(mapping: number): void;
  registerArena(memory: Uint8Array): number;
  unregisterArena(arena: number): void;
  /** `run` copies the first `list.call[0]` entries, into the arena `list.call[1]`. */
  registerList(mapping: number, list: CopyList & { readonly call: Uint32Array }): { handle: number; run: () => void };
  unregisterList(list: number): void;
  /** `run` writes the first `list.call[0]` pieces from the arena `list.call[1]`, relative to `list.pmemOffsetBytes[0]`. */
  registerPieces(
    mapping: number,
    list: PieceList & { readonly call: Uint32Array; readonly pmemOffsetBytes: Float64Array },
  ): { handle: number; run: () => void };
  /** From now on the list searches the memory of that extent index, which it keeps alive. */
  searchIn(pieces: number, words: Int32Array, subtrees: Int32Array, groups: Int32Array): void;
  unregisterPieces(pieces: number): void;
  /** False when another lock conflicts. */
  flock(fd: number, mode: 'shared' | 'exclusive' | 'release'): boolean;
  /**
   * Starts reads and writes of a file off the main thread. The caller leaves all columns untouched until `done`. Then
   * `movedBytes` and `errno` are set: all bytes and 0, or fewer bytes and the error, where 0 means end of file.
   */
  transfer(fd: number, batch: TransferBatch, count: number, done: () => void): void;
  /**
   * Starts writes of ranges of a mapping into a file off the main thread; ranges that adjoin in the file share a system
   * call. `done` receives an errno, or 0, and the number of ranges that were written whole. The mapping stays valid
   * until then, even if it is unmapped.
   */
  writeOut(
    mapping: number,
    fd: number,
    ranges: PmemRanges,
    count: number,
    done: (errno: number, written: number) => void,
  ): void;
  /**
   * Maps the whole pages of a range for stores, off the main thread, without changing them; holes of its file are filled.
   * `done` receives false when the kernel cannot, or when the filesystem has little room. The mapping stays valid until
   * then, even if it is unmapped.
   */
  touchAhead(mapping: number, offsetBytes: number, lengthBytes: number, done: (isTouched: boolean) => void): void;
  /** Yields the processor to a thread of this process that is writing a file, if one waits for it. */
  giveWay(): void;
  /**
   * Gives an nbd device of the kernel that many Unix sockets, and so reserves it; ERRNO with EBUSY when another process
   * has it. @returns file descriptors of the server's ends
   */
  nbdTake(fd: number, connections: number): number[];
  /**
   * Runs a device that was taken, in a thread, until it is disconnected. `flags` are the transmission flags of the NBD
   * protocol. `ended` receives an errno, or 0.
   */
  nbdRun(
    fd: number,
    blockBytes: number,
    blocks: number,
    flags: number,
    timeoutSeconds: number,
    ended: (errno: number) => void,
  ): void;
  /** Asks a running device to end; `done` receives an errno, or 0, when it has been asked. */
  nbdDisconnect(fd: number, done: (errno: number) => void): void;
  /** Gives up a device that was taken and does not run. */
  nbdClear(fd: number): void;
  /**
   * Sends a datagram to a service manager (sd_notify(3)). @param address a path, or `@name` for an abstract socket
   * @returns false when the manager takes nothing at the moment
   */
  notifyService(address: string, text: string): boolean;
  /** From now on the file descriptor `from` names the open file `to`. */
  redirect(from: number, to: number): void;
  /** Reserves space for the first bytes of a file; ERRNO with EOPNOTSUPP where that would take writing zeroes. */
  allocate(fd: number, sizeBytes: number): void;
  /**
   * Finds data and holes of a range of a file off the main thread, each up to `endBytes`, as many as the columns hold.
   * A file that cannot tell is all data. `done` receives an errno, or 0, and the number of extents.
   */
  extents(
    fd: number,
    offsetBytes: number,
    lengthBytes: number,
    endBytes: Float64Array,
    isHole: Uint8Array,
    done: (errno: number, count: number) => void,
  ): void;
  /** Whether the filesystem of a regular file can make holes. Changes nothing. */
  canPunch(fd: number): boolean;
  /**
   * Makes a range of a file read as zeroes off the main thread: as a hole, or with its space kept. Writes zeroes where
   * neither can be done. `done` receives an errno, or 0.
   */
  zeroRange(
    fd: number,
    offsetBytes: number,
    lengthBytes: number,
    keepsSpace: boolean,
    done: (errno: number) => void,
  ): void;
  /**
   * Sends a control command to the ublk driver from a thread of its own. `done` receives a negative errno or the result,
   * and a copy of `buffer` as the driver left it.
   */
  ublkControl(
    op: number,
    device: number,
    queue: number,
    data: number,
    buffer: Uint8Array | undefined,
    done: (result: number, buffer: Uint8Array) => void,
  ): void;
  /**
   * Serves a queue of a ublk device whose /dev/ublkcN is open, on this thread, through io_uring. `take` finds `count`
   * requests in the columns. The payload of a tag lies in `memory` at tag × `maxBytes`. `commit` answers the first
   * `count` rows of `commitTag` and `commitResult`; `ended` is called when the device takes no further answers. Throws
   * ERRNO where the system does not let this process use io_uring.
   */
  ublkServe(
    fd: number,
    queue: number,
    columns: UblkColumns,
    memory: Uint8Array,
    maxBytes: number,
    isEncoded: boolean,
    take: (count: number) => void,
    ended: (errno: number) => void,
  ): { commit(count: number): void; close(): void };
  /** Duplicates a file descriptor, closed in programs that are started. Throws ERRNO. */
  duplicate(fd: number): number;
  features(): NativeFeatures;
  /** For tests: selects slower instructions; false when this processor lacks them. */
  select(copy: CopyInstructions, writeBack: WriteBackInstruction, crc: CrcMethod): boolean;

  read(mapping: number, offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void;
  write(mapping: number, offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number): void;
  zero(mapping: number, offsetBytes: number, lengthBytes: number): void;
  /** Writes the cache lines of a range back to the medium. */
  flush(mapping: number, offsetBytes: number, lengthBytes: number): void;
  readonly fence: () => void;
  persist(mapping: number): void;
  crcRange(mapping: number, offsetBytes: number, lengthBytes: number, seed: number): number;
  /**
   * Begins the CRCs of up to 2^20 ranges, each from `seed`, into `crcs`, on `threads` threads (64 at most, the caller's
   * included). `endCrcs` computes what is left of the oldest run, and waits for its end. The caller leaves the ranges
   * untouched in between. At most eight runs are under way. After a fault the contents of `crcs` are undefined.
   */
  beginCrcs(
    mapping: number,
    offsetBytes: Float64Array,
    lengthBytes: Uint32Array,
    crcs: Uint32Array,
    count: number,
    seed: number,
    threads: number,
  ): void;
  endCrcs(): void;
  /**
   * Sends bytes on a stream socket, as many as it takes at once. @returns their number; 0 when it takes none now, and
   * when it is broken
   */
  readonly sendNow: (fd: number, bytes: Uint8Array, start: number, end: number) => number;
  crcBytes: Crc32c;
  /** Up to 4 GiB of zeroed memory, in large pages where the system has them. Throws ERRNO, and OUT_OF_RANGE above 4 GiB. */
  allocateHuge(bytes: number): ArrayBuffer;
  /** See `HintFinder`. */
  findHints: HintFinder;
  /** For benchmarks: runs only the copies of a list, with a fence after every `group`. @returns nanoseconds */
  limitCopies(mapping: number, list: number, count: number, arena: number, group: number, isRead: Uint8Array): number;
}

let enabled = true;
let loaded: NativeAddon | PcacheError | undefined;

/** Allows or forbids the native helper from now on; existing mappings stay valid. */
export function setNativeEnabled(allow: boolean): void {
  enabled = allow;
}

function load(): NativeAddon | PcacheError {
  try {
    return layout.loadAddon() as NativeAddon;
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND';
    const reason = absent ? 'is not built' : `cannot be loaded (${(error as Error).message.split('\n')[0]})`;
    return new PcacheError('NATIVE_MISSING', `the native helper ${reason}; ${layout.helperRemedy}`, {
      cause: error,
    });
  }
}

/** The addon. Throws NATIVE_MISSING, with the remedy, when it is not built or not allowed. */
export function nativeAddon(): NativeAddon {
  if (!enabled) {
    throw new PcacheError(
      'NATIVE_MISSING',
      'this needs the native helper, which is switched off; switch it on (unset PCACHE_NATIVE)',
    );
  }
  loaded ??= load();
  if (loaded instanceof PcacheError) throw loaded;
  return loaded;
}

/** The addon, or undefined where `nativeAddon` would throw. */
export function nativeAddonIfAvailable(): NativeAddon | undefined {
  if (!enabled) return undefined;
  loaded ??= load();
  return loaded instanceof PcacheError ? undefined : loaded;
}

/** What makes an extent index fast, where there is such a thing. */
export interface IndexAid {
  readonly findHints: HintFinder;
  /** Memory of zeroes for a large table. */
  readonly allocate: (bytes: number) => ArrayBuffer;
}

/** Below this, large pages would mostly lie empty. */
const HUGE_FROM_BYTES = 2 ** 20;
/** The largest memory that Node 20 takes over from a helper. */
const HUGE_MAX_BYTES = 2 ** 32;

export function indexAid(): IndexAid | undefined {
  const addon = nativeAddonIfAvailable();
  if (!addon) return undefined;
  return {
    findHints: addon.findHints,
    allocate: (bytes) =>
      bytes < HUGE_FROM_BYTES || bytes > HUGE_MAX_BYTES ? new ArrayBuffer(bytes) : addon.allocateHuge(bytes),
  };
}

/** The fastest raw CRC-32C available: the native one, or else the table-driven one. */
export function bestCrc32c(): Crc32c {
  return nativeAddonIfAvailable()?.crcBytes ?? crc32cRaw;
}

/** An error of the addon; see `NativeAddon`. */
export interface NativeError extends Error {
  readonly code: 'CLOSED' | 'OUT_OF_RANGE' | 'READ_ONLY' | 'INVALID' | 'ERRNO' | 'FAULT' | 'FAULT_MEMORY';
  readonly errno?: number;
  readonly offsetBytes?: number;
}

/** An ERRNO error of the addon as Node would have thrown it, with the error's name for a code. */
export function asSystemError(error: NativeError): NodeJS.ErrnoException {
  return systemError(error.errno ?? 0, error.message, { cause: error });
}

/** A system error by its errno, with its name (`ENOSPC`) as the code. */
export function systemError(errno: number, message: string, options?: ErrorOptions): NodeJS.ErrnoException {
  return Object.assign(new Error(message, options), { code: getSystemErrorName(-errno) });
}
