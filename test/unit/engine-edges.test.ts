/** What the engine refuses to open, and rare situations that it gets out of: each named by what it looks like. */
import { describe, expect, it } from 'vitest';
import { Cache } from '../../src/engine/cache.js';
import { CacheDriver } from '../../src/engine/driver.js';
import { PcacheError } from '../../src/engine/errors.js';
import { decodeCacheInfo, encodeCacheFlags, encodeCacheInfo, type CacheInfo } from '../../src/engine/media/codecs.js';
import { readDual } from '../../src/engine/media/dual.js';
import { CACHE_INFO_COPIES, SECTOR_BYTES, SUBTREE_SECTORS } from '../../src/engine/media/geometry.js';
import { Random } from '../../src/engine/sim/random.js';
import { SimBacking } from '../../src/engine/sim/sim-backing.js';
import { SimClock } from '../../src/engine/sim/sim-clock.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { geometryOf, makeDevice } from '../support/sim-device.js';
import { SMALL, SmallCache, type Request } from '../support/small-cache.js';

const code = (expected: string): PcacheError => expect.objectContaining({ code: expected }) as PcacheError;

/** Writes the flags word anew, as something else than this engine may have left it. */
function putFlags(pmem: SimPmem, word: (word: number) => number): void {
  const { value } = readDual<CacheInfo>(pmem, CACHE_INFO_COPIES, 24, decodeCacheInfo);
  for (const [n, offset] of CACHE_INFO_COPIES.entries()) {
    const bytes = encodeCacheInfo({ ...value!, flags: word(value!.flags) }, 50 + n);
    pmem.write(offset, bytes, 0, bytes.length);
  }
  pmem.persist();
}

describe('opening is refused', () => {
  it.each([
    ['a mode without a name', 'UNSUPPORTED', (flags: number) => (flags & ~0x3c) | (9 << 2)],
    ['a gc_percent beyond the format', 'BAD_MEDIA', (flags: number) => flags | (127 << 6)],
  ])('with %s', (_what, expected, word) => {
    const pmem = makeDevice(SMALL);
    putFlags(pmem, word);
    const before = pmem.copy();
    expect(() => new SmallCache({}, pmem)).toThrow(code(expected));
    expect(Buffer.compare(pmem.bytes, before.bytes)).toBe(0);
  });

  it.each([0, 1000])('with a backing device of %i bytes', (sizeBytes) => {
    const backing = new SimBacking({ sizeBytes, initial: () => {}, tagOf: () => 0 });
    const options = { pmem: makeDevice(SMALL), backing, clock: new SimClock(), geometry: geometryOf(SMALL) };
    expect(() => new Cache(options)).toThrow(code('NOT_A_DEVICE'));
  });

  it('with verifyReads on a cache without CRCs', () => {
    expect(() => new SmallCache({ verifyReads: true })).toThrow(code('USAGE'));
  });

  it('is not on a cache of each mode', () => {
    const pmem = makeDevice({ ...SMALL, mode: 'writeonly' });
    expect(new SmallCache({}, pmem).cache.mode).toBe('writeonly');
    expect((encodeCacheFlags({ dataCrc: false, initDone: true, modeNumber: 3, gcPercent: 70 }) >>> 2) & 0xf).toBe(3);
  });
});

describe('a writer who waits', () => {
  it('gets the segment that the head of an idle slot sits on, once all is written back', () => {
    const small = new SmallCache({ segments: 4, slots: 3, sectors: 3 * SUBTREE_SECTORS, gcPercent: 0 });
    small.write(0, 1, 1);
    small.write(SUBTREE_SECTORS, 1, 2); // two slots have opened a segment, the log has one, and one is kept back
    const write = small.write(2 * SUBTREE_SECTORS, 1, 3);
    expect(write.isPending).toBe(true);
    small.settle();
    expect(write.isDone).toBe(true);
    small.drain();
    expect(small.durableIds(2 * SUBTREE_SECTORS, 1)).toEqual([3]);
  });

  it('fails where all is written back and there are too few segments all the same', () => {
    const small = new SmallCache({ segments: 2 });
    const write = small.write(0, 1, 1);
    expect(write.isPending).toBe(true);
    small.settle();
    expect(write.errorCode).toBe('CACHE_FULL');
    expect(small.read(0, 1).isPending).toBe(true); // a read goes past it
    small.settle();
  });

  it('goes on waiting while write-back is held', () => {
    const small = new SmallCache({ segments: 6 });
    small.cache.holdWriteback = true;
    let last: Request;
    let n = 0;
    do last = small.write(8 * n, 8, ++n);
    while (!last.isPending);
    small.settle();
    expect(last.isPending).toBe(true);
    small.cache.holdWriteback = false;
    small.settle();
    expect(last.isDone).toBe(true);
  });
});

describe('the cache device fails while write-back reads it', () => {
  function failReads(small: SmallCache, error: Error, times: number): () => void {
    const { pmem } = small;
    const read = pmem.read.bind(pmem);
    let left = times;
    pmem.read = (offset, target, at, length) => {
      // What is read into staging is payload: single sectors here.
      if (length === SECTOR_BYTES && left-- > 0) throw error;
      read(offset, target, at, length);
    };
    return () => (pmem.read = read);
  }

  it.each([false, true])('then nothing is lost, and it is tried again (data_crc %s)', async (dataCrc) => {
    const small = new SmallCache({ dataCrc });
    small.writeFua(0, 1, 1);
    small.writeFua(7, 1, 2);
    failReads(small, new PcacheError('IO', 'the medium does not read'), 1);
    small.step();
    while (small.backing.underWay > 0) small.backing.finish(0);
    await Promise.resolve(); // without data_crc the backing device reads the payload, and says so later
    expect(small.cache.writebackError).toMatchObject({ code: 'IO' });
    expect(small.cache.status().writebackError?.message).toContain('does not read');
    small.clock.advance(5000);
    small.drain();
    expect([...small.durableIds(0, 1), ...small.durableIds(7, 1)]).toEqual([1, 2]);
    expect(small.cache.writebackError).toBeUndefined();
  });

  it('a bug of our own is not taken for that', () => {
    const small = new SmallCache();
    small.writeFua(0, 1, 1);
    failReads(small, new TypeError('a bug'), 1);
    expect(() => small.step()).toThrow(TypeError);
  });
});

describe('the answer of a flush that comes after the cache has stopped', () => {
  it('moves no tail', () => {
    const small = new SmallCache();
    small.writeFua(0, 1, 1);
    small.step();
    small.backing.finish(0);
    small.step();
    expect(small.backing.kindOf(0)).toBe('flush');
    small.pmem.fail({ after: 0, times: Infinity });
    expect(small.writeFua(1, 1, 2).errorCode).toBe('IO');
    const before = small.pmem.copy();
    small.pmem.fail({ after: Infinity, times: 0 });
    small.backing.finish(0);
    expect(small.cache.step()).toBe(false);
    expect(Buffer.compare(small.pmem.bytes, before.bytes)).toBe(0);
    small.open();
    small.drain();
    expect(small.durableIds(0, 1)).toEqual([1]);
  });
});

it('what is left dirty counts no clean keys', () => {
  const small = new SmallCache();
  small.cache.holdWriteback = true;
  small.writeFua(0, 4, 1);
  small.readIds(100, 8); // filled in, CLEAN
  small.cache.requestClose();
  small.step();
  expect(small.cache.stats.fills).toBe(1);
  expect(small.cache.dirtyInLog()).toEqual({ keys: 1, bytes: 4 * SECTOR_BYTES });
});

describe('the driver', () => {
  it('gives way after each turn of background work', async () => {
    const small = new SmallCache();
    const done: string[] = [];
    small.cache.step = () => done.push('step') < 3;
    const driver = new CacheDriver(small.cache, small.clock, () => done.push('way'));
    await new Promise((resolve) => setImmediate(resolve));
    expect(done).toEqual(['step', 'step', 'step', 'way']);
    driver.kick();
    await new Promise((resolve) => setImmediate(resolve));
    expect(done.slice(4)).toEqual(['step', 'way']);
  });

  it('is not woken when it has been closed in its turn', async () => {
    const small = new SmallCache();
    const driver = new CacheDriver(small.cache, small.clock);
    await driver.close();
    expect(small.write(0, 1, 1).errorCode).toBe('CLOSED');
    await expect(driver.drain()).rejects.toThrow('the driver is closed');
    const steps = small.cache.stats.writebackKsets;
    driver.kick();
    await new Promise((resolve) => setImmediate(resolve));
    expect(small.cache.stats.writebackKsets).toBe(steps);
  });
});

describe('the simulated devices keep to what devices do', () => {
  it('refuse what is not on them, and what comes after the end', () => {
    const small = new SmallCache();
    const { pmem, backing } = small;
    expect(() => pmem.read(pmem.sizeBytes, new Uint8Array(1), 0, 1)).toThrow(code('OUT_OF_RANGE'));
    expect(() => pmem.write(-1, new Uint8Array(1), 0, 1)).toThrow(code('OUT_OF_RANGE'));
    const ignore = () => {};
    expect(() => backing.read(backing.sizeBytes, new Uint8Array(512), 0, 512, ignore)).toThrow(code('OUT_OF_RANGE'));
    expect(() => backing.write(100, new Uint8Array(512), 0, 512, ignore)).toThrow(code('OUT_OF_RANGE'));
    backing.flush(ignore);
    expect(() => backing.close()).toThrow(code('BUSY'));
    backing.finishWithError(0, new Random(1));
    backing.close();
    pmem.close();
    expect(() => pmem.persist()).toThrow(code('CLOSED'));
  });
});
