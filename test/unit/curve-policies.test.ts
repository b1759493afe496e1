/**
 * FIFO, S3-FIFO and SIEVE against the counts of libCacheSim (commit aa0fc40, `cachesim refs oracleGeneral POLICY SIZE
 * --ignore-obj-size=true`), taken from the references below: one object for each 4 KiB block of each request. On
 * libCacheSim's own sample, cloudPhysicsIO.vscsi, the counts of both were equal too, at five sizes.
 */
import { describe, expect, it } from 'vitest';
import { LRU_BLOCK_BYTES } from '../../src/curve/lru-curve.js';
import { makeBlockCache, type PolicyName } from '../../src/curve/policies.js';
import { PolicyCounter } from '../../src/curve/policy-counter.js';
import { lruSizes, policySizes } from '../../src/curve/sizes.js';

const SIZES = [64, 500, 3000, 10_000, 40_000];
const REFERENCES = 90_430;
const UNIQUE = 26_268;
/** References that libCacheSim misses, by size. */
const MISSES: Readonly<Record<PolicyName, readonly number[]>> = {
  'fifo': [73_000, 61_375, 50_190, 37_597, UNIQUE],
  's3-fifo': [67_956, 51_863, 43_348, 32_276, UNIQUE],
  'sieve': [69_211, 55_457, 44_478, 32_656, UNIQUE],
};

/** 20,000 requests of one to eight blocks, unaligned: hot blocks, a loop over 3000, and a scan. */
function* requests(): Generator<{ isRead: boolean; offset: number; end: number }> {
  let x = 12_345;
  const next = () => (x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0);
  for (let i = 0; i < 20_000; i++) {
    const kind = next() >>> 28;
    let block = 100_000 + i;
    if (kind < 10) {
      const bits = next() >>> 28;
      block = (next() >>> 8) & ((1 << Math.min(bits + 2, 14)) - 1);
    } else if (kind < 13) block = 20_000 + (i % 3000);
    const isRead = next() >>> 31 === 0;
    const blocks = (next() >>> 29) + 1;
    const offset = block * LRU_BLOCK_BYTES + 512;
    yield { isRead, offset, end: offset + blocks * LRU_BLOCK_BYTES - 1024 };
  }
}

describe.each(['fifo', 's3-fifo', 'sieve'] as const)('%s', (policy) => {
  it('misses what libCacheSim misses at every size', () => {
    const counter = new PolicyCounter(
      policy,
      SIZES.map((blocks) => blocks * LRU_BLOCK_BYTES),
    );
    for (const { isRead, offset, end } of requests()) counter.request(isRead, offset, end);
    const { references, uniqueBlocks, points } = counter.curve();
    expect({ references, uniqueBlocks }).toEqual({ references: REFERENCES, uniqueBlocks: UNIQUE });
    expect(points.map(({ missedReferences }) => missedReferences)).toEqual(MISSES[policy]);
  });

  it('holds one block in a cache of one block', () => {
    const cache = makeBlockCache(policy, 1);
    expect([0, 0, 1, 1, 0, 0].map((rank) => cache.touch(rank))).toEqual([false, true, false, true, false, true]);
  });

  it('counts a request as a hit when all its blocks hit, and bytes by what the request takes of each', () => {
    const counter = new PolicyCounter(policy, [4 * LRU_BLOCK_BYTES]);
    counter.request(false, 0, 4096);
    counter.request(true, 3584, 5120);
    counter.request(true, 4096, 8192);
    expect(counter.curve().points[0]).toEqual({
      cacheBytes: 4 * LRU_BLOCK_BYTES,
      reads: { byRequests: { ratio: 1 / 2, error: 0 }, byBytes: { ratio: (512 + 4096) / (1536 + 4096), error: 0 } },
      all: { byRequests: { ratio: 1 / 3, error: 0 }, byBytes: { ratio: (512 + 4096) / (1536 + 8192), error: 0 } },
      missedReferences: 2,
    });
  });
});

it('the policies are simulated at sizes of the LRU curve, from the footprint down to a 64th', () => {
  const sizes = policySizes([2 ** 29, 2 ** 30], 170 * 2 ** 20);
  expect(lruSizes([2 ** 29, 2 ** 30], 170 * 2 ** 20)).toEqual(expect.arrayContaining(sizes));
  expect([sizes[0], sizes.length]).toEqual([4 * 2 ** 20, 9]);
});
