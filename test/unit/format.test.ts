/** Formatting: what is written, in which order, and what an interrupted one leaves. */
import { describe, expect, it } from 'vitest';
import { PcacheError } from '../../src/engine/errors.js';
import {
  formatDevice,
  formatSteps,
  planFormat,
  type FormatOptions,
  type FormatPlan,
} from '../../src/engine/create/create-cache.js';
import { decodeCacheFlags, decodeSuperblock, encodeGeneration } from '../../src/engine/media/codecs.js';
import { describeExistingCache, existingCacheText } from '../../src/engine/create/existing-cache.js';
import {
  CACHE_INFO_COPIES,
  DIRTY_TAIL_COPIES,
  generationCopies,
  GIB,
  KERNEL_GEOMETRY,
  KEY_TAIL_COPIES,
  KIB,
  makeGeometry,
  MAX_SEGMENTS,
  MIB,
  MIN_DEVICE_BYTES,
  segmentDataOffsetBytes,
  segmentInfoCopies,
  segmentOffsetBytes,
  SUPERBLOCK_OFFSET_BYTES,
} from '../../src/engine/media/geometry.js';
import { encodeLastKset } from '../../src/engine/media/kset.js';
import { readMetadata } from '../../src/engine/media/metadata.js';
import { findSignatures } from '../../src/engine/create/foreign-signatures.js';
import { MemoryPmem, RecordingPmem, type PmemEvent } from '../support/memory-pmem.js';

const SMALL = makeGeometry(64 * KIB);
const SMALL_BYTES = 20 * KIB + 4 * 64 * KIB;
const small = { dataCrc: false, gcPercent: 70, geometry: SMALL };
const hexAt = (pmem: MemoryPmem, offset: number, length: number): string =>
  Buffer.from(pmem.bytes(offset, length)).toString('hex');

function formatted(sizeBytes: number, options: FormatOptions): MemoryPmem {
  const pmem = new MemoryPmem(sizeBytes);
  formatDevice(pmem, planFormat(sizeBytes, options));
  return pmem;
}

describe('planFormat', () => {
  it.each([
    [512 * MIB, 31, 16 * MIB - 20 * KIB],
    [GIB, 63, 16 * MIB - 20 * KIB],
    [512 * MIB + 20 * KIB, 32, 0],
    [16 * 1024 * GIB, MAX_SEGMENTS - 1, 16 * MIB - 20 * KIB],
    [17 * 1024 * GIB, MAX_SEGMENTS, 1024 * GIB - 20 * KIB],
  ])('%i bytes have %i segments and %i bytes unused', (deviceBytes, segmentCount, unusedBytes) => {
    const plan = planFormat(deviceBytes, { dataCrc: false, gcPercent: 70 });
    expect(plan).toMatchObject({ segmentCount, unusedBytes, dataBytes: segmentCount * 16764928 });
  });

  it('refuses less than 512 MiB', () => {
    expect(() => planFormat(MIN_DEVICE_BYTES - 512, { dataCrc: false, gcPercent: 70 })).toThrow(
      /takes at least 536870912/,
    );
  });

  it.each([-1, 91, 1.5, NaN])('refuses gc_percent %d', (gcPercent) => {
    expect(() => planFormat(GIB, { dataCrc: false, gcPercent })).toThrow(PcacheError);
  });

  it.each([
    [false, 70, 0x1182],
    [true, 70, 0x1183],
    [true, 0, 0x3],
    [false, 90, 0x1682],
  ])('data_crc %s, gc_percent %i are flags %i', (dataCrc, gcPercent, flags) => {
    const plan = planFormat(GIB, { dataCrc, gcPercent });
    expect(plan.cacheFlags).toBe(flags);
    expect(decodeCacheFlags(plan.cacheFlags)).toEqual({ dataCrc, initDone: true, modeNumber: 0, gcPercent });
  });
});

/**
 * What Linux 7.2 left on a 512 MiB device after its first attach without data_crc, taken down as hexadecimal.
 */
const KERNEL = {
  superblock: '42777f0400000000ef96c596fa5eb0651f00000000000000',
  cacheInfo1: '6dfecadd01000000000000001f0000008211000000000000',
  /** With data_crc on. */
  cacheInfo1Crc: '4a83f69401000000000000001f0000008311000000000000',
  tail0: 'b0dff56e010000000000000000000000',
  info0OfFirst: '318e663b020000000300000001000000',
  info0OfSecond: '08074459020000000300000002000000',
  info0OfLastButOne: '20e4463d02000000030000001e000000',
  info1: 'fe258dfc010000000200000000000000',
  generation1: 'b0dff56e010000000000000000000000',
};
const ZERO_16 = '00'.repeat(16);

describe('a device on which a cache was created', () => {
  const pmem = formatted(512 * MIB, { dataCrc: false, gcPercent: 70 });

  it('has the superblock, cache_info and tails that the kernel leaves', () => {
    expect(hexAt(pmem, SUPERBLOCK_OFFSET_BYTES, 24)).toBe(KERNEL.superblock);
    expect(hexAt(pmem, CACHE_INFO_COPIES[0], 24)).toBe('00'.repeat(24));
    expect(hexAt(pmem, CACHE_INFO_COPIES[1], 24)).toBe(KERNEL.cacheInfo1);
    for (const copies of [KEY_TAIL_COPIES, DIRTY_TAIL_COPIES]) {
      expect(hexAt(pmem, copies[0], 16)).toBe(KERNEL.tail0);
      expect(hexAt(pmem, copies[1], 16)).toBe(ZERO_16);
    }
  });

  it.each([
    [0, KERNEL.info0OfFirst],
    [1, KERNEL.info0OfSecond],
    [29, KERNEL.info0OfLastButOne],
    [30, ZERO_16],
  ])('segment %i', (id, info0) => {
    expect(hexAt(pmem, segmentInfoCopies(KERNEL_GEOMETRY, id)[0], 16)).toBe(info0);
    expect(hexAt(pmem, segmentInfoCopies(KERNEL_GEOMETRY, id)[1], 16)).toBe(KERNEL.info1);
    expect(hexAt(pmem, generationCopies(KERNEL_GEOMETRY, id)[0], 16)).toBe(ZERO_16);
    expect(hexAt(pmem, generationCopies(KERNEL_GEOMETRY, id)[1], 16)).toBe(KERNEL.generation1);
    expect(hexAt(pmem, segmentDataOffsetBytes(KERNEL_GEOMETRY, id), 24)).toBe('00'.repeat(24));
  });

  it('was written in its first blocks and at the starts of segments only', () => {
    const starts = Array.from({ length: 31 }, (_, id) => segmentOffsetBytes(KERNEL_GEOMETRY, id));
    const expected = new Set([0, ...starts].map((offset) => Math.floor(offset / (64 * KIB)) * 64 * KIB));
    expect(pmem.usedPages()).toEqual([...expected].sort((a, b) => a - b));
  });

  it('has data_crc in its cache_info when that was asked for', () => {
    const other = formatted(512 * MIB, { dataCrc: true, gcPercent: 70 });
    expect(hexAt(other, CACHE_INFO_COPIES[1], 24)).toBe(KERNEL.cacheInfo1Crc);
  });

  it('has metadata without a problem', () => {
    const metadata = readMetadata(pmem, KERNEL_GEOMETRY);
    expect(metadata.problems).toEqual([]);
    expect(metadata.chain.length).toBe(31);
    expect([...metadata.chain.physicalId]).toEqual(Array.from({ length: 31 }, (_, id) => id));
    expect(metadata.keyTail.value).toMatchObject({ segment: 0, offsetBytes: 0 });
    expect(metadata.dirtyTail.value).toMatchObject({ segment: 0, offsetBytes: 0 });
  });
});

/** A device where every byte is something else than zero. */
function dirty(pmem: MemoryPmem): MemoryPmem {
  const junk = new Uint8Array(64 * KIB).map((_, i) => (i * 7) % 251 || 1);
  for (let offset = 0; offset < pmem.sizeBytes; offset += junk.length) {
    pmem.write(offset, junk, 0, Math.min(junk.length, pmem.sizeBytes - offset));
  }
  return pmem;
}

describe('creating a cache on a device full of something else', () => {
  it('leaves no old byte where metadata is read, and touches no payload', () => {
    const blank = new MemoryPmem(SMALL_BYTES);
    const used = dirty(new MemoryPmem(SMALL_BYTES));
    const before = hexAt(used, segmentDataOffsetBytes(SMALL, 2) + 24, 4096);
    for (const pmem of [blank, used]) formatDevice(pmem, planFormat(SMALL_BYTES, small));
    expect(hexAt(used, 4096, 16 * KIB)).toBe(hexAt(blank, 4096, 16 * KIB));
    for (let id = 0; id < 4; id++) {
      const offset = segmentOffsetBytes(SMALL, id);
      expect(hexAt(used, offset, 12 * KIB + 24)).toBe(hexAt(blank, offset, 12 * KIB + 24));
    }
    expect(hexAt(used, segmentDataOffsetBytes(SMALL, 2) + 24, 4096)).toBe(before);
  });

  it('moves generations on, so that keys of an older cache are stale', () => {
    const pmem = new MemoryPmem(SMALL_BYTES);
    const put = (id: number, copy: 0 | 1, generation: number, seq: number): void => {
      pmem.write(generationCopies(SMALL, id)[copy], encodeGeneration(generation, seq), 0, 16);
    };
    put(1, 0, 41, 6);
    put(1, 1, 40, 5);
    put(2, 1, 2 ** 50, 1);
    formatDevice(pmem, planFormat(SMALL_BYTES, small));
    expect([...readMetadata(pmem, SMALL).chain.generation]).toEqual([0, 42, 0, 0]);
    expect(hexAt(pmem, generationCopies(SMALL, 1)[0], 16)).toBe(ZERO_16);
  });

  it('erases the marks of what was there', () => {
    const pmem = new MemoryPmem(SMALL_BYTES);
    const ext = Uint8Array.of(0x53, 0xef);
    const gpt = new TextEncoder().encode('EFI PART');
    // A boot sector whose own code would pass for a partition table once the name of its filesystem is gone.
    pmem.write(3, new TextEncoder().encode('NTFS    '), 0, 8);
    pmem.write(450, Uint8Array.of(0x41), 0, 1);
    pmem.write(510, Uint8Array.of(0x55, 0xaa), 0, 2);
    pmem.write(1080, ext, 0, 2);
    pmem.write(SMALL_BYTES - 512, gpt, 0, 8);
    const marks = findSignatures(pmem);
    expect(marks.map((mark) => mark.offsetBytes).sort((a, b) => a - b)).toEqual([3, 1080, SMALL_BYTES - 512]);
    formatDevice(pmem, planFormat(SMALL_BYTES, small), marks);
    expect(findSignatures(pmem)).toEqual([]);
    expect(readMetadata(pmem, SMALL).problems).toEqual([]);
  });
});

/** Which piece of the device a store goes to. */
function pieceOf(event: PmemEvent): string {
  if (!('offsetBytes' in event)) return event.kind;
  const at = event.offsetBytes;
  if (at < SUPERBLOCK_OFFSET_BYTES) return `record ${event.kind}`;
  if (at === SUPERBLOCK_OFFSET_BYTES) return `superblock ${event.kind}`;
  if (CACHE_INFO_COPIES.includes(at)) return `cache_info ${event.kind}`;
  if (at >= KEY_TAIL_COPIES[0] && at < 20 * KIB) return `tails ${event.kind}`;
  return `segments ${event.kind}`;
}

function recorded(): RecordingPmem {
  const pmem = new RecordingPmem(SMALL_BYTES);
  formatDevice(pmem, planFormat(SMALL_BYTES, small));
  return pmem;
}

describe('the order of writes', () => {
  it('kills the old superblock first and writes the new one last, each durable on its own', () => {
    expect(recorded().events.map(pieceOf)).toEqual([
      'superblock zero',
      'persist',
      'record zero',
      'record zero',
      'cache_info zero',
      'cache_info zero',
      'tails zero',
      'persist',
      ...Array<string>(4).fill('segments write'),
      'tails write',
      'tails write',
      'persist',
      'cache_info write',
      'persist',
      'superblock write',
      'persist',
    ]);
  });

  it('writes dirty_tail before key_tail', () => {
    const writes = recorded().events.filter((event) => pieceOf(event) === 'tails write');
    expect(writes).toMatchObject([{ offsetBytes: DIRTY_TAIL_COPIES[0] }, { offsetBytes: KEY_TAIL_COPIES[0] }]);
  });

  it('leaves nothing that attaches when it stops before its last write', () => {
    const total = recorded().events.length;
    const old = formatted(SMALL_BYTES, small);
    const image = old.bytes(0, SMALL_BYTES);
    for (let failAt = 0; failAt < total; failAt++) {
      const pmem = new RecordingPmem(SMALL_BYTES);
      MemoryPmem.prototype.write.call(pmem, 0, image, 0, image.length);
      pmem.failAtEvent = failAt;
      expect(() => {
        formatDevice(pmem, planFormat(SMALL_BYTES, small));
      }).toThrow('failed as asked');
      const superblock = decodeSuperblock(pmem.bytes(SUPERBLOCK_OFFSET_BYTES, 24));
      if (failAt === 0) expect(superblock.magicOk).toBe(true);
      else if (failAt < total - 1) expect(superblock.magicZero).toBe(true);
      else expect(readMetadata(pmem, SMALL).problems).toEqual([]);
    }
  });

  it('can be stopped between segments', () => {
    const pmem = new MemoryPmem(SMALL_BYTES);
    const steps = formatSteps(pmem, planFormat(SMALL_BYTES, small), []);
    expect([steps.next().value, steps.next().value]).toEqual([1, 2]);
    steps.return();
    expect(decodeSuperblock(pmem.bytes(SUPERBLOCK_OFFSET_BYTES, 24)).magicZero).toBe(true);
  });
});

it('refuses a device of another size than planned, and writes nothing to it', () => {
  const pmem = new RecordingPmem(SMALL_BYTES + 512);
  const plan: FormatPlan = planFormat(SMALL_BYTES, small);
  expect(() => {
    formatDevice(pmem, plan);
  }).toThrow(/instead of the planned/);
  expect(pmem.events).toEqual([]);
});

describe('the summary of a cache that is on a device already', () => {
  it('is empty for a blank device and for a short one', () => {
    expect(describeExistingCache(new MemoryPmem(SMALL_BYTES), SMALL)).toBeUndefined();
    expect(describeExistingCache(new MemoryPmem(4096), SMALL)).toBeUndefined();
  });

  it('names segments, data_crc, and whether there is something at dirty_tail', () => {
    const pmem = new MemoryPmem(SMALL_BYTES);
    formatDevice(pmem, planFormat(SMALL_BYTES, { ...small, dataCrc: true }));
    expect(describeExistingCache(pmem, SMALL)).toEqual({ segmentCount: 4, dataCrc: true, state: 'whole', dirty: 'no' });
    pmem.write(segmentDataOffsetBytes(SMALL, 0), encodeLastKset(1), 0, 24);
    const cache = describeExistingCache(pmem, SMALL)!;
    expect(cache.dirty).toBe('yes');
    expect(existingCacheText(cache)).toBe(
      'a pcache of 4 segments, data_crc on, possibly with writes that are not on its backing device yet',
    );
  });

  it('names a cache whose superblock was wiped', () => {
    const pmem = new MemoryPmem(SMALL_BYTES);
    formatDevice(pmem, planFormat(SMALL_BYTES, small));
    pmem.zero(SUPERBLOCK_OFFSET_BYTES, 24);
    expect(describeExistingCache(pmem, SMALL)).toMatchObject({ state: 'wiped', segmentCount: 4 });
  });

  it('names damage, and leaves open then whether the cache is dirty', () => {
    const pmem = new MemoryPmem(SMALL_BYTES);
    formatDevice(pmem, planFormat(SMALL_BYTES, small));
    pmem.zero(CACHE_INFO_COPIES[1], 24);
    expect(describeExistingCache(pmem, SMALL)).toMatchObject({ state: 'damaged', dirty: 'unknown', segmentCount: 4 });
  });
});
