/** writethrough, writearound and writeonly (format §4): what reaches the backing device when, and what the cache keeps. */
import { describe, expect, it } from 'vitest';
import { CacheDriver } from '../../src/engine/driver.js';
import { DualWriter } from '../../src/engine/copies/dual-writer.js';
import { CACHE_MODES, encodeCacheFlags, encodeCacheInfo, type CacheMode } from '../../src/engine/media/codecs.js';
import { RequestFlag } from '../../src/engine/request/request-group.js';
import { Random } from '../../src/engine/sim/random.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { SmallCache, type SmallShape } from '../support/small-cache.js';

const newestIds = (small: SmallCache, sector: number, sectors: number): number[] =>
  Array.from({ length: sectors }, (_, n) => small.backing.newest(sector + n)?.tag ?? 0);

/** A cache that has done what it does at its opening. */
function opened(shape: Partial<SmallShape>, pmem?: SimPmem): SmallCache {
  const small = new SmallCache(shape, pmem);
  small.settle();
  return small;
}

/** Flushes of the backing device but for the one at the opening (writearound). */
const flushesOf = (small: SmallCache): number => small.backing.flushes - (small.shape.mode === 'writearound' ? 1 : 0);

describe.each(['writethrough', 'writearound'] as const)('%s', (mode) => {
  it('acknowledges a write when the backing device has it, and does not flush for it', () => {
    const small = opened({ mode });
    const write = small.write(10, 4, 1);
    expect(write.isPending).toBe(true);
    small.step();
    expect(write.isPending).toBe(true);
    expect(small.backing.kindOf(0)).toBe('write');
    small.backing.finish(0);
    small.step();
    expect(write.isDone).toBe(true);
    expect(newestIds(small, 10, 4)).toEqual([1, 1, 1, 1]);
    expect(flushesOf(small)).toBe(0);
    expect(small.readIds(10, 4)).toEqual([1, 1, 1, 1]);
  });

  it.each([
    ['FLUSH', (small: SmallCache) => (small.write(10, 4, 1), small.settle(), small.flush())],
    ['FUA', (small: SmallCache) => small.writeFua(10, 4, 1)],
    [
      'an empty write with PREFLUSH',
      (small: SmallCache) => (small.write(10, 4, 1), small.settle(), small.write(0, 0, 0, RequestFlag.preflush)),
    ],
  ])('acknowledges %s when the backing device was flushed', (_what, ask) => {
    const small = opened({ mode });
    const request = ask(small);
    small.step();
    while (small.backing.kindOf(0) === 'write') {
      small.backing.finish(0);
      small.step();
    }
    expect(request.isPending).toBe(true);
    small.backing.finish(0);
    small.step();
    expect(request.isDone).toBe(true);
    expect(small.durableIds(10, 4)).toEqual([1, 1, 1, 1]);
    expect(flushesOf(small)).toBe(1);
  });

  it('waits for a flush of the backing device that begins after all earlier writes have ended', () => {
    const small = opened({ mode, segments: 20 });
    for (let n = 0; n < 70; n++) small.readIds(n, 1); // so that writearound has them cached, too
    small.cache.holdWriteback = true;
    for (let n = 0; n < 70; n++) small.write(n, 1, 1);
    const flush = small.flush();
    small.cache.holdWriteback = false;
    small.step();
    while (small.backing.kindOf(0) === 'write') {
      small.backing.finish(0);
      small.step();
    }
    expect(small.backing.writes).toBeLessThan(70);
    small.backing.finish(0);
    small.step();
    expect(flush.isPending).toBe(true);
    small.settle();
    expect(flush.isDone).toBe(true);
    expect(small.durableIds(0, 70)).toEqual(new Array(70).fill(1));
  });

  it('begins a write with PREFLUSH only when what was acknowledged before is durable', () => {
    const small = opened({ mode });
    small.write(10, 4, 1);
    small.settle();
    expect(small.durableIds(10, 4)).toEqual([0, 0, 0, 0]);
    const write = small.write(20, 4, 2, RequestFlag.preflush);
    small.step();
    expect(small.backing.kindOf(0)).toBe('flush');
    expect(small.backing.underWay).toBe(1);
    small.settle();
    expect(write.isDone).toBe(true);
    expect(small.durableIds(10, 4)).toEqual([1, 1, 1, 1]);
    expect(small.durableIds(20, 4)).toEqual([0, 0, 0, 0]);
    expect(newestIds(small, 20, 4)).toEqual([2, 2, 2, 2]);
  });

  it('fails a write that the backing device refuses, and takes the next one', () => {
    const small = opened({ mode });
    const refused = small.write(10, 4, 1);
    small.step();
    small.backing.finishWithError(0, new Random(1), 'IO');
    small.step();
    expect(refused.errorCode).toBe('IO');
    const next = small.write(20, 4, 2);
    small.clock.advance(100);
    small.settle();
    expect(next.isDone).toBe(true);
  });

  it('fails a FLUSH when the flush of the backing device fails', () => {
    const small = opened({ mode });
    small.write(10, 4, 1);
    small.settle();
    const flush = small.flush();
    small.step();
    expect(small.backing.kindOf(0)).toBe('flush');
    small.backing.finishWithError(0, new Random(1), 'NO_SPACE');
    small.step();
    expect(flush.errorCode).toBe('NO_SPACE');
    small.clock.advance(5000);
    const again = small.flush();
    small.settle();
    expect(again.isDone).toBe(true);
    expect(newestIds(small, 10, 4)).toEqual([1, 1, 1, 1]);
  });

  it('is clean a second after the last write, and after a close at once', async () => {
    const small = opened({ mode });
    small.readIds(10, 4); // so that writearound has it cached, too
    small.write(10, 4, 1);
    small.settle();
    expect(small.cache.isClean).toBe(false);
    small.clock.advance(small.cache.nextDeadlineMs - small.clock.nowMs());
    small.settle();
    expect(small.cache.isClean).toBe(true);
    expect(small.durableIds(10, 4)).toEqual([1, 1, 1, 1]);

    small.write(10, 4, 2);
    small.settle();
    expect(small.cache.isClean).toBe(false);
    const driver = new CacheDriver(small.cache, small.clock);
    const closed = driver.close();
    let isClosed = false;
    void closed.finally(() => (isClosed = true));
    while (!isClosed) {
      await new Promise((resolve) => setImmediate(resolve));
      if (small.backing.underWay > 0) small.backing.finish(0);
    }
    expect(await closed).toEqual({ dirtyKeys: 0, dirtyBytes: 0 });
    expect(small.durableIds(10, 4)).toEqual([2, 2, 2, 2]);
  });

  it('writes dirty data of an earlier life in writeback mode before new data', () => {
    const before = opened({ mode: 'writeback' });
    before.cache.holdWriteback = true;
    for (let id = 1; id <= 3; id++) before.writeFua(10, 4, id);
    // The kernel sets no mode: the same cache, opened in another.
    const small = opened({ mode }, asMode(before, mode));
    const write = small.write(12, 1, 9);
    const flush = small.flush();
    small.settle();
    expect(write.isDone).toBe(true);
    expect(flush.isDone).toBe(true);
    expect(small.durableIds(10, 4)).toEqual([3, 3, 9, 3]);
  });

  it('has everything acknowledged in the log or on the backing device whenever the machine stops', () => {
    const small = opened({ mode });
    small.readIds(10, 2);
    small.write(10, 4, 1);
    small.settle();
    const again = opened({ mode }, small.pmem.copy());
    const ids = again.readIds(10, 2);
    expect(ids).toEqual([1, 1]); // from the log: the new backing device has nothing of it
  });

  it('fails writers when write-back has stopped for good', () => {
    const small = opened({ mode });
    small.readIds(10, 4);
    small.cache.holdWriteback = true;
    const first = small.write(10, 4, 1);
    const { segments } = small.load();
    for (let s = 0; s < segments.count; s++)
      small.pmem.bytes.fill(0xff, segments.dataOffsetBytes[s], segments.dataOffsetBytes[s] + 400);
    small.cache.holdWriteback = false;
    small.settle();
    expect(first.errorCode).toBe('BAD_MEDIA');
    const second = small.write(10, 4, 2);
    small.settle();
    expect(second.errorCode).toBe('BAD_MEDIA');
  });
});

describe('writethrough', () => {
  it('keeps written data in the cache', () => {
    const small = opened({ mode: 'writethrough' });
    small.write(10, 4, 1);
    small.settle();
    const reads = small.cache.stats.backingReads;
    expect(small.readIds(10, 4)).toEqual([1, 1, 1, 1]);
    expect(small.cache.stats.backingReads).toBe(reads);
    expect(small.cache.stats.directWrites).toBe(0);
  });

  it('closes one kset for a group, and flushes once for many', () => {
    const small = opened({ mode: 'writethrough' });
    for (let n = 0; n < 20; n++) small.write(n, 1, 1 + n);
    small.flush();
    small.settle();
    expect(flushesOf(small)).toBe(1);
    expect(small.cache.isClean).toBe(true);
  });
});

describe('writearound', () => {
  it('writes uncached data past the cache, without key and payload', () => {
    const small = opened({ mode: 'writearound' });
    const write = small.write(10, 4, 1);
    expect(small.backing.kindOf(0)).toBe('write');
    small.settle();
    expect(write.isDone).toBe(true);
    small.flush();
    small.settle();
    expect(small.load().keyCount).toBe(0);
    expect(small.cache.segmentsUsed).toBe(1);
    expect(small.cache.stats.directWriteBytes).toBe(2048);
    expect(small.durableIds(10, 4)).toEqual([1, 1, 1, 1]);
  });

  it('replaces cached data durably before the write is acknowledged, and nothing beside it', () => {
    const small = opened({ mode: 'writearound' });
    expect(small.readIds(12, 2)).toEqual([0, 0]); // in the cache now
    const write = small.write(10, 6, 1);
    small.settle();
    expect(write.isDone).toBe(true);
    expect(small.cache.stats.directWriteBytes).toBe(4 * 512);
    expect(newestIds(small, 10, 6)).toEqual([1, 1, 1, 1, 1, 1]);
    const { index } = small.load();
    index.seek(0, 0);
    expect([index.start, index.end]).toEqual([12, 14]);
    const crashed = opened({ mode: 'writearound' }, small.pmem.copy());
    expect(crashed.readIds(12, 2)).toEqual([1, 1]);
  });

  it('lets a write wait for one of the same range in progress, so that the later one wins', () => {
    const small = opened({ mode: 'writearound' });
    small.write(10, 4, 1);
    const second = small.write(12, 4, 2);
    small.step();
    expect(small.backing.underWay).toBe(1);
    const elsewhere = small.read(100, 1);
    expect(small.backing.underWay).toBe(2);
    small.settle();
    expect(elsewhere.isDone).toBe(true);
    expect(second.isDone).toBe(true);
    expect(newestIds(small, 10, 6)).toEqual([1, 1, 2, 2, 2, 2]);
  });

  it.each([
    ['its start', 10, 4],
    ['its middle', 12, 2],
    ['its end', 16, 2],
    ['all of it', 8, 12],
  ])('a miss that a write overtakes at %s puts nothing old into the cache', (_where, sector, sectors) => {
    const small = opened({ mode: 'writearound' });
    const read = small.read(10, 8);
    const write = small.write(sector, sectors, 1);
    while (small.backing.underWay > 0) small.backing.finish(small.backing.underWay - 1); // the write first
    small.settle();
    expect(read.isDone).toBe(true);
    expect(write.isDone).toBe(true);
    const expected = Array.from({ length: 8 }, (_, n) => (10 + n >= sector && 10 + n < sector + sectors ? 1 : 0));
    expect(small.readIds(10, 8)).toEqual(expected);
    expect(small.placeholders()).toBe(0);
    expect(small.cache.stats.fillBytes).toBe(sector > 10 ? (sector - 10) * 512 : 0);
  });

  it('does not cache data that a crash may still take from the backing device', () => {
    const small = opened({ mode: 'writearound' });
    const write = small.write(10, 4, 1);
    const during = small.read(10, 4);
    small.settle();
    expect(write.isDone && during.isDone).toBe(true);
    expect(small.readIds(10, 4)).toEqual([1, 1, 1, 1]);
    expect(small.cache.stats.fills).toBe(0);
    small.flush();
    small.settle();
    expect(small.readIds(10, 4)).toEqual([1, 1, 1, 1]);
    expect(small.cache.stats.fills).toBe(1);
  });

  it('caches nothing before the first flush after opening, since an earlier life may have written it', () => {
    const small = new SmallCache({ mode: 'writearound' });
    expect(small.readIds(10, 4)).toEqual([0, 0, 0, 0]);
    expect(small.cache.stats.fills).toBe(0);
    small.settle();
    expect(small.backing.flushes).toBe(1);
    expect(small.readIds(10, 4)).toEqual([0, 0, 0, 0]);
    expect(small.cache.stats.fills).toBe(1);
  });

  it('is drained only when writes past the cache are durable', async () => {
    const small = opened({ mode: 'writearound' });
    small.write(10, 4, 1);
    small.settle();
    expect(small.durableIds(10, 4)).toEqual([0, 0, 0, 0]);
    const driver = new CacheDriver(small.cache, small.clock);
    const drained = driver.drain();
    let isOver = false;
    void drained.finally(() => (isOver = true));
    while (!isOver) {
      await new Promise((resolve) => setImmediate(resolve));
      if (small.backing.underWay > 0) small.backing.finish(0);
    }
    expect(small.durableIds(10, 4)).toEqual([1, 1, 1, 1]);
  });

  it('does not count a flush for a write that had not ended when the flush began', () => {
    const small = opened({ mode: 'writearound' });
    small.write(10, 4, 1);
    small.flush();
    small.step();
    expect(small.backing.kindOf(1)).toBe('flush');
    small.backing.finish(0);
    small.backing.finish(0);
    small.step();
    expect(small.durableIds(10, 4)).toEqual([0, 0, 0, 0]);
    expect(small.readIds(10, 4)).toEqual([1, 1, 1, 1]);
    expect(small.cache.stats.fills).toBe(0);
  });

  it('requests a flush itself after writing many ranges', () => {
    const small = opened({ mode: 'writearound' });
    for (let n = 0; n < 256; n++) small.write(2 * n, 1, 1);
    small.settle();
    expect(flushesOf(small)).toBe(0);
    small.write(1000, 1, 1);
    small.settle();
    expect(flushesOf(small)).toBe(1);
    expect(small.readIds(0, 1)).toEqual([1]);
    expect(small.cache.stats.fills).toBe(1);
  });

  it('fails a write when the backing device refuses a part of it, and no other write', () => {
    const small = opened({ mode: 'writearound' });
    const one = small.write(10, 4, 1);
    const two = small.writeFua(20, 4, 2);
    small.backing.finishWithError(0, new Random(1), 'IO');
    small.settle();
    expect(one.errorCode).toBe('IO');
    expect(one.group.errors[0]?.message).toMatch(/write of 5120\+2048/);
    expect(two.isDone).toBe(true);
    expect(small.durableIds(20, 4)).toEqual([2, 2, 2, 2]);
  });
});

describe('writeonly', () => {
  it('caches writes as writeback does, and caches no read misses', () => {
    const small = opened({ mode: 'writeonly' });
    expect(small.writeFua(12, 2, 1).isDone).toBe(true);
    for (let n = 0; n < 2; n++) expect(small.readIds(10, 6)).toEqual([0, 0, 1, 1, 0, 0]);
    expect(small.cache.stats.fills).toBe(0);
    expect(small.placeholders()).toBe(0);
    expect(small.load().keyCount).toBe(1);
    small.drain();
    expect(small.durableIds(12, 2)).toEqual([1, 1]);
  });
});

/** A copy of the device of `small` with another mode in its cache_info. */
function asMode(small: SmallCache, mode: CacheMode): SimPmem {
  const pmem = small.pmem.copy();
  const { cacheInfo, flags } = small.load().metadata;
  const { firstSegmentId, segmentCount } = cacheInfo.value!;
  const modeNumber = CACHE_MODES.indexOf(mode);
  DualWriter.over(pmem, cacheInfo).write((seq) =>
    encodeCacheInfo({ firstSegmentId, segmentCount, flags: encodeCacheFlags({ ...flags, modeNumber }) }, seq),
  );
  pmem.persist();
  return pmem;
}
