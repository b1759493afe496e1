/**
 * Payload copies (kernel: `cache_copy_from_req_bio`, `cache_copy_to_req_bio`).
 *
 * The pieces of writes are copied as soon as they are allocated: their stores take time to reach the memory, and the rest
 * of the work on them is done meanwhile. Reads are staged and run in one native call, which prefetches each of them. So
 * a read may be copied after a later write; but a write never goes to sectors whose payload a read may still need. When
 * `run` returns, all copies are done and those into the cache are fenced.
 */
import { internalError, PcacheError } from '../errors.js';
import type { Arena, CopyList, PieceList, Pmem } from '../device/pmem.js';
import type { ExtentIndex } from '../index/extent-index.js';
import type { Pieces } from './pieces.js';

const CAPACITY = 1024;

/** A read that the medium refused; its part of the arena holds zeroes. */
export interface FailedCopy {
  readonly arenaOffsetBytes: number;
  readonly error: PcacheError;
}

export class PayloadCopies {
  private readonly reads: CopyList;
  private readCount = 0;
  private needsFence = false;
  private arena: Arena | undefined;
  /** Reads that the medium refused, of the group whose copies ran last. The caller takes them out. */
  readonly failed: FailedCopy[] = [];
  /** The `words` of the index when `searchIn` was called last. */
  private indexWords: Int32Array | undefined;
  private indexSubtrees: Int32Array | undefined;

  /** @param pieces the list of the one batch that all writes use */
  constructor(
    private readonly pmem: Pmem,
    private readonly index: ExtentIndex,
    private readonly pieces: PieceList,
  ) {
    this.reads = pmem.createCopyList(CAPACITY);
  }

  /** Sets the arena that the next reads are copied to. No read may be staged. */
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
   * Copies a batch of pieces from an arena into the cache. Sets their hints for the index, where known, and with
   * data_crc their CRCs.
   * @throws PcacheError what the device throws
   */
  write({ list, count, head }: Pieces, arena: Arena): void {
    this.needsFence = true;
    this.pmem.writePieces(list, count, head.dataOffsetBytes, arena);
  }

  /**
   * Runs the staged reads. At return all copies are done but those in `failed`, and those into the cache are fenced.
   * @throws PcacheError what the device throws
   */
  run(): void {
    if (this.readCount > 0) this.runReads();
    if (!this.needsFence) return;
    if (this.index.words !== this.indexWords || this.index.subtrees !== this.indexSubtrees) this.followIndex();
    this.pmem.fence();
    this.needsFence = false;
  }

  /** The index has moved to new memory. Hints from the old memory are wrong guesses, which do no harm. */
  private followIndex(): void {
    this.indexWords = this.index.words;
    this.indexSubtrees = this.index.subtrees;
    this.pmem.searchIn?.(this.pieces, this.index);
  }

  private runReads(): void {
    const { readCount } = this;
    this.readCount = 0;
    try {
      this.pmem.runReads(this.reads, readCount, this.arena!);
    } catch (error) {
      if (!(error instanceof PcacheError) || error.code !== 'IO') throw error;
      this.readEach(readCount);
    }
  }

  /** One by one: a bad place of the medium fails those reads that need it, and no other. */
  private readEach(readCount: number): void {
    const { memory } = this.arena!;
    for (let i = 0; i < readCount; i++) {
      const at = this.reads.arenaOffsetBytes[i];
      const length = this.reads.lengthBytes[i];
      try {
        this.pmem.read(this.reads.pmemOffsetBytes[i], memory, at, length);
      } catch (error) {
        if (!(error instanceof PcacheError) || error.code !== 'IO') throw error;
        memory.fill(0, at, at + length);
        this.failed.push({ arenaOffsetBytes: at, error });
      }
    }
  }
}
