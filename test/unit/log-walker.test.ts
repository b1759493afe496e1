/** Walks logs that are made for it: how each ends, and that the window and the hops are bounded. */
import { describe, expect, it } from 'vitest';
import { makeGeometry } from '../../src/engine/media/geometry.js';
import { crc32cRaw, CRC_SEED } from '../../src/engine/media/crc32c.js';
import {
  encodeLastKset,
  KEY_BYTES,
  KeyField,
  KSET_HEADER_BYTES,
  KSET_MAGIC_HIGH,
  KSET_MAGIC_LOW,
  ksetBytes,
  KsetField,
} from '../../src/engine/media/kset.js';
import { LogWalker } from '../../src/engine/media/log-walker.js';
import { SparseImage } from '../support/sparse-image.js';

const GEOMETRY = makeGeometry(1 << 20);
const SEGMENTS = 4;
const CHAIN = {
  length: SEGMENTS,
  dataOffsetBytes: Float64Array.from({ length: SEGMENTS }, (_, at) => 20480 + at * GEOMETRY.segmentBytes + 12288),
};

/** A kset whose keys carry `tag` and their index. */
function makeKset(keyCount: number, tag: number): Uint8Array {
  const bytes = new Uint8Array(ksetBytes(keyCount));
  const view = new DataView(bytes.buffer);
  view.setUint32(KsetField.keyCount, keyCount, true);
  view.setUint32(KsetField.magic, KSET_MAGIC_LOW, true);
  view.setUint32(KsetField.magic + 4, KSET_MAGIC_HIGH, true);
  for (let i = 0; i < keyCount; i++) {
    const at = KSET_HEADER_BYTES + i * KEY_BYTES;
    view.setUint32(at + KeyField.off, (tag * 128 + i) * 512, true);
    view.setUint32(at + KeyField.length, 512, true);
  }
  view.setUint32(0, crc32cRaw(CRC_SEED, bytes, 4), true);
  return bytes;
}

class LogImage {
  readonly image = SparseImage.blank(20480 + SEGMENTS * GEOMETRY.segmentBytes);
  segment = 0;
  offset = 0;

  add(bytes: Uint8Array): this {
    this.image.write(CHAIN.dataOffsetBytes[this.segment] + this.offset, bytes);
    this.offset += bytes.length;
    return this;
  }
  hop(next: number): this {
    this.add(encodeLastKset(next));
    this.segment = next;
    this.offset = 0;
    return this;
  }
  walk(segment = 0, offsetBytes = 0): LogWalker {
    return new LogWalker(this.image, GEOMETRY, CHAIN, { segment, offsetBytes });
  }
}

const end = (walker: LogWalker): [number, string] => {
  let count = 0;
  while (walker.next()) count++;
  expect(walker.next()).toBe(false);
  return [count, `${walker.endReason} at ${walker.segment}:${walker.offsetBytes}`];
};

describe('a log', () => {
  it('ends where it begins when it is empty', () => {
    expect(end(new LogImage().walk(2, 4096))).toEqual([0, 'bad-magic at 2:4096']);
  });

  it('is read whole with ksets of every size, across read-ahead windows and segments', () => {
    const log = new LogImage();
    const sizes: number[] = [];
    for (let n = 0; n < 500; n++) {
      const keys = (n * 29) % 129;
      if (log.offset + ksetBytes(keys) + KSET_HEADER_BYTES > GEOMETRY.segmentDataBytes) log.hop(log.segment + 2);
      log.add(makeKset(keys, n));
      sizes.push(keys);
    }
    const walker = log.walk();
    const seen: number[] = [];
    while (walker.next()) {
      if (walker.kset.isLast) continue;
      const tag = seen.length;
      for (const i of [0, walker.kset.keyCount - 1]) {
        if (i >= 0 && i < walker.kset.keyCount) expect(walker.kset.keyOffsetBytes(i)).toBe((tag * 128 + i) * 512);
      }
      seen.push(walker.kset.keyCount);
    }
    expect(seen).toEqual(sizes);
    expect(walker.hops).toBe(1);
    expect(walker.position).toEqual({ segment: 2, offsetBytes: log.offset });
  });

  it('can be walked from any of its ksets', () => {
    const log = new LogImage().add(makeKset(3, 0)).add(makeKset(4, 1));
    expect(end(log.walk(0, ksetBytes(3)))).toEqual([1, `bad-magic at 0:${ksetBytes(3) + ksetBytes(4)}`]);
  });

  it.each([
    ['a flipped key', 30, 'bad-crc'],
    ['a flipped CRC', 0, 'bad-crc'],
    ['a flipped magic', 9, 'bad-magic'],
    ['an impossible key count', 5, 'bad-key-count'],
  ])('ends at a kset with %s', (_what, at, reason) => {
    const log = new LogImage().add(makeKset(2, 0)).add(makeKset(5, 1)).add(makeKset(2, 2));
    const place = CHAIN.dataOffsetBytes[0] + ksetBytes(2) + at;
    const byte = log.image.bytes(place, 1);
    byte[0] ^= 0x55;
    log.image.write(place, byte);
    expect(end(log.walk())).toEqual([1, `${reason} at 0:${ksetBytes(2)}`]);
  });

  it('ends at a LAST kset that leads out of range', () => {
    const log = new LogImage().add(makeKset(1, 0)).add(encodeLastKset(SEGMENTS));
    expect(end(log.walk())).toEqual([1, `last-out-of-range at 0:${ksetBytes(1)}`]);
  });

  it('that runs in a circle ends after one hop for each segment', () => {
    const log = new LogImage().hop(1).hop(2).hop(0);
    expect(end(log.walk())[1]).toMatch(/^too-many-hops/);
  });

  it('ends at a kset that its segment cannot hold', () => {
    const log = new LogImage();
    log.offset = GEOMETRY.segmentDataBytes - 100;
    log.add(makeKset(3, 0));
    expect(end(log.walk(0, GEOMETRY.segmentDataBytes - 100))[1]).toMatch(/^too-long/);
  });

  it('ends quietly where less than a header is left of the device', () => {
    const log = new LogImage();
    const last = GEOMETRY.segmentDataBytes - 16;
    expect(end(log.walk(SEGMENTS - 1, last))).toEqual([0, `bad-magic at 3:${last}`]);
  });
});
