/**
 * What the check must not be fooled by: ksets that earlier laps of the log, or an earlier cache, left behind.
 * And that it ends, and says something, whatever lies on the device.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { PcacheError } from '../../src/engine/errors.js';
import {
  CACHE_INFO_COPIES,
  KERNEL_GEOMETRY,
  MIB,
  segmentDataOffsetBytes,
  segmentOffsetBytes,
} from '../../src/engine/media/geometry.js';
import { KEY_BYTES, KSET_HEADER_BYTES, ksetBytes, sealKset } from '../../src/engine/media/kset.js';
import { checkCache, type CheckResult } from '../../src/fsck/check.js';
import {
  deviceOffset,
  flip,
  GEOMETRY,
  ksetAt,
  ksetImage,
  ksetsOf,
  writeGeneration,
  writeKset,
  writeLast,
  writeTail,
} from '../support/damage/edit.js';
import { unpackImage } from '../support/images.js';
import { SparseImage } from '../support/sparse-image.js';

const check = (image: SparseImage, backingBytes = 64 * MIB): CheckResult =>
  checkCache(image, { geometry: KERNEL_GEOMETRY, backingBytes, data: false });
const codes = (result: CheckResult): string[] => result.findings.map((finding) => finding.code);

let dirty: SparseImage;
let fresh: SparseImage;
beforeAll(async () => {
  dirty = SparseImage.fromFile((await unpackImage('dirty-crc')).cachePath);
  fresh = SparseImage.fromFile((await unpackImage('fresh')).cachePath);
});

describe('an earlier lap of the log', () => {
  const OTHER = 10;
  /**
   * The log went through segment 0 once, moved to segment 10, came back to segment 0 and has written one kset
   * there; behind that, ksets of the first time are left, whose keys are of present generations and claim what
   * no key of the log claims. Only where they lead tells what they are.
   */
  function secondLap(leadsTo = OTHER): SparseImage {
    const image = dirty.clone();
    const { places } = ksetsOf(image);
    const ksets = places.map((place) => ksetImage(image, place));
    image.zero(deviceOffset(places[4]), 64 * 1024);
    writeLast(image, places[4], leadsTo);
    let next = { segment: OTHER, offsetBytes: 0 };
    for (const kset of ksets.slice(4)) next = writeKset(image, next, kset);
    writeLast(image, next, 0);
    writeKset(image, { segment: 0, offsetBytes: 0 }, ksets[0]);
    writeTail(image, 'KEY_TAIL', { segment: OTHER, offsetBytes: 0 });
    writeTail(image, 'DIRTY_TAIL', { segment: OTHER, offsetBytes: 0 });
    return image;
  }

  it('is not taken for a part of the log', () => {
    const image = secondLap();
    const result = check(image);
    expect(codes(result)).toEqual([]);
    expect(result.examined.lastKsets).toBe(1);
    expect(ksetsOf(image).end.segment).toBe(0);
  });

  it('is not taken for one when a crash tore the kset before it either', () => {
    const image = secondLap();
    const { end, places } = ksetsOf(image);
    image.write(deviceOffset(end), ksetImage(image, places[0]).subarray(0, 512));
    const result = check(image);
    expect(codes(result)).toEqual(['LOG_END_TORN']);
  });

  it('is not taken for one where it ends in the zeroes behind a kset that a crash tore', () => {
    const { places } = ksetsOf(dirty);
    const image = dirty.clone();
    const end = places.at(-1)!;
    // An old kset, whose payload lies before that of the log in its segments: here, the first of this log.
    const last = ksetImage(image, places[0]).slice(0, ksetBytes(30));
    sealKset(last, 30);
    for (const name of ['KEY_TAIL', 'DIRTY_TAIL'] as const) writeTail(image, name, places[1]);
    const torn = deviceOffset(end);
    // The old kset lies, whole, where the end of a torn one would have been; what of the torn one is there fits.
    const tornBytes = 24 + 40 * 128;
    const old = { ...end, offsetBytes: end.offsetBytes + tornBytes - last.length };
    image.zero(torn, tornBytes + 24);
    image.write(deviceOffset(old), last);
    image.write(torn, Uint8Array.of(1, 2, 3, 4, 128));
    expect(codes(check(image))).toEqual(['LOG_END_TORN']);
    // A header that no torn kset can have is damage.
    image.write(torn + 8, Uint8Array.of(9));
    expect(codes(check(image))).toEqual(['LOG_CUT_SHORT']);
    image.zero(torn + 8, 1);
    image.write(torn + 4, Uint8Array.of(127));
    expect(codes(check(image))).toEqual(['LOG_CUT_SHORT']);
    // A longer one than to where the old kset ends, and zeroes of an earlier time in between.
    const longer = { ...old, offsetBytes: old.offsetBytes - 200 };
    image.zero(deviceOffset(old), last.length);
    image.write(deviceOffset(longer), last);
    image.write(torn + 4, Uint8Array.of(128));
    expect(codes(check(image))).toEqual(['LOG_END_TORN']);
    image.write(torn + 4, Uint8Array.of(126));
    expect(codes(check(image))).toEqual(['LOG_END_TORN']);
    image.write(torn + 4, Uint8Array.of(100));
    expect(codes(check(image))).toEqual(['LOG_CUT_SHORT']);
  });

  it('is not taken for one when it led to a segment that was put to other use', () => {
    expect(codes(check(secondLap(20)))).toEqual([]);
    const image = secondLap(20);
    image.write(segmentDataOffsetBytes(GEOMETRY, 20), new Uint8Array(4096).fill(0x5a));
    expect(codes(check(image))).toEqual([]);
  });

  it('does not hide that the log is cut before it', () => {
    const image = secondLap();
    flip(image, deviceOffset(ksetsOf(image).places[1]));
    expect(codes(check(image))).toEqual(['LOG_CUT_SHORT']);
  });
});

describe('an earlier cache on the device', () => {
  /** What the kernel does when it makes a cache where one was: metadata anew, a kset's worth of zeroes in each segment. */
  function made(over: SparseImage): SparseImage {
    const image = over.clone();
    image.write(0, fresh.bytes(0, 20480));
    for (let id = 0; id < 31; id++) {
      image.write(segmentOffsetBytes(GEOMETRY, id), fresh.bytes(segmentOffsetBytes(GEOMETRY, id), 12288));
      image.zero(segmentDataOffsetBytes(GEOMETRY, id), 24);
    }
    return image;
  }

  it('is told of as what may be a part of the log, since nothing tells', () => {
    const result = check(made(dirty));
    expect(codes(result)).toEqual(['LOG_MAYBE_CUT_SHORT']);
    expect(result.clean).toBe(false);
  });

  it('is no proof of a cut log where a crash left payload that no kset names, which no key of it matches', () => {
    const image = made(dirty);
    image.write(CACHE_INFO_COPIES[0], dirty.bytes(CACHE_INFO_COPIES[0], 8192)); // with data_crc
    const keys = ksetsOf(dirty)
      .places.slice(1)
      .flatMap((place) => {
        const kset = ksetAt(dirty, place);
        return Array.from({ length: kset.keyCount }, (_, at) => [kset.keySegment(at), kset.keySegmentOffsetBytes(at)]);
      });
    const [segment] = keys.find(([, offsetBytes]) => offsetBytes === 0)!;
    const begin = segmentDataOffsetBytes(GEOMETRY, segment);
    image.write(begin, new Uint8Array(512).fill(0x5a));
    expect(codes(check(image))).toEqual(['LOG_MAYBE_CUT_SHORT']);
    image.write(begin, dirty.bytes(begin, 512));
    expect(codes(check(image))).toEqual(['LOG_CUT_SHORT']);
  });

  it('of which no header is left is not taken for a lost first kset of the new one', () => {
    const image = dirty.clone();
    for (const place of ksetsOf(dirty).places) image.zero(deviceOffset(place), KSET_HEADER_BYTES);
    expect(codes(check(made(image)))).toEqual([]);
  });

  it('is not even told of when its keys claim what keys of the new one claim', () => {
    const image = made(dirty);
    // The new cache wrote the same payload again, in one kset.
    writeKset(image, { segment: 0, offsetBytes: 0 }, ksetImage(dirty, ksetsOf(dirty).places[2]));
    expect(codes(check(image))).toEqual([]);
  });
});

describe('a broken kset behind the end of the log', () => {
  const [BEFORE, BROKEN] = [0, 2];
  /** The log ends where it begins, properly; behind that lie zeroes, and a kset of which the last key is gone. */
  function withBroken(): SparseImage {
    const image = dirty.clone();
    const { places } = ksetsOf(dirty);
    const kset = ksetImage(dirty, places[BROKEN]);
    image.zero(deviceOffset(places[0]), 64 * 1024);
    image.write(deviceOffset(places[BROKEN]), kset.subarray(0, kset.length - KEY_BYTES));
    return image;
  }
  const keyOf = (index: number): number =>
    deviceOffset(ksetsOf(dirty).places[BROKEN]) + KSET_HEADER_BYTES + index * KEY_BYTES;

  it('is told of when nothing but the log can have left it', () => {
    const { findings } = check(withBroken());
    expect(findings.map(({ code }) => code)).toEqual(['LOG_MAYBE_CUT_SHORT']);
    expect(findings[0].detail).toContain(`follows at 0:${ksetsOf(dirty).places[BROKEN].offsetBytes}`);
    const twoKeys = withBroken();
    twoKeys.zero(keyOf(2), KEY_BYTES);
    expect(codes(check(twoKeys))).toEqual(['LOG_MAYBE_CUT_SHORT']);
  });

  it('is left alone when an earlier lap can have left it', () => {
    const inUse = withBroken();
    const { places } = ksetsOf(dirty);
    const segments = (n: number): number[] => {
      const kset = ksetAt(dirty, places[n]);
      return Array.from({ length: kset.keyCount }, (_, index) => kset.keySegment(index));
    };
    expect(segments(BEFORE)).toContain(segments(BROKEN)[0]);
    inUse.write(deviceOffset(places[BEFORE]), ksetImage(dirty, places[BEFORE]));
    expect(codes(check(inUse))).toEqual([]);

    const collected = withBroken();
    writeGeneration(collected, segments(BROKEN)[0], 1);
    expect(codes(check(collected))).toEqual([]);

    const oneKey = withBroken();
    oneKey.zero(keyOf(1), KEY_BYTES);
    expect(codes(check(oneKey))).toEqual(['LOG_LOST']);
  });
});

describe('what is no cache at all', () => {
  const refusal = (image: SparseImage): string => {
    try {
      check(image);
    } catch (error) {
      expect(error).toBeInstanceOf(PcacheError);
      return (error as PcacheError).code;
    }
    return 'checked';
  };

  it('is refused, and not reported as a damaged one', () => {
    expect(refusal(SparseImage.blank(512 * MIB))).toBe('NOT_PCACHE');
    const foreign = SparseImage.blank(512 * MIB);
    foreign.write(
      0,
      new Uint8Array(1 * MIB).map((_, at) => (at * 31) & 0xff),
    );
    expect(refusal(foreign)).toBe('NOT_PCACHE');
    expect(refusal(dirty.clone(8192))).toBe('TRUNCATED');
    expect(refusal(dirty.clone(20480))).toBe('checked');
  });

  it('is refused as a cache of a big-endian machine when it is one', () => {
    const image = SparseImage.blank(512 * MIB);
    const superblock = dirty.bytes(4096, 24);
    superblock[4] = 1;
    image.write(4096, superblock);
    expect(refusal(image)).toBe('UNSUPPORTED');
  });
});

describe('random damage', () => {
  /** xorshift32; the seed makes a failure repeatable. */
  function randomOf(seed: number): (below: number) => number {
    let state = seed;
    return (below) => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) % below;
    };
  }

  it.each([1, 2, 3, 4])('ends and is never taken for a bug (seed %i)', (seed) => {
    const random = randomOf(seed * 7919);
    const logEnd = ksetsOf(dirty).end.offsetBytes;
    let found = 0;
    for (let round = 0; round < 40; round++) {
      const image = dirty.clone();
      for (let n = 1 + random(4); n > 0; n--) {
        const segment = random(31);
        const at = [
          () => 4096 + random(24),
          () => 8192 + random(2) * 4096 + random(24),
          () => 16384 + random(64),
          () => segmentOffsetBytes(GEOMETRY, segment) + random(2) * 4096 + random(16),
          () => segmentOffsetBytes(GEOMETRY, segment) + 8192 + random(32),
          () => segmentDataOffsetBytes(GEOMETRY, 0) + random(logEnd + 64),
        ][random(6)]();
        if (random(3) === 0) image.zero(at, Math.min(1 + random(512), image.sizeBytes - at));
        else image.write(at, new Uint8Array([random(256)]));
      }
      const result = check(image);
      found += result.clean ? 0 : 1;
      expect(result.examined.segments).toBeGreaterThan(0);
    }
    expect(found).toBeGreaterThan(20);
  });

  it('does not make the report grow without bound', () => {
    const image = dirty.clone();
    const result = check(image, 512);
    expect(result.examined.keys).toBe(1054);
    const listed = result.findings.filter((finding) => finding.code === 'KEY_BEYOND_BACKING').length;
    expect(listed).toBe(64);
    expect(result.omitted.KEY_BEYOND_BACKING).toBe(1054 - 64);
  });
});

it('a check counts everything that it examined', () => {
  const result = checkCache(dirty, { geometry: KERNEL_GEOMETRY, backingBytes: 64 * MIB, data: true });
  const { examined } = result;
  expect(examined).toMatchObject({
    segments: 31,
    ksets: 9,
    keys: 1054,
    cleanKeys: 294,
    logBytes: 42376,
    payloadKeys: 1054,
    // The segment that the log ends in, once.
    searchedBytes: KERNEL_GEOMETRY.segmentDataBytes - 42376 - 8,
  });
  expect(examined.payloadBytes).toBeGreaterThan(1054 * 512);
  expect(examined.bytesRead).toBeGreaterThan(examined.payloadBytes + examined.logBytes);
  expect(result.notChecked).toEqual([]);
});

it('says what it did not check', () => {
  const without = checkCache(dirty, { geometry: KERNEL_GEOMETRY, data: false });
  expect(without.examined.payloadKeys).toBe(0);
  expect(without.notChecked).toHaveLength(2);
  const noCrc = checkCache(fresh, { geometry: KERNEL_GEOMETRY, data: true, backingBytes: 64 * MIB });
  expect(noCrc.notChecked).toEqual(['payload: the cache has no data_crc, so nothing says what it should be']);
});
