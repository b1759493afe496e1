/**
 * Loads the native helper (native/), once, when it is first needed. Everything native goes through
 * `nativeAddon()`. Whether it may be used at all is decided outside the engine, with `setNativeEnabled`.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { getSystemErrorName } from 'node:util';
import { PcacheError } from '../errors.js';
import { crc32cRaw, type Crc32c } from '../media/crc32c.js';
import type { PmemRanges } from './backing.js';
import type { CopyList, Durability, PieceList } from './pmem.js';

/** Instructions in use for copies, from least to best. */
export type CopyInstructions = 'portable' | 'sse2' | 'avx' | 'avx512';
export type WriteBackInstruction = 'none' | 'clflush' | 'clflushopt' | 'clwb';
/** Tables, the crc32 instruction, or carry-less products of whole vectors. */
export type CrcMethod = 'table' | 'hardware' | 'vector';

export interface NativeFeatures {
  readonly cpu: Readonly<
    Record<'clwb' | 'clflushopt' | 'clflush' | 'sse42' | 'pclmul' | 'avx' | 'avx2' | 'avx512f' | 'vpclmulqdq', boolean>
  >;
  readonly writeBack: WriteBackInstruction;
  readonly copy: CopyInstructions;
  readonly crc: CrcMethod;
}

/** Transfers between memory and a file, as columns. Offsets and lengths in bytes. */
export interface TransferBatch {
  readonly isWrite: Uint8Array;
  readonly offsetBytes: Float64Array;
  readonly lengthBytes: Float64Array;
  readonly bytesOffset: Float64Array;
  readonly memory: Uint8Array[];
  readonly movedBytes: Float64Array;
  readonly errno: Int32Array;
}

/**
 * Finds how many entries of a subtree start at or before a sector, for `count` pairs of these, side by side, in the
 * memory of an extent index; 0 of a subtree out of range. `places` may be wrong where that needs many steps.
 */
export type PlaceFinder = (
  words: Int32Array,
  subtrees: Int32Array,
  groups: Int32Array,
  subtree: Int32Array,
  sector: Uint16Array,
  count: number,
  places: Int32Array,
) => void;

/**
 * The addon's calls. Handles are integers that are never live again once released. A wrong call throws an
 * Error with `code` CLOSED, OUT_OF_RANGE, READ_ONLY, INVALID, ERRNO (with `errno`), or, when the mapped
 * memory itself fails, FAULT or FAULT_MEMORY (with `offsetBytes`).
 */
export interface NativeAddon {
  map(fd: number, sizeBytes: number, writable: boolean, ephemeral: boolean): { handle: number; durability: Durability };
  unmap(mapping: number): void;
  registerArena(memory: Uint8Array): number;
  unregisterArena(arena: number): void;
  /** `run` runs the list as `list.call` says: how many entries, and which arena. */
  registerList(mapping: number, list: CopyList & { readonly call: Uint32Array }): { handle: number; run: () => void };
  unregisterList(list: number): void;
  /** `run` writes the list as `list.call` says: how many pieces, and from which arena; and to where. */
  registerPieces(
    mapping: number,
    list: PieceList & { readonly call: Uint32Array; readonly pmemOffsetBytes: Float64Array },
  ): { handle: number; run: () => void };
  /** The list looks into the memory of that extent index from here on; it is kept alive. */
  searchIn(pieces: number, words: Int32Array, subtrees: Int32Array, groups: Int32Array): void;
  unregisterPieces(pieces: number): void;
  /** False when somebody else's lock is in the way. */
  flock(fd: number, mode: 'shared' | 'exclusive' | 'release'): boolean;
  /**
   * Starts reads and writes of a file off the main thread. All columns stay untouched until `done` is called, with
   * `movedBytes` and `errno` set: all bytes and 0, or fewer with what ended it (0 is the end of the file).
   */
  transfer(fd: number, batch: TransferBatch, count: number, done: () => void): void;
  /**
   * Starts writes of ranges of a mapping into a file off the main thread, those that follow one another there in one
   * call of the system. `done` is told an errno, or 0, and how many ranges were written whole. The mapping lasts until
   * then, even if it is unmapped.
   */
  writeOut(
    mapping: number,
    fd: number,
    ranges: PmemRanges,
    count: number,
    done: (errno: number, written: number) => void,
  ): void;
  /** Lets a thread of this process that is writing a file have this processor, if one waits for it. */
  giveWay(): void;
  features(): NativeFeatures;
  /** For tests: chooses lesser instructions; false when this processor lacks them. */
  select(copy: CopyInstructions, writeBack: WriteBackInstruction, crc: CrcMethod): boolean;

  read(mapping: number, offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void;
  write(mapping: number, offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number): void;
  zero(mapping: number, offsetBytes: number, lengthBytes: number): void;
  /** Writes cache lines back to the medium, for what was stored through the cache. */
  flush(mapping: number, offsetBytes: number, lengthBytes: number): void;
  readonly fence: () => void;
  persist(mapping: number): void;
  crcRange(mapping: number, offsetBytes: number, lengthBytes: number, seed: number): number;
  /**
   * Begins the CRCs of many ranges, each from `seed`, into `crcs`, by `threads` threads (64 at most): all but this one
   * start; `endCrcs` does what they have not of those begun first, and waits. Up to 2^20 ranges, which stay untouched
   * in between, and up to eight times before the first are ended. After a fault `crcs` means nothing.
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
  crcBytes: Crc32c;
  /** Up to 4 GiB of zeroes in large pages, where the system has them. Throws ERRNO, and OUT_OF_RANGE beyond. */
  allocateHuge(bytes: number): ArrayBuffer;
  /** See `PlaceFinder`. */
  findPlaces: PlaceFinder;
  /** For benchmarks: the copies of a list, out or in, and nothing else, a fence per `group`; nanoseconds. */
  limitCopies(mapping: number, list: number, count: number, arena: number, group: number, isRead: Uint8Array): number;
}

const ADDON_PATH = fileURLToPath(new URL('../../../native/build/Release/pcache_native.node', import.meta.url));

let enabled = true;
let loaded: NativeAddon | PcacheError | undefined;

/** Allows or forbids the native helper from here on; what is mapped already stays so. */
export function setNativeEnabled(allow: boolean): void {
  enabled = allow;
}

function load(): NativeAddon | PcacheError {
  try {
    return createRequire(import.meta.url)(ADDON_PATH) as NativeAddon;
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND';
    const reason = absent ? 'is not built' : `cannot be loaded (${(error as Error).message.split('\n')[0]})`;
    return new PcacheError('NATIVE_MISSING', `the native helper ${reason}; build it with: npm run build:native`, {
      cause: error,
    });
  }
}

/** The addon. Throws NATIVE_MISSING, with the remedy, where it is not built or not allowed. */
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
  readonly findPlaces: PlaceFinder;
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
    findPlaces: addon.findPlaces,
    allocate: (bytes) =>
      bytes < HUGE_FROM_BYTES || bytes > HUGE_MAX_BYTES ? new ArrayBuffer(bytes) : addon.allocateHuge(bytes),
  };
}

/** The fastest raw CRC-32C there is here: the native one, or else the tables. */
export function bestCrc32c(): Crc32c {
  return nativeAddonIfAvailable()?.crcBytes ?? crc32cRaw;
}

/** What the addon throws; see `NativeAddon`. */
export interface NativeError extends Error {
  readonly code: 'CLOSED' | 'OUT_OF_RANGE' | 'READ_ONLY' | 'INVALID' | 'ERRNO' | 'FAULT' | 'FAULT_MEMORY';
  readonly errno?: number;
  readonly offsetBytes?: number;
}

/** An ERRNO error of the addon as Node would have thrown it, with the error's name for a code. */
export function asSystemError(error: NativeError): NodeJS.ErrnoException {
  return systemError(error.errno ?? 0, error.message, { cause: error });
}

/** An error of the system by its number, with its name for a code. */
export function systemError(errno: number, message: string, options?: ErrorOptions): NodeJS.ErrnoException {
  return Object.assign(new Error(message, options), { code: getSystemErrorName(-errno) });
}
