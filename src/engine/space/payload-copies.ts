/**
 * Payload copies (kernel: the copies in `cache_copy_from_req_bio` and `cache_copy_to_req_bio`).
 *
 * Pieces of writes are copied when they have their places: their stores take their time to reach the memory, and what
 * else they need is done meanwhile. Reads are staged and then run in one native call, which asks for each ahead of its
 * turn. So a read may be copied after a write that came behind it; but a write never goes where payload lies that
 * somebody may read. Everything is done and fenced when `run` returns.
 */
import { internalError } from '../errors.js';
import type { Arena, CopyList, PieceList, Pmem } from '../device/pmem.js';
import type { ExtentIndex } from '../index/extent-index.js';
import type { Pieces } from './pieces.js';

const CAPACITY = 1024;

export class PayloadCopies {
  private readonly reads: CopyList;
  private readCount = 0;
  private needsFence = false;
  private arena: Arena | undefined;
  /** Of the index that writes look into: `words` when they were told so last. */
  private indexWords: Int32Array | undefined;
  private indexSubtrees: Int32Array | undefined;

  /** @param pieces the list that all writes are made of */
  constructor(
    private readonly pmem: Pmem,
    private readonly index: ExtentIndex,
    private readonly pieces: PieceList,
  ) {
    this.reads = pmem.createCopyList(CAPACITY);
  }

  /** The arena that the next reads are copied to. None may be staged. */
  beginReads(arena: Arena): void {
    if (this.readCount !== 0) internalError('copies of another group are still staged');
    this.arena = arena;
  }

  /** Stages a copy out of the cache. */
  read(pmemOffsetBytes: number, arenaOffsetBytes: number, lengthBytes: number): void {
    if (this.readCount === CAPACITY) this.runReads();
    const i = this.readCount;
    const { reads } = this;
    reads.pmemOffsetBytes[i] = pmemOffsetBytes;
    reads.arenaOffsetBytes[i] = arenaOffsetBytes;
    reads.lengthBytes[i] = lengthBytes;
    this.readCount = i + 1;
  }

  /**
   * Copies pieces from an arena into the cache; it sets their places in the index, as far as those are known, and with
   * data_crc their CRCs. Throws what the device throws.
   */
  write({ list, count, head }: Pieces, arena: Arena): void {
    this.needsFence = true;
    this.pmem.writePieces(list, count, head.dataOffsetBytes, arena);
  }

  /** Runs what is staged. At return all copies are done, those into the cache fenced. Throws what the device throws. */
  run(): void {
    if (this.readCount > 0) this.runReads();
    if (!this.needsFence) return;
    if (this.index.words !== this.indexWords || this.index.subtrees !== this.indexSubtrees) this.followIndex();
    this.pmem.fence();
    this.needsFence = false;
  }

  /** Until then, places that writes find are of what the index was, and count as any wrong guess does. */
  private followIndex(): void {
    this.indexWords = this.index.words;
    this.indexSubtrees = this.index.subtrees;
    this.pmem.searchIn?.(this.pieces, this.index);
  }

  private runReads(): void {
    const { readCount } = this;
    this.readCount = 0;
    this.pmem.runReads(this.reads, readCount, this.arena!);
  }
}
