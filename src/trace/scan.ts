/**
 * A first pass over a trace: how much of the device it touches and how long it lasts, which is what an
 * ephemeral device for its replay is sized by. Memory is bounded whatever the trace says.
 */
import { openTrace } from './reader.js';
import { TraceOp } from './types.js';
import type { TraceBatch, TraceOptions, TraceTally } from './types.js';

const BLOCK_BYTES = 4096;
/** A page of the map covers 2^18 blocks, 1 GiB of the device, in 32 KiB. */
const PAGE_BLOCKS = 2 ** 18;
/** 128 MiB of map, enough for 4 TiB of touched gigabytes; beyond that `uniqueBytes` is not known. */
const MAX_PAGES = 4096;

export interface TraceFootprint {
  readonly name: string;
  readonly format: string;
  readonly warnings: readonly string[];
  readonly counts: TraceTally;
  /** Largest end of a read or write: a device of at least this size can replay them. 0 without any. */
  readonly endBytes: number;
  /** From the first request to the last, ns. */
  readonly durationNs: number;
  /** Size of all 4 KiB blocks that a read or write touches; undefined when they are spread too far to tell. */
  readonly uniqueBytes: number | undefined;
}

/** The set of 4 KiB blocks touched so far, as a sparse bitmap. */
class BlockSet {
  readonly #pages = new Map<number, Uint32Array>();
  #blocks = 0;
  #overflowed = false;

  get sizeBytes(): number | undefined {
    return this.#overflowed ? undefined : this.#blocks * BLOCK_BYTES;
  }

  add(offsetBytes: number, lengthBytes: number): void {
    const end = Math.ceil((offsetBytes + lengthBytes) / BLOCK_BYTES);
    for (let block = Math.floor(offsetBytes / BLOCK_BYTES); block < end && !this.#overflowed; block++) {
      const page = this.#page(Math.floor(block / PAGE_BLOCKS));
      if (page === undefined) return;
      const bit = block % PAGE_BLOCKS;
      const mask = 1 << (bit & 31);
      if ((page[bit >>> 5] & mask) === 0) {
        page[bit >>> 5] |= mask;
        this.#blocks++;
      }
    }
  }

  #page(number: number): Uint32Array | undefined {
    let page = this.#pages.get(number);
    if (page === undefined) {
      if (this.#pages.size === MAX_PAGES) {
        this.#overflowed = true;
        this.#pages.clear();
        return undefined;
      }
      page = new Uint32Array(PAGE_BLOCKS / 32);
      this.#pages.set(number, page);
    }
    return page;
  }
}

/**
 * Reads TRACE wholly. Throws what `openTrace` and `TraceReader.batches` throw. What can be read only once
 * (`isReadableOnce`) must be spooled first if it is to be replayed afterwards.
 */
export async function scanTrace(path: string, options: TraceOptions): Promise<TraceFootprint> {
  const reader = await openTrace(path, options);
  const blocks = new BlockSet();
  let endBytes = 0;
  let durationNs = 0;
  for await (const batch of reader.batches()) {
    endBytes = Math.max(endBytes, addBatch(batch, blocks));
    durationNs = batch.timeNs[batch.count - 1];
  }
  const { name, format, warnings, counts } = reader;
  return { name, format, warnings, counts, endBytes, durationNs, uniqueBytes: blocks.sizeBytes };
}

/** @returns the largest end of a read or write in `batch`, bytes. */
function addBatch(batch: TraceBatch, blocks: BlockSet): number {
  let endBytes = 0;
  for (let i = 0; i < batch.count; i++) {
    if (batch.op[i] !== TraceOp.read && batch.op[i] !== TraceOp.write) continue;
    endBytes = Math.max(endBytes, batch.offsetBytes[i] + batch.lengthBytes[i]);
    blocks.add(batch.offsetBytes[i], batch.lengthBytes[i]);
  }
  return endBytes;
}
