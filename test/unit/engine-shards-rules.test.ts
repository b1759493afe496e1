/** The rules by which the threads of one cache keep out of each other's way, one by one. */
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { NullBacking } from '../../src/bench/null-backing.js';
import type { Clock } from '../../src/engine/clock.js';
import { openShard, ShardedCache } from '../../src/engine/index.js';
import { KIB, SUBTREE_BYTES } from '../../src/engine/media/geometry.js';
import { readMetadata } from '../../src/engine/media/metadata.js';
import { loadCacheOrThrow } from '../../src/engine/log/recovery.js';
import { Op, RequestFlag, RequestGroup, RequestState } from '../../src/engine/request/request-group.js';
import { SegmentTable } from '../../src/engine/space/segment-table.js';
import { DataHead } from '../../src/engine/space/data-head.js';
import { Pieces } from '../../src/engine/space/pieces.js';
import { SharedLog } from '../../src/engine/shards/shared-log.js';
import type { FromShard, ToShard } from '../../src/engine/shards/messages.js';
import { SharedSegments, ShardSegments } from '../../src/engine/shards/shared-segments.js';
import { makeSharedMemory, SharedState, Word } from '../../src/engine/shards/shared-state.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { geometryOf, makeDevice } from '../support/sim-device.js';
import { runnable } from '../support/run-ts.js';
import type { SharedWork } from '../support/shared-worker.js';
import { SMALL } from '../support/small-cache.js';

const SHAPE = { ...SMALL, segmentBytes: 32 * KIB, aged: false, segments: 12, gcPercent: 0 };
const geometry = geometryOf(SHAPE);
const clock: Clock = { nowMs: () => performance.now() };

afterEach(() => vi.restoreAllMocks());

function shared(jobs = 2) {
  const pmem = makeDevice(SHAPE);
  const { chain } = readMetadata(pmem, geometry);
  const memory = makeSharedMemory(jobs, chain.length);
  const state = new SharedState(memory);
  return { pmem, chain, memory, state, segments: new SharedSegments(geometry, chain, state) };
}

describe('the segment table that threads share', () => {
  it('frees a segment when every shard has been outside since its generation rose', () => {
    const { pmem, state, segments } = shared();
    const segment = segments.takeForData(3);
    segments.put(segment, 3);
    state.enter(1);
    const wait = vi.spyOn(Atomics, 'wait').mockImplementation(() => {
      expect(segments.isUsed(segment)).toBe(true);
      expect(segments.generationLow[segment]).toBe(1);
      state.leave(1);
      return 'timed-out';
    });
    expect(segments.retire(pmem)).toBe(1);
    expect(wait).toHaveBeenCalledTimes(1);
    expect(segments.isUsed(segment)).toBe(false);
  });

  it('takes and frees segments under the lock only', () => {
    const { pmem, segments, memory } = shared();
    const held: string[] = [];
    const prototype = SegmentTable.prototype as unknown as Record<string, (...args: unknown[]) => unknown>;
    for (const name of ['takeForData', 'free']) {
      const original = prototype[name];
      vi.spyOn(prototype, name).mockImplementation(function (this: unknown, ...args) {
        held.push(`${name} ${memory.words[0] === 0 ? 'without' : 'with'} the lock`);
        return original.apply(this, args);
      });
    }
    const segment = segments.takeForData(1);
    segments.put(segment);
    segments.retire(pmem);
    expect(held).toEqual(['takeForData with the lock', 'free with the lock']);
  });
});

describe('the log that threads share', () => {
  it('is written under the lock only, always at its current end', () => {
    const { pmem, state, segments, memory } = shared();
    const crc = () => 0;
    const make = () => new SharedLog(state, pmem, segments, { segment: 0, offsetBytes: 0 }, 1, crc, clock);
    segments.markInLog(0);
    const [first, second] = [make(), make()];
    first.publish();
    const places: number[] = [];
    const write = pmem.write.bind(pmem);
    vi.spyOn(pmem, 'write').mockImplementation((...args) => {
      expect(memory.words[0]).not.toBe(0);
      if (args[3] > 24) places.push(args[0] - segments.dataOffsetBytes[0]);
      write(...args);
    });
    for (const log of [first, second, first]) {
      const head = new DataHead(segments);
      head.open();
      const pieces = new Pieces(pmem, false, [head]);
      pieces.set(0, 0, 1, 0, 0, 0, 0);
      pieces.count = 1;
      log.append(pieces, 0);
      log.markAllDue();
      expect(log.closeDue()).toBe(true);
    }
    expect(places).toEqual([0, 64, 128]);
    second.refresh();
    expect(second.ksetsClosed).toBe(3);
  });
});

it('flushes of all shards are served in order when their numbers wrap', () => {
  const { memory, state } = shared();
  memory.words[Word.flushAsked] = 2 ** 31 - 2;
  for (let n = 0; n < 4; n++) {
    const flush = state.add(Word.flushAsked, 1);
    expect(state.flushState(flush)).toBe('pending');
    for (const shard of [0, 1]) state.setFlushServed(shard, state.get(Word.flushAsked));
    expect(state.flushState(flush)).toBe('served');
  }
});

describe('several threads at once', { timeout: 60_000 }, () => {
  async function both(does: SharedWork['does'], times: number) {
    const { chain, memory, segments, state } = shared();
    const segment = segments.takeForData(2 * times + 1);
    const counter = new Int32Array(new SharedArrayBuffer(8));
    const { length, dataOffsetBytes, generation } = chain;
    const plain = { length, dataOffsetBytes: dataOffsetBytes.slice(), generation: generation.slice() };
    const workerData: SharedWork = { memory, does, times, counter, geometry, chain: plain, segment };
    await Promise.all(
      [0, 1].map(
        () =>
          new Promise((resolve, reject) => {
            const worker = new Worker(runnable('test/support/shared-worker.ts'), { workerData });
            worker.once('exit', resolve);
            worker.once('error', reject);
          }),
      ),
    );
    return { counter, segments, segment, memory, state };
  }

  it('are kept apart by the lock', async () => {
    const { counter, memory } = await both('count', 100_000);
    expect(counter[0]).toBe(200_000);
    expect(memory.words[0]).toBe(0);
  });

  it('lose no reference', async () => {
    const { memory, segment } = await both('put', 300_000);
    expect(memory.columns.references[segment]).toBe(1);
  });
});

/** A whole cache whose shards are in this thread, too. */
async function open(jobs: number, pmem: SimPmem = makeDevice(SHAPE)) {
  const backing = new NullBacking(16 * SUBTREE_BYTES);
  const cache = new ShardedCache({ pmem, backing, clock, geometry, jobs });
  const shards = cache.seeds.map((seed) => openShard({ seed, pmem, backing, clock }).driver);
  await cache.ready();
  const submit = (shard: number, op: number, subtree: number, flags = 0) => {
    const bytes = op === Op.flush ? 0 : 4096;
    const group = new RequestGroup(1, pmem.registerArena(new Uint8Array(4096)));
    group.add(op, op === Op.flush ? 0 : subtree * SUBTREE_BYTES, bytes, 0, flags);
    const done = new Promise<void>((resolve) => {
      group.onRequestDone = () => resolve();
      if (shards[shard].cache.submit(group) === 0) resolve();
      shards[shard].kick();
    });
    return { group, done };
  };
  return { pmem, cache, shards, submit };
}

/** Keys in the log as it is on the device. */
function keysInLog(pmem: SimPmem): number {
  return loadCacheOrThrow(pmem, { geometry, backingBytes: Infinity, checkPayload: false }).keyCount;
}

describe('a shard', () => {
  it('flushes writes that other shards have acknowledged', async () => {
    const { pmem, cache, submit } = await open(3);
    const before = keysInLog(pmem);
    await submit(1, Op.write, 1).done;
    await submit(2, Op.write, 2).done;
    const flush = submit(0, Op.flush, 0);
    expect(flush.group.state[0]).toBe(RequestState.pending);
    await flush.done;
    expect(flush.group.state[0]).toBe(RequestState.done);
    expect(keysInLog(pmem)).toBe(before + 2);
    await cache.close();
  });

  it('counts as pending what it has not told of a group that a flush held back', async () => {
    const { pmem, cache, shards } = await open(2);
    const group = new RequestGroup(3, pmem.registerArena(new Uint8Array(4096)));
    group.add(Op.flush, 0, 0, 0);
    group.add(Op.read, 0, 4096, 0);
    group.add(Op.write, 4096, 4096, 0);
    const left: number[] = [];
    await new Promise<void>((resolve) => {
      group.onRequestDone = () => {
        left.push(group.pending);
        if (left.length === 3) resolve();
      };
      shards[0].cache.submit(group);
    });
    expect(left).toEqual([2, 1, 0]);
    await cache.close();
  });

  it('lets writes pass a FLUSH, but not one that has writes beside it', async () => {
    const { pmem, cache, shards, submit } = await open(2);
    const [shard] = shards;
    const arena = pmem.registerArena(new Uint8Array(3 * 4096));
    arena.memory.fill(1, 0, 4096).fill(2, 4096, 8192);
    const write = (arenaAt: number, ...before: number[]) => {
      const group = new RequestGroup(2, arena);
      for (const op of before) group.add(op, 0, 0, 0);
      group.add(Op.write, 0, 4096, arenaAt);
      const done = new Promise<void>((resolve) => {
        group.onRequestDone = () => group.pending === 0 && resolve();
        if (shard.cache.submit(group) === 0) resolve();
      });
      return { group, done };
    };
    const flush = submit(0, Op.flush, 0);
    expect(write(0).group.state[0]).toBe(RequestState.done);
    expect(flush.group.state[0]).toBe(RequestState.pending);
    const [first, second] = [write(0, Op.flush), write(4096)];
    expect(second.group.state[0]).toBe(RequestState.pending);
    await Promise.all([flush.done, first.done, second.done]);
    const read = new RequestGroup(1, arena);
    read.add(Op.read, 0, 4096, 8192);
    expect(shard.cache.submit(read)).toBe(0);
    expect(arena.memory[8192]).toBe(2);
    await cache.close();
  });

  it('asks for one flush for all that wait', async () => {
    const asked = vi.spyOn(SharedState.prototype, 'add');
    const { cache, submit } = await open(3);
    asked.mockClear();
    await Promise.all(Array.from({ length: 50 }, () => submit(0, Op.flush, 0).done));
    expect(asked.mock.calls.filter(([word]) => word === Word.flushAsked).length).toBeLessThanOrEqual(2);
    await cache.close();
  });

  it('wakes the coordinator when it closes a kset, and that writes it back', async () => {
    const { cache, submit } = await open(2);
    await new Promise((resolve) => setTimeout(resolve, 20)); // it sleeps
    await submit(0, Op.write, 0, RequestFlag.fua).done;
    await vi.waitFor(() => expect(cache.stats.writebackKsets).toBe(1));
    await cache.close();
  });

  it('lets GC begin when gc_percent becomes lower while the coordinator sleeps', async () => {
    const { cache, submit } = await open(2);
    cache.setGcPercent(90);
    for (let n = 0; n < 3; n++) await submit(0, Op.write, 0, RequestFlag.fua).done;
    await vi.waitFor(() => expect(cache.stats.writebackKsets).toBe(3));
    await new Promise((resolve) => setTimeout(resolve, 20)); // it sleeps
    expect(cache.stats.gcKsets).toBe(0);
    cache.setGcPercent(0);
    await vi.waitFor(() => expect(cache.stats.gcKsets).toBeGreaterThan(0));
    await cache.close();
  });

  it('gives up its open segment when other shards find none', async () => {
    const jobs = 14; // more than there are segments
    const { cache, submit } = await open(jobs);
    const writes = Array.from({ length: jobs }, (_, shard) => submit(shard, Op.write, shard));
    await Promise.all(writes.map(({ done }) => done));
    expect(writes.map(({ group }) => group.state[0])).toEqual(new Array(jobs).fill(RequestState.done));
    await cache.close();
  });

  it('refuses requests of another shard', async () => {
    const { cache, submit } = await open(2);
    await expect(submit(0, Op.write, 1).done).rejects.toThrow(/wrong shard/);
    await expect(submit(1, Op.read, 0).done).rejects.toThrow(/wrong shard/);
    await cache.close();
  });
});

/** A coordinator, and a test that plays its two shards: the messages they were sent, and a table to take segments from. */
async function playShards() {
  const pmem = makeDevice(SHAPE);
  const cache = new ShardedCache({ pmem, backing: new NullBacking(SUBTREE_BYTES), clock, geometry, jobs: 2 });
  const state = new SharedState(cache.seeds[0].memory);
  const asked = [0, 0];
  const failures: string[] = [];
  cache.seeds.forEach(({ port }, shard) => {
    port.on('message', (message: ToShard) => {
      if (message.kind === 'yield') asked[shard]++;
      if (message.kind === 'fail') failures.push(message.error.message);
      if (message.kind === 'close') port.postMessage({ kind: 'closed' } satisfies FromShard);
    });
    port.postMessage({ kind: 'ready' } satisfies FromShard);
  });
  await cache.ready();
  const tell = async (shard: number, message: FromShard) => {
    cache.seeds[shard].port.postMessage(message);
    await new Promise((resolve) => setTimeout(resolve, 20));
  };
  const segments = new ShardSegments(geometry, readMetadata(pmem, geometry).chain, state);
  return { cache, state, segments, asked, failures, tell };
}

describe('the coordinator', () => {
  /** The first shard waits for room, and has said so. */
  async function playWaiting() {
    const played = await playShards();
    played.state.setWaiting(0, true);
    await played.tell(0, { kind: 'kick' });
    const close = () => {
      played.state.setWaiting(0, false);
      return played.cache.close();
    };
    return { ...played, close };
  }

  it('fails stalled requests when all shards have given up their segments and there is still no room', async () => {
    const { asked, failures, tell, close } = await playWaiting();
    expect(asked).toEqual([1, 1]);
    await tell(0, { kind: 'yielded' });
    expect(failures).toEqual([]);
    await tell(1, { kind: 'yielded' });
    expect(failures).toEqual(new Array(2).fill(expect.stringMatching(/12 segments are too few/)));
    await close();
  });

  it('asks again when a segment was freed meanwhile, once all have answered', async () => {
    const { segments, asked, failures, tell, close } = await playWaiting();
    await tell(0, { kind: 'yielded' });
    segments.put(segments.takeForData(1));
    await tell(0, { kind: 'kick' });
    expect(asked).toEqual([1, 1]);
    await tell(1, { kind: 'yielded' });
    expect(asked).toEqual([2, 2]);
    await tell(0, { kind: 'yielded' });
    await tell(0, { kind: 'kick' });
    expect(failures).toEqual([]);
    await tell(1, { kind: 'yielded' });
    expect(failures).toHaveLength(2);
    await close();
  });

  it('asks again when a shard has taken a segment after its answer', async () => {
    const { segments, asked, failures, tell, close } = await playWaiting();
    await tell(1, { kind: 'yielded' });
    segments.takeForData(1);
    await tell(0, { kind: 'yielded' });
    expect(failures).toEqual([]);
    expect(asked).toEqual([2, 2]);
    await close();
  });
});

describe('a cache in several threads of which one fails', () => {
  it('stops in all of them when its device fails under one', async () => {
    const { pmem, cache, submit } = await open(3);
    await submit(1, Op.write, 1).done;
    pmem.fail({ after: 0, times: 1 });
    const failed = submit(0, Op.write, 0);
    await failed.done;
    expect(failed.group.errors[0]).toMatchObject({ code: 'IO' });
    expect(failed.group.errors[0]?.message).toMatch(/failed as asked/);
    const other = submit(1, Op.write, 1);
    await other.done;
    expect(other.group.errors[0]?.message).toMatch(/stopped when its device failed under another thread/);
    await vi.waitFor(() => expect(cache.failure).toMatchObject({ code: 'IO' }));
    const used = cache.status().segmentsUsed;
    await expect(cache.drain()).rejects.toMatchObject({ code: 'IO' });
    await expect(cache.close()).rejects.toMatchObject({ code: 'IO' });
    expect(cache.status().segmentsUsed).toBe(used);
    expect(keysInLog(pmem)).toBe(0); // what was not flushed; it opens
  });

  it('stops when one of its threads ends, and fails the requests that wait for it', async () => {
    const { cache, state, tell } = await playShards();
    const drained = expect(cache.drain()).rejects.toThrow(/a thread ended without closing its share of the cache/);
    const status = expect(cache.shardStatus()).rejects.toMatchObject({ code: 'CLOSED' });
    await tell(0, { kind: 'drained' });
    cache.seeds[1].port.close();
    await Promise.all([drained, status]);
    expect(cache.failure).toMatchObject({ code: 'CLOSED' });
    expect(state.get(Word.failed)).toBe(1);
    await expect(cache.drain()).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(cache.close()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  it('reports CLOSED when its threads ended in order', async () => {
    const { cache } = await playShards();
    await cache.close();
    await expect(cache.shardStatus()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  it('can be closed when its threads have ended already, or end meanwhile', async () => {
    const all = await playShards();
    for (const { port } of all.cache.seeds) port.close();
    await vi.waitFor(() => expect(all.cache.failure).toBeDefined());
    await expect(all.cache.close()).rejects.toMatchObject({ code: 'CLOSED' });

    const one = await playShards();
    one.cache.seeds[0].port.removeAllListeners('message');
    const closed = expect(one.cache.close()).rejects.toMatchObject({ code: 'CLOSED' });
    one.cache.seeds[0].port.close();
    await closed;
  });
});

describe('a cache in several threads', () => {
  it('is refused in modes that wait for the backing device, and for too many threads', () => {
    const options = { backing: new NullBacking(SUBTREE_BYTES), clock, geometry };
    const through = makeDevice({ ...SHAPE, mode: 'writethrough' });
    expect(() => new ShardedCache({ ...options, pmem: through, jobs: 2 })).toThrow(/mode is writethrough/);
    for (const jobs of [0, 1.5, 65]) {
      expect(() => new ShardedCache({ ...options, pmem: makeDevice(SHAPE), jobs })).toThrow(
        /whole number from 1 to 64/,
      );
    }
  });
});
