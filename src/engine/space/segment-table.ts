/**
 * The segment table (format §3 "Segment map"): which segments are in use, how many keys of the log refer to each, and
 * their generations.
 *
 * Invariants:
 * - A segment with references is in use.
 * - A segment is taken again only after its generation has been raised and persisted.
 * - One free segment is kept back from payload, so that the log can always go on. Otherwise a cache full of payload whose
 *   keys are in an open kset could never close that kset.
 */
import { assert } from '../errors.js';
import type { Pmem } from '../device/pmem.js';
import { DualWriter } from '../copies/dual-writer.js';
import { encodeGeneration } from '../media/codecs.js';
import { generationCopies, type Geometry } from '../media/geometry.js';
import type { SegmentChain } from '../media/metadata.js';

/** Number of free segments that payload may not take. */
export const LOG_RESERVE_SEGMENTS = 1;

/** Columns of the table, one item a segment: in its own memory, or in memory that threads share. */
export interface SegmentColumns {
  /** Low and high 32 bits of each generation. */
  readonly generationLow: Int32Array;
  readonly generationHigh: Int32Array;
  readonly references: Uint32Array;
  readonly used: Uint8Array;
  /** 1 for a segment of the log. It is in use without references until key_tail leaves it. */
  readonly inLog: Uint8Array;
  /** Counters, by `SegmentCount`. */
  readonly counts: Int32Array;
}

/** Number of segments in use, and the segment where the search for a free one begins. */
const SegmentCount = { used: 0, searchFrom: 1 } as const;

/** @param makeBuffer allocates zeroed memory for a column */
export function makeColumns(
  segments: number,
  makeBuffer: (bytes: number) => ArrayBufferLike = (bytes) => new ArrayBuffer(bytes),
): SegmentColumns {
  return {
    generationLow: new Int32Array(makeBuffer(4 * segments)),
    generationHigh: new Int32Array(makeBuffer(4 * segments)),
    references: new Uint32Array(makeBuffer(4 * segments)),
    used: new Uint8Array(makeBuffer(segments)),
    inLog: new Uint8Array(makeBuffer(segments)),
    counts: new Int32Array(makeBuffer(8)),
  };
}

export class SegmentTable {
  readonly count: number;
  /** Byte offset on the device of each logical segment's data area. */
  readonly dataOffsetBytes: Float64Array;
  /** Low 32 bits of each generation, which the extent index compares. */
  readonly generationLow: Int32Array;
  /** High 32 bits of each generation. */
  readonly generationHigh: Int32Array;
  readonly geometry: Geometry;

  private readonly generations: Float64Array;
  protected readonly references: Uint32Array;
  private readonly used: Uint8Array;
  protected readonly inLog: Uint8Array;
  private readonly counts: Int32Array;
  /** Called when a segment has been taken. */
  onTaken: () => void = () => {};
  /** Segments without references whose generation the next `retire()` raises. */
  protected readonly dead: number[] = [];

  constructor(
    geometry: Geometry,
    private readonly chain: SegmentChain,
    columns: SegmentColumns = makeColumns(chain.length),
  ) {
    this.geometry = geometry;
    this.count = chain.length;
    this.dataOffsetBytes = chain.dataOffsetBytes;
    this.generations = chain.generation.slice();
    this.generationLow = columns.generationLow;
    this.generationHigh = columns.generationHigh;
    for (let i = 0; i < this.count; i++) this.setGeneration(i, this.generations[i]);
    this.references = columns.references;
    this.used = columns.used;
    this.inLog = columns.inLog;
    this.counts = columns.counts;
  }

  get usedCount(): number {
    return this.counts[SegmentCount.used];
  }
  get freeCount(): number {
    return this.count - this.usedCount;
  }
  /** No segment is free for payload. */
  get isFullForData(): boolean {
    return this.freeCount <= LOG_RESERVE_SEGMENTS;
  }
  isUsed(segment: number): boolean {
    return this.used[segment] === 1;
  }
  /** Whether it is a segment of the log. */
  isInLog(segment: number): boolean {
    return this.inLog[segment] === 1;
  }
  generation(segment: number): number {
    return this.generations[segment];
  }

  /** Marks a segment of the log. */
  markInLog(segment: number): void {
    this.markUsed(segment);
    this.inLog[segment] = 1;
  }

  markUsed(segment: number): void {
    if (this.used[segment] === 0) this.use(segment);
  }

  private use(segment: number): void {
    this.used[segment] = 1;
    this.counts[SegmentCount.used]++;
  }

  /** Takes a segment for payload and puts `references` on it. @returns the segment, or -1 when none is free */
  takeForData(references: number): number {
    if (this.isFullForData) return -1;
    const segment = this.take();
    this.references[segment] = references;
    return segment;
  }

  /** Takes a segment for the log. @returns the segment, or -1 when none is free */
  takeForLog(): number {
    if (this.freeCount === 0) return -1;
    const segment = this.take();
    this.inLog[segment] = 1;
    return segment;
  }

  /** Takes the next free segment after the one taken last, as the kernel does. There must be one. */
  private take(): number {
    const segment = this.nextFree(-1);
    assert(segment >= 0, 'the segment map counts a free segment but has none');
    assert(this.references[segment] === 0, 'a free segment has references');
    this.use(segment);
    this.counts[SegmentCount.searchFrom] = segment;
    this.onTaken();
    return segment;
  }

  /** The free segment that is taken after `segment`, or next when that is -1. @returns -1 when none is free */
  nextFree(segment: number): number {
    const found = this.used.indexOf(0, segment < 0 ? this.counts[SegmentCount.searchFrom] : segment + 1);
    return found < 0 ? this.used.indexOf(0) : found;
  }

  /** Adds the reference of a key. */
  get(segment: number): void {
    this.references[segment]++;
  }

  /**
   * Drops references. The segment is free only after `retire()`. A segment of the log stays in use: after a crash of the
   * kernel the log may hold keys whose segment was already freed and taken for the log.
   */
  put(segment: number, references = 1): void {
    assert(this.references[segment] >= references, 'a segment reference is dropped twice');
    this.references[segment] -= references;
    if (this.references[segment] === 0 && this.inLog[segment] === 0) this.dead.push(segment);
  }

  /** A `put` has dropped the last reference of a segment since the last `retire()`. */
  get hasDead(): boolean {
    return this.dead.length > 0;
  }

  /**
   * Frees the segments that lost their last reference. It raises and persists their generations first, so that no key of
   * the old payload can be taken for a key of the new payload.
   * @returns the number of segments freed
   */
  retire(pmem: Pmem): number {
    const freed = this.dead.length;
    if (freed === 0) return 0;
    for (const segment of this.dead) {
      assert(this.references[segment] === 0, 'a segment without references got one before it was freed');
      const generation = this.generations[segment] + 1;
      this.setGeneration(segment, generation);
      this.writeGeneration(pmem, segment, generation);
    }
    pmem.persist();
    for (const segment of this.dead) this.free(segment);
    this.dead.length = 0;
    return freed;
  }

  private setGeneration(segment: number, generation: number): void {
    this.generations[segment] = generation;
    this.generationLow[segment] = lowWord(generation);
    this.generationHigh[segment] = (generation / 2 ** 32) | 0;
  }

  private writeGeneration(pmem: Pmem, segment: number, generation: number): void {
    const { chain } = this;
    const writer = new DualWriter(
      pmem,
      generationCopies(this.geometry, chain.physicalId[segment]),
      chain.generationWinner[segment] as 0 | 1 | -1,
      chain.generationSeq[segment],
    );
    writer.write((seq) => encodeGeneration(generation, seq));
    // The chain's columns keep the state of these writers, because there may be a million segments.
    chain.generationWinner[segment] = chain.generationWinner[segment] === 0 ? 1 : 0;
    chain.generationSeq[segment] = (chain.generationSeq[segment] + 1) & 0xff;
  }

  /**
   * Takes a segment that key_tail has left out of the log, and frees it if no key refers to it. Its generation stays: it
   * counts how often the segment's payload was dropped.
   */
  freeLogSegment(segment: number): void {
    this.inLog[segment] = 0;
    if (this.references[segment] === 0) this.free(segment);
  }

  protected free(segment: number): void {
    assert(this.used[segment] === 1, 'a segment is freed twice');
    this.used[segment] = 0;
    this.counts[SegmentCount.used]--;
  }
}

/** Low 32 bits of a generation as a signed integer. */
export function lowWord(generation: number): number {
  return (generation % 2 ** 32) | 0;
}
