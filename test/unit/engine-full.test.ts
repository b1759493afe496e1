/** A cache that is full: who waits, who goes on, who fails, and what closing says. */
import { describe, expect, it } from 'vitest';
import { CacheDriver } from '../../src/engine/driver.js';
import { SUBTREE_SECTORS } from '../../src/engine/media/geometry.js';
import { RequestFlag, RequestState } from '../../src/engine/request/request-group.js';
import { Random } from '../../src/engine/sim/random.js';
import { SmallCache, type Request } from '../support/small-cache.js';

const random = new Random(2);

/** Writes 8 sectors at a time until a write waits. @returns the writes, the last of which waits */
function fill(small: SmallCache): Request[] {
  const writes: Request[] = [];
  do writes.push(small.write(writes.length * 8, 8, writes.length + 1));
  while (!writes.at(-1)!.isPending && writes.length < 1000);
  return writes;
}

describe('a full cache whose write-back is stalled', () => {
  it('lets writes wait and reads go on, and ends all when write-back goes on', () => {
    const small = new SmallCache({ segments: 6 });
    const writes = fill(small);
    small.step(); // write-back starts, and is not answered
    writes.push(small.write(0, 8, 900), small.write(0, 8, 901));
    const flush = small.flush();
    expect(flush.isDone).toBe(true); // the log has its reserve
    expect(small.readIds(0, 8)).toEqual(new Array(8).fill(1));
    expect(small.read(5000, 8).isPending).toBe(true);
    small.backing.finish(small.backing.underWay - 1);
    expect(small.cache.stats.fills).toBe(0); // misses do not take room from writers
    expect(small.cache.status().waitingRequests).toBe(3);
    expect(writes.slice(-3).every((write) => write.isPending)).toBe(true);
    small.settle();
    expect(writes.every((write) => write.isDone)).toBe(true);
    expect(small.readIds(0, 8)).toEqual(new Array(8).fill(901)); // in the order they came
    small.drain();
    expect(small.durableIds(0, 8)).toEqual(new Array(8).fill(901));
  });

  it.each([
    ['a write', 0],
    ['a write with PREFLUSH', RequestFlag.preflush],
  ])('%s does not overtake a stalled write of its group, even where there is room for it', (_name, flags) => {
    const small = new SmallCache({ segments: 6, slots: 2 });
    small.write(SUBTREE_SECTORS, 8, 1); // the second slot has a segment, with room in it
    for (let n = 0; n < 3 * 2; n++) small.write(8 * n, 8, 2); // the first one has the others, and none of it left
    const group = small.group(
      { sector: SUBTREE_SECTORS - 4, sectors: 8, id: 3 },
      { sector: 0, sectors: 8 }, // a read
      { sector: SUBTREE_SECTORS, sectors: 8, id: 4, flags },
    );
    expect([...group.state]).toEqual([RequestState.pending, RequestState.done, RequestState.pending]);
    small.settle();
    expect([...group.state]).toEqual(new Array(3).fill(RequestState.done));
    expect(small.readIds(SUBTREE_SECTORS - 4, 12)).toEqual([3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4]);
  });

  it('a write never goes to a segment that its data head has given up', () => {
    const small = new SmallCache({ segments: 6 });
    const [head] = small.cache.parts.heads;
    small.write(0, 4, 1);
    const { segment, leftSectors } = head;
    expect(leftSectors).toBeGreaterThanOrEqual(4);
    head.close();
    small.write(100, 4, 2);
    expect(head.segment).not.toBe(segment);
    expect([small.readIds(0, 4), small.readIds(100, 4)]).toEqual([new Array(4).fill(1), new Array(4).fill(2)]);
  });

  it('a write larger than the whole cache succeeds piece by piece', () => {
    const small = new SmallCache({ segments: 6 });
    const write = small.writeFua(100, 400, 3);
    expect(write.isPending).toBe(true);
    small.settle();
    expect(write.isDone).toBe(true);
    small.drain();
    expect(small.durableIds(100, 400)).toEqual(new Array(400).fill(3));
  });
});

/** Fails what is under way and lets the pause pass, so often. */
function failWriteback(small: SmallCache, times: number): void {
  for (let n = 0; n < times; n++) {
    small.step();
    while (small.backing.underWay > 0) small.backing.finishWithError(0, random);
    small.step();
    const wait = small.cache.nextDeadlineMs - small.clock.nowMs();
    if (wait < Infinity) small.clock.advance(Math.max(0, wait));
  }
}

describe('a full cache whose write-back fails', () => {
  it('lets writes wait through a few failures, then fails them with CACHE_FULL and the reason', () => {
    const small = new SmallCache({ segments: 6 });
    const waiting = fill(small).at(-1)!;
    failWriteback(small, 4);
    expect(waiting.isPending).toBe(true);
    failWriteback(small, 1);
    small.step();
    expect(waiting.errorCode).toBe('CACHE_FULL');
    expect(waiting.group.errors[0]?.message).toMatch(/cannot be written back: .*failed as asked/);
    expect(small.readIds(0, 8)).toEqual(new Array(8).fill(1));
    small.clock.advance(5000);
    small.settle();
    const late = small.write(0, 8, 77);
    small.settle();
    expect(late.isDone).toBe(true);
  });

  it('fails no write for one failure that is followed by success', () => {
    const small = new SmallCache({ segments: 6 });
    const writes = fill(small);
    failWriteback(small, 1);
    small.settle();
    expect(writes.every((write) => write.isDone)).toBe(true);
  });
});

/** Answers the backing device from the event loop, as it comes; `fail` makes every answer an error. */
function answering(small: SmallCache, fail: boolean): () => void {
  let over = false;
  const turn = () => {
    while (small.backing.underWay > 0) {
      if (fail) small.backing.finishWithError(0, random);
      else small.backing.finish(0);
    }
    small.clock.advance(1000);
    if (!over) setTimeout(turn, 1);
  };
  turn();
  return () => {
    over = true;
  };
}

/** Many slots, so that their open segments hold more keys than a segment of the log. */
function withStuckLog(): SmallCache {
  const slots = 20;
  const segments = 30;
  const small = new SmallCache({ segmentBytes: 17.5 * 1024, segments, slots, sectors: slots * SUBTREE_SECTORS });
  failWriteback(small, 1);
  for (let id = 1; id <= 1000; id++) {
    // First the segments go to one slot, but for one each of the others; then all go on in turn.
    const slot = small.cache.status().segmentsUsed < segments - slots - 1 ? 0 : id % slots;
    small.writeFua(slot * SUBTREE_SECTORS + (id % 50), 1, id);
    failWriteback(small, 6);
    if (small.cache.hasOpenKeys) return small;
  }
  throw new Error('the log never ran out of room');
}

describe('a log without room', () => {
  it.each([
    ['FLUSH', (small: SmallCache) => small.flush()],
    ['an empty write with PREFLUSH', (small: SmallCache) => small.write(0, 0, 1, RequestFlag.preflush)],
    ['an empty FUA write', (small: SmallCache) => small.writeFua(0, 0, 1)],
  ])('keeps %s from being acknowledged while there are open ksets', (_name, request) => {
    const small = withStuckLog();
    const flush = request(small);
    expect(flush.isPending).toBe(true);
    failWriteback(small, 1);
    expect(flush.errorCode).toBe('CACHE_FULL');
  });
});

describe('closing a cache', () => {
  it('ends the requests that were taken, closes the ksets and reports what stays dirty', async () => {
    const small = new SmallCache();
    const driver = new CacheDriver(small.cache, small.clock);
    const stop = answering(small, true);
    small.write(10, 4, 1);
    small.write(SUBTREE_SECTORS, 2, 2);
    expect(await driver.close()).toEqual({ dirtyKeys: 2, dirtyBytes: 6 * 512 });
    stop();
    expect(small.write(10, 4, 3).errorCode).toBe('CLOSED');
    small.open();
    expect(small.readIds(10, 4)).toEqual([1, 1, 1, 1]);
  });

  it('after a drain leaves nothing dirty; a drain fails with the reason when write-back does', async () => {
    const small = new SmallCache();
    small.write(10, 4, 1);
    const failing = new CacheDriver(small.cache, small.clock);
    const stopFailing = answering(small, true);
    await expect(failing.drain()).rejects.toThrow(/failed as asked/);
    stopFailing();
    const stop = answering(small, false);
    while (small.cache.writebackError) {
      failing.kick();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await failing.drain();
    expect(small.durableIds(10, 4)).toEqual([1, 1, 1, 1]);
    expect(await failing.close()).toEqual({ dirtyKeys: 0, dirtyBytes: 0 });
    stop();
  });

  it('fails with CACHE_FULL when the log has no room for acknowledged writes', async () => {
    const small = withStuckLog();
    small.step();
    while (small.backing.underWay > 0) small.backing.finishWithError(0, random);
    expect(small.cache.nextDeadlineMs).toBeGreaterThan(small.clock.nowMs()); // no polling
    const driver = new CacheDriver(small.cache, small.clock);
    const stop = answering(small, true);
    await expect(driver.close()).rejects.toMatchObject({ code: 'CACHE_FULL' });
    stop();
  });

  it('rejects with the failure of the cache device', async () => {
    const small = new SmallCache();
    const driver = new CacheDriver(small.cache, small.clock);
    small.pmem.fail({ after: 0, times: Infinity });
    small.write(10, 4, 1);
    await expect(driver.drain()).rejects.toMatchObject({ code: 'IO' });
    await expect(driver.close()).rejects.toMatchObject({ code: 'IO' });
  });
});
