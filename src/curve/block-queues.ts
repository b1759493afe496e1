/**
 * Queues of blocks for the policies: doubly linked lists over typed arrays, so that a block can leave from the middle and
 * nothing is allocated per block. Blocks are named by their rank, the order in which they were first touched.
 *
 * Invariant: a block is in at most one queue of a `BlockLinks`.
 */
const NONE = -1;
const FIRST_RANKS = 1 << 10;

/** The links of all blocks of one cache; its queues share them. */
export class BlockLinks {
  /** Towards the block that entered before, and after. */
  older = new Int32Array(FIRST_RANKS);
  newer = new Int32Array(FIRST_RANKS);
  /** The queue's own state of each block: which queue, and how often it was touched there. 0 is "in none". */
  state = new Uint8Array(FIRST_RANKS);

  /** Makes room for `rank`. */
  reach(rank: number): void {
    if (rank < this.state.length) return;
    const length = Math.max(rank + 1, 2 * this.state.length);
    this.older = grown(this.older, length);
    this.newer = grown(this.newer, length);
    this.state = grown(this.state, length);
  }
}

function grown<Column extends Int32Array | Uint8Array>(column: Column, length: number): Column {
  const longer = new (column.constructor as new (length: number) => Column)(length);
  longer.set(column);
  return longer;
}

export class BlockQueue {
  /** The block that entered first; -1 when empty. */
  oldest = NONE;
  private newest = NONE;
  /** Blocks in the queue. */
  count = 0;

  constructor(private readonly links: BlockLinks) {}

  push(rank: number): void {
    const { older, newer } = this.links;
    older[rank] = this.newest;
    newer[rank] = NONE;
    if (this.newest === NONE) this.oldest = rank;
    else newer[this.newest] = rank;
    this.newest = rank;
    this.count++;
  }

  remove(rank: number): void {
    const { older, newer } = this.links;
    const before = older[rank];
    const after = newer[rank];
    if (before === NONE) this.oldest = after;
    else newer[before] = after;
    if (after === NONE) this.newest = before;
    else older[after] = before;
    this.count--;
  }

  /** The block that entered next after `rank`; -1 behind the newest. */
  after(rank: number): number {
    return this.links.newer[rank];
  }
}
