/**
 * Decides what of a cache device goes into a pack without payload (`engine/pack/pack-format.ts`), and takes
 * everything else out. Works through the device once, window by window, in order.
 *
 * Kept as it is: the structures before the segments, infos and generations, everything that looks like a kset
 * (its magic, and as many keys as it says), as much at each offset where a kset should be, whatever is there, and
 * valid keys without a header. What follows a kset tells where the log ends, and samples of a data area tell how far
 * it is written: there, and around the structures, words of eight bytes stay zero or become ones. Pages with anything
 * else are absent. Invariant: no other byte gets through.
 */
import type { ByteRange } from '../engine/media/byte-range.js';
import { CACHE_INFO_BYTES, GENERATION_BYTES, SEGMENT_INFO_BYTES, SUPERBLOCK_BYTES } from '../engine/media/codecs.js';
import {
  CACHE_CTRL_OFFSET_BYTES,
  CACHE_INFO_COPIES,
  DATA_OFFSET_IN_SEGMENT_BYTES,
  generationCopies,
  POSITION_STRIDE_BYTES,
  segmentDataOffsetBytes,
  segmentInfoCopies,
  segmentOffsetBytes,
  SEGMENTS_OFFSET_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  type Geometry,
} from '../engine/media/geometry.js';
import {
  KSET_FLAG_LAST,
  KSET_HEADER_BYTES,
  KSET_KEYS_MAX,
  KSET_MAGIC_HIGH,
  KSET_MAGIC_LOW,
  ksetBytes,
  KsetField,
} from '../engine/media/kset.js';
import { writtenSamples } from '../fsck/unnamed-payload.js';
import { PACK_ABSENT_BYTE, PACK_PAGE_BYTES } from '../engine/pack/pack-format.js';

/** What is looked at behind a kset to tell whether the log ends there. */
const TRAIL_BYTES = 64;
const WORD_BYTES = 8;
const MAGIC = new Uint8Array(8);
new DataView(MAGIC.buffer).setUint32(0, KSET_MAGIC_LOW, true);
new DataView(MAGIC.buffer).setUint32(4, KSET_MAGIC_HIGH, true);

/** A part of the device that is kept: byte for byte, or which words of it are zero. */
interface Kept {
  readonly startBytes: number;
  readonly endBytes: number;
  readonly whole: boolean;
}

export class Redaction {
  /** Ksets that were kept, good or not. */
  ksets = 0;
  private readonly ksetOffsets: readonly number[];
  private readonly samples: readonly ByteRange[];
  /** What was found in earlier windows and reaches into later ones. */
  private kept: Kept[] = [];

  /**
   * @param room segments that the device has room for
   * @param ksetOffsets byte offsets on the device where a kset should be: tails, and where the log ended
   * @param keys ranges of the device that hold valid keys of a kset without a header
   */
  constructor(
    private readonly geometry: Geometry,
    private readonly room: number,
    ksetOffsets: readonly number[],
    private readonly keys: readonly ByteRange[],
  ) {
    this.samples = writtenSamples(geometry);
    this.ksetOffsets = [...new Set(ksetOffsets)].sort((a, b) => a - b);
  }

  /** How many bytes behind a window must be given with it. */
  static readonly aheadBytes = KSET_HEADER_BYTES;

  /**
   * Redacts the window [offsetBytes, +lengthBytes) in place. Windows must come in order and begin at a page.
   * @param bytes the window and, where the device goes on, `aheadBytes` more
   * @param isUnreadable whether a page of the device could not be read
   * @returns whether anything is left of it but absent pages
   */
  apply(bytes: Buffer, offsetBytes: number, lengthBytes: number, isUnreadable: (page: number) => boolean): boolean {
    const end = offsetBytes + lengthBytes;
    this.keepStructures(offsetBytes, end);
    this.keepKsets(bytes, offsetBytes, lengthBytes);
    for (const { offsetBytes: at, lengthBytes: length } of this.keys)
      if (at >= offsetBytes && at < end) this.keep(at, length, true);
    for (const at of this.ksetOffsets) if (at >= offsetBytes && at < end) this.keepKset(bytes, offsetBytes, at);
    const mine = this.kept.filter((one) => one.startBytes < end);
    this.kept = this.kept.filter((one) => one.endBytes > end);
    const source = mine.length === 0 ? bytes : Buffer.from(bytes.subarray(0, lengthBytes));
    let anything = mine.length > 0;
    for (let at = 0; at < lengthBytes; at += PACK_PAGE_BYTES) {
      const page = bytes.subarray(at, Math.min(at + PACK_PAGE_BYTES, lengthBytes));
      if (!isUnreadable(offsetBytes + at) && isZero(page)) anything = true;
      else page.fill(PACK_ABSENT_BYTE);
    }
    for (const { startBytes, endBytes, whole } of [
      ...mine.filter((one) => !one.whole),
      ...mine.filter((one) => one.whole),
    ]) {
      const from = Math.max(0, startBytes - offsetBytes);
      const to = Math.min(lengthBytes, endBytes - offsetBytes);
      if (whole) source.copy(bytes, from, from, to);
      else copyZeroWords(source, bytes, from, to);
    }
    return anything;
  }

  private keep(startBytes: number, lengthBytes: number, whole: boolean): void {
    this.kept.push({ startBytes, endBytes: startBytes + lengthBytes, whole });
  }

  /** The structures that begin in [from, to). */
  private keepStructures(from: number, to: number): void {
    const { geometry } = this;
    if (from === 0) {
      this.keep(SUPERBLOCK_OFFSET_BYTES, SEGMENTS_OFFSET_BYTES - SUPERBLOCK_OFFSET_BYTES, false);
      this.keep(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES, true);
      for (const copy of CACHE_INFO_COPIES) this.keep(copy, CACHE_INFO_BYTES, true);
      this.keep(CACHE_CTRL_OFFSET_BYTES, 4 * POSITION_STRIDE_BYTES, true);
    }
    let segment = Math.max(0, Math.ceil((from - SEGMENTS_OFFSET_BYTES) / geometry.segmentBytes));
    for (; segment < this.room && segmentOffsetBytes(geometry, segment) < to; segment++) {
      this.keep(segmentOffsetBytes(geometry, segment), DATA_OFFSET_IN_SEGMENT_BYTES, false);
      for (const copy of segmentInfoCopies(geometry, segment)) this.keep(copy, SEGMENT_INFO_BYTES, true);
      for (const copy of generationCopies(geometry, segment)) this.keep(copy, GENERATION_BYTES, true);
      const dataAt = segmentDataOffsetBytes(geometry, segment);
      this.keep(dataAt, KSET_HEADER_BYTES, false);
      for (const sample of this.samples) this.keep(dataAt + sample.offsetBytes, sample.lengthBytes, false);
    }
  }

  /** Everything with the magic of a kset, aligned as one, that begins in the window. */
  private keepKsets(bytes: Buffer, offsetBytes: number, lengthBytes: number): void {
    for (let found = bytes.indexOf(MAGIC); found >= 0; found = bytes.indexOf(MAGIC, found + 1)) {
      const at = found - KsetField.magic;
      if (at >= lengthBytes) return;
      if (at < 0 || (offsetBytes + at) % WORD_BYTES !== 0 || offsetBytes + at < SEGMENTS_OFFSET_BYTES) continue;
      this.keepKset(bytes, offsetBytes, offsetBytes + at);
      this.ksets++;
    }
  }

  /** As much from `ksetOffset` on, in a window, as a kset with the number of keys there would take. */
  private keepKset(bytes: Buffer, offsetBytes: number, ksetOffset: number): void {
    const at = ksetOffset - offsetBytes;
    const whole = at + KSET_HEADER_BYTES <= bytes.length;
    const keyCount = whole ? bytes.readUInt32LE(at + KsetField.keyCount) : 0;
    const isLast = whole && (bytes.readUInt32LE(at + KsetField.flags) & KSET_FLAG_LAST) !== 0;
    const length = ksetBytes(isLast || keyCount > KSET_KEYS_MAX ? 0 : keyCount);
    this.keep(ksetOffset, length, true);
    this.keep(ksetOffset + length, TRAIL_BYTES, false);
  }
}

const ZERO_PAGE = Buffer.alloc(PACK_PAGE_BYTES);

export function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += PACK_PAGE_BYTES) {
    const end = Math.min(at + PACK_PAGE_BYTES, bytes.length);
    if (bytes.compare(ZERO_PAGE, 0, end - at, at, end) !== 0) return false;
  }
  return true;
}

/** Words of [from, to) that are zero in `source` become zero in `target`, the others ones. */
function copyZeroWords(source: Buffer, target: Buffer, from: number, to: number): void {
  for (let at = from; at < to; at += WORD_BYTES) {
    const end = Math.min(at + WORD_BYTES, to);
    const isZeroWord = source.compare(ZERO_PAGE, 0, end - at, at, end) === 0;
    target.fill(isZeroWord ? 0 : PACK_ABSENT_BYTE, at, end);
  }
}
