/** The LRU curve from samples beside the exact one: how far it is off, and whether the error that it states holds. */
import { describe, expect, it } from 'vitest';
import { LRU_BLOCK_BYTES, type LruMethod, type Sampling } from '../../src/curve/lru-curve.js';
import { makeLru } from '../../src/curve/lru.js';
import { SampledLru, SAMPLES } from '../../src/curve/lru-sampled.js';

const SIZES = Array.from({ length: 12 }, (_, i) => 16 * 2 ** i * LRU_BLOCK_BYTES);
const BLOCKS = 20_000;

function makeRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Most of it to few blocks, scattered over the device, and a scan going round; requests of 1 to 3 blocks. */
function workload(seed: number, requests: number, request: (isRead: boolean, offset: number, end: number) => void) {
  const random = makeRandom(seed * 7919);
  const base = Math.floor(random() * 2 ** 33);
  for (let i = 0; i < requests; i++) {
    const popular = (Math.floor(BLOCKS ** random()) * 7919) % BLOCKS;
    const block = base + (i % 4 === 0 ? (i / 4) % BLOCKS : popular);
    const count = 1 + Math.floor(random() * 3);
    request(random() < 0.7, block * LRU_BLOCK_BYTES, (block + count) * LRU_BLOCK_BYTES);
  }
}

function curveOf(method: LruMethod, seed: number, requests = 100_000) {
  const lru = makeLru(SIZES, method);
  workload(seed, requests, (isRead, offset, end) => lru.request(isRead, offset, end));
  return lru.curve();
}

describe.each<[string, Sampling]>([
  ['of a fixed size', { kind: 'fixed-size', blocks: 1024 }],
  ['of a fixed rate', { kind: 'fixed-rate', rate: 0.4 }],
])('samples %s', (_name, sampling) => {
  it('have the truth within the stated error at nearly every size, and are near it', () => {
    let outside = 0;
    let compared = 0;
    let offSum = 0;
    for (let seed = 1; seed <= 12; seed++) {
      const exact = curveOf({ kind: 'exact' }, seed);
      const sampled = curveOf(sampling, seed);
      expect(sampled.references).toBe(exact.references);
      expect(sampled.reads + sampled.writes).toBe(100_000);
      expect(Math.abs(sampled.uniqueBlocks / exact.uniqueBlocks - 1)).toBeLessThan(0.05);
      exact.points.forEach((point, i) => {
        for (const kind of ['reads', 'all'] as const) {
          const { ratio, error } = sampled.points[i][kind].byBytes!;
          const off = Math.abs(ratio - point[kind].byBytes!.ratio);
          expect(ratio).toBeGreaterThanOrEqual(0);
          expect(ratio).toBeLessThanOrEqual(1);
          compared++;
          offSum += off;
          if (off > error) outside++;
        }
      });
    }
    // A 95 % interval; the points of one curve are off together, so that some more may be outside.
    expect(outside / compared).toBeLessThan(0.1);
    expect(offSum / compared).toBeLessThan(0.015);
  });

  it('say nothing by requests: part of the blocks does not tell', () => {
    for (const point of curveOf(sampling, 1, 5000).points) {
      expect([point.reads.byRequests, point.all.byRequests]).toEqual([null, null]);
    }
  });
});

it('samples of a fixed size need no more memory for more blocks, and hold no more of them', () => {
  const memoryAfter = (blocks: number) => {
    const lru = new SampledLru(SIZES, { kind: 'fixed-size', blocks: 512 });
    for (let block = 0; block < blocks; block++) lru.request(true, block * 4096, block * 4096 + 4096);
    const { sampling, uniqueBlocks } = lru.curve();
    expect(sampling!.sampledBlocks).toBeLessThanOrEqual(512 * SAMPLES);
    expect(sampling!.sampledBlocks).toBeGreaterThan(500 * SAMPLES);
    expect(Math.abs(uniqueBlocks / blocks - 1)).toBeLessThan(0.06);
    return lru.memoryBytes;
  };
  expect(memoryAfter(1_000_000)).toBe(memoryAfter(50_000));
});

it('sees everything, and misses nothing, when the samples are all there is', () => {
  // Every block in one of the samples: what is cold is known exactly, and so is what always hits.
  const lru = makeLru([LRU_BLOCK_BYTES, 64 * 2 ** 20], { kind: 'fixed-rate', rate: 1 });
  for (let round = 0; round < 4; round++) {
    for (let block = 0; block < 1000; block++) lru.request(true, block * 4096, block * 4096 + 4096);
  }
  const { points, uniqueBlocks } = lru.curve();
  expect(uniqueBlocks).toBe(1000);
  expect(points[1].reads.byBytes!.ratio).toBeCloseTo(0.75, 2);
});

it('nothing to hit is no ratio', () => {
  const lru = makeLru(SIZES, { kind: 'fixed-size', blocks: 64 });
  lru.request(false, 0, 4096);
  const [{ reads, all }] = lru.curve().points;
  expect(reads.byBytes).toBeNull();
  expect(all.byBytes).not.toBeNull();
});
