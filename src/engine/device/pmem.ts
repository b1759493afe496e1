/**
 * The cache device as the engine sees it. Implemented by the native mapping (`mapped.ts`), by plain reads of
 * a file where the native helper is off (`file-reader.ts`), and by the simulation (`sim/`).
 *
 * Offsets and lengths are safe non-negative integers in bytes. An access beyond `sizeBytes`, or after
 * `close()`, throws a PcacheError (OUT_OF_RANGE, CLOSED); a failing medium throws IO, never a signal.
 */

import { CRC_SEED, type Crc32c } from '../media/crc32c.js';
import { SECTOR_BYTES } from '../media/geometry.js';

/** Where a store has to go before it is as durable as the mapping can make it. */
export type Durability =
  /** DAX with MAP_SYNC: cache-line write-back and a store fence. */
  | 'dax'
  /** Page cache of a file or block device: the stores plus fdatasync at every persistence point. */
  | 'page-cache'
  /** A memory filesystem, or asked for as ephemeral: outlives the process, not the machine. */
  | 'volatile';

/** Ranges of a device, in columns, and what their CRCs are. */
export interface CrcRanges {
  readonly offsetBytes: Float64Array;
  readonly lengthBytes: Uint32Array;
  readonly crc: Uint32Array;
}

/** How many lists of ranges may have been begun, and not ended, with `beginCrcs`. */
export const CRC_RUNS_MAX = 8;

/** Read side, all that read-only commands need. */
export interface PmemReader {
  /** What to call the device in messages. */
  readonly path: string;
  readonly sizeBytes: number;
  /** Copies `lengthBytes` from the device at `offsetBytes` into `target` at `targetOffset`. */
  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void;
  /** Raw CRC-32C of a range of the device, continued from `seed` (unsigned). */
  crc32c(offsetBytes: number, lengthBytes: number, seed: number): number;
  /**
   * Begins `crc32c` of each of `ranges[0, count)`, by so many threads, the caller's among them; absent where that gains
   * nothing. The ranges stay untouched until the function that it returns has been called, which waits for the end. Up
   * to CRC_RUNS_MAX may be under way, to be ended in the order in which they were begun. When either throws, as
   * `crc32c` does, nothing is known of any of these ranges.
   */
  beginCrcs?(ranges: CrcRanges, count: number, seed: number, threads: number): () => void;
  close(): void;
}

/** The write side. Stores are unordered until the next `fence()` or `persist()`. */
export interface Pmem extends PmemReader {
  readonly durability: Durability;
  /** Persisting copy (non-temporal stores, edges flushed) of `source[sourceOffset, +lengthBytes)`. */
  write(offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number): void;
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
   * Registers memory that copies go from and to; lives until `unregisterArena` or `close`.
   * The memory must not be detached or resized meanwhile.
   */
  registerArena(memory: Uint8Array): Arena;
  unregisterArena(arena: Arena): void;
  /** Makes a list for `runReads`. */
  createCopyList(capacity: number): CopyList;
  /**
   * Copies `list[0, count)` out of the device into `arena`, in order, in one native call.
   * If an entry is out of bounds nothing of it is done and OUT_OF_RANGE is thrown; earlier ones stand.
   */
  runReads(list: CopyList, count: number, arena: Arena): void;
  /** Makes a list for `writePieces`. */
  createPieceList(capacity: number, withCrc: boolean): PieceList;
  /**
   * Persisting copies of `list[0, count)` from `arena` to `pmemOffsetBytes` and beyond, in order, in one native call;
   * the CRC of each with it if the list was made so. Unordered until the next `fence()` or `persist()`.
   * If a piece is out of bounds nothing of it is done and OUT_OF_RANGE is thrown; earlier ones stand.
   */
  writePieces(list: PieceList, count: number, pmemOffsetBytes: number, arena: Arena): void;
  /**
   * From here on `writePieces` of the list also looks into an extent index while what it writes is on its way. Absent
   * where that gains nothing.
   */
  searchIn?(list: PieceList, index: IndexMemory): void;
}

/** A handle of registered memory. */
export interface Arena {
  readonly id: number;
  readonly memory: Uint8Array;
}

/** A batch of copies as a struct of arrays; filled in place by the request path, reused for ever. */
export interface CopyList {
  readonly capacity: number;
  readonly pmemOffsetBytes: Float64Array;
  readonly arenaOffsetBytes: Uint32Array;
  readonly lengthBytes: Uint32Array;
}

/** A list in ordinary memory, for devices that need no registering. */
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

/** A place in an index that nobody has looked for. */
export const NO_PLACE = -1;

/** Where the words of a piece say what; it has PIECE_WORDS of them. */
export const PieceWord = {
  /** Where it is in the arena, and its length; bytes, unsigned. */
  arenaOffset: 0,
  length: 1,
  /** Where it goes: sectors beyond where the list's pieces go. */
  offsetSectors: 2,
  /** Where it belongs on the logical device: a subtree, and a sector of it. */
  subtree: 3,
  sector: 4,
  /** Result: how many entries of that subtree start at the sector or before, or nearly; NO_PLACE if nobody looked. */
  place: 5,
  /** Result: raw CRC-32C of the payload, seeded with the format's seed; 0 in a list without. */
  crc: 6,
  /** The caller's. */
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

/** A list in ordinary memory. */
export function plainPieceList(capacity: number, withCrc: boolean): PieceList {
  const words = new Int32Array(capacity * PIECE_WORDS);
  for (let i = 0; i < capacity; i++) words[i * PIECE_WORDS + PieceWord.place] = NO_PLACE;
  return { capacity, withCrc, words };
}

/** `writePieces` by the device's own `write`, for devices that have nothing faster. */
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
