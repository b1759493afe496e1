/** What a benchmark asks for: operations and offsets, made beforehand so that making them is not measured. */
import { assert } from '../engine/errors.js';
import { SUBTREE_BYTES } from '../engine/media/geometry.js';
import { Random } from '../engine/sim/random.js';

export const PATTERNS = ['randwrite', 'randread', 'write', 'read', 'mixed', 'zipf'] as const;
export type Pattern = (typeof PATTERNS)[number];

/** Of 100 requests of `mixed` and `zipf` so many are reads. */
const READS_OF_100 = 70;
/** Skew of `zipf`: of n blocks the k-th most wanted is asked for as 1/k^0.99. */
const ZIPF_THETA = 0.99;

/** Numbers of blocks are multiplied in parts of this size. */
const PART = 2 ** 16;

/** Draws until a cached block is found. */
const TRIES_MAX = 100_000;

/** Does the pattern write, and does it read what is cached? */
export function writesOf(pattern: Pattern): boolean {
  return pattern !== 'randread' && pattern !== 'read';
}
export function readsOf(pattern: Pattern): boolean {
  return pattern !== 'randwrite' && pattern !== 'write';
}

/** Requests of one round. */
export class Plan {
  /** 1 for a read. */
  readonly isRead: Uint8Array;
  readonly offsetBytes: Float64Array;
  count = 0;

  constructor(readonly capacity: number) {
    this.isRead = new Uint8Array(capacity);
    this.offsetBytes = new Float64Array(capacity);
  }
}

/** Numbers from 0 to n−1 of which small ones come more often (rejection-free, after Gray et al. 1994). */
class Zipf {
  private readonly zetaN: number;
  private readonly alpha = 1 / (1 - ZIPF_THETA);
  private readonly eta: number;

  constructor(private readonly n: number) {
    this.zetaN = zeta(n);
    this.eta = (1 - (2 / n) ** (1 - ZIPF_THETA)) / (1 - zeta(2) / this.zetaN);
  }

  next(random: Random): number {
    const u = random.next() / 2 ** 32;
    const uz = u * this.zetaN;
    if (uz < 1) return 0;
    if (uz < 1 + 0.5 ** ZIPF_THETA) return 1;
    return Math.min(this.n - 1, Math.floor(this.n * (this.eta * u - this.eta + 1) ** this.alpha));
  }
}

function zeta(n: number): number {
  let sum = 0;
  for (let k = 1; k <= n; k++) sum += 1 / k ** ZIPF_THETA;
  return sum;
}

/**
 * The blocks that a benchmark works on: `count` of them, scattered over the device, or side by side for the
 * sequential patterns.
 */
export class Blocks {
  private readonly stride: number;
  private readonly total: number;

  /** @param spanBytes size of the range they are scattered over; a multiple of `blockBytes`. */
  constructor(
    readonly blockBytes: number,
    readonly count: number,
    spanBytes: number,
    sequential: boolean,
  ) {
    this.total = Math.floor(spanBytes / blockBytes);
    this.stride = sequential ? 1 : coprimeTo(this.total);
  }

  /** Offset of block `n`, bytes: another one for each n below `count`. */
  offsetBytes(n: number): number {
    // n × stride is beyond what a double holds exactly; in two parts it is not, up to 2^36 blocks.
    const high = ((Math.floor(n / PART) * this.stride) % this.total) * PART;
    return ((high + (n % PART) * this.stride) % this.total) * this.blockBytes;
  }
}

/** A number near the golden section of `n` that has no divisor in common with it. */
function coprimeTo(n: number): number {
  for (let stride = Math.floor(n * 0.6180339887); stride > 1; stride--) if (gcd(stride, n) === 1) return stride;
  return 1;
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

/** Of some blocks those that one of several jobs works on: they lie in its subtrees, and none crosses into the next. */
export class BlocksOfJob {
  readonly blockBytes: number;
  private readonly offsets: Float64Array;

  constructor(blocks: Blocks, job: number, jobs: number) {
    this.blockBytes = blocks.blockBytes;
    const isOwn = (offset: number) => {
      const subtree = Math.floor(offset / SUBTREE_BYTES);
      return subtree % jobs === job && Math.floor((offset + this.blockBytes - 1) / SUBTREE_BYTES) === subtree;
    };
    this.offsets = Float64Array.from({ length: blocks.count }, (_, n) => blocks.offsetBytes(n)).filter(isOwn);
  }

  get count(): number {
    return this.offsets.length;
  }
  offsetBytes(n: number): number {
    return this.offsets[n];
  }
}

/** Makes the rounds of one pattern. */
export class PatternSource {
  private readonly random: Random;
  private readonly zipf: Zipf | undefined;
  private readonly offsets: Float64Array;
  private sequence = 0;

  constructor(
    private readonly pattern: Pattern,
    blocks: Pick<Blocks, 'count' | 'offsetBytes'>,
    seed: number,
  ) {
    this.random = new Random(seed);
    if (pattern === 'zipf') this.zipf = new Zipf(blocks.count);
    this.offsets = Float64Array.from({ length: blocks.count }, (_, n) => blocks.offsetBytes(n));
  }

  /**
   * Fills `plan` with `count` requests.
   * @param isCached whether a block can be read from the cache; reads are of such blocks only.
   */
  fill(plan: Plan, count: number, isCached: (offsetBytes: number) => boolean): void {
    const { pattern, random } = this;
    const mixed = readsOf(pattern) && writesOf(pattern);
    plan.count = count;
    for (let i = 0; i < count; i++) {
      const isRead = mixed ? random.below(100) < READS_OF_100 : readsOf(pattern);
      let offset = this.nextOffset();
      for (let tries = 0; isRead && !isCached(offset); tries++) {
        assert(tries < TRIES_MAX, 'the cache holds too little of what is to be read');
        offset = this.nextOffset();
      }
      plan.offsetBytes[i] = offset;
      plan.isRead[i] = isRead ? 1 : 0;
    }
  }

  private nextOffset(): number {
    const { offsets } = this;
    if (this.pattern === 'read' || this.pattern === 'write') {
      const offset = offsets[this.sequence];
      this.sequence = (this.sequence + 1) % offsets.length;
      return offset;
    }
    return offsets[this.zipf ? this.zipf.next(this.random) : this.random.below(offsets.length)];
  }
}
