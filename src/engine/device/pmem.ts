/**
 * The cache device as the engine sees it. Implemented by the native mapping (`mapped.ts`), by plain reads of
 * a file where the native helper is off (`file-reader.ts`), and by the simulation (`sim/`).
 *
 * Offsets and lengths are safe non-negative integers in bytes. An access beyond `sizeBytes`, or after
 * `close()`, throws a PcacheError (OUT_OF_RANGE, CLOSED); a failing medium throws IO, never a signal.
 */

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
  /** Makes a list for `runCopies`. */
  createCopyList(capacity: number): CopyList;
  /**
   * Runs `list[0, count)` in order against `arena`, in one native call; with any write among them one
   * `fence()` follows the last. A later entry sees what an earlier one wrote. For WRITE_CRC entries
   * `list.crc[i]` receives the raw CRC-32C of the payload, seeded with the format's seed.
   * If an entry is out of bounds nothing of it is done and OUT_OF_RANGE is thrown; earlier ones stand.
   */
  runCopies(list: CopyList, count: number, arena: Arena): void;
}

/** A handle of registered memory. */
export interface Arena {
  readonly id: number;
  readonly memory: Uint8Array;
}

export const CopyKind = {
  /** pmem → arena */
  read: 0,
  /** arena → pmem, persisting */
  write: 1,
  /** arena → pmem, persisting, and its CRC into `crc` */
  writeCrc: 2,
} as const;

/** A batch of copies as a struct of arrays; filled in place by the request path, reused for ever. */
export interface CopyList {
  readonly capacity: number;
  /** `CopyKind` values. */
  readonly kind: Uint8Array;
  readonly pmemOffsetBytes: Float64Array;
  readonly arenaOffsetBytes: Uint32Array;
  readonly lengthBytes: Uint32Array;
  readonly crc: Uint32Array;
}

/** A list in ordinary memory, for devices that need no registering. */
export function plainCopyList(capacity: number): CopyList {
  return {
    capacity,
    kind: new Uint8Array(capacity),
    pmemOffsetBytes: new Float64Array(capacity),
    arenaOffsetBytes: new Uint32Array(capacity),
    lengthBytes: new Uint32Array(capacity),
    crc: new Uint32Array(capacity),
  };
}
