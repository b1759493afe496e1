/** Requests between the threads of one cache. Here all of them are in one thread, and take turns. */
import { afterEach, describe, expect, it } from 'vitest';
import type { BackingDevice, BackingDone } from '../../src/engine/device/backing.js';
import type { Arena } from '../../src/engine/device/pmem.js';
import { PcacheError } from '../../src/engine/errors.js';
import { openShard, ShardedCache } from '../../src/engine/index.js';
import { KIB, MIB, SUBTREE_BYTES } from '../../src/engine/media/geometry.js';
import { Op, RequestFlag, RequestGroup, RequestState } from '../../src/engine/request/request-group.js';
import { Exchange } from '../../src/engine/shards/exchange.js';
import { makeExchangeSeeds } from '../../src/engine/shards/exchange-seed.js';
import { LaneReceiver, makeLaneMemory, SLOT_REQUESTS, SLOTS } from '../../src/engine/shards/lane.js';
import { Outbox } from '../../src/engine/shards/outbox.js';
import { Random } from '../../src/engine/sim/random.js';
import { geometryOf, makeDevice } from '../support/sim-device.js';
import { SMALL } from '../support/small-cache.js';

const SHAPE = { ...SMALL, segmentBytes: 64 * KIB, aged: false, segments: 64, gcPercent: 50 };
const geometry = geometryOf(SHAPE);
const clock = { nowMs: () => performance.now() };
const SUBTREES = 7;

/** A backing device in memory, which answers in the next turn. */
class MemoryBacking implements BackingDevice {
  readonly path = 'disk';
  readonly memory = new Uint8Array(SUBTREES * SUBTREE_BYTES);
  readonly sizeBytes = this.memory.length;
  failure: Error | undefined;

  read(offsetBytes: number, target: Uint8Array, at: number, lengthBytes: number, done: BackingDone): void {
    const { failure } = this;
    if (!failure) target.set(this.memory.subarray(offsetBytes, offsetBytes + lengthBytes), at);
    setImmediate(() => done(failure ?? null));
  }
  write(offsetBytes: number, source: Uint8Array, at: number, lengthBytes: number, done: BackingDone): void {
    this.memory.set(source.subarray(at, at + lengthBytes), offsetBytes);
    setImmediate(() => done(null));
  }
  flush(done: BackingDone): void {
    setImmediate(() => done(null));
  }
  close(): void {}
}

async function open(threads: number) {
  const pmem = makeDevice(SHAPE);
  const backing = new MemoryBacking();
  const cache = new ShardedCache({ pmem, backing, clock, geometry, jobs: threads });
  const seeds = makeExchangeSeeds(threads);
  const exchanges = cache.seeds.map((seed, thread) => {
    const { driver } = openShard({ seed, pmem, backing, clock });
    const answer = (question: unknown) => Promise.resolve(`${String(question)} asked of ${thread}`);
    return new Exchange({ seed: seeds[thread], driver, pmem, sizeBytes: backing.sizeBytes, answer });
  });
  await cache.ready();
  const close = async () => {
    await cache.close();
    for (const exchange of exchanges) exchange.close();
  };
  closers.push(close);
  return { backing, cache, exchanges };
}

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

/** Runs a group to its end. Each request must end once. */
function run(exchange: Exchange, group: RequestGroup): Promise<void> {
  return new Promise((resolve) => {
    const ends = new Array<number>(group.count).fill(0);
    const ended = (i: number) => {
      expect(++ends[i]).toBe(1);
      expect(group.state[i]).not.toBe(RequestState.pending);
      if (ends.every((times) => times === 1)) {
        expect(group.pending).toBe(0);
        resolve();
      }
    };
    group.onRequestDone = (_, i) => ended(i);
    exchange.submit(group);
    for (let i = 0; i < group.count; i++) if (group.state[i] !== RequestState.pending) ended(i);
  });
}

/** A client with parts of the device of its own, 3 MiB each, so that its requests cross subtrees. */
class Client {
  readonly model: Uint8Array;
  private readonly random: Random;
  private readonly arena: Arena;
  private readonly group: RequestGroup;

  constructor(
    private readonly exchange: Exchange,
    private readonly client: number,
    private readonly clients: number,
    { memory }: MemoryBacking,
  ) {
    this.model = memory.slice();
    this.random = new Random(17 + client);
    this.arena = exchange.makeArena(48 * 64 * KIB);
    this.group = new RequestGroup(48, this.arena);
  }

  private range(): [number, number] {
    const { random } = this;
    const places = Math.floor(this.model.length / (3 * MIB));
    const place = this.client + this.clients * random.below(Math.floor((places - this.client - 1) / this.clients) + 1);
    const start = place * 3 * MIB;
    const length = 512 * random.between(1, 128);
    // Every second one near a border of subtrees, if there is one.
    const border = Math.ceil(start / SUBTREE_BYTES) * SUBTREE_BYTES;
    const near = border - 512 * random.below(length / 512 + 1);
    if (random.below(2) === 0 && near >= start && near + length <= start + 3 * MIB) return [near, length];
    return [start + 512 * random.below((3 * MIB - length) / 512), length];
  }

  async round(): Promise<void> {
    const { group, random, model, arena } = this;
    group.clear();
    const after: (() => void)[] = [];
    const written: [number, number][] = [];
    for (let n = random.between(1, group.capacity); n > 0; n--) {
      const [offset, length] = this.range();
      const at = group.count * 64 * KIB;
      const kind = random.below(20);
      if (kind === 0) {
        group.add(Op.flush, 0, 0, 0);
        continue;
      }
      // What is under way at the same time may come in any order.
      if (written.some(([from, bytes]) => from < offset + length && offset < from + bytes)) continue;
      if (kind < 8) {
        const expected = model.slice(offset, offset + length);
        arena.memory.fill(0xee, at, at + length);
        group.add(Op.read, offset, length, at);
        after.push(() => {
          if (Buffer.compare(arena.memory.subarray(at, at + length), expected) !== 0) {
            throw new Error(`client ${this.client}: bytes ${offset} to ${offset + length} are wrong`);
          }
        });
        written.push([offset, length]);
      } else if (kind === 8) {
        group.add(Op.zero, offset, length, 0, RequestFlag.keepsSpace);
        model.fill(0, offset, offset + length);
        written.push([offset, length]);
      } else {
        const value = random.below(256);
        for (let sector = 0; sector < length; sector += 512) {
          arena.memory.fill((value + sector / 512) & 255, at + sector, at + sector + 512);
        }
        group.add(Op.write, offset, length, at, random.below(4) === 0 ? RequestFlag.fua : 0);
        model.set(arena.memory.subarray(at, at + length), offset);
        written.push([offset, length]);
      }
    }
    if (group.count === 0) return;
    await run(this.exchange, group);
    expect([...group.state.subarray(0, group.count)].every((state) => state === RequestState.done)).toBe(true);
    for (const check of after) check();
  }
}

describe('the exchange', () => {
  it.each([1, 2, 3])('of %i threads gives every client what it has written', { timeout: 60_000 }, async (threads) => {
    const { backing, cache, exchanges } = await open(threads);
    for (let at = 0; at < backing.sizeBytes; at += 512) backing.memory.fill((at / 512) & 255, at, at + 512);
    const clients = exchanges.map((exchange, n) => new Client(exchange, n, threads, backing));
    await Promise.all(
      clients.map(async (client) => {
        for (let n = 0; n < 30; n++) await client.round();
      }),
    );
    await cache.drain();
    clients.forEach(({ model }, client) => {
      for (let place = client; 3 * MIB * (place + 1) <= model.length; place += threads) {
        const [from, to] = [3 * MIB * place, 3 * MIB * (place + 1)];
        expect(Buffer.compare(backing.memory.subarray(from, to), model.subarray(from, to))).toBe(0);
      }
    });
  });

  it('takes more requests than it can have under way', async () => {
    const { exchanges } = await open(2);
    const count = 3 * SLOTS * SLOT_REQUESTS;
    const group = new RequestGroup(count, exchanges[0].makeArena(512));
    for (let i = 0; i < count; i++) group.add(Op.read, SUBTREE_BYTES + 512 * (i % 1000), 512, 0);
    await run(exchanges[0], group);
    expect(group.state.every((state) => state === RequestState.done)).toBe(true);
  });

  it('says why a request failed in another thread, and goes on', async () => {
    const { backing, exchanges } = await open(3);
    const arena = exchanges[0].makeArena(64 * KIB);
    const group = new RequestGroup(4, arena);
    const add = () => {
      group.clear();
      group.add(Op.read, 4 * SUBTREE_BYTES, 4096, 0);
      group.add(Op.write, 2 * SUBTREE_BYTES, 4096, 4096);
      group.add(Op.read, SUBTREES * SUBTREE_BYTES - 512, 4096, 0); // ends beyond the device
    };
    add();
    backing.failure = new Error('no answer');
    await run(exchanges[0], group);
    expect([...group.state.subarray(0, 3)]).toEqual([RequestState.failed, RequestState.done, RequestState.failed]);
    expect(group.errors[0]).toBeInstanceOf(PcacheError);
    expect(group.errors[0]!.message).toContain('no answer');
    expect(group.errors[2]).toMatchObject({ code: 'OUT_OF_RANGE' });
    backing.failure = undefined;
    add();
    await run(exchanges[0], group);
    expect(group.state[0]).toBe(RequestState.done);
    expect(group.errors[0]).toBeUndefined();
  });

  it('uses memory that was made after other memory was dropped', async () => {
    const { exchanges } = await open(2);
    for (let n = 0; n < 5; n++) {
      const arena = exchanges[0].makeArena(4096);
      const group = new RequestGroup(1, arena);
      arena.memory.fill(n + 1);
      group.add(Op.write, SUBTREE_BYTES, 4096, 0);
      await run(exchanges[0], group);
      arena.memory.fill(0);
      group.clear();
      group.add(Op.read, SUBTREE_BYTES, 4096, 0);
      await run(exchanges[0], group);
      expect(arena.memory.every((byte) => byte === n + 1)).toBe(true);
      exchanges[0].dropArena(arena);
    }
  });

  it('asks the thread that has a place', async () => {
    const { exchanges } = await open(3);
    expect(await exchanges[0].ask(5 * SUBTREE_BYTES, 'this')).toBe('this asked of 2');
    expect(await exchanges[0].ask(3 * SUBTREE_BYTES, 'that')).toBe('that asked of 0');
  });
});

describe('a lane', () => {
  it('frees a slot once, though it comes back after its last request was seen to have ended', () => {
    const memory = makeLaneMemory();
    const [outbox, receiver] = [new Outbox(memory), new LaneReceiver(memory)];
    const group = new RequestGroup(2, { id: 0, memory: new Uint8Array(1024) });
    const ended: number[] = [];
    const send = () => {
      group.clear();
      for (const i of [0, 1]) {
        group.add(Op.read, 512 * i, 512, 512 * i);
        outbox.add(1, group, i, 512 * i, 512, 512 * i);
      }
      outbox.send();
      const slot = receiver.receive();
      receiver.accept();
      return slot;
    };
    const takeBack = () =>
      outbox.takeBack(
        (_, i) => ended.push(i),
        () => {},
      );
    const slot = send();
    receiver.end(slot * SLOT_REQUESTS, RequestState.done, 0);
    receiver.giveBack(slot);
    receiver.end(slot * SLOT_REQUESTS + 1, RequestState.done, 0);
    takeBack(); // between the end of the second request and
    receiver.giveBack(slot);
    takeBack();
    expect(ended).toEqual([0, 1]);
    // All slots are there, each once.
    const slots = Array.from({ length: SLOTS }, send);
    expect(new Set(slots).size).toBe(SLOTS);
    expect(receiver.receive()).toBe(-1);
  });
});

describe('many groups under way at once', () => {
  it.each([2, 3])('all end, flushes among them, with %i threads', { timeout: 30_000 }, async (threads) => {
    const { backing, exchanges } = await open(threads);
    const random = new Random(5);
    const client = async (exchange: Exchange) => {
      const arena = exchange.makeArena(MIB);
      const stream = async () => {
        const group = new RequestGroup(8, arena);
        for (let n = 0; n < 40; n++) {
          group.clear();
          for (let left = random.between(1, 8); left > 0; left--) {
            const offset = 512 * random.below(backing.sizeBytes / 512 - 8);
            const op = [Op.read, Op.write, Op.write, Op.flush][random.below(4)];
            if (op === Op.flush) group.add(op, 0, 0, 0);
            else group.add(op, offset, 4096, 4096 * random.below(200), op === Op.write ? random.below(2) : 0);
          }
          await run(exchange, group);
        }
      };
      await Promise.all(Array.from({ length: 12 }, stream));
    };
    await Promise.all(exchanges.map(client));
  });
});
