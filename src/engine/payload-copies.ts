/**
 * Payload copies (the seed copies in `cache_copy_from_req_bio` and `cache_copy_to_req_bio`).
 *
 * A write is copied as soon as its place is known: its stores take their time to reach the memory, and what else the
 * request needs is done meanwhile. Reads are staged and then run in one native call, which asks for each ahead of its
 * turn. So a read may be copied after a write that came behind it; but a write never goes where payload lies that
 * somebody may read. Everything is done and fenced when `run` returns.
 */
import { assert } from './errors.js';
import { JobWord, NO_PLACE, NO_SUBTREE, type Arena, type CopyList, type PayloadJob, type Pmem } from './device/pmem.js';
import type { ExtentIndex } from './index/extent-index.js';

const CAPACITY = 1024;

export class PayloadCopies {
  /** Of the last write: where the index keeps it, as far as that is known. */
  place = 0;
  /** Of the last write: its CRC as a signed word; 0 without data_crc. */
  crc = 0;

  private readonly reads: CopyList;
  private readonly job: PayloadJob;
  /** The job's. */
  private readonly jobAt: Float64Array;
  private readonly jobWords: Int32Array;
  private readCount = 0;
  private needsFence = false;
  private arena: Arena | undefined;
  /** Of the index that writes look into: `words` when they were told so last. */
  private indexWords: Int32Array | undefined;

  constructor(
    private readonly pmem: Pmem,
    private readonly index: ExtentIndex,
    dataCrc: boolean,
  ) {
    this.reads = pmem.createCopyList(CAPACITY);
    this.job = pmem.createPayloadJob(dataCrc);
    this.jobAt = this.job.pmemOffsetBytes;
    this.jobWords = this.job.words;
  }

  /** The arena that the next copies go from and to. Nothing may be staged. */
  begin(arena: Arena): void {
    assert(this.readCount === 0, 'copies of another group are still staged');
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
   * Copies into the cache what belongs at a sector of a subtree; see `place` and `crc`. Throws what the device throws.
   * @param arenaOffsetBytes 32 bits, with or without a sign
   * @param hint where the index keeps it, if that has been looked for
   */
  write(
    pmemOffsetBytes: number,
    arenaOffsetBytes: number,
    lengthBytes: number,
    subtree: number,
    startSector: number,
    hint = NO_PLACE,
  ): void {
    const { jobWords } = this;
    if (this.index.words !== this.indexWords) this.followIndex();
    this.jobAt[0] = pmemOffsetBytes;
    jobWords[JobWord.arenaOffset] = arenaOffsetBytes;
    jobWords[JobWord.length] = lengthBytes;
    jobWords[JobWord.subtree] = hint === NO_PLACE ? subtree : NO_SUBTREE;
    jobWords[JobWord.sector] = startSector;
    this.needsFence = true;
    this.pmem.writePayload(this.job, this.arena!);
    this.place = hint === NO_PLACE ? jobWords[JobWord.place] : hint;
    this.crc = jobWords[JobWord.crc];
  }

  private followIndex(): void {
    this.indexWords = this.index.words;
    this.pmem.searchIn?.(this.job, this.index);
  }

  /** Runs what is staged. At return all copies are done, those into the cache fenced. Throws what the device throws. */
  run(): void {
    if (this.readCount > 0) this.runReads();
    if (!this.needsFence) return;
    this.pmem.fence();
    this.needsFence = false;
  }

  private runReads(): void {
    const { readCount } = this;
    this.readCount = 0;
    this.pmem.runReads(this.reads, readCount, this.arena!);
  }
}
