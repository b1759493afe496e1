/**
 * The segment table (format §3 "Segment map"): which segments are in use, how many keys of the log point
 * into each, and their generations.
 *
 * Invariants: a segment with references is in use; a segment is handed out only when its last life's
 * generation has been raised and persisted; one segment is kept back from payload so that the log can always
 * go on (else a cache full of payload whose keys are in an open kset could never close it).
 */
import { assert } from '../errors.js';
import type { Pmem } from '../device/pmem.js';
import { DualWriter } from '../copies/dual-writer.js';
import { encodeGeneration } from '../media/codecs.js';
import { generationCopies, type Geometry } from '../media/geometry.js';
import type { SegmentChain } from '../media/metadata.js';

/** Free segments that payload may not take. */
export const LOG_RESERVE_SEGMENTS = 1;

/** What a table keeps of its segments: in memory of its own, or in memory that threads share. */
export interface SegmentColumns {
  /** Low and high 32 bits of each generation. */
  readonly generationLow: Int32Array;
  readonly generationHigh: Int32Array;
  readonly references: Uint32Array;
  readonly used: Uint8Array;
  /** Segments that the log runs through: they are in use without references, and end with the log's leaving. */
  readonly inLog: Uint8Array;
  /** By `SegmentCount`. */
  readonly counts: Int32Array;
}

/** How many segments are in use, and where the search for a free one begins. */
const SegmentCount = { used: 0, searchFrom: 1 } as const;

/** @param makeBuffer where the columns are to lie; zeroes. */
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
  /** Low 32 bits of each generation, which is what the extent index compares. */
  readonly generationLow: Int32Array;
  /** The high 32 bits. */
  readonly generationHigh: Int32Array;
  readonly geometry: Geometry;

  private readonly generations: Float64Array;
  protected readonly references: Uint32Array;
  private readonly used: Uint8Array;
  protected readonly inLog: Uint8Array;
  private readonly counts: Int32Array;
  /** Segments whose last reference went, to be raised by `retire()`. */
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
  /** Payload finds no segment. */
  get isFullForData(): boolean {
    return this.freeCount <= LOG_RESERVE_SEGMENTS;
  }
  isUsed(segment: number): boolean {
    return this.used[segment] === 1;
  }
  /** Whether the log runs through it. */
  isInLog(segment: number): boolean {
    return this.inLog[segment] === 1;
  }
  generation(segment: number): number {
    return this.generations[segment];
  }

  /** Marks a segment that the log runs through. */
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

  /** A segment for payload with so many references on it, or -1 when none is to be had. */
  takeForData(references: number): number {
    if (this.isFullForData) return -1;
    const segment = this.take();
    this.references[segment] = references;
    return segment;
  }

  /** A segment for the log, or -1. */
  takeForLog(): number {
    if (this.freeCount === 0) return -1;
    const segment = this.take();
    this.inLog[segment] = 1;
    return segment;
  }

  /** The next free segment after the one taken last, as the kernel chooses. There must be one. */
  private take(): number {
    let segment = this.used.indexOf(0, this.counts[SegmentCount.searchFrom]);
    if (segment < 0) segment = this.used.indexOf(0);
    assert(segment >= 0, 'the segment map has no free segment though it counts one');
    assert(this.references[segment] === 0, 'a free segment has references');
    this.use(segment);
    this.counts[SegmentCount.searchFrom] = segment;
    return segment;
  }

  /** Adds a reference of a key. */
  get(segment: number): void {
    this.references[segment]++;
  }

  /**
   * Drops references. The segment is free only after `retire()`. One that the log runs through stays: the
   * kernel may crash with keys in the log whose segment it has freed, and given to the log, already.
   */
  put(segment: number, references = 1): void {
    assert(this.references[segment] >= references, 'a segment reference is dropped twice');
    this.references[segment] -= references;
    if (this.references[segment] === 0 && this.inLog[segment] === 0) this.dead.push(segment);
  }

  /** Whether a `put` has dropped a last reference since the last `retire()`. */
  get hasDead(): boolean {
    return this.dead.length > 0;
  }

  /**
   * Frees the segments that lost their last reference: raises and persists their generations first, so that
   * no key of the old life can be taken for one of the new.
   * @returns how many segments were freed.
   */
  retire(pmem: Pmem): number {
    const freed = this.dead.length;
    if (freed === 0) return 0;
    for (const segment of this.dead) {
      assert(this.references[segment] === 0, 'a dead segment came back to life');
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
    // The chain's columns are the memory of these writers: there may be a million segments.
    chain.generationWinner[segment] = chain.generationWinner[segment] === 0 ? 1 : 0;
    chain.generationSeq[segment] = (chain.generationSeq[segment] + 1) & 0xff;
  }

  /**
   * Frees a segment of the log that key_tail has left, once no key points into it. Its generation counts
   * payload lives only.
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
