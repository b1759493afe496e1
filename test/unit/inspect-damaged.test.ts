/** What inspection says of a cache that the engine made, whole and damaged: summary, keys, the logical device. */
import { beforeAll, describe, expect, it } from 'vitest';
import { Cache } from '../../src/engine/cache.js';
import { bestCrc32c } from '../../src/engine/device/native.js';
import type { PcacheError } from '../../src/engine/errors.js';
import { formatDevice, planFormat } from '../../src/engine/create/create-cache.js';
import { liveEntries, LogKeys } from '../../src/engine/inspect/keys.js';
import { LogicalReader } from '../../src/engine/inspect/logical-reader.js';
import { loadForInspection, type InspectedDevices } from '../../src/engine/inspect/open.js';
import { summarise } from '../../src/engine/inspect/summary.js';
import { encodeCacheFlags, encodeCacheInfo, encodePosition } from '../../src/engine/media/codecs.js';
import {
  CACHE_INFO_COPIES,
  DIRTY_TAIL_COPIES,
  KERNEL_GEOMETRY,
  KEY_TAIL_COPIES,
  MIB,
  SECTOR_BYTES,
  segmentDataOffsetBytes,
  SUPERBLOCK_OFFSET_BYTES,
} from '../../src/engine/media/geometry.js';
import { describeExistingCache } from '../../src/engine/create/existing-cache.js';
import { KSET_HEADER_BYTES, KeyField } from '../../src/engine/media/kset.js';
import { loadCacheOrThrow } from '../../src/engine/log/recovery.js';
import { Op, RequestFlag, RequestGroup } from '../../src/engine/request/request-group.js';
import { SimBacking } from '../../src/engine/sim/sim-backing.js';
import { SimClock } from '../../src/engine/sim/sim-clock.js';
import { MemoryPmem } from '../support/memory-pmem.js';
import { SparseImage } from '../support/sparse-image.js';

const BACKING_BYTES = 16 * MIB;
const DEVICE_BYTES = 512 * MIB;
const DATA = segmentDataOffsetBytes(KERNEL_GEOMETRY, 0);

/** A key written back at 1 MiB, a clean one at 2, dirty ones at 3 and 5; 512 bytes each, each in a kset of its own. */
function makeCache(): SparseImage {
  const pmem = new MemoryPmem(DEVICE_BYTES);
  formatDevice(pmem, planFormat(pmem.sizeBytes, { dataCrc: true, gcPercent: 70, geometry: KERNEL_GEOMETRY }));
  const backing = new SimBacking({
    sizeBytes: BACKING_BYTES,
    initial: (_s, target, at) => target.fill(0xbb, at, at + 512),
    tagOf: () => 1,
  });
  const cache = new Cache({ pmem, backing, clock: new SimClock(), crc: bestCrc32c() });
  const memory = new Uint8Array(SECTOR_BYTES).fill(0xcc);
  const group = new RequestGroup(1, pmem.registerArena(memory));
  const settle = () => {
    while (cache.step() || backing.underWay > 0) if (backing.underWay > 0) backing.finish(0);
  };
  const ask = (op: number, offset: number, flags = 0) => {
    group.clear();
    group.add(op, offset, SECTOR_BYTES, 0, flags);
    cache.submit(group);
    if (group.pending > 0) backing.finish(0);
  };
  ask(Op.write, MIB, RequestFlag.fua);
  settle();
  ask(Op.read, 2 * MIB);
  cache.requestClose();
  cache.step();
  settle();
  cache.holdWriteback = true;
  memory.fill(0xdd);
  ask(Op.write, 3 * MIB, RequestFlag.fua);
  ask(Op.write, 5 * MIB, RequestFlag.fua);
  const image = SparseImage.blank(DEVICE_BYTES, 'made.pmem');
  for (const offset of pmem.usedPages()) image.write(offset, pmem.bytes(offset, 64 * 1024));
  return image;
}

let made: SparseImage;
beforeAll(() => {
  made = makeCache();
});

const inspected = (pmem: InspectedDevices['pmem']): InspectedDevices => ({ pmem, backing: undefined, close: () => {} });

/** Overwrites both copies of a dual structure, sealed, far ahead of what was there. */
function put(image: SparseImage, copies: readonly [number, number], encode: (seq: number) => Uint8Array): SparseImage {
  image.write(copies[0], encode(100));
  image.write(copies[1], encode(101));
  return image;
}

const putInfo = (image: SparseImage, more: { modeNumber?: number; segmentCount?: number; firstSegmentId?: number }) =>
  put(image, CACHE_INFO_COPIES, (seq) => {
    const flags = encodeCacheFlags({ dataCrc: true, initDone: true, modeNumber: more.modeNumber ?? 0, gcPercent: 70 });
    return encodeCacheInfo(
      { firstSegmentId: more.firstSegmentId ?? 0, segmentCount: more.segmentCount ?? 31, flags },
      seq,
    );
  });

const spoil = (image: SparseImage, ...offsets: number[]) => {
  for (const offset of offsets) image.write(offset, new Uint8Array(24).fill(0xa5));
  return image;
};

function errorOf(call: () => unknown): PcacheError {
  try {
    call();
  } catch (error) {
    return error as PcacheError;
  }
  return expect.fail('nothing was thrown');
}

describe('of a whole cache', () => {
  it('tells what is dirty, clean and written back, without a backing device too', () => {
    const cache = loadForInspection(inspected(made));
    const states: string[] = [];
    for (const { offsetBytes, state } of liveEntries(cache)) states.push(`${offsetBytes / MIB} ${state}`);
    expect(states).toEqual(['1 written-back', '2 clean', '3 dirty', '5 dirty']);
    const summary = summarise(inspected(made));
    expect(summary).toMatchObject({
      backing: null,
      backingBytes: null,
      durability: null,
      mode: 'writeback',
      problems: [],
    });
    expect(summary.content).toMatchObject({ liveBytes: 2048, dirtyBytes: 1024, cleanBytes: 512, keys: 4 });
    expect(summary.table).toContain('0 <sectors> pcache made.pmem <backing_dev>');
    expect(summary.segments.filter(({ used }) => used)).toHaveLength(2);
  });

  it('says how durable the mapping of the device is, and where the backing device is', () => {
    const memory = new MemoryPmem(DEVICE_BYTES, 'mapped.pmem');
    for (const offset of [0, DATA - (DATA % 65_536)]) memory.write(offset, made.bytes(offset, 65_536), 0, 65_536);
    expect(summarise(inspected(memory)).durability).toBe('volatile');
  });

  it('leaves out what is stale', () => {
    const cache = loadForInspection(inspected(made));
    const reader = new LogicalReader(made, cache, undefined);
    reader.checkReadable(MIB, 512);
    for (let n = 0; n < cache.segments.count; n++) cache.segments.generationLow[n]++;
    expect([...liveEntries(cache)]).toEqual([]);
    expect(() => reader.checkReadable(MIB, 512)).toThrow('not in the cache');
  });
});

describe('the logical device without its backing device', () => {
  it('ends where the keys do, and names the first hole as a whole', () => {
    const reader = new LogicalReader(made, loadForInspection(inspected(made)), undefined);
    expect(reader.sizeBytes).toBe(5 * MIB + 512);
    const target = new Uint8Array(512);
    reader.read(3 * MIB, target, 0, 512);
    expect(target.every((byte) => byte === 0xdd)).toBe(true);
    expect(() => reader.read(0, target, 0, 512)).toThrow('bytes 0 to 512 are not in the cache');
    expect(() => reader.read(5 * MIB, target, 0, 513)).toThrow('the keys of the cache reach to byte');
    expect(() => reader.checkReadable(MIB, 2 * MIB)).toThrow(`bytes ${MIB + 512} to ${2 * MIB} are not`);
    expect(() => reader.checkReadable(2 * MIB, MIB)).toThrow(`bytes ${2 * MIB + 512} to ${3 * MIB} are not`);
    // One hole, though it goes over from one 4 MiB to the next.
    expect(() => reader.checkReadable(3 * MIB, 2 * MIB)).toThrow(`bytes ${3 * MIB + 512} to ${5 * MIB} are not`);
  });
});

describe('of a damaged cache', () => {
  it.each([
    [
      'whose superblock is gone',
      (image: SparseImage) => spoil(image, SUPERBLOCK_OFFSET_BYTES),
      'SUPERBLOCK_BAD_MAGIC',
      'not a pcache device',
    ],
    [
      'of which only tails are left',
      (image: SparseImage) => spoil(image, SUPERBLOCK_OFFSET_BYTES, ...CACHE_INFO_COPIES),
      'SUPERBLOCK_BAD_MAGIC',
      'not a pcache device',
    ],
    [
      'without tails',
      (image: SparseImage) => spoil(image, KEY_TAIL_COPIES[0], KEY_TAIL_COPIES[1], ...DIRTY_TAIL_COPIES),
      'KEY_TAIL_LOST',
      'neither copy of key_tail has a good CRC (and 1 more); run',
    ],
    [
      'without a dirty_tail',
      (image: SparseImage) => spoil(image, ...DIRTY_TAIL_COPIES),
      'DIRTY_TAIL_LOST',
      'neither copy of dirty_tail has a good CRC; run',
    ],
  ])('%s the summary has no content, and names the problems', (_what, damage, code, message) => {
    const image = damage(made.clone());
    const summary = summarise(inspected(image));
    expect(summary).toMatchObject({ content: null, status: null });
    expect(summary.problems[0].code).toBe(code);
    expect(summary.segments.every(({ used }) => used === null)).toBe(true);
    const error = errorOf(() => loadForInspection(inspected(image)));
    expect(error).toMatchObject({ exitStatus: 4, code: 'BAD_MEDIA' });
    expect(error.message).toContain(message);
  });

  it('is none where nothing says that it is one', () => {
    const image = spoil(
      made.clone(),
      SUPERBLOCK_OFFSET_BYTES,
      ...CACHE_INFO_COPIES,
      16 * 1024,
      16 * 1024 + 24,
      16 * 1024 + 40,
    );
    expect(errorOf(() => summarise(inspected(image)))).toMatchObject({ code: 'NOT_PCACHE' });
    expect(errorOf(() => loadForInspection(inspected(image)))).toMatchObject({ code: 'NOT_PCACHE' });
    const short = SparseImage.blank(20_000);
    expect(errorOf(() => loadForInspection(inspected(short)))).toMatchObject({ code: 'TRUNCATED' });
  });

  it('of a mode without a name says its number', () => {
    const image = putInfo(made.clone(), { modeNumber: 7 });
    expect(summarise(inspected(image)).mode).toBe('unknown (7)');
  });
});

describe('the keys of a damaged log', () => {
  const keysOf = (image: SparseImage): LogKeys => {
    const { metadata } = loadCacheOrThrow(made, {
      geometry: KERNEL_GEOMETRY,
      backingBytes: Infinity,
      checkPayload: false,
    });
    return new LogKeys(image, metadata, BACKING_BYTES);
  };

  it('end at a key that cannot be, which is then the problem', () => {
    const image = made.clone();
    const key = DATA + KSET_HEADER_BYTES;
    const kset = image.bytes(DATA, KSET_HEADER_BYTES + 40);
    const view = new DataView(kset.buffer);
    view.setUint32(KSET_HEADER_BYTES + KeyField.segmentOffset, 100, true); // no multiple of 512
    view.setUint32(0, bestCrc32c()(0x3b15a, kset, 4, kset.length), true);
    image.write(DATA, kset);
    expect(image.bytes(key + KeyField.segmentOffset, 1)[0]).toBe(100);
    const keys = keysOf(image);
    expect(keys.next()).toBe(false);
    expect(keys.problem).toMatchObject({ code: 'KEY_OUT_OF_BOUNDS' });
    expect(keys.problem!.detail).toContain('segment offset is not a multiple of 512');
    expect(keys.next()).toBe(false);
    expect(errorOf(() => loadForInspection(inspected(image))).message).toContain('segment offset');
  });

  it('all count as dirty where dirty_tail is lost', () => {
    const image = spoil(made.clone(), DIRTY_TAIL_COPIES[0]);
    image.write(DIRTY_TAIL_COPIES[1], new Uint8Array(16).fill(0x11));
    const { metadata } = loadCacheOrThrow(made, {
      geometry: KERNEL_GEOMETRY,
      backingBytes: Infinity,
      checkPayload: false,
    });
    const lost = { ...metadata, dirtyTail: { ...metadata.dirtyTail, value: undefined } };
    const keys = new LogKeys(image, lost, BACKING_BYTES);
    const states: string[] = [];
    while (keys.next()) states.push(keys.row.state);
    expect(states).toEqual(['dirty', 'clean', 'dirty', 'dirty']);
    expect(keys.problem).toBeUndefined();
  });

  it('can be walked only where key_tail is a place', () => {
    const { metadata } = loadCacheOrThrow(made, {
      geometry: KERNEL_GEOMETRY,
      backingBytes: Infinity,
      checkPayload: false,
    });
    expect(LogKeys.canWalk(metadata)).toBe(true);
    const at = (segment: number, offsetBytes: number) =>
      LogKeys.canWalk({
        ...metadata,
        keyTail: { ...metadata.keyTail, value: { ...metadata.keyTail.value!, segment, offsetBytes } },
      });
    expect(at(31, 0)).toBe(false);
    expect(at(0, KERNEL_GEOMETRY.segmentDataBytes)).toBe(false);
    expect(LogKeys.canWalk({ ...metadata, keyTail: { ...metadata.keyTail, value: undefined } })).toBe(false);
  });
});

describe('what a cache that would be overwritten still has for its backing device', () => {
  const dirtyOf = (image: SparseImage) => describeExistingCache(image, KERNEL_GEOMETRY)!.dirty;
  const putTail = (segment: number, offsetBytes: number) =>
    put(made.clone(), DIRTY_TAIL_COPIES, (seq) => encodePosition({ segment, offsetBytes }, seq));

  it('is known where dirty_tail leads to a kset, or to none', () => {
    expect(dirtyOf(made.clone())).toBe('yes');
    expect(dirtyOf(putTail(0, 8 * 1024 * 1024))).toBe('no');
    expect(dirtyOf(putTail(2, 0))).toBe('no');
  });

  it('is not known where dirty_tail is lost or leads nowhere', () => {
    const lost = made.clone();
    lost.write(DIRTY_TAIL_COPIES[0], new Uint8Array(32).fill(0x11));
    expect(dirtyOf(lost)).toBe('unknown');
    expect(dirtyOf(putTail(31, 0))).toBe('unknown');
    expect(dirtyOf(putTail(0, KERNEL_GEOMETRY.segmentDataBytes - 8))).toBe('unknown');
  });

  it('is not known where the chain does not lead there', () => {
    expect(dirtyOf(putInfo(made.clone(), { firstSegmentId: 31 }))).toBe('unknown');
    const broken = putTail(2, 0);
    spoil(broken, DATA - 12 * 1024, DATA - 8 * 1024);
    expect(dirtyOf(broken)).toBe('unknown');
    const short = putTail(30, 0);
    expect(dirtyOf(short)).toBe('no');
    expect(dirtyOf(putInfo(putTail(30, 0), { firstSegmentId: 5 }))).toBe('unknown'); // it ends before the 30th
  });
});
