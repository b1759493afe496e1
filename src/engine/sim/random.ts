/**
 * Random numbers for simulations: a 32-bit xorshift with a scrambled seed. The same seed gives the same
 * numbers on every machine, which is all that is asked of it.
 */
export class Random {
  private state: number;

  /** @param seed any integer; its low 32 bits count. */
  constructor(seed: number) {
    let mixed = Math.imul(seed ^ (seed >>> 16), 0x7feb352d);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x846ca68b);
    mixed ^= mixed >>> 16;
    this.state = mixed === 0 ? 0x1d872b41 : mixed;
  }

  /** An integer from 0 to 2^32 − 1. */
  next(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x;
    return Math.imul(x, 0x9e3779b1) >>> 0;
  }

  /** An integer from 0 to `limit` − 1; `limit` from 1 to 2^32. */
  below(limit: number): number {
    return Math.floor((this.next() / 2 ** 32) * limit);
  }

  /** An integer from `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** True with probability `probability`. */
  chance(probability: number): boolean {
    return this.next() < probability * 2 ** 32;
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)];
  }
}
