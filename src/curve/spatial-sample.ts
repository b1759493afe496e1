/**
 * A spatial sample of blocks after SHARDS (Waldspurger et al., FAST 2015): a block belongs to it by a hash of its
 * number, so that all its references do, and distances within the sample are those of the whole in small. With a
 * bound on the blocks, those of the largest hash leave when there are more, and the share sampled shrinks.
 */
import { StackDistances } from './stack-distances.js';

/** Hashes are below this. */
export const HASH_RANGE = 2 ** 29;

export class SpatialSample {
  /** Blocks whose hash is below belong to the sample. */
  threshold: number;
  private readonly distances = new StackDistances();
  /** Blocks by hash, a heap with the largest first; used only when their number is bounded. */
  private readonly heapHashes: Uint32Array;
  private readonly heapBlocks: Float64Array;
  private heapCount = 0;

  /**
   * @param candidates share of all blocks that are shown to this sample, 0 to 1.
   * @param rate share of these that it takes at first.
   * @param maxBlocks Infinity leaves the rate as it is.
   */
  constructor(
    private readonly candidates: number,
    rate: number,
    private readonly maxBlocks: number,
  ) {
    this.threshold = Math.ceil(rate * HASH_RANGE);
    const places = maxBlocks === Infinity ? 0 : maxBlocks + 1;
    this.heapHashes = new Uint32Array(places);
    this.heapBlocks = new Float64Array(places);
  }

  /** Share of all blocks that is in the sample now. */
  get rate(): number {
    return (this.candidates * this.threshold) / HASH_RANGE;
  }

  get blocks(): number {
    return this.distances.blocks;
  }

  get memoryBytes(): number {
    return this.distances.memoryBytes + this.heapHashes.byteLength + this.heapBlocks.byteLength;
  }

  /** Touches a block whose hash is below the threshold. @returns an estimate of its stack distance; 0 at first. */
  touch(block: number, hash: number): number {
    const distance = this.distances.touch(block);
    if (distance > 0) return 1 + (distance - 1) / this.rate;
    if (this.heapBlocks.length > 0) this.admit(block, hash);
    return 0;
  }

  private admit(block: number, hash: number): void {
    this.push(block, hash);
    if (this.heapCount <= this.maxBlocks) return;
    this.threshold = this.heapHashes[0];
    while (this.heapCount > 0 && this.heapHashes[0] >= this.threshold) this.distances.forget(this.pop());
  }

  private push(block: number, hash: number): void {
    const { heapHashes, heapBlocks } = this;
    let at = this.heapCount++;
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      if (heapHashes[parent] >= hash) break;
      heapHashes[at] = heapHashes[parent];
      heapBlocks[at] = heapBlocks[parent];
      at = parent;
    }
    heapHashes[at] = hash;
    heapBlocks[at] = block;
  }

  /** @returns the block of the largest hash, which is taken out of the heap. */
  private pop(): number {
    const { heapHashes, heapBlocks } = this;
    const popped = heapBlocks[0];
    const count = --this.heapCount;
    const hash = heapHashes[count];
    const block = heapBlocks[count];
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= count) break;
      if (child + 1 < count && heapHashes[child + 1] > heapHashes[child]) child++;
      if (heapHashes[child] <= hash) break;
      heapHashes[at] = heapHashes[child];
      heapBlocks[at] = heapBlocks[child];
      at = child;
    }
    heapHashes[at] = hash;
    heapBlocks[at] = block;
    return popped;
  }
}
