/**
 * What the threads of one cache share: the segment table's columns, the log's head, and words by which they tell one
 * another where they are. All of it in shared memory; each thread has an object of this class over it.
 *
 * Under the lock only: the columns `used`, `inLog` and `counts` of the segments, the log's head and the log itself,
 * and the list of segments that shards have let go of. References are added to and taken from atomically. Generations
 * are changed by the coordinator only. Shards are numbered from 0.
 */
import { makeColumns, type SegmentColumns } from '../space/segment-table.js';
import { SharedLock } from './shared-lock.js';

/** Words that there is one each of. */
export const Word = {
  lock: 0,
  /** The cache device has failed under a thread: none goes on. */
  failed: 1,
  /** The coordinator sleeps until it is told that there is something to do. */
  coordinatorIdle: 2,
  /** Write-back will not make any room. */
  hopeless: 3,
  /** Segments freed so far. */
  freed: 4,
  /** Number of the last flush that was asked for. */
  flushAsked: 5,
  /** Segments that lost their last reference to a shard, at the front of `orphans`. */
  orphans: 6,
  /** Segments taken so far. */
  taken: 7,
} as const;
const WORDS = 8;

/** The log's head: its place, and how many ksets and keys have been written since the opening. */
export const LogField = { segment: 0, offsetBytes: 1, ksetsClosed: 2, keysLogged: 3 } as const;
const LOG_FIELDS = 4;

/** Per-shard words are so far apart that no two share a cache line. */
const SHARD_STRIDE = 16;
const ShardWord = {
  /** Counts the shard's entries into the request path and its leavings: odd while it is inside. */
  epoch: 0,
  /** Requests of it wait for room. */
  waiting: 1,
  /** Number of the last flush before which it has closed its ksets. */
  flushServed: 2,
} as const;

/** The memory itself, as it is handed from thread to thread. */
export interface SharedMemory {
  readonly jobs: number;
  readonly columns: SegmentColumns;
  readonly words: Int32Array;
  readonly log: Float64Array;
  readonly shards: Int32Array;
  readonly orphans: Int32Array;
}

export function makeSharedMemory(jobs: number, segments: number): SharedMemory {
  const shared = (bytes: number) => new SharedArrayBuffer(bytes);
  return {
    jobs,
    columns: makeColumns(segments, shared),
    words: new Int32Array(shared(4 * WORDS)),
    log: new Float64Array(shared(8 * LOG_FIELDS)),
    shards: new Int32Array(shared(4 * SHARD_STRIDE * jobs)),
    orphans: new Int32Array(shared(4 * segments)),
  };
}

export class SharedState {
  readonly lock: SharedLock;
  readonly jobs: number;

  constructor(readonly memory: SharedMemory) {
    this.lock = new SharedLock(memory.words, Word.lock);
    this.jobs = memory.jobs;
  }

  get(word: number): number {
    return Atomics.load(this.memory.words, word);
  }
  set(word: number, value: number): void {
    Atomics.store(this.memory.words, word, value);
  }
  /** Adds to a word. @returns what it is then */
  add(word: number, value: number): number {
    return Atomics.add(this.memory.words, word, value) + value;
  }
  /** Sets a word. @returns what it was */
  exchange(word: number, value: number): number {
    return Atomics.exchange(this.memory.words, word, value);
  }

  // ---- inside and outside the request path ------------------------------------------------------------

  /** The shard goes into the request path: what it finds in its index stays readable until it leaves. */
  enter(shard: number): void {
    Atomics.add(this.memory.shards, shard * SHARD_STRIDE + ShardWord.epoch, 1);
  }
  leave(shard: number): void {
    Atomics.add(this.memory.shards, shard * SHARD_STRIDE + ShardWord.epoch, 1);
  }

  /**
   * Returns when every shard has been outside the request path since the call: none still reads payload by what it
   * found in its index before. Must be called without the lock, which a shard inside may wait for.
   */
  awaitOutside(): void {
    const { shards } = this.memory;
    for (let shard = 0; shard < this.jobs; shard++) {
      const at = shard * SHARD_STRIDE + ShardWord.epoch;
      // Not a load: that could overtake the caller's store of a new generation, and the shard then see the old one.
      const epoch = Atomics.add(shards, at, 0);
      // The time limit is there because shards that leave do not stop to wake anybody.
      while ((epoch & 1) === 1 && Atomics.load(shards, at) === epoch) Atomics.wait(shards, at, epoch, LOOK_AGAIN_MS);
    }
  }

  // ---- waiting for room -------------------------------------------------------------------------------

  setWaiting(shard: number, isWaiting: boolean): void {
    Atomics.store(this.memory.shards, shard * SHARD_STRIDE + ShardWord.waiting, isWaiting ? 1 : 0);
  }
  isWaiting(shard: number): boolean {
    return Atomics.load(this.memory.shards, shard * SHARD_STRIDE + ShardWord.waiting) === 1;
  }

  // ---- flushes ----------------------------------------------------------------------------------------

  setFlushServed(shard: number, flush: number): void {
    Atomics.store(this.memory.shards, shard * SHARD_STRIDE + ShardWord.flushServed, flush);
  }
  /** Whether every shard has closed the ksets that were open when flush number `flush` was asked for. */
  isFlushServed(flush: number): boolean {
    for (let shard = 0; shard < this.jobs; shard++) {
      const served = Atomics.load(this.memory.shards, shard * SHARD_STRIDE + ShardWord.flushServed);
      if (served - flush < 0) return false;
    }
    return true;
  }

  // ---- segments that a shard has let go of ------------------------------------------------------------

  /** Leaves a segment that lost its last reference to the coordinator, which alone frees segments. */
  addOrphan(segment: number): void {
    const { words, orphans } = this.memory;
    this.lock.run(() => (orphans[words[Word.orphans]++] = segment));
  }
  /** Calls `body` for each. */
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
