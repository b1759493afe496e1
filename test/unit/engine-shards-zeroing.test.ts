/** TRIM and WRITE_ZEROES in a cache of several threads: holes that shards make while the coordinator flushes. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { PcacheError } from '../../src/engine/errors.js';
import { SUBTREE_SECTORS } from '../../src/engine/media/geometry.js';
import { Op, RequestFlag } from '../../src/engine/request/request-group.js';
import { SimShards, type SimShardsOptions } from '../support/sim-shards.js';
import { ZEROES } from '../support/stamps.js';

let opened: SimShards | undefined;

/** A cache that has done what it does at its opening. */
async function open(options: SimShardsOptions = { jobs: 2 }): Promise<SimShards> {
  opened = new SimShards(options);
  await opened.cache.ready();
  await opened.settle();
  return opened;
}

afterEach(() => opened?.end());

/** First sector of a subtree, which belongs to shard 0 when it is even. */
const at = (subtree: number): number => subtree * SUBTREE_SECTORS;
const zeroes = (sectors: number): number[] => new Array<number>(sectors).fill(ZEROES);
const durable = (sim: SimShards, first: number, sectors: number): number[] =>
  Array.from({ length: sectors }, (_, n) => sim.backing.durableVersion(first + n)?.tag ?? 0);

describe('in a cache that several threads share', () => {
  it('TRIM and WRITE_ZEROES make holes where the cache holds nothing', async () => {
    const sim = await open();
    await sim.write(at(1) + 10, 4, 1);
    await sim.zero(at(1) + 8, 8).done;
    await sim.zero(at(0), 4, Op.trim).done;
    expect(sim.backing.zeroes).toBe(3);
    expect(await sim.read(at(1) + 8, 8)).toEqual(zeroes(8));
    expect(await sim.read(at(0), 5)).toEqual([...zeroes(4), 0]);
    await sim.write(at(0) + 10, 4, 2);
    await sim.zero(at(0) + 8, 8, Op.trim).done;
    expect(await sim.read(at(0) + 8, 8)).toEqual([ZEROES, ZEROES, 2, 2, 2, 2, ZEROES, ZEROES]);
    await sim.cache.drain();
    await sim.cache.close();
    expect(durable(sim, at(1) + 8, 8)).toEqual(zeroes(8));
    expect(durable(sim, at(0) + 8, 8)).toEqual([ZEROES, ZEROES, 2, 2, 2, 2, ZEROES, ZEROES]);
  });

  it('a FLUSH in one thread makes the holes durable that another thread has acknowledged', async () => {
    const sim = await open({ jobs: 3 });
    await sim.zero(at(1), 4).done;
    expect(sim.backing.isVolatile(at(1))).toBe(true);
    sim.isAnswering = false;
    const flush = sim.flush(0);
    await sim.settle();
    expect(flush.isPending).toBe(true);
    sim.isAnswering = true;
    await flush.done;
    expect(flush.group.errors[0]).toBeUndefined();
    expect(durable(sim, at(1), 4)).toEqual(zeroes(4));
    const { flushes } = sim.backing;
    await sim.flush(2).done;
    expect(sim.backing.flushes).toBe(flushes); // nothing is left to make durable
    await sim.cache.close();
  });

  it('so does a write with PREFLUSH, before it is taken', async () => {
    const sim = await open();
    await sim.zero(at(1), 4).done;
    await sim.write(at(0), 1, 1, RequestFlag.preflush);
    expect(durable(sim, at(1), 4)).toEqual(zeroes(4));
    await sim.cache.close();
  });

  it('FUA zeroes are durable when they are acknowledged', async () => {
    const sim = await open();
    await sim.zero(at(1), 4, Op.zero, RequestFlag.fua).done;
    expect(durable(sim, at(1), 4)).toEqual(zeroes(4));
    await sim.cache.close();
  });

  it('a flush that began before a hole was made does not make it durable', async () => {
    const sim = await open();
    sim.isAnswering = false;
    await sim.write(at(0), 1, 1, RequestFlag.fua);
    await sim.settle();
    for (; sim.backing.kindOf(0) === 'write'; await sim.settle()) sim.backing.finish(0);
    expect(sim.backing.kindOf(0)).toBe('flush');
    const zero = sim.zero(at(1), 4);
    sim.backing.finish(1);
    expect(zero.isPending).toBe(false);
    sim.backing.finish(0);
    await sim.settle();
    const flush = sim.flush(0);
    await sim.settle();
    expect(flush.isPending).toBe(true);
    sim.isAnswering = true;
    await flush.done;
    expect(durable(sim, at(1), 4)).toEqual(zeroes(4));
    await sim.cache.close();
  });

  it('nothing is filled into the cache before the flush of the opening, and no hole before its own', async () => {
    opened = new SimShards({ jobs: 2 });
    const sim = opened;
    sim.fails = 'flushes';
    await sim.cache.ready();
    await sim.read(at(1), 1);
    expect(sim.holds(at(1))).toBe(false);
    sim.fails = 'none';
    await expect.poll(() => sim.shards[1].cache.hasUnsettledWrites, { timeout: 20_000 }).toBe(false);
    await sim.read(at(1), 1);
    expect(sim.holds(at(1))).toBe(true);

    await sim.zero(at(1) + 10, 4).done;
    expect(await sim.read(at(1) + 10, 4)).toEqual(zeroes(4));
    expect(sim.holds(at(1) + 10)).toBe(false);
    await sim.flush(0).done;
    await sim.settle();
    await sim.read(at(1) + 10, 4);
    expect(sim.holds(at(1) + 10)).toBe(true);
    await sim.cache.close();
  });

  it('a write waits for a hole of its range, and is not called out of room meanwhile', async () => {
    const sim = await open();
    sim.isAnswering = false;
    const zero = sim.zero(at(1), 8);
    const write = sim.submit(Op.write, at(1) + 2, 2, { id: 1 });
    const letGo = vi.spyOn(sim.shards[1].cache, 'letGo');
    await sim.settle(60);
    expect([zero.isPending, write.isPending]).toEqual([true, true]);
    expect(letGo).not.toHaveBeenCalled();
    sim.shards[1].cache.failWaiting(new PcacheError('CACHE_FULL', 'another thread is out of room'));
    sim.isAnswering = true;
    await write.done;
    expect(write.group.errors[0]).toBeUndefined();
    expect(await sim.read(at(1), 5)).toEqual([ZEROES, ZEROES, 1, 1, ZEROES]);
    await sim.cache.close();
  });

  it('a FLUSH fails when the backing device cannot be flushed, and the next one flushes it', async () => {
    const sim = await open();
    sim.fails = 'flushes';
    await sim.zero(at(1), 4).done;
    const flush = sim.flush(0);
    await flush.done;
    expect(flush.group.errors[0]).toMatchObject({ code: 'IO' });
    sim.fails = 'none';
    await sim.zero(at(1), 4).done; // the failed flush may have dropped it
    const next = sim.flush(0);
    await next.done;
    expect(next.group.errors[0]).toBeUndefined();
    expect(durable(sim, at(1), 4)).toEqual(zeroes(4));
    await sim.cache.close();
  });

  it('a close ends when the backing device fails for good, and fails the requests that wait for it', async () => {
    const sim = await open();
    sim.fails = 'all';
    await sim.zero(at(1), 4).done;
    const waiting = [sim.flush(0), sim.zero(at(0), 4, Op.zero, RequestFlag.fua)];
    const preflush = sim.submit(Op.write, at(0) + 50, 1, { id: 1, flags: RequestFlag.preflush });
    await sim.cache.close();
    for (const { group } of waiting) expect(group.errors[0]).toMatchObject({ code: 'IO' });
    expect(preflush.isPending).toBe(false);
  });

  it('a close in order makes holes durable, and ends a FLUSH that was asked for before', async () => {
    const sim = await open();
    await sim.zero(at(1), 4).done;
    const flush = sim.flush(0);
    await sim.cache.close();
    await flush.done;
    expect(flush.group.errors[0]).toBeUndefined();
    expect(durable(sim, at(1), 4)).toEqual(zeroes(4));
  });
});

describe('a FLUSH that another thread cannot serve', () => {
  it('does not wait for it when that thread has closed its share', async () => {
    const sim = await open();
    await sim.write(at(1), 1, 1);
    const [driver] = sim.shards;
    const close = driver.close.bind(driver);
    let flush: ReturnType<SimShards['flush']> | undefined;
    driver.close = async () => {
      await sim.settle();
      flush = sim.flush(0);
      const end = close();
      await sim.flush(0).done; // refused: the thread takes no more
      return end;
    };
    await sim.cache.close();
    await flush!.done;
    expect(flush!.group.errors[0]).toBeUndefined();
  });

  it('fails when the log has no room and write-back cannot make any', async () => {
    const jobs = 20; // with so many segments of their own that few are left for the log
    const sim = await open({ jobs, shape: { segments: jobs + 2 }, subtrees: jobs });
    sim.fails = 'all';
    const fua = { id: 1, flags: RequestFlag.fua };
    const writes = Array.from({ length: 1000 }, (_, n) => sim.submit(Op.write, at(n % jobs) + n, 1, fua));
    await sim.settle();
    expect(sim.shards.some(({ cache }) => cache.isLogStuck)).toBe(true);
    const flush = sim.flush(0);
    await flush.done;
    expect(flush.group.errors[0]).toMatchObject({ code: 'CACHE_FULL' });
    await Promise.all(writes.map(({ done }) => done));
    const last = sim.flush(1);
    await expect(sim.cache.close()).rejects.toMatchObject({ code: 'CACHE_FULL' });
    await last.done;
    expect(last.group.errors[0]).toMatchObject({ code: 'CACHE_FULL' });
  });
});

/** What a sector has been through, oldest first. A TRIM may have left what was there, or zeroes. */
class History {
  readonly ids = [0];
  /** The first of `ids` that may still be found, now and after a crash. */
  private now = 0;
  floor = 0;

  begin(id: number): void {
    this.ids.push(id);
  }
  acknowledged(id: number, isTrim: boolean): void {
    if (!isTrim) this.now = Math.max(this.now, this.ids.lastIndexOf(id));
  }
  /** What is acknowledged now, to be given to `flushed` when a FLUSH that is asked for now has ended. */
  get current(): number {
    return this.now;
  }
  allows(id: number, isCrashed: boolean): boolean {
    return this.ids.indexOf(id, isCrashed ? this.floor : this.now) >= 0;
  }
}

describe.each([1, 2, 4])('random requests in %i shards', (jobs) => {
  it('leave the right data, at any crash too, and write-back never meets a hole that is being made', async () => {
    const sim = await open({ jobs, seed: jobs, shape: { gcPercent: 10, segments: 8 + 3 * jobs }, subtrees: jobs });
    const { random } = sim;
    const REACH = 96; // sectors of each subtree
    const histories = new Map<number, History>();
    for (let subtree = 0; subtree < jobs; subtree++) {
      for (let n = 0; n < REACH; n++) histories.set(at(subtree) + n, new History());
    }
    const sectors = [...histories.keys()];
    const wrong: string[] = [];
    let lastId = 0;

    /** One client of a shard: a request at a time. */
    const client = async (shard: number, part: number): Promise<void> => {
      for (let n = 0; n < 60; n++) {
        const first = at(shard) + (part * REACH) / 3 + random.below(REACH / 3 - 8);
        const count = random.between(1, 8);
        const own = Array.from({ length: count }, (_, i) => histories.get(first + i)!);
        const kind = random.below(10);
        const flags = random.chance(0.2) ? RequestFlag.fua : 0;
        if (kind === 0) {
          const before = sectors.map((sector) => histories.get(sector)!.current);
          const flush = sim.flush(shard);
          await flush.done;
          if (flush.group.errors[0]) wrong.push(flush.group.errors[0].message);
          sectors.forEach((sector, i) => {
            const history = histories.get(sector)!;
            history.floor = Math.max(history.floor, before[i]);
          });
        } else if (kind < 4) {
          const ids = await sim.read(first, count);
          ids.forEach((id, i) => {
            if (!own[i].allows(id, false)) wrong.push(`sector ${first + i}: read ${id} of ${own[i].ids.join()}`);
          });
        } else {
          const op = kind < 7 ? Op.write : kind < 9 ? Op.zero : Op.trim;
          const id = op === Op.write ? ++lastId : ZEROES;
          for (const history of own) history.begin(id);
          const request = sim.submit(op, first, count, { id, flags });
          await request.done;
          if (request.group.errors[0]) wrong.push(request.group.errors[0].message);
          for (const history of own) history.acknowledged(id, op === Op.trim);
          if (flags !== 0 && op !== Op.trim) for (const history of own) history.floor = history.current;
        }
        if (n % 15 === part) crash();
      }
    };
    const crash = (): void => {
      sim.idsAfterCrash(sectors).forEach((id, i) => {
        const history = histories.get(sectors[i])!;
        if (!history.allows(id, true))
          wrong.push(`sector ${sectors[i]}: ${id} after a crash, of ${history.ids.join()}`);
      });
    };
    await Promise.all(Array.from({ length: 3 * jobs }, (_, n) => client(n % jobs, Math.floor(n / jobs))));
    expect(wrong).toEqual([]);
    expect(sim.backing.overlaps).toEqual([]);
    expect(sim.backing.zeroes).toBeGreaterThan(10 * jobs);
    expect(sim.cache.stats.segmentsFreed).toBeGreaterThan(0);
    await sim.cache.drain();
    await sim.cache.close();
    for (const sector of sectors) {
      const id = sim.backing.durableVersion(sector)?.tag ?? 0;
      if (!histories.get(sector)!.allows(id, false)) wrong.push(`sector ${sector}: ${id} on the backing device`);
    }
    expect(wrong).toEqual([]);
  });
});
