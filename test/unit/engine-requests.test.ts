/** Requests that cannot be taken, those that end together with a failed device, and the edges of groups. */
import { describe, expect, it } from 'vitest';
import { CacheIo } from '../../src/engine/cache-io.js';
import { CacheDriver } from '../../src/engine/driver.js';
import { PcacheError } from '../../src/engine/errors.js';
import { SECTOR_BYTES, SUBTREE_SECTORS } from '../../src/engine/media/geometry.js';
import { Op, RequestFlag, RequestGroup, RequestState } from '../../src/engine/request/request-group.js';
import { Random } from '../../src/engine/sim/random.js';
import { SmallCache, type Request } from '../support/small-cache.js';
import { readStamp, stamp, wordsOf } from '../support/stamps.js';

const KIB = 1024;

function group(small: SmallCache, capacity: number, arenaBytes = 64 * KIB): RequestGroup {
  return new RequestGroup(capacity, small.pmem.registerArena(new Uint8Array(arenaBytes)));
}

describe('a request is refused, and those beside it are not,', () => {
  it.each([
    ['when it is not of whole sectors', 'MISALIGNED', 512, 100, 0],
    ['when it does not begin at a sector', 'MISALIGNED', 100, 512, 0],
    ['when it begins before the device', 'OUT_OF_RANGE', -512, 512, 0],
    ['when it ends beyond the device', 'OUT_OF_RANGE', 2 ** 40, 512, 0],
    ['when its buffer ends beyond its memory', 'OUT_OF_RANGE', 0, 512, 64 * KIB - 256],
    ['when its buffer begins before its memory', 'OUT_OF_RANGE', 0, 512, -512],
    ['when its length is below zero', 'OUT_OF_RANGE', 512, -512, 512],
  ])('%s', (_when, code, offset, length, arenaAt) => {
    for (const [other, writes] of [
      [Op.flush, 1],
      [Op.read, 1],
      [Op.write, 2],
    ]) {
      const small = new SmallCache();
      const requests = group(small, 3);
      requests.add(Op.write, 0, 512, 0);
      requests.add(Op.write, offset, length, arenaAt);
      requests.add(other, 0, other === Op.flush ? 0 : 512, 0);
      small.cache.submit(requests);
      expect([...requests.state]).toEqual([RequestState.done, RequestState.failed, RequestState.done]);
      expect(requests.errors[1]).toMatchObject({ code });
      expect(small.cache.stats.failedRequests).toBe(1);
      expect(small.cache.stats).toMatchObject({ writes, writeBytes: 512 * writes });
    }
  });
});

it('setGcPercent refuses a value that the format has no room for', () => {
  const small = new SmallCache();
  for (const percent of [-1, 91, 1.5, NaN]) {
    expect(() => small.cache.setGcPercent(percent)).toThrow(expect.objectContaining({ code: 'USAGE' }) as PcacheError);
  }
  small.cache.setGcPercent(90);
  small.open();
  expect(small.cache.status().line).toContain(' 90 ');
});

describe('a group of requests', () => {
  it('shares one fence, which comes before any of its requests is acknowledged', () => {
    const small = new SmallCache();
    const requests = group(small, 3);
    const words = wordsOf(requests.arena.memory);
    for (let n = 0; n < 3; n++) {
      stamp(words, (n * SECTOR_BYTES) / 4, 10 * n, 7);
      requests.add(Op.write, 10 * n * SECTOR_BYTES, SECTOR_BYTES, n * SECTOR_BYTES);
    }
    const barriers: string[] = [];
    small.pmem.onBarrier = (kind) => barriers.push(kind);
    expect(small.cache.submit(requests)).toBe(0);
    expect(barriers).toEqual(['fence']);
    const durable = wordsOf(small.pmem.durableImage());
    for (let n = 0; n < 3; n++) {
      const at = small.cache.locate(10 * n * SECTOR_BYTES);
      expect(readStamp(durable, at / 4, 10 * n)).toBe(7);
    }
  });

  it('runs in order: a read sees the writes before it and not those behind it', () => {
    const small = new SmallCache();
    small.write(0, 1, 7);
    const requests = group(small, 3);
    const words = wordsOf(requests.arena.memory);
    stamp(words, SECTOR_BYTES / 4, 0, 8);
    requests.add(Op.read, 0, SECTOR_BYTES, 0);
    requests.add(Op.write, 0, SECTOR_BYTES, SECTOR_BYTES);
    requests.add(Op.read, 0, SECTOR_BYTES, 2 * SECTOR_BYTES);
    expect(small.cache.submit(requests)).toBe(0);
    expect([0, 2].map((n) => readStamp(words, (n * SECTOR_BYTES) / 4, 0))).toEqual([7, 8]);
  });

  it('that is refilled keeps nothing of its earlier requests', () => {
    const small = new SmallCache();
    const requests = group(small, 2);
    requests.add(Op.read, 0, 512, 0);
    requests.add(Op.write, 0, 100, 0);
    small.cache.submit(requests);
    small.settle();
    expect(requests.missBytes[0]).toBe(512);
    expect(requests.errors[1]).toMatchObject({ code: 'MISALIGNED' });
    requests.clear();
    for (let n = 0; n < 2; n++) requests.add(Op.read, 0, 512, 0);
    expect(small.cache.submit(requests)).toBe(0);
    expect([...requests.missBytes, ...requests.errors]).toEqual([0, 0, undefined, undefined]);
  });

  it('shows requests that end at once in its states, and calls back only for those that end later', () => {
    const small = new SmallCache();
    const requests = group(small, 3);
    const calls: number[] = [];
    requests.onRequestDone = (_, request) => calls.push(request);
    requests.add(Op.write, 0, 512, 0, RequestFlag.fua);
    requests.add(Op.read, 4096, 512, 512); // misses
    requests.add(Op.write, 100, 512, 1024); // is refused
    expect(small.cache.submit(requests)).toBe(1);
    expect(calls).toEqual([]);
    small.settle();
    expect(calls).toEqual([1]);
    small.cache.parts.fail(new PcacheError('IO', 'the device has failed'));
    requests.clear();
    requests.add(Op.write, 0, 512, 0);
    expect(small.cache.submit(requests)).toBe(0);
    expect(calls).toEqual([1]);
  });

  it('larger than the staging area is served whole', () => {
    const small = new SmallCache();
    const count = 1100; // more copies than the stage holds
    small.write(0, 4, 7);
    const requests = group(small, count, count * SECTOR_BYTES);
    for (let n = 0; n < count; n++) requests.add(Op.read, (n % 4) * SECTOR_BYTES, SECTOR_BYTES, n * SECTOR_BYTES);
    expect(small.cache.submit(requests)).toBe(0);
    const words = wordsOf(requests.arena.memory);
    for (let n = 0; n < count; n++) expect(readStamp(words, (n * SECTOR_BYTES) / 4, n % 4)).toBe(7);
  });

  it('ends at once when the cache device fails, and so do all stalled requests', () => {
    const small = new SmallCache({ segments: 6 });
    const writes: Request[] = [];
    do writes.push(small.write(writes.length * 8, 8, writes.length + 1));
    while (!writes.at(-1)!.isPending);
    const waiting = writes.at(-1)!;
    const requests = group(small, 3);
    requests.add(Op.read, 5000 * SECTOR_BYTES, 512, 0);
    requests.add(Op.write, 0, 512, 512);
    requests.add(Op.flush, 0, 0, 0);
    small.pmem.fail({ after: 0, times: Infinity });
    const pending = small.cache.submit(requests);
    expect(waiting.errorCode).toBe('IO');
    expect(requests.errors[1]).toMatchObject({ code: 'IO' });
    expect(requests.errors[2]).toMatchObject({ code: 'IO' });
    expect(pending).toBe(1); // the read is under way at the backing device, and ends with it
    small.backing.finish(0);
    expect(requests.state[0]).toBe(RequestState.failed);
    expect(small.write(0, 1, 99).errorCode).toBe('IO');
  });

  it('refuses more requests than it has room for, and a refill while requests are pending', () => {
    const small = new SmallCache();
    const requests = group(small, 1);
    requests.add(Op.read, 0, 512, 0);
    expect(() => requests.add(Op.read, 0, 512, 0)).toThrow('full group');
    small.cache.submit(requests);
    expect(() => requests.clear()).toThrow('pending');
    small.settle();
    requests.clear();
    expect(requests.count).toBe(0);
  });
});

describe('locate', () => {
  it('gives the offset of cached bytes, and -1 for all others', () => {
    const small = new SmallCache();
    expect(small.cache.locate(10 * SECTOR_BYTES)).toBe(-1);
    small.write(10, 4, 1);
    const at = small.cache.locate(12 * SECTOR_BYTES + 5);
    expect(small.pmem.bytes[at]).toBe(small.pmem.bytes[small.cache.locate(12 * SECTOR_BYTES) + 5]);
    expect(at - small.cache.locate(10 * SECTOR_BYTES)).toBe(2 * SECTOR_BYTES + 5);
    expect(small.cache.locate(9 * SECTOR_BYTES)).toBe(-1);
    expect(small.cache.locate(14 * SECTOR_BYTES)).toBe(-1);
    small.read(20, 1);
    expect(small.cache.locate(20 * SECTOR_BYTES)).toBe(-1); // only a placeholder
    const { generationLow } = small.cache.parts.segments;
    for (let n = 0; n < generationLow.length; n++) generationLow[n]++;
    expect(small.cache.locate(10 * SECTOR_BYTES)).toBe(-1); // its payload is gone
  });
});

describe('promises over single requests', () => {
  async function driven<T>(small: SmallCache, promise: Promise<T>): Promise<T> {
    let isOver = false;
    const watched = promise.finally(() => (isOver = true));
    watched.catch(() => {});
    while (!isOver) {
      await new Promise((resolve) => setImmediate(resolve));
      if (small.backing.underWay > 0) small.backing.finish(0);
    }
    return watched;
  }

  it('write, flush and read what was written, and reject with the reason', async () => {
    const small = new SmallCache();
    const driver = new CacheDriver(small.cache, small.clock);
    const io = new CacheIo(driver, small.pmem);
    const bytes = new Uint8Array(1024).fill(7);
    await driven(small, io.write(512, bytes));
    await driven(small, io.write(4096, bytes.subarray(0, 512), { fua: true }));
    expect(small.cache.stats.fuaWrites).toBe(1);
    await driven(small, io.flush());
    const target = new Uint8Array(1536);
    await driven(small, io.read(0, target));
    expect(target.subarray(512).every((byte) => byte === 7)).toBe(true);
    await expect(driven(small, io.read(100, target))).rejects.toMatchObject({ code: 'MISALIGNED' });
    await driven(small, driver.close());
    await expect(io.flush()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  it('reject when the backing device cannot read', async () => {
    const small = new SmallCache();
    const io = new CacheIo(new CacheDriver(small.cache, small.clock), small.pmem);
    const read = io.read(0, new Uint8Array(512));
    small.backing.finishWithError(0, new Random(1));
    await expect(read).rejects.toMatchObject({ code: 'IO' });
  });
});

it('a write with PREFLUSH stalls when the log has no room for earlier writes, even if it has room itself', () => {
  const slots = 12;
  const segmentBytes = 17.5 * KIB; // a log that is full sooner than the open segments of so many slots
  const sectors = slots * SUBTREE_SECTORS;
  const logStartBytes = segmentBytes - 12 * KIB - 96;
  const small = new SmallCache({ segmentBytes, segments: slots + 2, slots, sectors, logStartBytes, gcPercent: 0 });
  small.cache.holdWriteback = true;
  let id = 1;
  for (let round = 0; !small.cache.isLogStuck && round < 20; round++) {
    for (let slot = 0; slot < slots; slot++)
      expect(small.write(slot * SUBTREE_SECTORS + round, 1, id++).isDone).toBe(true);
    small.clock.advance(1000);
    small.step();
  }
  expect(small.cache.isLogStuck).toBe(true);
  const plain = small.write(100, 1, id);
  expect(plain.isDone).toBe(true); // there is room for payload
  const preflush = small.write(101, 1, id + 1, RequestFlag.preflush);
  expect(preflush.isPending).toBe(true);
  small.cache.holdWriteback = false;
  small.settle();
  expect(preflush.isDone).toBe(true);
  small.drain();
  expect(small.durableIds(100, 2)).toEqual([id, id + 1]);
});
