/** TRIM and WRITE_ZEROES: what goes past the cache, what may not happen meanwhile, and what a crash leaves. */
import { describe, expect, it } from 'vitest';
import { CacheDriver } from '../../src/engine/driver.js';
import { Op, RequestFlag } from '../../src/engine/request/request-group.js';
import { Random } from '../../src/engine/sim/random.js';
import { SmallCache, type SmallShape } from '../support/small-cache.js';
import { ZEROES } from '../support/stamps.js';

/** A cache that makes holes, and has done what it does at its opening. */
function opened(shape: Partial<SmallShape> = {}): SmallCache {
  const small = new SmallCache({ punches: true, ...shape });
  small.settle();
  return small;
}

const zeroes = (sectors: number): number[] => new Array<number>(sectors).fill(ZEROES);
const newest = (small: SmallCache, sector: number): number => small.backing.newest(sector)?.tag ?? 0;

describe.each(['writeback', 'writethrough', 'writearound', 'writeonly'] as const)('in %s mode', (mode) => {
  it('WRITE_ZEROES makes a hole where the cache holds nothing, and writes zeroes where it holds data', () => {
    const small = opened({ mode });
    small.write(10, 4, 1);
    small.drain();
    if (mode === 'writearound') small.readIds(10, 4); // so that they are cached
    const cachedBefore = small.cache.locate(10 * 512) >= 0;
    const request = small.zero(8, 8);
    expect(small.backing.zeroes).toBe(cachedBefore ? 2 : 1);
    small.settle();
    expect(request.isDone).toBe(true);
    expect(small.readIds(8, 8)).toEqual(zeroes(8));
    small.drain();
    expect(small.readIds(8, 8)).toEqual(zeroes(8));
  });

  it('TRIM makes a hole where the cache holds nothing, and leaves the rest as it was', () => {
    const small = opened({ mode });
    small.readIds(10, 4);
    const isCached = small.cache.locate(10 * 512) >= 0;
    const request = small.zero(8, 8, Op.trim);
    small.settle();
    expect(request.isDone).toBe(true);
    const middle = isCached ? [0, 0, 0, 0] : zeroes(4);
    expect(small.readIds(8, 8)).toEqual([ZEROES, ZEROES, ...middle, ZEROES, ZEROES]);
  });
});

describe('a hole in the backing device', () => {
  it('is whole before a write of its range is taken, so that write-back cannot be overtaken by it', () => {
    const small = opened();
    const zero = small.zero(10, 8);
    const write = small.writeFua(12, 2, 1);
    const elsewhere = small.read(100, 1);
    expect([zero.isPending, write.isPending]).toEqual([true, true]);
    small.step();
    expect(small.backing.underWay).toBe(2);
    expect(small.cache.locate(12 * 512)).toBe(-1);
    small.settle();
    expect([zero.isDone, write.isDone, elsewhere.isDone]).toEqual([true, true, true]);
    small.drain();
    expect(small.readIds(10, 8)).toEqual([ZEROES, ZEROES, 1, 1, ZEROES, ZEROES, ZEROES, ZEROES]);
    expect(newest(small, 12)).toBe(1);
  });

  it('is not made twice at the same time', () => {
    const small = opened();
    small.zero(10, 8);
    const second = small.zero(14, 8);
    expect(small.backing.underWay).toBe(1);
    small.settle();
    expect(second.isDone).toBe(true);
    expect(small.backing.zeroes).toBe(2);
  });

  it('is not filled into the cache before a flush has made it durable', () => {
    const small = opened();
    small.zero(10, 4);
    small.settle();
    expect(small.readIds(10, 4)).toEqual(zeroes(4));
    expect(small.cache.locate(10 * 512)).toBe(-1);
    small.flush();
    small.settle();
    expect(small.readIds(10, 4)).toEqual(zeroes(4));
    expect(small.cache.locate(10 * 512)).toBeGreaterThan(0);
  });

  it('takes the place of a read that was to be filled in', () => {
    const small = opened();
    const read = small.read(10, 4);
    small.zero(8, 8);
    small.settle();
    expect(read.ids).toEqual([0, 0, 0, 0]);
    expect(small.cache.locate(10 * 512)).toBe(-1);
    expect(small.placeholders()).toBe(0);
    expect(small.readIds(8, 8)).toEqual(zeroes(8));
  });

  it('is durable when a FLUSH, a FUA, or a write with PREFLUSH after it is answered', () => {
    for (const ask of [
      (small: SmallCache) => (small.zero(10, 4), small.settle(), small.flush()),
      (small: SmallCache) => small.zero(10, 4, Op.zero, RequestFlag.fua),
      (small: SmallCache) => (small.zero(10, 4), small.settle(), small.write(50, 1, 1, RequestFlag.preflush)),
    ]) {
      const small = opened();
      const request = ask(small);
      expect(request.isPending).toBe(true);
      expect(small.backing.isVolatile(10) || small.backing.underWay > 0).toBe(true);
      small.settle();
      expect(request.isDone).toBe(true);
      expect(small.durableIds(10, 4)).toEqual(zeroes(4));
    }
  });

  it('fails a FLUSH when the backing device cannot be flushed, and is flushed by the next one', () => {
    const small = opened();
    small.zero(10, 4);
    small.settle();
    const flush = small.flush();
    small.step();
    small.backing.finishWithError(0, new Random(1), 'IO');
    small.step();
    expect(flush.errorCode).toBe('IO');
    const next = small.flush();
    small.clock.advance(5000);
    small.settle();
    expect(next.isDone).toBe(true);
  });

  it('costs a FLUSH nothing once it is durable', () => {
    const small = opened();
    small.zero(10, 4, Op.zero, RequestFlag.fua);
    small.settle();
    const { flushes } = small.backing;
    expect(small.flush().isDone).toBe(true);
    expect(small.backing.flushes).toBe(flushes);
  });

  it('that fails fails its request, and the range keeps what it held', () => {
    const small = opened();
    const zero = small.zero(10, 4);
    small.backing.finishWithError(0, { chance: () => false } as unknown as Random, 'IO');
    expect(zero.errorCode).toBe('IO');
    expect(small.readIds(10, 4)).toEqual([0, 0, 0, 0]);
  });

  it('is made in one piece over many subtrees', () => {
    const small = opened({ sectors: 5 * 8192 });
    small.write(2 * 8192, 8, 1);
    small.zero(100, 4 * 8192);
    expect(small.backing.zeroes).toBe(2);
    small.settle();
    for (const sector of [100, 8192, 2 * 8192, 3 * 8192 + 5]) expect(small.readIds(sector, 1)).toEqual([ZEROES]);
    expect(small.readIds(99, 1)).toEqual([0]);
  });
});

it('ranges that no flush has made durable are kept as few, however many there are', () => {
  const small = opened({ sectors: 8192 });
  for (let n = 0; n < 2000; n++) {
    small.zero(2 * n, 1, Op.trim);
    if (small.backing.kindOf(small.backing.underWay - 1) === 'write') small.backing.finish(small.backing.underWay - 1);
  }
  expect(small.cache.unsettledRanges).toBeLessThan(1000);
  small.readIds(3001, 1);
  expect(small.cache.locate(3001 * 512)).toBe(-1);
  small.settle();
  expect(small.cache.hasUnsettledWrites).toBe(false);
});

it('without holes TRIM does nothing and zeroes are written into the cache', () => {
  const small = new SmallCache();
  expect(small.zero(10, 4, Op.trim).isDone).toBe(true);
  expect(small.readIds(10, 4)).toEqual([0, 0, 0, 0]);
  expect(small.zero(10, 4).isDone).toBe(true);
  expect(small.readIds(9, 6)).toEqual([0, ...zeroes(4), 0]);
  expect(small.backing.zeroes).toBe(0);
  small.drain();
  expect(small.durableIds(10, 4)).toEqual(zeroes(4));
});

it('zeroes for which there is no room wait for write-back, like a write', () => {
  const small = new SmallCache({ gcPercent: 10 });
  small.cache.holdWriteback = true;
  for (let n = 0; n < 20; n++) small.write(40 * n, 32, n + 1);
  const zero = small.zero(0, 600);
  small.step();
  expect(zero.isPending).toBe(true);
  small.cache.holdWriteback = false;
  small.settle();
  expect(zero.isDone).toBe(true);
  small.drain();
  expect(small.durableIds(0, 600)).toEqual(zeroes(600));
});

it('a close in order makes holes durable', async () => {
  const small = opened();
  small.zero(10, 4);
  small.settle();
  expect(small.backing.isVolatile(10)).toBe(true);
  const driver = new CacheDriver(small.cache, small.clock);
  const answering = setInterval(() => small.backing.underWay > 0 && small.backing.finish(0), 1);
  await driver.close();
  clearInterval(answering);
  expect(small.durableIds(10, 4)).toEqual(zeroes(4));
});

it('a new process fills nothing before the backing device was flushed: holes of the last one may not be durable', () => {
  const small = opened();
  small.zero(10, 4);
  small.settle();
  small.open();
  const read = small.read(10, 4);
  small.backing.finish(0);
  expect(read.ids).toEqual(zeroes(4));
  expect(small.cache.locate(10 * 512)).toBe(-1);
  small.settle();
  small.readIds(10, 4);
  expect(small.cache.locate(10 * 512)).toBeGreaterThan(0);
  expect(small.durableIds(10, 4)).toEqual(zeroes(4));
});

it('zeroes that go into the cache wait for a write of their range past it', () => {
  const small = opened({ mode: 'writearound', punches: false });
  small.write(10, 4, 1);
  const zero = small.zero(12, 4);
  small.step();
  expect([zero.isPending, small.cache.locate(12 * 512)]).toEqual([true, -1]);
  small.settle();
  expect(zero.isDone).toBe(true);
  small.drain();
  expect(small.durableIds(10, 6)).toEqual([1, 1, ...zeroes(4)]);
});

it('corrupt dirty payload fails no FLUSH that waits for holes to be durable', () => {
  const small = opened({ dataCrc: true });
  small.cache.holdWriteback = true;
  small.writeFua(50, 1, 1);
  const at = small.cache.locate(50 * 512);
  small.pmem.write(at, new Uint8Array(8).fill(0x5a), 0, 8);
  small.pmem.persist();
  small.zero(10, 4);
  small.settle();
  small.cache.holdWriteback = false;
  const flush = small.flush();
  small.settle();
  expect(small.cache.corruptRanges.length).toBe(1);
  expect(flush.isDone).toBe(true);
});
