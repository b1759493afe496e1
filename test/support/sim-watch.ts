/**
 * Watches the order rules of the engine as they are kept or broken: before each store to the
 * cache device, what must be durable by then is looked for in what a crash would be sure to keep. A rule
 * that is broken is named, where a crash state only shows the damage.
 */
import {
  decodeCacheInfo,
  decodeGeneration,
  decodePosition,
  POSITION_BYTES,
  type Position,
} from '../../src/engine/media/codecs.js';
import { readDual, type ByteSource, type Dual } from '../../src/engine/media/dual.js';
import {
  CACHE_INFO_COPIES,
  DATA_OFFSET_IN_SEGMENT_BYTES,
  DIRTY_TAIL_COPIES,
  generationCopies,
  KEY_TAIL_COPIES,
  SECTOR_BYTES,
  SEGMENTS_OFFSET_BYTES,
  type CopyOffsets,
  type Geometry,
} from '../../src/engine/media/geometry.js';
import { KSET_HEADER_BYTES, KsetView } from '../../src/engine/media/kset.js';
import { LogWalker } from '../../src/engine/media/log-walker.js';
import { readMetadata } from '../../src/engine/media/metadata.js';
import type { SimBacking } from '../../src/engine/sim/sim-backing.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { SimFailure } from './model.js';
import type { InspectedCache } from './inspected-cache.js';

class Image implements ByteSource {
  readonly sizeBytes: number;
  constructor(readonly bytes: Uint8Array) {
    this.sizeBytes = bytes.length;
  }
  read(offset: number, target: Uint8Array, targetOffset: number, length: number): void {
    target.set(this.bytes.subarray(offset, offset + length), targetOffset);
  }
}

/** How often each rule was looked at: a rule that never came up was not tested. */
export const RULES = [
  'payload before key',
  'zeroes behind a kset before the kset',
  'backing flush before dirty_tail',
  'generation before segment reuse',
  'key_tail before segment reuse',
  'zeroed head before LAST',
  'older copy overwritten',
] as const;
export type Rule = (typeof RULES)[number];

export class OrderWatch {
  readonly seen = new Map<Rule, number>(RULES.map((rule) => [rule, 0]));
  private readonly kset = new KsetView();

  constructor(
    private readonly geometry: Geometry,
    private readonly pmem: SimPmem,
    private readonly backing: SimBacking,
    private readonly cache: () => InspectedCache | undefined,
  ) {
    pmem.onStore = (offset, length, stored) => this.store(offset, length, stored);
  }

  private require(rule: Rule, kept: boolean, detail: string): void {
    this.seen.set(rule, this.seen.get(rule)! + 1);
    if (!kept) throw new SimFailure(`order rule broken: ${rule}: ${detail}`);
  }

  private store(offset: number, length: number, stored: Uint8Array | undefined): void {
    const image = new Image(this.pmem.durableImage());
    if (offset < SEGMENTS_OFFSET_BYTES) {
      this.checkOlderCopy(image, CACHE_INFO_COPIES, offset, 24, decodeCacheInfo);
      this.checkOlderCopy(image, KEY_TAIL_COPIES, offset, 16, decodePosition);
      this.checkOlderCopy(image, DIRTY_TAIL_COPIES, offset, 16, decodePosition);
      if ((DIRTY_TAIL_COPIES as readonly number[]).includes(offset) && !isSamePlace(image, stored)) {
        this.dirtyTail(image, decodePosition(stored!));
      }
      return;
    }
    const segment = Math.floor((offset - SEGMENTS_OFFSET_BYTES) / this.geometry.segmentBytes);
    const within = (offset - SEGMENTS_OFFSET_BYTES) % this.geometry.segmentBytes;
    if (within < DATA_OFFSET_IN_SEGMENT_BYTES) {
      this.checkOlderCopy(image, generationCopies(this.geometry, segment), offset, 16, decodeGeneration);
      return;
    }
    const at = within - DATA_OFFSET_IN_SEGMENT_BYTES;
    this.reuse(image, segment, at, length);
    if (stored && length >= KSET_HEADER_BYTES && this.kset.attach(stored, 0).verdict(length, length) === 'ok') {
      this.ksetStore(image, offset);
    }
  }

  /** What dirty_tail is about to pass must be durable on the backing device. */
  private dirtyTail(image: Image, next: Position): void {
    const { chain, dirtyTail } = readMetadata(image, this.geometry);
    const walker = new LogWalker(image, this.geometry, chain, dirtyTail.value!);
    let sector = -1;
    while (walker.next() && !walker.isAt(next)) {
      const { kset } = walker;
      for (let i = 0; i < kset.keyCount; i++) {
        const end = (kset.keyOffsetBytes(i) + kset.keyLengthBytes(i)) / SECTOR_BYTES;
        for (let s = kset.keyOffsetBytes(i) / SECTOR_BYTES; s < end; s++) if (this.backing.isVolatile(s)) sector = s;
      }
    }
    this.require('backing flush before dirty_tail', sector < 0, `sector ${sector} is volatile`);
  }

  private checkOlderCopy<T>(
    image: Image,
    copies: CopyOffsets,
    offset: number,
    length: number,
    decode: Parameters<typeof readDual<T>>[3],
  ): void {
    const which = copies.indexOf(offset);
    if (which < 0) return;
    const dual: Dual<T> = readDual(image, copies, length, decode);
    this.require('older copy overwritten', dual.winner !== which, `the store at ${offset} goes over the good copy`);
  }

  /** What the store goes over must be of no use to whoever recovers from `image`. */
  private reuse(image: Image, segment: number, at: number, length: number): void {
    const { chain, keyTail, problems } = readMetadata(image, this.geometry);
    if (problems.length > 0) throw new SimFailure(`the durable metadata is bad: ${problems[0].detail}`);
    const walker = new LogWalker(image, this.geometry, chain, keyTail.value!);
    const overlaps = (place: number, size: number) => place < at + length && at < place + size;
    let kept = true;
    while (walker.next()) {
      const { kset } = walker;
      if (walker.segment === segment && overlaps(walker.offsetBytes, kset.lengthBytes)) kept = false;
      for (let i = 0; i < kset.keyCount; i++) {
        if (kset.keySegment(i) === segment && overlaps(kset.keySegmentOffsetBytes(i), kset.keyLengthBytes(i)))
          kept = false;
      }
    }
    this.require(
      'key_tail before segment reuse',
      kept,
      `the store at ${segment}:${at} goes over the log or its payload`,
    );
    const inMemory = this.cache()?.parts.segments.generation(segment);
    if (inMemory === undefined) return;
    this.require('generation before segment reuse', chain.generation[segment] === inMemory, `segment ${segment}`);
  }

  private ksetStore(image: Image, offset: number): void {
    const { kset, geometry } = this;
    const isZero = (from: number) => image.bytes.subarray(from, from + KSET_HEADER_BYTES).every((byte) => byte === 0);
    const dataOffset = (segment: number) =>
      SEGMENTS_OFFSET_BYTES + segment * geometry.segmentBytes + DATA_OFFSET_IN_SEGMENT_BYTES;
    if (kset.isLast) {
      this.require(
        'zeroed head before LAST',
        isZero(dataOffset(kset.nextSegment)),
        `LAST leads to segment ${kset.nextSegment}`,
      );
      return;
    }
    this.require(
      'zeroes behind a kset before the kset',
      isZero(offset + kset.lengthBytes),
      `the kset at byte ${offset}`,
    );
    for (let i = 0; i < kset.keyCount; i++) {
      const from = dataOffset(kset.keySegment(i)) + kset.keySegmentOffsetBytes(i);
      const to = from + kset.keyLengthBytes(i);
      const durable = Buffer.compare(image.bytes.subarray(from, to), this.pmem.bytes.subarray(from, to)) === 0;
      this.require('payload before key', durable, `key ${i} of the kset at byte ${offset}`);
    }
  }
}

/** The second copy of a dirty_tail that stands already promises nothing new. */
function isSamePlace(image: Image, stored: Uint8Array | undefined): boolean {
  const now = readDual(image, DIRTY_TAIL_COPIES, POSITION_BYTES, decodePosition).value;
  const next = decodePosition(stored!);
  return now?.segment === next.segment && now.offsetBytes === next.offsetBytes;
}
