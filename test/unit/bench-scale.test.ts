/** The parts of `pcache bench scale`: its steps, its devices, its verdicts. */
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NullBacking } from '../../src/bench/null-backing.js';
import { Blocks } from '../../src/bench/pattern.js';
import { Rig } from '../../src/bench/rig.js';
import type { StepResult } from '../../src/bench/scale-measure.js';
import {
  FULL_EFFORT,
  memoryNeeded,
  SCALE_AXES,
  SCALE_BLOCK_BYTES,
  scaleAxes,
  scaleStep,
  writtenBytes,
} from '../../src/bench/scale-steps.js';
import { judgeAxis } from '../../src/bench/scale-verdict.js';
import { SparsePmem } from '../../src/bench/sparse-pmem.js';
import { makeEphemeralPmem } from '../../src/replay/replay-devices.js';
import { verdictText } from '../../src/output/scale-report.js';

const GIB = 2 ** 30;
const TIB = 2 ** 40;

describe('blocks', () => {
  it.each([
    [4096, 4 * GIB],
    [4096, 16 * TIB],
    [512, 16 * TIB],
  ])('of %i bytes over %i: as exact arithmetic has them', (blockBytes, spanBytes) => {
    const blocks = new Blocks(blockBytes, 2 ** 26, spanBytes, false);
    const total = BigInt(spanBytes / blockBytes);
    const stride = BigInt(blocks.offsetBytes(1) / blockBytes);
    for (let n = 1; n < 2 ** 26; n = Math.ceil(n * 1.37)) {
      expect(BigInt(blocks.offsetBytes(n))).toBe(((BigInt(n) * stride) % total) * BigInt(blockBytes));
    }
  });

  it('are all different', () => {
    const blocks = new Blocks(4096, 100_000, 400_000 * 4096, false);
    expect(new Set(Array.from({ length: 100_000 }, (_, n) => blocks.offsetBytes(n))).size).toBe(100_000);
  });
});

describe('steps', () => {
  it('along an axis only its quantity grows, and of keys the cache that they need', () => {
    const [small, large] = [100_000, 50_000_000].map((keys) => scaleStep('keys', keys, false));
    expect(small.backingBytes).toBe(large.backingBytes);
    expect(large.cacheBytes).toBeGreaterThan(50_000_000 * SCALE_BLOCK_BYTES);
    for (const axis of ['cache', 'backing'] as const) {
      const steps = scaleAxes([axis], undefined, false)[0].sizes.map((size) => scaleStep(axis, size, false));
      expect(new Set(steps.map(({ keys }) => keys)).size).toBe(1);
      expect(new Set(steps.map(({ cacheBytes }) => cacheBytes)).size).toBe(axis === 'cache' ? steps.length : 1);
      expect(new Set(steps.map(({ backingBytes }) => backingBytes)).size).toBe(axis === 'backing' ? steps.length : 1);
    }
  });

  it.each(SCALE_AXES)('along %s every cache has room for its keys and the rounds without collection', (axis) => {
    for (const size of scaleAxes([axis], undefined, false)[0].sizes) {
      const { cacheBytes, backingBytes, keys } = scaleStep(axis, size, false);
      expect(keys * SCALE_BLOCK_BYTES).toBeLessThanOrEqual(backingBytes);
      const used = keys * (SCALE_BLOCK_BYTES + 48) + writtenBytes(FULL_EFFORT);
      if (cacheBytes > 2 * GIB) expect(used).toBeLessThan(cacheBytes * 0.9);
    }
  });

  it('the most keys fit into the memory of a machine of 24 GB', () => {
    const needed = memoryNeeded(scaleStep('keys', 50_000_000, false), FULL_EFFORT);
    expect(needed).toBeGreaterThan(50_000_000 * (40 + 16)); // log and index
    expect(needed).toBeLessThan(16 * GIB);
  });

  it('axes are those asked for, each once', () => {
    expect(scaleAxes(undefined, undefined, true).map(({ axis }) => axis)).toEqual(SCALE_AXES);
    expect(scaleAxes(['keys', 'keys'], undefined, true)).toHaveLength(1);
    expect(scaleAxes(['keys'], [1000, 2000], false)).toEqual([{ axis: 'keys', sizes: [1000, 2000] }]);
  });

  it.each([
    ['sizes of two axes', ['keys', 'cache'], [1000], '--sizes needs exactly one --axis'],
    ['a cache that is none', ['cache'], [1e6], 'too few for a cache'],
    ['more keys than blocks', ['backing'], [2 ** 20], 'holds 1 to 256'],
    ['no keys', ['keys'], [0], '0 keys'],
    ['a cache too large', ['cache'], [32 * TIB], 'at most 16 TiB'],
  ] as const)('%s: refused', (_, axes, sizes, message) => {
    expect(() => scaleAxes(axes, sizes, false)).toThrow(message);
  });
});

describe('a sparse cache', () => {
  let pmem: SparsePmem;
  beforeEach(() => {
    pmem = makeEphemeralPmem({
      cacheBytes: GIB,
      dataCrc: false,
      gcPercent: 90,
      usedBytes: 2 ** 20,
      open: SparsePmem.open,
    }) as SparsePmem;
  });
  afterEach(() => pmem.close());

  const residentBytes = () =>
    Number(/^RssShmem:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024;
  const open = () => new Rig({ pmem, backing: new NullBacking(GIB), blockBytes: 4096, depth: 1 });

  it('takes memory for its log only, and has all its keys when it is opened again', async () => {
    const before = residentBytes();
    const blocks = new Blocks(4096, 20_000, GIB, false);
    const rig = open();
    await rig.fill(blocks, () => {});
    expect(rig.cache.status().indexEntries).toBe(20_000);
    expect(rig.cache.stats.writebackWrites).toBeGreaterThan(0);
    await rig.close();
    expect(residentBytes() - before).toBeLessThan(8 * 2 ** 20);

    const again = open();
    expect(again.cache.status().indexEntries).toBe(20_000);
    expect(again.cache.locate(blocks.offsetBytes(19_999))).toBeGreaterThan(0);
    await again.close();
  });

  it('keeps payload once it is told to', async () => {
    const rig = open();
    const blocks = new Blocks(4096, 1, GIB, false);
    const payload = new Uint8Array(4096);
    const read = () => {
      pmem.read(rig.cache.locate(0), payload, 0, 4096);
      return payload.every((byte) => byte === 0);
    };
    await rig.write(blocks, () => {});
    expect(read()).toBe(true);
    pmem.dropsPayload = false;
    await rig.write(blocks, () => {});
    expect(read()).toBe(false);
    await rig.close();
  });
});

describe('verdicts', () => {
  const linear = (nsPerKey: number) => ({ elapsedNs: 1e9, nsPerKey });
  const request = (engineNs: number, limitNs: number) => ({ engineNs, limitNs, ratio: { median: 1, min: 1, max: 1 } });
  const step = (keys: number, cost: number, more: Partial<StepResult> = {}): StepResult => ({
    cacheBytes: GIB,
    backingBytes: TIB,
    keys,
    readTargets: keys,
    writeTargets: keys,
    read: request(cost, 200),
    write: request(cost, 200),
    index: { memoryBytes: 1, bytesPerKey: 1 },
    memoryLoadNs: 10,
    attach: linear(cost),
    fsck: linear(100),
    dumpKeys: linear(100),
    ...more,
  });
  const kindOf = (...steps: StepResult[]) => judgeAxis('keys', steps)[1].kind;

  it('a cost that stays, or falls, is flat', () => {
    expect(kindOf(step(1e5, 300), step(1e6, 330))).toBe('flat');
    expect(kindOf(step(1e5, 900), step(1e6, 300))).toBe('flat');
  });

  it('one that rises is not, unless what it needs has left the processor’s caches', () => {
    expect(kindOf(step(1e5, 300), step(1e6, 500))).toBe('grows');
    expect(kindOf(step(1e5, 300), step(1e6, 500, { memoryLoadNs: 90 }))).toBe('cache-misses');
    expect(kindOf(step(1e5, 300), step(1e6, 900, { memoryLoadNs: 90 }))).toBe('grows');
  });

  it('one that rises is a matter of cache misses where the limit rises as well', () => {
    const slower = { write: request(500, 380) };
    expect(kindOf(step(1e5, 300), step(1e6, 500, slower))).toBe('cache-misses');
  });

  it('a rise between two steps is not made good by a fall after it', () => {
    expect(kindOf(step(1e5, 300), step(1e6, 600), step(1e7, 300))).toBe('grows');
  });

  it('many small rises are a large one', () => {
    expect(kindOf(step(1e5, 300), step(1e6, 360), step(1e7, 430))).toBe('grows');
  });

  it('are given for what reads all keys only along their axis, and from 100,000 on', () => {
    const measures = (axis: 'keys' | 'cache', ...keys: number[]) =>
      judgeAxis(
        axis,
        keys.map((n) => step(n, 300)),
      ).map(({ measure }) => measure);
    expect(measures('keys', 1e5, 1e6)).toEqual(['read', 'write', 'attach', 'fsck', 'dump-keys']);
    expect(measures('keys', 1e4, 1e6)).toEqual(['read', 'write']);
    expect(measures('cache', 1e5, 1e6)).toEqual(['read', 'write']);
    expect(measures('keys', 1e5)).toEqual([]);
  });

  it('fsck and dump-keys do not look into the index: its cache misses explain nothing', () => {
    const far = { attach: linear(300), fsck: linear(300), dumpKeys: linear(300), memoryLoadNs: 200 };
    const kinds = judgeAxis('keys', [step(1e5, 100), step(1e6, 100, far)]).map(({ kind }) => kind);
    expect(kinds).toEqual(['flat', 'flat', 'cache-misses', 'grows', 'grows']);
  });

  it('say their numbers', () => {
    const [, write, attach] = judgeAxis('keys', [step(1e5, 300), step(1e6, 600, { memoryLoadNs: 110 })]);
    expect(verdictText(write)).toBe(
      'flat except for cache misses: 300 ns → 600 ns, factor 2.00 (limit 1.00); a load from memory +100 ns',
    );
    expect(verdictText({ ...attach, kind: 'flat' })).toBe('linear: 300 ns → 600 ns, factor 2.00');
  });
});
