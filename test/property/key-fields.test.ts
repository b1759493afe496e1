/** A key taken out of its kset at once says what its fields say one by one, whatever bytes it is made of. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { KERNEL_GEOMETRY } from '../../src/engine/media/geometry.js';
import { KEY_BYTES, KeyFields, KSET_HEADER_BYTES, KsetView } from '../../src/engine/media/kset.js';

const KEYS = 3;
const anyBytes = fc.uint8Array({ minLength: KSET_HEADER_BYTES + KEYS * KEY_BYTES, maxLength: 200 });

it('readKey gives the same values as the getters of single fields', () => {
  const key = new KeyFields();
  fc.assert(
    fc.property(anyBytes, fc.nat(KEYS - 1), (bytes, index) => {
      const kset = new KsetView().attach(bytes, 0);
      expect(kset.readKey(index, key)).toBe(key);
      expect([key.offsetBytes, key.generation]).toEqual([kset.keyOffsetBytes(index), kset.keyGeneration(index)]);
      expect(key.isClean).toBe(kset.keyIsClean(index));
      expect([key.length, key.flags, key.segment, key.segmentOffset, key.dataCrc, key.reserved]).toEqual(
        [
          kset.keyLengthBytes(index),
          kset.keyFlags(index),
          kset.keySegment(index),
          kset.keySegmentOffsetBytes(index),
          kset.keyDataCrc(index),
          kset.keyReserved(index),
        ].map((word) => word | 0),
      );
    }),
  );
});

it('fields with their highest bit set are read as unsigned', () => {
  const bytes = new Uint8Array(KSET_HEADER_BYTES + KEY_BYTES);
  const view = new DataView(bytes.buffer, KSET_HEADER_BYTES);
  const problem = () => new KsetView().attach(bytes, 0).keyProblem(0, KERNEL_GEOMETRY, 100, Infinity);
  view.setUint32(8, 512, true);
  expect(problem()).toBe('');
  view.setUint32(8, 0x8000_0000, true);
  expect(problem()).toBe('crosses a 4 MiB boundary');
  view.setUint32(8, 512, true);
  view.setUint32(16, 0xffff_ffff, true);
  expect(problem()).toBe('segment id is out of range');
  view.setUint32(16, 0, true);
  view.setUint32(20, 0xffff_fe00, true);
  expect(problem()).toBe('ends beyond its segment');
  view.setUint32(20, 0, true);
  view.setUint32(4, 0x8000_0000, true);
  expect(problem()).toBe('offset is beyond 2^53');
});
