/**
 * References by stack distance, sorted into the sizes that a curve is wanted at. Exact at these sizes and of a
 * memory that depends on nothing but their number. Weights, not counts, so that sampled references can stand for many.
 */
import { assert } from '../engine/errors.js';

export class DistanceHistogram {
  /** Bin i holds what hits from `sizes[i]` on; the last one what hits at no size. */
  private readonly bins: Float64Array;
  /** First size that is at least 2^k, by k. */
  private readonly firstOfOctave: Uint16Array;

  /** @param sizes cache sizes in blocks, rising, each at least 1. */
  constructor(private readonly sizes: Float64Array) {
    assert(
      sizes.every((size, i) => size >= 1 && (i === 0 || size > sizes[i - 1])),
      'sizes must rise',
    );
    this.bins = new Float64Array(sizes.length + 1);
    this.firstOfOctave = Uint16Array.from({ length: 54 }, (_, k) => {
      const first = sizes.findIndex((size) => size >= 2 ** k);
      return first < 0 ? sizes.length : first;
    });
  }

  /** The bin of a distance (in blocks, 1 or more, also between whole ones); 0 for one that never hits. */
  binOf(distance: number): number {
    const { sizes } = this;
    if (distance === 0) return sizes.length;
    const octave = distance < 2 ** 31 ? 31 - Math.clz32(distance) : Math.floor(Math.log2(distance));
    let bin = this.firstOfOctave[octave];
    while (bin < sizes.length && sizes[bin] < distance) bin++;
    return bin;
  }

  add(bin: number, weight: number): void {
    this.bins[bin] += weight;
  }

  /** Everything that was added. */
  get total(): number {
    return this.bins.reduce((sum, weight) => sum + weight, 0);
  }

  /** What hits at each of the sizes. */
  hits(): Float64Array {
    const hits = new Float64Array(this.sizes.length);
    let sum = 0;
    for (let i = 0; i < hits.length; i++) hits[i] = sum += this.bins[i];
    return hits;
  }
}
