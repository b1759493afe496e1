/**
 * A lock between threads: one word of shared memory. A thread holds it for microseconds, never waits for another thread
 * meanwhile, and never takes it twice.
 */
import { assert } from '../errors.js';

const FREE = 0;
const HELD = 1;
/** Held, and another thread may be asleep until it is released. */
const WAITED_FOR = 2;

/** Number of tries before a thread goes to sleep: about as long as writing a kset takes. */
const SPINS = 200;

export class SharedLock {
  private held = false;

  /** @param words shared memory; the lock is word `at`, initially 0 */
  constructor(
    private readonly words: Int32Array,
    private readonly at: number,
  ) {}

  /** Runs `body` while this thread holds the lock. */
  run<T>(body: () => T): T {
    this.acquire();
    try {
      return body();
    } finally {
      this.release();
    }
  }

  private acquire(): void {
    const { words, at } = this;
    assert(!this.held, 'a lock is taken twice by one thread');
    let found = Atomics.compareExchange(words, at, FREE, HELD);
    for (let n = 0; found !== FREE && n < SPINS; n++) {
      if (Atomics.load(words, at) === FREE) found = Atomics.compareExchange(words, at, FREE, HELD);
    }
    while (found !== FREE) {
      // A thread that takes the lock in this loop cannot know whether others sleep, so it leaves the mark.
      if (found === WAITED_FOR || Atomics.compareExchange(words, at, HELD, WAITED_FOR) !== FREE) {
        Atomics.wait(words, at, WAITED_FOR);
      }
      found = Atomics.compareExchange(words, at, FREE, WAITED_FOR);
    }
    this.held = true;
  }

  private release(): void {
    const { words, at } = this;
    this.held = false;
    if (Atomics.exchange(words, at, FREE) === WAITED_FOR) Atomics.notify(words, at, 1);
  }
}
