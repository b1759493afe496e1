/**
 * Caches of blocks by other policies than LRU, for comparison: FIFO, SIEVE (Zhang et al., NSDI 2024) and S3-FIFO (Yang et
 * al., SOSP 2023). A touched block is brought in when it is missing. Their counts are those of libCacheSim with its default
 * parameters, where all objects have the same size (test/unit/curve-policies.test.ts).
 */
import { BlockLinks, BlockQueue } from './block-queues.js';

export const POLICY_NAMES = ['fifo', 's3-fifo', 'sieve'] as const;
export type PolicyName = (typeof POLICY_NAMES)[number];
export const POLICY_TITLES: Readonly<Record<PolicyName, string>> = {
  'fifo': 'FIFO',
  's3-fifo': 'S3-FIFO',
  'sieve': 'SIEVE',
};

/** S3-FIFO: share of the cache that is the small queue, and size of the ghost queue as a share of the cache. */
const SMALL_SHARE = 0.1;
const GHOST_SHARE = 0.9;
/** S3-FIFO: touches in the small queue that take a block to the main queue; touches that the two bits count. */
const TOUCHES_FOR_MAIN = 2;
const TOUCHES_MAX = 3;

export interface BlockCache {
  /**
   * @param rank the block, by the order of first touches: at most one more than any before
   * @returns whether the cache held it
   */
  touch(rank: number): boolean;
}

/** @param capacity in blocks, 1 or more */
export function makeBlockCache(policy: PolicyName, capacity: number): BlockCache {
  if (policy === 'fifo') return new Fifo(capacity);
  return policy === 'sieve' ? new Sieve(capacity) : new S3Fifo(capacity);
}

const ABSENT = 0;

class Fifo implements BlockCache {
  private readonly links = new BlockLinks();
  private readonly queue = new BlockQueue(this.links);

  constructor(private readonly capacity: number) {}

  touch(rank: number): boolean {
    const { links, queue } = this;
    links.reach(rank);
    if (links.state[rank] !== ABSENT) return true;
    if (queue.count === this.capacity) {
      links.state[queue.oldest] = ABSENT;
      queue.remove(queue.oldest);
    }
    links.state[rank] = 1;
    queue.push(rank);
    return false;
  }
}

/** States of a block in `Sieve`. */
const UNTOUCHED = 1;
const TOUCHED = 2;

/** A hand walks from the oldest to the newest, spares blocks touched since it passed, and evicts the first other one. */
class Sieve implements BlockCache {
  private readonly links = new BlockLinks();
  private readonly queue = new BlockQueue(this.links);
  private hand = -1;

  constructor(private readonly capacity: number) {}

  touch(rank: number): boolean {
    const { links, queue } = this;
    links.reach(rank);
    if (links.state[rank] !== ABSENT) {
      links.state[rank] = TOUCHED;
      return true;
    }
    if (queue.count === this.capacity) this.evict();
    links.state[rank] = UNTOUCHED;
    queue.push(rank);
    return false;
  }

  private evict(): void {
    const { queue } = this;
    const { state } = this.links;
    let at = this.hand < 0 ? queue.oldest : this.hand;
    while (state[at] === TOUCHED) {
      state[at] = UNTOUCHED;
      const next = queue.after(at);
      at = next < 0 ? queue.oldest : next;
    }
    this.hand = queue.after(at);
    state[at] = ABSENT;
    queue.remove(at);
  }
}

/** States of a block in `S3Fifo`; the first two have its touches added. */
const SMALL = 4;
const MAIN = 8;
const GHOST = 16;
const TOUCHES = 3;

/** New blocks pass through a small queue; those touched there twice, and those that come back soon, go to the main one. */
class S3Fifo implements BlockCache {
  private readonly links = new BlockLinks();
  private readonly small = new BlockQueue(this.links);
  private readonly main = new BlockQueue(this.links);
  private readonly ghost = new BlockQueue(this.links);
  private readonly mainCapacity: number;
  private readonly ghostCapacity: number;

  constructor(private readonly capacity: number) {
    this.mainCapacity = capacity - Math.floor(capacity * SMALL_SHARE);
    this.ghostCapacity = Math.floor(capacity * GHOST_SHARE);
  }

  touch(rank: number): boolean {
    const { links, small, main, ghost } = this;
    links.reach(rank);
    const { state } = links;
    const was = state[rank];
    if ((was & (SMALL | MAIN)) !== 0) {
      if ((was & TOUCHES) < TOUCHES_MAX) state[rank]++;
      return true;
    }
    if (was === GHOST) ghost.remove(rank);
    while (small.count + main.count >= this.capacity) this.evict();
    state[rank] = was === GHOST ? MAIN : SMALL;
    (was === GHOST ? main : small).push(rank);
    return false;
  }

  private evict(): void {
    if (this.main.count > this.mainCapacity || this.small.count === 0) this.evictFromMain();
    else this.evictFromSmall();
  }

  /** Moves blocks on to the main queue until one leaves the cache or the small queue is empty. */
  private evictFromSmall(): void {
    const { small, main } = this;
    const { state } = this.links;
    while (small.count > 0) {
      const rank = small.oldest;
      small.remove(rank);
      if ((state[rank] & TOUCHES) < TOUCHES_FOR_MAIN) {
        this.remember(rank);
        return;
      }
      state[rank] = MAIN;
      main.push(rank);
    }
  }

  private evictFromMain(): void {
    const { main } = this;
    const { state } = this.links;
    for (;;) {
      const rank = main.oldest;
      main.remove(rank);
      if ((state[rank] & TOUCHES) === 0) {
        state[rank] = ABSENT;
        return;
      }
      state[rank]--;
      main.push(rank);
    }
  }

  private remember(rank: number): void {
    const { ghost, ghostCapacity } = this;
    const { state } = this.links;
    state[rank] = ABSENT;
    if (ghostCapacity === 0) return;
    if (ghost.count === ghostCapacity) {
      state[ghost.oldest] = ABSENT;
      ghost.remove(ghost.oldest);
    }
    state[rank] = GHOST;
    ghost.push(rank);
  }
}
