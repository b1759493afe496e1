/** When the entries of the index whose payload is gone are dropped, and when they are left to be written again. */
import { describe, expect, it } from 'vitest';
import { IndexSweeper } from '../../src/engine/index/index-sweeper.js';
import { ExtentIndex } from '../../src/engine/index/extent-index.js';
import { SUBTREE_BYTES, SUBTREE_SECTORS } from '../../src/engine/media/geometry.js';

const BLOCK_SECTORS = 8;
const BLOCKS = SUBTREE_SECTORS / BLOCK_SECTORS;
const SEGMENTS = 100;

/** An index with a block each from `from` to `to` of every subtree, in the segment. */
function makeIndex(subtrees: number) {
  const generations = new Int32Array(SEGMENTS);
  const index = new ExtentIndex(subtrees * SUBTREE_BYTES, generations);
  const fill = (from: number, to: number, segment: number): void => {
    for (let subtree = 0; subtree < subtrees; subtree++) {
      for (let block = from; block < to; block++)
        index.insert(subtree, block * BLOCK_SECTORS, BLOCK_SECTORS, segment, 0, generations[segment], 0);
    }
  };
  return { index, generations, fill };
}

describe('the sweeper of a running cache', () => {
  /** Steps until there is nothing to do. @returns entries that are left */
  const clean = (sweeper: IndexSweeper, index: ExtentIndex, segmentsFreed: number): number => {
    while (sweeper.step(segmentsFreed));
    return index.entryCount;
  };

  it('sweeps the index after half a lap, and then whenever it has grown by half', () => {
    const { index, generations, fill } = makeIndex(1000);
    const sweeper = new IndexSweeper(index, SEGMENTS);
    fill(0, 4, 1);
    fill(4, 14, 2);
    generations[1]++;
    expect(clean(sweeper, index, 49)).toBe(14_000);
    expect(clean(sweeper, index, 50)).toBe(10_000);
    fill(14, 18, 3);
    generations[3]++;
    expect(clean(sweeper, index, 150)).toBe(14_000);
    fill(18, 19, 2);
    expect(clean(sweeper, index, 151)).toBe(11_000);
    fill(0, 4, 4);
    fill(14, 18, 4);
    generations[4]++;
    expect(clean(sweeper, index, 200)).toBe(19_000); // less than half a lap
    expect(clean(sweeper, index, 201)).toBe(11_000);
  });

  it('leaves no stale entry for longer than four laps', () => {
    const { index, generations, fill } = makeIndex(10);
    const sweeper = new IndexSweeper(index, SEGMENTS);
    fill(0, 100, 1);
    expect(clean(sweeper, index, 50)).toBe(1000);
    fill(100, 101, 2);
    generations[1]++;
    expect(clean(sweeper, index, 449)).toBe(1010);
    expect(clean(sweeper, index, 450)).toBe(10);
  });

  it('ends a sweep before it begins another', () => {
    const { index, generations, fill } = makeIndex(2000);
    const sweeper = new IndexSweeper(index, SEGMENTS);
    fill(0, 2, 1);
    generations[1]++;
    for (let freed = 50; freed <= 50 * 4; freed += 50) expect(sweeper.step(freed)).toBe(true); // 512 subtrees each
    expect(index.entryCount).toBe(0);
  });
});

describe('a subtree', () => {
  it('keeps stale entries while its memory has room, and drops them before it grows', () => {
    const { index, generations, fill } = makeIndex(1);
    fill(0, BLOCKS / 2, 1);
    fill(BLOCKS / 2, BLOCKS - 1, 2);
    generations[1]++;
    fill(BLOCKS - 1, BLOCKS, 3);
    expect(index.entryCount).toBe(BLOCKS); // all the memory there is of this size
    const before = index.memoryBytes;
    index.insert(0, BLOCKS * 4, 1, 3, 0, 0, 0); // it cuts a block
    expect(index.entryCount).toBe(BLOCKS / 2 + 1);
    expect(index.memoryBytes).toBe(before);
  });
});
