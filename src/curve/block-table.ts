/**
 * Which slot of the recency order each block has: a hash table with open addressing over typed arrays, 12 bytes a
 * bucket, nothing allocated per block. Eight neighbouring blocks share a cache line of it, since requests touch
 * neighbours together.
 *
 * Invariants: at most `MAX_LOAD` of the buckets are taken; a block lies at its home bucket or behind it with no free
 * bucket between (linear probing), which `remove` keeps true by moving later ones forward.
 */
import { assert } from '../engine/errors.js';

const FREE = -1;
const FIRST_BUCKETS = 1 << 12;
/** 2^29 buckets are 6 GiB of memory: more than what is worth an exact answer. */
const MAX_BUCKETS = 2 ** 29;
const MAX_LOAD = 0.6;
const TWO_32 = 2 ** 32;

/** Well mixed 32 bits (signed) of a block number below 2^53; `salt` gives another, independent mixture. */
export function mixBlock(block: number, salt: number): number {
  let h = Math.imul((block / TWO_32) | 0, 0x9e3779b1) ^ (block | 0) ^ salt;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

export class BlockTable {
  /** Block at each bucket; `FREE` where there is none. */
  private blocks: Float64Array = new Float64Array(FIRST_BUCKETS).fill(FREE);
  /** What is kept with the block at each bucket. */
  private values = new Uint32Array(FIRST_BUCKETS);
  private mask = FIRST_BUCKETS - 1;
  private taken = 0;

  /** Blocks in the table. */
  get size(): number {
    return this.taken;
  }

  get memoryBytes(): number {
    return this.blocks.byteLength + this.values.byteLength;
  }

  /** The bucket of `block`, or -1 when it is not there. */
  find(block: number): number {
    const { blocks, mask } = this;
    let bucket = homeOf(block) & mask;
    for (;;) {
      const found = blocks[bucket];
      if (found === block) return bucket;
      if (found === FREE) return -1;
      bucket = (bucket + 1) & mask;
    }
  }

  valueAt(bucket: number): number {
    return this.values[bucket];
  }

  setValueAt(bucket: number, value: number): void {
    this.values[bucket] = value;
  }

  /** Adds `block`, which is not there. Buckets change. */
  add(block: number, value: number): void {
    if (this.taken >= this.blocks.length * MAX_LOAD) this.grow();
    this.put(block, value);
    this.taken++;
  }

  private put(block: number, value: number): void {
    const { blocks, mask } = this;
    let bucket = homeOf(block) & mask;
    while (blocks[bucket] !== FREE) bucket = (bucket + 1) & mask;
    blocks[bucket] = block;
    this.values[bucket] = value;
  }

  /** Takes the block at `bucket` out. Buckets change. */
  remove(bucket: number): void {
    const { blocks, values, mask } = this;
    this.taken--;
    let hole = bucket;
    let next = (hole + 1) & mask;
    while (blocks[next] !== FREE) {
      // One whose home lies behind the hole stays: it would come to lie before its home.
      const distance = (next - homeOf(blocks[next])) & mask;
      if (distance >= ((next - hole) & mask)) {
        blocks[hole] = blocks[next];
        values[hole] = values[next];
        hole = next;
      }
      next = (next + 1) & mask;
    }
    blocks[hole] = FREE;
  }

  /** Replaces every value. */
  mapValues(change: (value: number) => number): void {
    const { blocks, values } = this;
    for (let bucket = 0; bucket < blocks.length; bucket++) {
      if (blocks[bucket] !== FREE) values[bucket] = change(values[bucket]);
    }
  }

  private grow(): void {
    const { blocks, values } = this;
    assert(blocks.length < MAX_BUCKETS, 'the table of blocks cannot grow further');
    this.blocks = new Float64Array(2 * blocks.length).fill(FREE);
    this.values = new Uint32Array(2 * blocks.length);
    this.mask = this.blocks.length - 1;
    for (let bucket = 0; bucket < blocks.length; bucket++) {
      if (blocks[bucket] !== FREE) this.put(blocks[bucket], values[bucket]);
    }
  }
}

function homeOf(block: number): number {
  return (mixBlock(Math.floor(block / 8), 0) << 3) | (block & 7);
}
