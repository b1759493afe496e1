/** The latency model against what follows by hand and by closed forms. */
import { describe, expect, it } from 'vitest';
import { MIB } from '../../src/engine/media/geometry.js';
import { Random } from '../../src/engine/sim/random.js';
import { makeModel, pmemOfBench, type BackingModel } from '../../src/simulate/latency-model.js';
import { QueueModel } from '../../src/simulate/queue-model.js';
import { simulate, type SimulateOptions } from '../../src/simulate/index.js';
import { makeBatch, type TraceBatch } from '../../src/trace/types.js';
import { TraceFlag, TraceOp } from '../../src/trace/index.js';

const US = 1000;
const GIB = 1024 * MIB;
/** 100 µs a read, 50 µs a write, and a byte a nanosecond. */
const DEVICE: BackingModel = {
  readNs: 100 * US,
  writeNs: 50 * US,
  flushNs: 400 * US,
  seekNs: 0,
  shortSeekNs: 0,
  bytesPerSecond: 1e9,
  depth: 1,
};
const NO_TRANSFER = { ...DEVICE, bytesPerSecond: Infinity };

describe('QueueModel', () => {
  it('an idle device takes its fixed time and that of the bytes', () => {
    const queue = new QueueModel(DEVICE, GIB);
    expect(queue.read(1000, 0, 4096)).toBe(1000 + 100_000 + 4096);
    expect(queue.write(1e9, 0, 512)).toBe(1e9 + 50_000 + 512);
    expect(queue.busyNs).toBe(104_096 + 50_512);
  });

  it('D/D/1: calls that come faster than they are served wait one service time more each', () => {
    const queue = new QueueModel(NO_TRANSFER, GIB);
    for (let n = 0; n < 100; n++) {
      const arrival = n * 60 * US;
      expect(queue.read(arrival, 0, 512) - arrival).toBe(100 * US + n * 40 * US);
    }
  });

  it('a batch at a device of depth c: the nth is served in round floor(n / c)', () => {
    const queue = new QueueModel({ ...NO_TRANSFER, depth: 4 }, GIB);
    for (let n = 0; n < 20; n++) expect(queue.read(0, 0, 512)).toBe((Math.floor(n / 4) + 1) * 100 * US);
    expect(queue.busyNs).toBe(20 * 100 * US);
  });

  it('M/D/1: the mean wait is that of Pollaczek and Khinchine', () => {
    const queue = new QueueModel(NO_TRANSFER, GIB);
    const service = 100 * US;
    const load = 0.7;
    let state = 12345;
    let now = 0;
    let waited = 0;
    const calls = 400_000;
    for (let n = 0; n < calls; n++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      now += (-Math.log((state + 1) / (2 ** 32 + 1)) * service) / load;
      waited += queue.read(now, 0, 512) - now - service;
    }
    const expected = (load * service) / (2 * (1 - load));
    expect(waited / calls / expected).toBeGreaterThan(0.95);
    expect(waited / calls / expected).toBeLessThan(1.05);
  });

  it('bytes share one channel, whatever the depth', () => {
    const queue = new QueueModel({ ...DEVICE, depth: 8 }, GIB);
    for (let n = 1; n <= 8; n++) expect(queue.read(0, 0, 50_000)).toBe(100 * US + n * 50 * US);
  });

  it('only what begins elsewhere has to seek', () => {
    const queue = new QueueModel({ ...NO_TRANSFER, seekNs: 8000 * US, shortSeekNs: 8000 * US }, GIB);
    expect(queue.read(0, 4096, 4096)).toBe(8100 * US);
    expect(queue.read(1e9, 8192, 4096)).toBe(1e9 + 100 * US);
    expect(queue.write(2e9, 4096, 512)).toBe(2e9 + 8050 * US);
    expect(queue.seeks).toBe(2);
  });

  const DISK = { ...DEVICE, readNs: 0, seekNs: 12_000 * US, shortSeekNs: 5000 * US, bytesPerSecond: 200e6 };

  /** Time of a seek from `from` to `to`, which are sectors. */
  function seekNs(from: number, to: number): number {
    const queue = new QueueModel(DISK, GIB);
    const begun = queue.read(0, (from - 1) * 512, 512);
    return queue.read(begun, to * 512, 512) - begun - (512 / 200e6) * 1e9;
  }

  it('a seek grows with the root of the distance, from the short one to that over the whole device', () => {
    const last = GIB / 512 - 1;
    expect(seekNs(last + 1, last) / US).toBeCloseTo(5000 + 13_125 * Math.sqrt(512 / GIB), 3);
    expect(seekNs(1, last) / US).toBeCloseTo(5000 + 13_125, -1);
    expect(seekNs(last, 0) / US).toBeCloseTo(5000 + 13_125, -1);
    expect(seekNs(last / 2, last / 4) / US).toBeCloseTo(5000 + 13_125 / 2, -1);
  });

  it('what is a little further on is reached when what lies between has passed', () => {
    expect(seekNs(1, 201) / US).toBeCloseTo((200 * 512) / 200, 3);
    expect(seekNs(201, 1) / US).toBeGreaterThan(5000);
  });

  it('the average over random places of the device is the model’s', () => {
    const queue = new QueueModel(DISK, GIB);
    const random = new Random(1);
    const calls = 20_000;
    let now = 0;
    for (let n = 0; n < calls; n++) now = queue.read(now, random.below(GIB / 512) * 512, 512);
    expect(queue.seeks).toBe(calls);
    expect(now / calls / US).toBeGreaterThan(11_850);
    expect(now / calls / US).toBeLessThan(12_150);
  });

  it('a flush waits for all before it, and all after it for the flush', () => {
    const queue = new QueueModel({ ...NO_TRANSFER, depth: 2 }, GIB);
    queue.write(0, 0, 512); // until 50 µs
    queue.read(0, 0, 512); // until 100 µs
    expect(queue.flush(10 * US)).toBe(500 * US);
    expect(queue.read(20 * US, 0, 512)).toBe(600 * US);
    expect(queue.read(20 * US, 0, 512)).toBe(600 * US);
    expect(queue.flush(10_000 * US)).toBe(10_400 * US);
  });
});

describe('parameters', () => {
  it('what is given replaces what the preset says', () => {
    const { pmem, backing } = makeModel('hdd', { readNs: 7 }, { depth: 4, seekNs: undefined });
    expect(pmem.readNs).toBe(7);
    expect(pmem.writeNs).toBe(2000);
    expect(backing).toMatchObject({ depth: 4, seekNs: 12_000_000, shortSeekNs: 5_000_000, readNs: 100_000 });
    const seeks = (seekNs: number, shortSeekNs?: number) => makeModel('hdd', {}, { seekNs, shortSeekNs }).backing;
    expect(seeks(2_400_000).shortSeekNs).toBe(1_000_000);
    expect(seeks(2_400_000, 7).shortSeekNs).toBe(7);
    expect(makeModel('nvme', {}, { seekNs: 9 }).backing.shortSeekNs).toBe(9);
  });

  it('a bench gives the bytes by its bare copies and the rest by the engine', () => {
    const bench = (pattern: string) =>
      JSON.stringify({ pattern, blockBytes: 4096, engine: { nsPerRequest: 700 }, limit: { nsPerRequest: 400 } });
    expect(pmemOfBench(bench('randread'), 'r')).toEqual({ readNs: 300, readBytesPerSecond: 10_240_000_000 });
    expect(pmemOfBench(bench('randwrite'), 'w')).toEqual({ writeNs: 300, writeBytesPerSecond: 10_240_000_000 });
    expect(() => pmemOfBench(bench('mixed'), 'm.json')).toThrow(/^m.json: .*mixes/);
    for (const text of ['', '{}', '[1]', 'null', '{"pattern": "read", "blockBytes": 0}']) {
      expect(() => pmemOfBench(text, 'x.json')).toThrow(/^x.json: .*pcache bench --json/);
    }
  });
});

type Request = readonly [atUs: number, op: number, offsetBytes: number, lengthBytes: number, flags?: number];

function expectLatencies(requests: readonly Request[], options: Partial<SimulateOptions> = {}) {
  const batch = makeBatch(requests.length);
  batch.count = requests.length;
  requests.forEach(([atUs, op, offsetBytes, lengthBytes, flags = 0], i) => {
    batch.timeNs[i] = atUs * US;
    batch.op[i] = op;
    batch.offsetBytes[i] = offsetBytes;
    batch.lengthBytes[i] = lengthBytes;
    batch.flags[i] = flags;
  });
  async function* batches(): AsyncGenerator<TraceBatch, void, undefined> {
    await Promise.resolve();
    yield batch;
  }
  const trace = { name: 't', format: 't', action: 'queue', durationNs: 0, endBytes: 0, uniqueBytes: 0, counts: {} };
  const pmem = { readNs: 1000, writeNs: 2000, readBytesPerSecond: 4e9, writeBytesPerSecond: 2e9 };
  return simulate({
    trace: { batches, endBytes: 64 * MIB, describe: () => trace },
    cacheBytes: 512 * MIB,
    model: { pmem, backing: NO_TRANSFER },
    ...options,
  });
}

const { read, write, flush } = TraceOp;

describe('a simulation in time', () => {
  it('a miss takes the backing device’s time, a hit pmem’s alone', async () => {
    const result = await expectLatencies([
      [0, read, 0, 4096],
      [500, read, 0, 4096],
      [1000, write, 8192, 8192],
      [1500, read, 8192, 4096],
    ]);
    const { readHit, readMiss, write: writes } = result.latency!;
    // 100 µs of the device, 1 µs of pmem's read, and 4096 bytes into the cache at 2 GB/s.
    expect(readMiss.count).toBe(1);
    expect(readMiss.maxNs / US).toBeCloseTo(100 + 1 + 2.048, 0);
    expect(readHit.count).toBe(2);
    expect(readHit.maxNs / US).toBeCloseTo(1 + 1.024, 2);
    expect(writes.count).toBe(1);
    expect(writes.maxNs / US).toBeCloseTo(2 + 4.096, 2);
    expect(result).toMatchObject({ simulated: true, lockstep: false, maxLagNs: 0 });
    const alone = result.latencyWithoutCache!;
    expect([alone.read.count, alone.write.count]).toEqual([3, 1]);
    expect(alone.read.maxNs).toBeCloseTo(100 * US, -2);
    expect(alone.write.maxNs).toBeCloseTo(50 * US, -2);
  });

  it('misses queue at the device, and a read of what is being read asks it once more', async () => {
    const result = await expectLatencies([0, 1, 2].map((n) => [0, read, n * MIB, 512] as const));
    // Served at 100, 200 and 300 µs; the histogram rounds to three digits.
    expect(result.latency!.readMiss.maxNs / US).toBeCloseTo(300 + 1 + 0.256, 0);
    expect(result.latency!.readMiss.meanNs / US).toBeCloseTo(200 + 1 + 0.256, 0);
    expect(result.latencyWithoutCache!.read.maxNs / US).toBeCloseTo(300, 0);
    expect(result.model!.backingBusyWithoutCache).toBeCloseTo(1, 6);
    const twice = await expectLatencies([
      [0, read, 0, 512],
      [10, read, 0, 512],
    ]);
    expect(twice.latency!.readMiss.count).toBe(2);
    expect(twice.latency!.readMiss.maxNs / US).toBeCloseTo(190 + 1.256, 0);
  });

  it('a flush is pmem’s with the cache, and without it waits for what was written', async () => {
    const result = await expectLatencies([
      [0, write, 0, 512],
      [10, flush, 0, 0],
      [5000, write, 512, 512, TraceFlag.fua],
      [9000, write, 1024, 512, TraceFlag.preflush],
    ]);
    expect(result.latency!.flush.maxNs).toBe(2000);
    expect(result.latencyWithoutCache!.flush.maxNs / US).toBeCloseTo(50 + 400 - 10, 0);
    // Write and flush; flush and write.
    expect(result.latencyWithoutCache!.write.p50Ns / US).toBeCloseTo(450, 0);
    expect(result.latencyWithoutCache!.write.maxNs / US).toBeCloseTo(450, 0);
    expect(result.writeback.bytes).toBe(3 * 512);
  });

  it('write-back is in the way of a miss', async () => {
    const requests: Request[] = [
      [0, write, 0, 512],
      [1, flush, 0, 0], // write-back begins: 50 µs
      [11, read, MIB, 512],
    ];
    const result = await expectLatencies(requests);
    expect(result.latency!.readMiss.maxNs / US).toBeCloseTo(40 + 100 + 1.256, 0);
    const two = makeModel('sata-ssd', {}, { ...NO_TRANSFER, depth: 2 });
    const beside = await expectLatencies(requests, { model: two });
    expect(beside.latency!.readMiss.maxNs / US).toBeCloseTo(100 + 1.5 + 0.256, 0);
  });

  it('a kset that nobody flushes is closed after its second, in the time of the trace', async () => {
    const requests: Request[] = [
      [0, write, 0, 512],
      [3_000_000, read, 0, 512],
    ];
    const result = await expectLatencies(requests);
    expect(result.writeback.keys).toBe(1);
    expect(result.timeline.endNs).toBe(3e9);
    // At ten times the pace the read comes after 0.3 s.
    expect((await expectLatencies(requests, { speed: 10 })).timeline.endNs).toBe(0.3e9);
  });

  it('a second that is rounded to less ends all the same', async () => {
    let us = 1.001;
    while (us / 1000 + 1000 - us / 1000 >= 1000) us += 0.001;
    const requests: Request[] = [
      [0, read, 0, 512],
      [us, write, 0, 512],
      [3_000_000, read, 0, 512],
    ];
    expect((await expectLatencies(requests)).writeback.bytes).toBe(512);
    expect((await expectLatencies(requests, { model: undefined })).writeback.bytes).toBe(512);
  });

  it('of a write through the cache the backing device’s time is part', async () => {
    const result = await expectLatencies([[0, write, 0, 512]], { mode: 'writethrough' });
    expect(result.latency!.write.maxNs / US).toBeCloseTo(50 + 2 + 0.256, 0);
  });

  it('a cache that fills up has writes wait for the device', async () => {
    // 600 MiB at once into a cache of 512 MiB, before a device of 100 MB/s.
    const requests = Array.from({ length: 600 }, (_, n) => [n, write, (n % 64) * MIB, MIB] as const);
    const backing = { ...NO_TRANSFER, bytesPerSecond: 100e6, flushNs: 0 };
    const result = await expectLatencies(requests, { model: makeModel('nvme', {}, backing) });
    expect(result.requests.waitedForRoom).toBeGreaterThan(50);
    expect(result.latency!.write.p50Ns).toBeLessThan(1e6);
    expect(result.latency!.write.maxNs).toBeGreaterThan(0.5e9);
    expect(result.timeline.dirtyPeakBytes).toBeGreaterThan(400 * MIB);
    expect(result.dirtyLeft).toEqual({ keys: 0, bytes: 0 });
  });
});
