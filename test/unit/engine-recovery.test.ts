/** What opening a cache does: to copies that are broken or behind, to keys whose payload is gone. */
import { describe, expect, it } from 'vitest';
import { formatDevice, planFormat } from '../../src/engine/create/create-cache.js';
import {
  CACHE_INFO_COPIES,
  DIRTY_TAIL_COPIES,
  generationCopies,
  KEY_TAIL_COPIES,
  segmentInfoCopies,
  segmentOffsetBytes,
} from '../../src/engine/media/geometry.js';
import { encodeGeneration, GENERATION_BYTES } from '../../src/engine/media/codecs.js';
import { structCrc } from '../../src/engine/media/crc32c.js';
import { KeyField, KSET_HEADER_BYTES, ksetBytes } from '../../src/engine/media/kset.js';
import { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { checkCache } from '../../src/fsck/check.js';
import { geometryOf } from '../support/sim-device.js';
import { SMALL, SmallCache } from '../support/small-cache.js';

const geometry = geometryOf(SMALL);
const STRUCTURES = [
  ['cache_info', CACHE_INFO_COPIES],
  ['key_tail', KEY_TAIL_COPIES],
  ['dirty_tail', DIRTY_TAIL_COPIES],
  ['a segment info', segmentInfoCopies(geometry, 3)],
  ['a generation', generationCopies(geometry, 3)],
] as const;

function expectClean(small: SmallCache): void {
  const { findings } = checkCache(small.pmem, { geometry, backingBytes: small.backing.sizeBytes, data: true });
  expect(findings.filter((finding) => finding.severity !== 'note')).toEqual([]);
}

describe('opening a cache repairs', () => {
  for (const [name, copies] of STRUCTURES) {
    it.each([0, 1])(`a broken copy of ${name}, so that the other may be lost next: copy %i`, (which) => {
      const small = new SmallCache();
      small.writeFua(10, 4, 1);
      small.pmem.bytes[copies[which] + 8] ^= 1;
      small.open();
      expectClean(small);
      small.pmem.bytes[copies[1 - which] + 8] ^= 1;
      small.open();
      expect(small.readIds(10, 4)).toEqual([1, 1, 1, 1]);
      small.drain();
      expectClean(small);
    });
  }

  it('copies of segment infos that are behind since the cache was made', () => {
    const pmem = new SimPmem(new Uint8Array(segmentOffsetBytes(geometry, SMALL.segments)), { model: 'dax' });
    formatDevice(pmem, planFormat(pmem.sizeBytes, { dataCrc: false, gcPercent: 70, geometry }));
    const small = new SmallCache({}, pmem);
    small.writeFua(10, 4, 1);
    expectClean(small);
    for (const which of [0, 1]) {
      const copy = pmem.copy();
      for (let s = 0; s < SMALL.segments - 1; s++) copy.bytes[segmentInfoCopies(geometry, s)[which] + 12] ^= 1;
      expect(small.load(copy).keyCount).toBe(1);
    }
  });

  it('a key_tail whose older copy leads to segments that count as free', () => {
    const small = new SmallCache({ dataCrc: true, gcPercent: 0 });
    small.writeFua(10, 4, 1);
    small.drain(); // GC has passed the kset, and the open segment keeps its payload from being freed
    small.open();
    small.writeFua(20, 4, 2); // goes to the same place
    const { offsets, winner } = small.load().metadata.keyTail;
    small.pmem.bytes[offsets[winner as 0 | 1] + 8] ^= 1;
    expect(small.load().keyCount).toBe(1);
  });

  it('nothing in a sound cache, where it writes cache_info only', () => {
    const small = new SmallCache();
    small.open();
    const stored: number[] = [];
    small.pmem.onStore = (offset) => stored.push(offset);
    small.open();
    expect(stored).toHaveLength(1);
    expect(CACHE_INFO_COPIES).toContain(stored[0]);
  });
});

/** The kernel may crash between raising a generation and moving key_tail past the keys of the old one. */
function raiseGeneration(small: SmallCache, segment: number, generation: number): void {
  const [, second] = generationCopies(geometry, segment);
  small.pmem.write(second, encodeGeneration(generation, SMALL.seq + 1), 0, GENERATION_BYTES);
  small.pmem.persist();
}

/** Makes the only key of the log point into segment 0, where the log is. */
function pointIntoTheLog(small: SmallCache): void {
  const kset = small.pmem.bytes.subarray(small.load().segments.dataOffsetBytes[0], small.pmem.sizeBytes);
  const view = new DataView(kset.buffer, kset.byteOffset);
  view.setUint32(KSET_HEADER_BYTES + KeyField.segment, 0, true);
  view.setUint32(0, structCrc(kset, 0, ksetBytes(1)), true);
}

describe('a stale key in the log', () => {
  it.each([1, 40])('whose segment now belongs to the log keeps the log whole, %i ksets on', (ksets) => {
    const small = new SmallCache({ gcPercent: 0, segmentBytes: 17.5 * 1024, logStartBytes: 0 });
    small.cache.holdWriteback = true;
    small.writeFua(10, 1, 1);
    pointIntoTheLog(small);
    raiseGeneration(small, 0, 1);
    small.open();
    for (let id = 2; id < 2 + ksets; id++) {
      small.writeFua(id % 7, 1, id);
      small.settle();
      expect(small.cache.parts.segments.isUsed(small.cache.status().keyHead.segment)).toBe(true);
    }
    small.drain();
    expect(small.load().segments.usedCount).toBeLessThanOrEqual(2);
    expect(small.cache.status().keyTail).toEqual(small.cache.status().keyHead);
  });

  it('whose segment the log leaves before GC passes the key is freed once', () => {
    const small = new SmallCache({ gcPercent: 0, segmentBytes: 17.5 * 1024, logStartBytes: 0, segments: 20 });
    small.cache.holdWriteback = true;
    small.writeFua(10, 1, 1);
    pointIntoTheLog(small);
    raiseGeneration(small, 0, 1);
    small.open();
    small.cache.holdWriteback = true;
    for (let id = 2; small.cache.status().keyHead.segment === 0; id++) small.writeFua(id % 7, 1, id);
    small.cache.holdWriteback = false;
    small.drain();
    small.settle();
    expect(small.cache.parts.segments.isUsed(0)).toBe(false);
    expect(small.cache.parts.segments.generation(0)).toBe(1);
  });

  it('is not served, and counts as a reference until GC passes it', () => {
    const small = new SmallCache({ gcPercent: 0 });
    small.cache.holdWriteback = true;
    small.writeFua(10, 4, 1);
    const segment = small.load().index;
    segment.seek(0, 10);
    raiseGeneration(small, segment.segment, 1);
    small.open();
    expect(small.load().staleKeyCount).toBe(1);
    expect(small.readIds(10, 4)).toEqual([0, 0, 0, 0]);
    small.writeFua(10, 4, 2);
    small.drain();
    small.settle();
    expect(small.cache.status().keyTail).toEqual(small.cache.status().keyHead);
    expect(small.readIds(10, 4)).toEqual([2, 2, 2, 2]);
  });
});
