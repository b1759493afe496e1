/**
 * The cache device as the engine sees it. Implemented by the native mapping (`mapped.ts`), by plain reads of
 * a file where the native helper is off (`file-reader.ts`), and by the simulation (`sim/`).
 *
 * Offsets and lengths are safe non-negative integers in bytes. An access beyond `sizeBytes`, or after
 * `close()`, throws a PcacheError (OUT_OF_RANGE, CLOSED); a failing medium throws IO, never a signal.
 */

import { CRC_SEED, type Crc32c } from '../media/crc32c.js';
import { SECTOR_BYTES } from '../media/geometry.js';

/** What makes a store as durable as the mapping allows. */
export type Durability =
  /** A file that is mapped with MAP_SYNC: cache-line write-back and a store fence. */
  | 'dax'
  /** A DAX character device: as `dax`; it has neither a filesystem nor a page cache. */
  | 'device-dax'
  /** Page cache of a file or block device: the stores plus fdatasync at every persistence point. */
  | 'page-cache'
  /** A memory filesystem, or a device opened as ephemeral: data outlives the process, not the machine. */
  | 'volatile';

/** Ranges of a device and their CRCs; a struct of arrays. */
export interface CrcRanges {
  readonly offsetBytes: Float64Array;
  readonly lengthBytes: Uint32Array;
  readonly crc: Uint32Array;
}

/** Maximum number of `beginCrcs` runs that have begun and not ended. */
export const CRC_RUNS_MAX = 8;

/** The read side: everything that read-only commands need. */
export interface PmemReader {
  /** Name of the device in messages. */
  readonly path: string;
  readonly sizeBytes: number;
  /** Copies `lengthBytes` from the device at `offsetBytes` into `target` at `targetOffset`. */
  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void;
  /** Raw CRC-32C of a range of the device, continued from `seed` (unsigned). */
  crc32c(offsetBytes: number, lengthBytes: number, seed: number): number;
  /**
   * Begins `crc32c` of each of `ranges[0, count)` on `threads` threads, the caller's included; absent where that gains
   * nothing. Call the returned function to wait for the end; leave the ranges untouched until then. Up to CRC_RUNS_MAX
   * runs may be under way, and they end in the order in which they began. If either function throws, as `crc32c` does,
   * the CRCs of all ranges of the run are undefined.
   */
  beginCrcs?(ranges: CrcRanges, count: number, seed: number, threads: number): () => void;
  close(): void;
}

/** The write side. Stores are unordered until the next `fence()` or `persist()`. */
export interface Pmem extends PmemReader {
  readonly durability: Durability;
  /** Persisting copy (non-temporal stores, edges flushed) of `source[sourceOffset, +lengthBytes)`. */
  write(offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number): void;
  /**
   * Writes over a range that the medium cannot read, which a store cannot: whole blocks of 4 KiB go through the file or
   * block device, durable at return. Bytes around the range in its first and last block are kept, sector by sector,
   * where they can be read, and become UNREADABLE_BYTE where not. Absent where a store cannot fail.
   * @throws PcacheError IO when the medium takes no write either; UNSUPPORTED on a DAX character device
   */
  writeOver?(offsetBytes: number, source: Uint8Array): void;
  /** Persisting store of zeroes. */
  zero(offsetBytes: number, lengthBytes: number): void;
  /**
   * All earlier stores are complete before any later one: durable on DAX; on other mappings ordered for
   * processes that map the device, but not against a loss of power. Enough to acknowledge a plain write.
   */
  fence(): void;
  /** All earlier stores are durable at return, as far as `durability` goes. Orders log and metadata. */
  persist(): void;
  /**
   * Starts, on another thread, to make durable what was stored before, so that the next `persist()` has less to do; it
   * replaces none. `done` is called when that has ended, whether it succeeded or not. Absent where `persist()` is short.
   */
  beginPersist?(done: () => void): void;
  /**
   * Prepares a range for stores on another thread, so that the first ones take no longer than others; changes nothing.
   * `done` receives false when that cannot be done. Absent where it gains nothing: on DAX; and with a page cache, where
   * pages would be read from the medium, and be written back before anything is stored. Absent when closed.
   */
  touchAhead?: ((offsetBytes: number, lengthBytes: number, done: (isTouched: boolean) => void) => void) | undefined;
  /**
   * Registers memory that copies go from and to; lives until `unregisterArena` or `close`.
   * The memory must not be detached or resized meanwhile.
   */
  registerArena(memory: Uint8Array): Arena;
  unregisterArena(arena: Arena): void;
  /** Makes a list for `runReads`. */
  createCopyList(capacity: number): CopyList;
  /**
   * Copies `list[0, count)` out of the device into `arena`, in order, in one native call.
   * An entry out of bounds throws OUT_OF_RANGE and is not copied; earlier entries have been copied.
   */
  runReads(list: CopyList, count: number, arena: Arena): void;
  /** Makes a list for `writePieces`. */
  createPieceList(capacity: number, withCrc: boolean): PieceList;
  /**
   * Persisting copies of `list[0, count)` from `arena` to `pmemOffsetBytes` and beyond, in order, in one native call;
   * computes the CRC of each piece too if the list was made `withCrc`. Unordered until the next `fence()` or `persist()`.
   * A piece out of bounds throws OUT_OF_RANGE and is not copied; earlier pieces have been copied.
   */
  writePieces(list: PieceList, count: number, pmemOffsetBytes: number, arena: Arena): void;
  /**
   * Makes `writePieces` of this list also search an extent index while its stores drain. Absent where that gains
   * nothing.
   */
  searchIn?(list: PieceList, index: IndexMemory): void;
}

/** A handle of registered memory. */
export interface Arena {
  readonly id: number;
  readonly memory: Uint8Array;
}

/** A batch of copies as a struct of arrays. The request path fills it in place and reuses it. */
export interface CopyList {
  readonly capacity: number;
  readonly pmemOffsetBytes: Float64Array;
  readonly arenaOffsetBytes: Uint32Array;
  readonly lengthBytes: Uint32Array;
}

/** A copy list in ordinary memory, for devices that need no registration. */
export function plainCopyList(capacity: number): CopyList {
  return {
    capacity,
    pmemOffsetBytes: new Float64Array(capacity),
    arenaOffsetBytes: new Uint32Array(capacity),
    lengthBytes: new Uint32Array(capacity),
  };
}

/** The memory of an extent index (`index/extent-index.ts`), which replaces `words` when it grows. */
export interface IndexMemory {
  readonly words: Int32Array;
  readonly subtrees: Int32Array;
  readonly groups: Int32Array;
}

/** The hint of a lookup for which no search was made. */
export const NO_HINT = -1;

/** Index of each of the PIECE_WORDS words of a piece. */
export const PieceWord = {
  /** Offset in the arena, and length; bytes, unsigned. */
  arenaOffset: 0,
  length: 1,
  /** Offset on the device, in sectors, relative to the offset of the list. */
  offsetSectors: 2,
  /** Position on the logical device: a subtree, and a sector in it. */
  subtree: 3,
  sector: 4,
  /** Result: about the number of entries of that subtree that start at or before the sector; NO_HINT without a search. */
  hint: 5,
  /** Result: raw CRC-32C of the payload, seeded with the format's seed; 0 in a list without. */
  crc: 6,
  /** Number of the request, for the caller. */
  request: 7,
} as const;
export const PIECE_WORDS = 8;

/** Pieces of payload that are written together. */
export interface PieceList {
  readonly capacity: number;
  readonly withCrc: boolean;
  /** Word w of piece i, by `PieceWord`, at i × PIECE_WORDS + w. */
  readonly words: Int32Array;
}

/** A piece list in ordinary memory. */
export function plainPieceList(capacity: number, withCrc: boolean): PieceList {
  const words = new Int32Array(capacity * PIECE_WORDS);
  for (let i = 0; i < capacity; i++) words[i * PIECE_WORDS + PieceWord.hint] = NO_HINT;
  return { capacity, withCrc, words };
}

/** `writePieces` through the device's own `write`, for devices without a faster way. */
export function writePlainly(
  pmem: Pick<Pmem, 'write'>,
  { words, withCrc }: PieceList,
  count: number,
  pmemOffsetBytes: number,
  { memory }: Arena,
  crc: Crc32c,
): void {
  for (let piece = 0; piece < count * PIECE_WORDS; piece += PIECE_WORDS) {
    const at = words[piece + PieceWord.arenaOffset] >>> 0;
    const length = words[piece + PieceWord.length] >>> 0;
    pmem.write(pmemOffsetBytes + words[piece + PieceWord.offsetSectors] * SECTOR_BYTES, memory, at, length);
    if (withCrc) words[piece + PieceWord.crc] = crc(CRC_SEED, memory, at, at + length);
  }
}
