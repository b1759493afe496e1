/**
 * A lock between threads: one word of shared memory. It is held for microseconds, by threads of one process that
 * never wait for another one while they have it, and never twice by one thread.
 */
import { assert } from '../errors.js';

const FREE = 0;
const HELD = 1;
/** Held, and somebody may sleep until it is given back. */
const WAITED_FOR = 2;

/** Looks at it before a thread goes to sleep over it: about as long as a kset takes to be written. */
const SPINS = 200;

export class SharedLock {
  private held = false;

  /** @param words shared; the lock is word `at`, 0 at first. */
  constructor(
    private readonly words: Int32Array,
    private readonly at: number,
  ) {}

  /** Runs `body` while no other thread has the lock. */
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
      // Whoever gets it in this loop cannot know whether others sleep, and leaves it marked.
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
