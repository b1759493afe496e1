/**
 * The codecs against bytes that the kernel wrote: what they decode they encode to the same bytes, apart from the
 * fields that the kernel leaves uninitialised; every CRC holds; and what the log holds is what the kernel says.
 */
import { beforeAll, expect, it } from 'vitest';
import {
  CACHE_INFO_BYTES,
  decodeCacheFlags,
  decodeCacheInfo,
  decodeGeneration,
  decodePosition,
  decodeSegmentInfo,
  decodeSuperblock,
  encodeCacheFlags,
  encodeCacheInfo,
  encodeGeneration,
  encodePosition,
  encodeSegmentInfo,
  encodeSuperblock,
  GENERATION_BYTES,
  POSITION_BYTES,
  SEGMENT_INFO_BYTES,
  SUPERBLOCK_BYTES,
  type MetaHeader,
} from '../../src/engine/media/codecs.js';
import { CRC_SEED, crc32cRaw } from '../../src/engine/media/crc32c.js';
import {
  CACHE_INFO_COPIES,
  DIRTY_TAIL_COPIES,
  generationCopies,
  KERNEL_GEOMETRY,
  KEY_TAIL_COPIES,
  segmentInfoCopies,
  SUPERBLOCK_OFFSET_BYTES,
} from '../../src/engine/media/geometry.js';
import { encodeLastKset, KSET_HEADER_BYTES } from '../../src/engine/media/kset.js';
import { LogWalker } from '../../src/engine/media/log-walker.js';
import { readMetadata } from '../../src/engine/media/metadata.js';
import { describeImages, unpackImage } from '../support/images.js';
import { SparseImage } from '../support/sparse-image.js';

/** What the kernel's own tools counted. */
const COUNTS: Record<string, { ksets: number; keys: number; clean: number; hops: number }> = {
  'fresh': { ksets: 0, keys: 0, clean: 0, hops: 0 },
  'dirty-crc': { ksets: 9, keys: 1054, clean: 294, hops: 0 },
  'gc-wrap': { ksets: 55, keys: 6713, clean: 1, hops: 0 },
  'crash': { ksets: 2955, keys: 25283, clean: 0, hops: 0 },
  'last-hop': { ksets: 3535, keys: 450560, clean: 0, hops: 1 },
};

describeImages('kernel-made image', (expected) => {
  let image: SparseImage;
  beforeAll(async () => {
    image = SparseImage.fromFile((await unpackImage(expected)).cachePath);
  });

  /**
   * Compares a structure with what it encodes to. `ignored` bytes (version and reserved, which the kernel
   * leaves as they were in positions and generations) are taken from the image, and the CRC made anew.
   */
  function expectSame(offset: number, encoded: Uint8Array, uninitialised: boolean): void {
    const bytes = image.bytes(offset, encoded.length);
    if (uninitialised) {
      encoded.set(bytes.subarray(5, 8), 5);
      new DataView(encoded.buffer).setUint32(0, crc32cRaw(CRC_SEED, encoded, 4), true);
    }
    expect(Buffer.from(encoded).toString('hex'), `structure at ${offset}`).toBe(Buffer.from(bytes).toString('hex'));
  }

  /** Checks every good copy; a copy that is not good must never have been written. @returns good copies */
  function checkCopies<T extends MetaHeader>(
    offsets: readonly number[],
    lengthBytes: number,
    decode: (bytes: Uint8Array) => T,
    encode: (value: T) => Uint8Array,
    uninitialised: boolean,
  ): number {
    let good = 0;
    for (const offset of offsets) {
      const bytes = image.bytes(offset, lengthBytes);
      const value = decode(bytes);
      if (value.crcOk) {
        good++;
        expectSame(offset, encode(value), uninitialised);
      } else {
        expect(bytes.every((byte) => byte === 0)).toBe(true);
      }
    }
    return good;
  }

  it('has a superblock that encodes to the same bytes', () => {
    const superblock = decodeSuperblock(image.bytes(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES));
    expect(superblock).toMatchObject({ crcOk: true, magicOk: true, magicZero: false, bigEndian: false });
    const padding = new DataView(image.bytes(SUPERBLOCK_OFFSET_BYTES + 20, 4).buffer).getUint32(0, true);
    expectSame(SUPERBLOCK_OFFSET_BYTES, encodeSuperblock(superblock.segmentCount, padding), false);
  });

  it('has cache_info, tails, segment infos and generations that encode to the same bytes', () => {
    const info = checkCopies(
      CACHE_INFO_COPIES,
      CACHE_INFO_BYTES,
      decodeCacheInfo,
      (v) => encodeCacheInfo(v, v.seq),
      false,
    );
    expect(info).toBeGreaterThan(0);
    for (const copies of [KEY_TAIL_COPIES, DIRTY_TAIL_COPIES]) {
      const tails = checkCopies(copies, POSITION_BYTES, decodePosition, (v) => encodePosition(v, v.seq), true);
      expect(tails).toBeGreaterThan(0);
    }
    let infos = 0;
    let generations = 0;
    for (let id = 0; id < 31; id++) {
      infos += checkCopies(
        segmentInfoCopies(KERNEL_GEOMETRY, id),
        SEGMENT_INFO_BYTES,
        decodeSegmentInfo,
        (v) => encodeSegmentInfo(v.hasNext ? v.nextSegmentId : undefined, v.seq),
        false,
      );
      generations += checkCopies(
        generationCopies(KERNEL_GEOMETRY, id),
        GENERATION_BYTES,
        decodeGeneration,
        (v) => encodeGeneration(v.generation, v.seq),
        true,
      );
    }
    expect(infos).toBe(61); // the last segment was written once, the others a second time to be linked
    expect(generations).toBeGreaterThanOrEqual(31);
  });

  it('has metadata that the status line confirms', () => {
    const metadata = readMetadata(image, KERNEL_GEOMETRY);
    expect(metadata.problems).toEqual([]);
    const fields = expected.statusLine.split(' ').slice(3);
    const [flags, total, segments, , gcPercent, cacheFlags] = fields;
    expect(metadata.superblock.flags.toString(16)).toBe(flags);
    expect(String(metadata.superblock.segmentCount)).toBe(total);
    expect(String(metadata.cacheInfo.value!.segmentCount)).toBe(segments);
    expect(String(metadata.flags.gcPercent)).toBe(gcPercent);
    expect(metadata.cacheInfo.value!.flags.toString(16)).toBe(cacheFlags);
    expect(encodeCacheFlags(decodeCacheFlags(metadata.cacheInfo.value!.flags))).toBe(metadata.cacheInfo.value!.flags);
    expect(metadata.flags.dataCrc).toBe(expected.dataCrc);
    const keyTail = metadata.keyTail.value!;
    expect(`${keyTail.segment}:${keyTail.offsetBytes}`).toBe(fields[8]);
    expect(metadata.chain.length).toBe(31);
    expect([...metadata.chain.physicalId]).toEqual(Array.from({ length: 31 }, (_, id) => id));
  });

  it('has a log of as many ksets and keys as the kernel wrote, which ends where the kernel says', () => {
    const metadata = readMetadata(image, KERNEL_GEOMETRY);
    const walker = new LogWalker(image, KERNEL_GEOMETRY, metadata.chain, metadata.keyTail.value!);
    const counts = { ksets: 0, keys: 0, clean: 0, hops: 0 };
    let payloadChecked = 0;
    while (walker.next()) {
      const { kset } = walker;
      if (kset.isLast) {
        counts.hops++;
        const bytes = image.bytes(
          metadata.chain.dataOffsetBytes[walker.segment] + walker.offsetBytes,
          KSET_HEADER_BYTES,
        );
        expect([...encodeLastKset(kset.nextSegment)]).toEqual([...bytes]);
        continue;
      }
      counts.ksets++;
      counts.keys += kset.keyCount;
      for (let i = 0; i < kset.keyCount; i++) {
        if (kset.keyProblem(i, KERNEL_GEOMETRY, 31, Infinity) !== '')
          expect(kset.keyProblem(i, KERNEL_GEOMETRY, 31, Infinity)).toBe('');
        if (kset.keyIsClean(i)) counts.clean++;
        if (kset.keyReserved(i) !== 0) expect(kset.keyReserved(i)).toBe(0);
        // One key of each kset: all of them would take minutes in JavaScript.
        if (i === 0 && expected.dataCrc) {
          const offset = metadata.chain.dataOffsetBytes[kset.keySegment(i)] + kset.keySegmentOffsetBytes(i);
          expect(image.crc32c(offset, kset.keyLengthBytes(i), CRC_SEED)).toBe(kset.keyDataCrc(i));
          payloadChecked++;
        }
      }
    }
    expect(counts).toEqual(COUNTS[expected.name]);
    expect(payloadChecked).toBe(expected.dataCrc ? counts.ksets : 0);
    expect(walker.endReason).toBe('bad-magic');
    expect(`${walker.segment}:${walker.offsetBytes}`).toBe(expected.statusLine.split(' ')[9]);
  });
});
