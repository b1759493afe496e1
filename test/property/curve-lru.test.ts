/** Stack distances and the exact LRU curve against the plainest LRU there is: a list, simulated at each size. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockTable } from '../../src/curve/block-table.js';
import { makeLru } from '../../src/curve/lru.js';
import { LRU_BLOCK_BYTES } from '../../src/curve/lru-curve.js';
import { Recency } from '../../src/curve/recency.js';
import { StackDistances } from '../../src/curve/stack-distances.js';

interface Request {
  readonly isRead: boolean;
  readonly offset: number;
  readonly length: number;
}

/** Far apart and close together; beyond 2^32 blocks too. */
const BASES = [0, 2 ** 20, 2 ** 44, 2 ** 52].map((bytes) => bytes);

const request: fc.Arbitrary<Request> = fc.record({
  isRead: fc.boolean(),
  offset: fc.tuple(fc.constantFrom(...BASES), fc.nat(400)).map(([base, sectors]) => base + sectors * 512),
  length: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 100 })).map((sectors) => sectors * 512),
});

/** Hits of a cache that keeps the `capacity` blocks touched last, by simulating it. */
function simulate(requests: readonly Request[], capacity: number) {
  const kept: number[] = [];
  const hits = { readRequests: 0, readBytes: 0, allRequests: 0, allBytes: 0 };
  for (const { isRead, offset, length } of requests) {
    let whole = true;
    let hitBytes = 0;
    for (let block = Math.floor(offset / LRU_BLOCK_BYTES); block * LRU_BLOCK_BYTES < offset + length; block++) {
      const start = Math.max(offset, block * LRU_BLOCK_BYTES);
      const end = Math.min(offset + length, (block + 1) * LRU_BLOCK_BYTES);
      const at = kept.indexOf(block);
      if (at < 0) whole = false;
      else {
        hitBytes += end - start;
        kept.splice(at, 1);
      }
      kept.unshift(block);
      if (kept.length > capacity) kept.pop();
    }
    hits.allRequests += whole ? 1 : 0;
    hits.allBytes += hitBytes;
    if (!isRead) continue;
    hits.readRequests += whole ? 1 : 0;
    hits.readBytes += hitBytes;
  }
  return hits;
}

describe('the exact LRU curve', () => {
  it('equals a simulation of every size', () => {
    fc.assert(
      fc.property(
        fc.array(request, { maxLength: 120 }),
        fc.uniqueArray(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 12 }),
        (requests, capacities) => {
          capacities.sort((a, b) => a - b);
          const lru = makeLru(
            capacities.map((blocks) => blocks * LRU_BLOCK_BYTES),
            { kind: 'exact' },
          );
          for (const { isRead, offset, length } of requests) lru.request(isRead, offset, offset + length);
          const { points } = lru.curve();
          const reads = requests.filter(({ isRead }) => isRead);
          const bytesOf = (some: readonly Request[]) => some.reduce((sum, { length }) => sum + length, 0);
          const share = (part: number, whole: number) => (whole === 0 ? null : { ratio: part / whole, error: 0 });
          capacities.forEach((capacity, i) => {
            const hits = simulate(requests, capacity);
            expect(points[i]).toEqual({
              cacheBytes: capacity * LRU_BLOCK_BYTES,
              reads: {
                byRequests: share(hits.readRequests, reads.length),
                byBytes: share(hits.readBytes, bytesOf(reads)),
              },
              all: {
                byRequests: share(hits.allRequests, requests.length),
                byBytes: share(hits.allBytes, bytesOf(requests)),
              },
            });
          });
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('stack distances', () => {
  /** A list with the block touched last in front: the distance is the place in it. */
  class List {
    private readonly blocks: number[] = [];
    touch(block: number): number {
      const at = this.blocks.indexOf(block);
      if (at >= 0) this.blocks.splice(at, 1);
      this.blocks.unshift(block);
      return at + 1;
    }
    forget(block: number): void {
      this.blocks.splice(this.blocks.indexOf(block), 1);
    }
    get size(): number {
      return this.blocks.length;
    }
  }

  it('are the ranks in a list, also after blocks were dropped', () => {
    const steps = fc.array(fc.record({ forget: fc.nat(9), block: fc.nat(600) }), { minLength: 500, maxLength: 1500 });
    fc.assert(
      fc.property(steps, (all) => {
        const distances = new StackDistances();
        const list = new List();
        const known = new Set<number>();
        for (const { forget, block } of all) {
          if (forget === 0 && known.delete(block)) {
            distances.forget(block);
            list.forget(block);
          } else {
            known.add(block);
            expect(distances.touch(block)).toBe(list.touch(block));
          }
        }
        expect(distances.blocks).toBe(list.size);
      }),
      { numRuns: 30 },
    );
  });

  it('stay right over many compactions, in memory that depends on the blocks alone', () => {
    const distances = new StackDistances();
    const blocks = 700;
    for (let block = 0; block < blocks; block++) distances.touch(block * 7);
    const before = distances.memoryBytes;
    // Round and round: each block is touched again after all the others.
    for (let n = 0; n < 200_000; n++) {
      if (distances.touch((n % blocks) * 7) !== blocks) expect.fail(`touch ${n}`);
    }
    expect(distances.memoryBytes).toBe(before);
    expect(distances.blocks).toBe(blocks);
  });
});

describe('the order of last touches', () => {
  it('counts marks behind a slot across closed groups, and renames them in order', () => {
    const marked = fc.array(fc.boolean(), { minLength: 1, maxLength: 3000 });
    fc.assert(
      fc.property(marked, (keep) => {
        const recency = new Recency();
        const slots = keep.map(() => recency.mark());
        slots.forEach((slot, i) => keep[i] || recency.unmark(slot));
        const kept = slots.filter((_, i) => keep[i]);
        const check = (names: readonly number[]) =>
          names.forEach((slot, i) => expect(recency.behind(slot)).toBe(names.length - 1 - i));
        check(kept);
        let renamed: number[] = [];
        recency.compact((newSlotOf) => (renamed = kept.map(newSlotOf)));
        expect(renamed).toEqual(kept.map((_, i) => i));
        check(renamed);
      }),
      { numRuns: 100 },
    );
  });
});

describe('the table of blocks', () => {
  it('behaves like a map through growth and removals', () => {
    const step = fc.record({
      remove: fc.boolean(),
      block: fc.oneof(
        fc.nat(3000),
        fc.nat(40).map((n) => n * 2 ** 33),
      ),
    });
    fc.assert(
      fc.property(fc.array(step, { minLength: 2000, maxLength: 6000 }), (steps) => {
        const table = new BlockTable();
        const map = new Map<number, number>();
        steps.forEach(({ remove, block }, n) => {
          const bucket = table.find(block);
          expect(bucket < 0 ? undefined : table.valueAt(bucket)).toBe(map.get(block));
          if (bucket < 0) {
            table.add(block, n);
            map.set(block, n);
          } else if (remove) {
            table.remove(bucket);
            map.delete(block);
          }
        });
        table.mapValues((value) => value + 1);
        for (const [block, value] of map) expect(table.valueAt(table.find(block))).toBe(value + 1);
        expect(table.size).toBe(map.size);
      }),
      { numRuns: 20 },
    );
  });
});
