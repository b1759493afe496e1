/** Which of two copies counts, and what a codec makes of its fields. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
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
  POSITION_BYTES,
  type MetaHeader,
} from '../../src/engine/media/codecs.js';
import { CRC_SEED, crc32cRaw } from '../../src/engine/media/crc32c.js';
import { chooseCopy, readDual, seqAfter } from '../../src/engine/media/dual.js';
import { judgeCopies } from '../../src/fsck/check-copies.js';
import { SparseImage } from '../support/sparse-image.js';

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const seq = fc.integer({ min: 0, max: 255 });

describe('sequence numbers', () => {
  it('are compared by signed 8-bit difference, so they survive the wrap', () => {
    expect(seqAfter(0, 255)).toBe(true);
    expect(seqAfter(255, 0)).toBe(false);
    expect(seqAfter(127, 0)).toBe(true);
    expect(seqAfter(128, 0)).toBe(false);
    expect(seqAfter(7, 7)).toBe(false);
  });

  it('order any two copies that are less than half the ring apart', () => {
    fc.assert(
      fc.property(seq, fc.integer({ min: 1, max: 127 }), (from, step) => {
        const to = (from + step) & 0xff;
        return seqAfter(to, from) && !seqAfter(from, to);
      }),
    );
  });
});

describe('the copy that counts', () => {
  const header = (crcOk: boolean, number: number): MetaHeader => ({ crcOk, crcStored: 0, crcComputed: 0, seq: number });

  it.each([
    [true, 4, true, 5, 1, 'newer'],
    [true, 5, true, 4, 0, 'newer'],
    [true, 255, true, 0, 1, 'newer'],
    [true, 0, true, 255, 0, 'newer'],
    [true, 9, true, 9, 0, 'same-seq'],
    [true, 1, false, 200, 0, 'only-valid'],
    [false, 200, true, 1, 1, 'only-valid'],
    [false, 1, false, 2, -1, 'none'],
  ] as const)('of %s/%i and %s/%i is %i: %s', (ok0, seq0, ok1, seq1, winner, reason) => {
    expect(chooseCopy(header(ok0, seq0), header(ok1, seq1))).toEqual({ winner, reason });
  });

  it('is the good one of two on a device, where a blank copy differs from a broken one', () => {
    const image = SparseImage.blank(4096);
    image.write(16, encodePosition({ segment: 3, offsetBytes: 512 }, 1));
    const once = readDual(image, [16, 32], POSITION_BYTES, decodePosition);
    expect(once).toMatchObject({ winner: 0, reason: 'only-valid', blank: [false, true] });
    expect(once.value).toMatchObject({ segment: 3, offsetBytes: 512, seq: 1 });
    image.write(40, new Uint8Array([1]));
    expect(readDual(image, [16, 32], POSITION_BYTES, decodePosition).blank).toEqual([false, false]);
  });
});

describe('a pair of copies, as the check judges it', () => {
  const judge = (ok: [boolean, boolean], blank: [boolean, boolean], seqs: [number, number], attaches = 1): string =>
    judgeCopies({ crcOk: ok, blank, seq: seqs }, attaches);

  it('is good when written alternately', () => {
    expect(judge([true, true], [false, false], [4, 5])).toBe('good');
    expect(judge([true, true], [false, false], [0, 255])).toBe('good');
    expect(judge([true, false], [false, true], [1, 0])).toBe('good');
    expect(judge([false, true], [true, false], [0, 1])).toBe('good');
  });

  it('is good when a tail was written over its newest copy after an attach', () => {
    expect(judge([true, true], [false, false], [4, 6], 1)).toBe('seq-suspect');
    expect(judge([true, true], [false, false], [4, 6], 2)).toBe('good');
    expect(judge([true, false], [false, true], [2, 0], 1)).toBe('copy-1-lost');
    expect(judge([true, false], [false, true], [2, 0], 2)).toBe('good');
    expect(judge([true, false], [false, true], [3, 0], 2)).toBe('copy-1-lost');
  });

  it('has lost copies where they are garbled, one or both', () => {
    expect(judge([true, false], [false, false], [1, 0])).toBe('copy-1-lost');
    expect(judge([false, true], [false, false], [0, 1])).toBe('copy-0-lost');
    expect(judge([false, false], [true, true], [0, 0])).toBe('lost');
    expect(judge([true, true], [false, false], [9, 9])).toBe('seq-suspect');
  });
});

describe('codecs', () => {
  it('decode what they encode', () => {
    fc.assert(
      fc.property(u32, u32, u32, seq, (a, b, c, number) => {
        const info = decodeCacheInfo(encodeCacheInfo({ firstSegmentId: a, segmentCount: b, flags: c }, number));
        expect(info).toMatchObject({ crcOk: true, seq: number, firstSegmentId: a, segmentCount: b, flags: c });
        const position = decodePosition(encodePosition({ segment: a, offsetBytes: b }, number));
        expect(position).toMatchObject({ crcOk: true, seq: number, segment: a, offsetBytes: b });
        const segment = decodeSegmentInfo(encodeSegmentInfo(a, number));
        expect(segment).toMatchObject({ crcOk: true, hasNext: true, nextSegmentId: a, type: 1 });
        expect(decodeSegmentInfo(encodeSegmentInfo(undefined, number))).toMatchObject({ hasNext: false, type: 1 });
        expect(decodeSuperblock(encodeSuperblock(a, b))).toMatchObject({ crcOk: true, magicOk: true, segmentCount: a });
      }),
    );
  });

  it('keep generations exact up to 2^53', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), seq, (generation, number) => {
        expect(decodeGeneration(encodeGeneration(generation, number))).toMatchObject({ crcOk: true, generation });
      }),
    );
  });

  it('split the cache flags as the format defines them', () => {
    expect(decodeCacheFlags(0x1183)).toEqual({ dataCrc: true, initDone: true, modeNumber: 0, gcPercent: 70 });
    expect(encodeCacheFlags({ dataCrc: false, initDone: true, modeNumber: 3, gcPercent: 90 })).toBe(0x168e);
  });

  it('detect any flipped bit', () => {
    const bytes = encodePosition({ segment: 3, offsetBytes: 512 }, 7);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = bytes.slice();
      flipped[bit >> 3] ^= 1 << (bit & 7);
      expect(decodePosition(flipped).crcOk).toBe(false);
    }
  });
});

describe('raw CRC-32C', () => {
  const ascii = new TextEncoder().encode('123456789');

  it('is the usual one without its inversions', () => {
    // The check value of CRC-32C is e3069283.
    expect((~crc32cRaw(0xffffffff, ascii) >>> 0).toString(16)).toBe('e3069283');
  });

  it('can be continued, wherever it is cut', () => {
    const bytes = new Uint8Array(61).map((_, at) => at * 37);
    const whole = crc32cRaw(CRC_SEED, bytes);
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(crc32cRaw(crc32cRaw(CRC_SEED, bytes, 0, cut), bytes, cut)).toBe(whole);
    }
  });
});
