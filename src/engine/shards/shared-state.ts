/**
 * The shared memory of the threads of one cache: the columns of the segment table, the log's head, and words by which the
 * threads signal one another. Each thread has an object of this class over it.
 *
 * Changed only under the lock: the columns `used`, `inLog` and `counts` of the segments, the log's head and the log
 * itself, and the list of orphaned segments. References are added and subtracted atomically. Only the coordinator changes
 * generations. Shards are numbered from 0.
 */
import { makeColumns, type SegmentColumns } from '../space/segment-table.js';
import { SharedLock } from './shared-lock.js';

/** Words of a cache line. Shared words lie so far apart that a change of one does not take another one away. */
export const LINE_WORDS = 16;

/** Words that exist once. */
export const Word = {
  lock: 0,
  /** 1 when the cache device has failed under a thread: all threads stop. */
  failed: LINE_WORDS,
  /** 1 while the coordinator sleeps and has to be woken when there is something to do. */
  coordinatorIdle: 2 * LINE_WORDS,
  /** 1 when write-back will not make any room. */
  hopeless: 3 * LINE_WORDS,
  /** Number of segments freed so far. */
  freed: 4 * LINE_WORDS,
  /** Number of the last flush that a shard asked for. */
  flushAsked: 5 * LINE_WORDS,
  /** Number of segments in `orphans`: those whose last reference a shard dropped. */
  orphans: 6 * LINE_WORDS,
  /** Number of segments taken so far. */
  taken: 7 * LINE_WORDS,
} as const;
const WORDS = 8 * LINE_WORDS;

/**
 * Flushes of the backing device, which the coordinator makes, by their numbers: the last that began, the last that
 * succeeded, the highest that a shard asked for, and the highest that a range zeroed by a shard needs to be durable.
 */
export const FlushField = { begun: 0, done: 1, wanted: 2, owed: 3 } as const;
const FLUSH_FIELDS = 4;

/** The log's head: its position, and the number of ksets and keys written since the open. */
export const LogField = { segment: 0, offsetBytes: 1, ksetsClosed: 2, keysLogged: 3 } as const;
const LOG_FIELDS = 4;

const ShardWord = {
  /** Counts how often the shard entered and left the request path: odd while it is inside. */
  epoch: 0,
  /** 1 while requests of the shard wait for room. */
  waiting: 1,
  /** Number of the last flush for which the shard has closed its ksets. */
  flushServed: 2,
  /** 1 while the shard cannot close its ksets, and write-back will not make any room. */
  stuck: 3,
  /** 1 when the shard is closed, with all its keys in the log. */
  closed: 4,
  /** 1 while the shard has keys in open ksets. */
  openKeys: 5,
  /** 1 while groups of the shard wait for a flush. */
  holds: 6,
} as const;

/** The memory itself, as threads pass it on. */
export interface SharedMemory {
  readonly jobs: number;
  readonly columns: SegmentColumns;
  readonly words: Int32Array;
  readonly log: Float64Array;
  readonly shards: Int32Array;
  readonly orphans: Int32Array;
  /** By `FlushField`. */
  readonly flushes: BigInt64Array;
}

export function makeSharedMemory(jobs: number, segments: number): SharedMemory {
  const shared = (bytes: number) => new SharedArrayBuffer(bytes);
  return {
    jobs,
    columns: makeColumns(segments, shared),
    words: new Int32Array(shared(4 * WORDS)),
    log: new Float64Array(shared(8 * LOG_FIELDS)),
    shards: new Int32Array(shared(4 * LINE_WORDS * jobs)),
    orphans: new Int32Array(shared(4 * segments)),
    flushes: new BigInt64Array(shared(8 * FLUSH_FIELDS)),
  };
}

export class SharedState {
  readonly jobs: number;

  constructor(
    readonly memory: SharedMemory,
    readonly lock = new SharedLock(memory.words, Word.lock),
  ) {
    this.jobs = memory.jobs;
  }

  /** The log's head, under the lock. */
  get logHead(): Float64Array {
    return this.memory.log;
  }
  /** Drops references of a segment. @returns how many it had */
  dropReferences(segment: number, references: number): number {
    return Atomics.sub(this.memory.columns.references, segment, references);
  }

  get(word: number): number {
    return Atomics.load(this.memory.words, word);
  }
  set(word: number, value: number): void {
    Atomics.store(this.memory.words, word, value);
  }
  /** Adds to a word. @returns the new value */
  add(word: number, value: number): number {
    return (Atomics.add(this.memory.words, word, value) + value) | 0;
  }
  /** Sets a word. @returns the old value */
  exchange(word: number, value: number): number {
    return Atomics.exchange(this.memory.words, word, value);
  }

  // ---- inside and outside the request path ------------------------------------------------------------

  /** The shard enters the request path: payload that it finds in its index stays readable until it leaves. */
  enter(shard: number): void {
    Atomics.add(this.memory.shards, shard * LINE_WORDS + ShardWord.epoch, 1);
  }
  leave(shard: number): void {
    Atomics.add(this.memory.shards, shard * LINE_WORDS + ShardWord.epoch, 1);
  }

  /**
   * Returns when every shard has been outside the request path since the call, so that none still reads payload that it
   * found in its index before. Call it without the lock, because a shard inside may wait for that.
   */
  awaitOutside(): void {
    const { shards } = this.memory;
    for (let shard = 0; shard < this.jobs; shard++) {
      const at = shard * LINE_WORDS + ShardWord.epoch;
      // Not a load: a load could overtake the caller's store of a new generation, and the shard would see the old one.
      const epoch = Atomics.add(shards, at, 0);
      // With a time limit, because shards that leave do not wake other threads.
      while ((epoch & 1) === 1 && Atomics.load(shards, at) === epoch) Atomics.wait(shards, at, epoch, LOOK_AGAIN_MS);
    }
  }

  // ---- waiting for room -------------------------------------------------------------------------------

  setWaiting(shard: number, isWaiting: boolean): void {
    Atomics.store(this.memory.shards, shard * LINE_WORDS + ShardWord.waiting, isWaiting ? 1 : 0);
  }
  isWaiting(shard: number): boolean {
    return Atomics.load(this.memory.shards, shard * LINE_WORDS + ShardWord.waiting) === 1;
  }

  // ---- groups that wait for a flush -------------------------------------------------------------------

  setHolds(shard: number, holds: boolean): void {
    Atomics.store(this.memory.shards, shard * LINE_WORDS + ShardWord.holds, holds ? 1 : 0);
  }
  holds(shard: number): boolean {
    return Atomics.load(this.memory.shards, shard * LINE_WORDS + ShardWord.holds) === 1;
  }

  // ---- open ksets ---------------------------------------------------------------------------------------

  setOpenKeys(shard: number, has: boolean): void {
    Atomics.store(this.memory.shards, shard * LINE_WORDS + ShardWord.openKeys, has ? 1 : 0);
  }
  /** Some shard has keys that are not in the log. */
  get hasOpenKeys(): boolean {
    for (let shard = 0; shard < this.jobs; shard++) {
      if (Atomics.load(this.memory.shards, shard * LINE_WORDS + ShardWord.openKeys) === 1) return true;
    }
    return false;
  }

  // ---- flushes ----------------------------------------------------------------------------------------

  setFlushServed(shard: number, flush: number): void {
    Atomics.store(this.memory.shards, shard * LINE_WORDS + ShardWord.flushServed, flush);
  }
  setStuck(shard: number, isStuck: boolean): void {
    Atomics.store(this.memory.shards, shard * LINE_WORDS + ShardWord.stuck, isStuck ? 1 : 0);
  }
  setClosed(shard: number): void {
    Atomics.store(this.memory.shards, shard * LINE_WORDS + ShardWord.closed, 1);
  }
  /**
   * Whether every shard has closed the ksets that were open when flush number `flush` was asked for; `stuck` when one
   * cannot.
   */
  flushState(flush: number): 'served' | 'pending' | 'stuck' {
    const { shards } = this.memory;
    let state: 'served' | 'pending' = 'served';
    for (let at = 0; at < this.jobs * LINE_WORDS; at += LINE_WORDS) {
      const served = Atomics.load(shards, at + ShardWord.flushServed);
      if (((served - flush) | 0) >= 0 || Atomics.load(shards, at + ShardWord.closed) === 1) continue; // numbers wrap
      if (Atomics.load(shards, at + ShardWord.stuck) === 1) return 'stuck';
      state = 'pending';
    }
    return state;
  }

  // ---- flushes of the backing device ------------------------------------------------------------------

  backingFlush(field: number): number {
    return Number(Atomics.load(this.memory.flushes, field));
  }
  /** Raises a number of `FlushField` to `flush`, unless it is higher. */
  raiseBackingFlush(field: number, flush: number): void {
    const { flushes } = this.memory;
    const value = BigInt(flush);
    for (let found = Atomics.load(flushes, field); found < value;) {
      const before = Atomics.compareExchange(flushes, field, found, value);
      if (before === found) return;
      found = before;
    }
  }
  /** A flush that a shard asked for has not succeeded. */
  get isBackingFlushWanted(): boolean {
    return this.backingFlush(FlushField.wanted) > this.backingFlush(FlushField.done);
  }

  // ---- orphaned segments ------------------------------------------------------------------------------

  /** Hands a segment that lost its last reference to the coordinator, which alone frees segments. */
  addOrphan(segment: number): void {
    const { words, orphans } = this.memory;
    this.lock.run(() => (orphans[words[Word.orphans]++] = segment));
  }
  /** Calls `body` for each orphaned segment and empties the list. */
  takeOrphans(body: (segment: number) => void): void {
    const { words, orphans } = this.memory;
    if (this.get(Word.orphans) === 0) return;
    this.lock.run(() => {
      for (let i = 0; i < words[Word.orphans]; i++) body(orphans[i]);
      words[Word.orphans] = 0;
    });
  }
}

const LOOK_AGAIN_MS = 0.05;
