/** Write-back from a cache device that fails, and what counts as dirty. */
import { describe, expect, it } from 'vitest';
import { PcacheError } from '../../src/engine/errors.js';
import { SECTOR_BYTES } from '../../src/engine/media/geometry.js';
import { SmallCache } from '../support/small-cache.js';

describe('write-back that cannot read the cache device', () => {
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

  /** Two sectors, the payload of one of which cannot be read at first. */
  async function failAtFirst(dataCrc: boolean): Promise<SmallCache> {
    const small = new SmallCache({ dataCrc });
    small.writeFua(0, 1, 1);
    small.writeFua(7, 1, 2);
    failReads(small, new PcacheError('IO', 'the medium does not read'), dataCrc ? 3 : 1);
    small.step();
    while (small.backing.underWay > 0) small.backing.finish(0);
    await Promise.resolve(); // without data_crc the backing device reads the payload, and says so later
    return small;
  }

  it('loses nothing and tries again', async () => {
    const small = await failAtFirst(false);
    expect(small.cache.writebackError).toMatchObject({ code: 'IO' });
    expect(small.cache.status().writebackError?.message).toContain('does not read');
    small.clock.advance(5000);
    small.drain();
    expect([...small.durableIds(0, 1), ...small.durableIds(7, 1)]).toEqual([1, 2]);
    expect(small.cache.writebackError).toBeUndefined();
  });

  it('with data_crc leaves out what it could not read and keeps it dirty, and writes it when opened again', async () => {
    const small = await failAtFirst(true);
    small.settle(); // again, kset by kset
    expect(small.cache.writebackError).toMatchObject({ code: 'BAD_MEDIA' });
    expect(small.cache.status().writebackError?.message).toContain('cannot be read, and is not written back');
    expect(small.cache.isClean).toBe(false);
    small.open();
    small.drain();
    expect([...small.durableIds(0, 1), ...small.durableIds(7, 1)]).toEqual([1, 2]);
    expect(small.cache.writebackError).toBeUndefined();
  });

  it('does not take a bug of ours for a failed device', () => {
    const small = new SmallCache();
    small.writeFua(0, 1, 1);
    failReads(small, new TypeError('a bug'), 1);
    expect(() => small.step()).toThrow(TypeError);
  });
});

describe('a flush of the backing device that ends after the cache has stopped', () => {
  it('advances no tail', () => {
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

it('dirtyInLog counts no CLEAN keys', () => {
  const small = new SmallCache();
  small.cache.holdWriteback = true;
  small.writeFua(0, 4, 1);
  small.readIds(100, 8); // filled in, CLEAN
  small.cache.requestClose();
  small.step();
  expect(small.cache.stats.fills).toBe(1);
  expect(small.cache.dirtyInLog()).toEqual({ keys: 1, bytes: 4 * SECTOR_BYTES });
});
