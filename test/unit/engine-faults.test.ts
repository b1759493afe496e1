/** What the engine does when a device fails: nothing wrong is acknowledged, nothing is lost, all is said. */
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/engine/sim/random.js';
import { SmallCache } from '../support/small-cache.js';

const random = new Random(1);

describe('a read that the backing device fails', () => {
  it('fails the request and leaves no placeholder', () => {
    const small = new SmallCache();
    const read = small.read(100, 8);
    small.backing.finishWithError(0, random);
    expect(read.errorCode).toBe('IO');
    expect(small.placeholders()).toBe(0);
    expect(small.cache.status().indexEntries).toBe(0);
    expect(small.readIds(100, 8)).toEqual(new Array(8).fill(0));
  });

  it('fails only the request that needed it', () => {
    const small = new SmallCache();
    small.write(104, 1, 7);
    const read = small.read(100, 8); // two holes around what is cached
    expect(small.backing.underWay).toBe(2);
    const other = small.read(102, 2); // meets the placeholder
    small.backing.finishWithError(0, random);
    small.backing.finish(0);
    small.backing.finish(0);
    expect(read.errorCode).toBe('IO');
    expect(other.ids).toEqual([0, 0]);
    expect(small.placeholders()).toBe(0);
    expect(small.cache.stats.failedRequests).toBe(1);
  });
});

describe('write-back that fails', () => {
  it.each(['write', 'flush'])(
    'on a %s keeps the data dirty, reports the error and tries again at growing intervals',
    (kind) => {
      const small = new SmallCache();
      small.writeFua(10, 4, 1);
      const { dirtyTail } = small.cache.status();
      const pauses: number[] = [];
      for (let attempt = 0; attempt < 8; attempt++) {
        small.step();
        expect(small.backing.kindOf(0)).toBe('write');
        if (kind === 'flush') {
          small.backing.finish(0);
          small.step();
          expect(small.backing.kindOf(0)).toBe('flush');
        }
        small.backing.finishWithError(0, random, attempt % 2 ? 'NO_SPACE' : 'IO');
        expect(small.cache.status().writebackError?.code).toBe(attempt % 2 ? 'NO_SPACE' : 'IO');
        expect(small.cache.status().dirtyTail).toEqual(dirtyTail);
        expect(small.load().dirtyTail).toEqual(dirtyTail);
        small.step();
        expect(small.backing.underWay).toBe(0); // not at once
        const pause = small.cache.nextDeadlineMs - small.clock.nowMs();
        pauses.push(pause);
        small.clock.advance(pause);
      }
      expect(pauses).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000]);
      expect(small.readIds(10, 4)).toEqual([1, 1, 1, 1]);
      small.drain();
      expect(small.cache.status().writebackError).toBeUndefined();
      expect(small.durableIds(10, 4)).toEqual([1, 1, 1, 1]);
    },
  );

  it('writes the whole kset again after a failed flush, since the device may have dropped the data', () => {
    const small = new SmallCache();
    small.writeFua(10, 4, 1);
    small.step();
    small.backing.finish(0);
    small.step();
    small.backing.finishWithError(0, random);
    small.clock.advance(100);
    small.drain();
    expect(small.durableIds(10, 4)).toEqual([1, 1, 1, 1]);
  });
});

/**
 * A life with all there is: hops of the log, write-back, GC, fills. Ends early when the cache stops.
 * Each write is of one sector, FUA, with the next id; `durable` gets what was acknowledged.
 */
function live(small: SmallCache, durable: Map<number, number>): void {
  for (let id = 1; id <= 24 && !small.cache.failure; id++) {
    const sector = (id * 7) % 10;
    if (small.writeFua(sector, 1, id).isDone) durable.set(sector, id);
    if (id % 9 === 0) small.read(1000 + id, 2);
    small.settle();
  }
}

describe('a cache device that fails', () => {
  it(
    'once, at any store or barrier, stops the cache, and a new open finds everything that was acknowledged',
    { timeout: 60_000 },
    () => {
      // The log starts near the end of its segment, so that it soon hops.
      const shape = { segmentBytes: 17.5 * 1024, gcPercent: 0, logStartBytes: 5200 };
      const sound = new SmallCache(shape);
      const before = sound.pmem.calls;
      live(sound, new Map());
      const calls = sound.pmem.calls - before;
      expect(sound.cache.status().keyTail.segment).toBeGreaterThan(0); // the log hopped, and GC followed
      let stopped = 0;
      for (let after = 0; after < calls; after++) {
        const small = new SmallCache(shape);
        const durable = new Map<number, number>();
        small.pmem.fail({ after, times: 1 });
        live(small, durable);
        if (small.cache.failure) {
          stopped++;
          expect(small.writeFua(5, 1, 999).errorCode).toBe('IO');
          expect(small.read(5, 1).errorCode).toBe('IO');
          expect(small.cache.nextDeadlineMs).toBe(Infinity);
        }
        small.pmem.crash(new Random(after));
        small.backing.crash(new Random(after));
        small.open();
        for (const [sector, id] of durable) {
          // The write that failed may be there too: it was the next one to its sector.
          const [found] = small.readIds(sector, 1);
          if (found !== id) expect(found, `failure after ${after}, sector ${sector}`).toBeGreaterThan(id);
        }
        small.drain();
      }
      expect(stopped).toBe(calls);
    },
  );

  it('while gc_percent is set makes that call throw and stops the cache', () => {
    const small = new SmallCache();
    small.pmem.fail({ after: 1, times: 1 });
    expect(() => small.cache.setGcPercent(10)).toThrow(/failed as asked/);
    expect(small.write(20, 4, 2).errorCode).toBe('IO');
  });

  it('for good fails all stalled requests, and acknowledged data is there after a crash', () => {
    const small = new SmallCache();
    small.writeFua(10, 4, 1);
    const waiting = small.read(500, 4);
    small.pmem.fail({ after: 0, times: Infinity });
    const write = small.write(20, 4, 2);
    expect(write.errorCode).toBe('IO');
    expect(waiting.isPending).toBe(true);
    small.settle();
    expect(waiting.isPending).toBe(false);
    expect(small.cache.failure?.code).toBe('IO');
    small.pmem.fail({ after: Infinity, times: 0 });
    small.pmem.crash(random);
    small.backing.crash(random);
    small.open();
    expect(small.readIds(10, 4)).toEqual([1, 1, 1, 1]);
    expect(small.readIds(20, 4)).toEqual([0, 0, 0, 0]);
  });
});
