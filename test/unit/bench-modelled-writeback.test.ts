/** `pcache bench writeback --model`, and the modelled device's way of writing ranges. */
import { describe, expect, it } from 'vitest';
import { benchModelledWriteback } from '../../src/bench/modelled-writeback.js';
import { VirtualClock } from '../../src/replay/virtual-clock.js';
import { makeModel } from '../../src/simulate/latency-model.js';
import { QueueModel } from '../../src/simulate/queue-model.js';
import { TimedBacking } from '../../src/simulate/timed-backing.js';

const MIB = 1024 * 1024;
const FLAGS = { keys: 4000, bs: 4096, span: 64 * MIB, cacheBytes: 512 * MIB, dataCrc: false };

describe('write-back before a modelled disk', () => {
  it.each([false, true])(
    'lies between the sweep and what was written, and is the same each time (data_crc %s)',
    (dataCrc) => {
      const flags = { ...FLAGS, dataCrc };
      const result = benchModelledWriteback(flags, 'hdd');
      const { engine, asWritten, sweep, blocks } = result;
      expect(asWritten).toMatchObject({ writes: 4000, bytes: 4000 * 4096, bytesPerWrite: 4096 });
      expect(blocks).toBeLessThan(4000);
      expect(sweep.bytes).toBe(blocks * 4096);
      expect(engine.bytes).toBeGreaterThanOrEqual(sweep.bytes);
      expect(engine.bytes).toBeLessThanOrEqual(asWritten.bytes);
      expect(engine.writes).toBeGreaterThanOrEqual(sweep.writes);
      expect(engine.writes).toBeLessThan(asWritten.writes);
      expect(engine.timeNs).toBeGreaterThan(sweep.timeNs);
      expect(engine.timeNs).toBeLessThan(0.8 * asWritten.timeNs);
      expect(engine.seeks).toBeLessThanOrEqual(engine.writes);
      expect(benchModelledWriteback(flags, 'hdd')).toEqual(result);
    },
  );

  it('takes one sweep of one write and one flush where all blocks of the span are dirty', () => {
    const { sweep, blocks } = benchModelledWriteback({ ...FLAGS, keys: 4000, span: MIB }, 'hdd');
    expect(blocks).toBe(256);
    expect(sweep).toMatchObject({ writes: 1, bytesPerWrite: MIB, seeks: 1, flushes: 1 });
    expect(sweep.timeNs).toBeCloseTo(12e6 + 100e3 + MIB * 5 + 8.3e6, 0);
  });

  it('refuses blocks that the span or the cache cannot hold', () => {
    expect(() => benchModelledWriteback({ ...FLAGS, bs: 1000 }, 'hdd')).toThrow(/--bs 1000/);
    expect(() => benchModelledWriteback({ ...FLAGS, keys: 1e6 }, 'hdd')).toThrow(/larger --cache-size/);
  });
});

it('the modelled device writes ranges that adjoin at once, and one write after another', () => {
  const clock = new VirtualClock();
  const queue = new QueueModel({ ...makeModel('nvme', {}, {}).backing, bytesPerSecond: Infinity }, MIB);
  const backing = new TimedBacking(MIB, queue, clock);
  const ended: number[] = [];
  const ranges = {
    pmemOffsetBytes: Float64Array.of(0, 8192, 4096),
    offsetBytes: Float64Array.of(4096, 8192, 65536),
    lengthBytes: Float64Array.of(4096, 512, 512),
  };
  backing.writerFrom()(ranges, 3, () => ended.push(clock.nowMs()));
  while (backing.nextEndMs < Infinity) {
    clock.moveTo(backing.nextEndMs);
    backing.answerNext();
  }
  expect(queue.seeks).toBe(2);
  expect(ended).toEqual([0.04]);
});
