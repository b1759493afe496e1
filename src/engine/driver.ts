/**
 * Drives a cache in a process: calls `step()` on the event loop when there is work, and when the next deadline comes.
 * Operations that take time (drain, close) wait here; the cache itself never waits.
 */
import type { Cache } from './cache.js';
import type { Clock } from './clock.js';
import { assert, PcacheError } from './errors.js';

/** A cache, or one thread's share of it (`shards/shard.ts`), as the driver needs it. */
export type Driven = Pick<
  Cache,
  | 'submit'
  | 'step'
  | 'nextDeadlineMs'
  | 'onProgress'
  | 'holdWriteback'
  | 'hurryWriteback'
  | 'failure'
  | 'isClean'
  | 'isThrough'
  | 'isBackingBusy'
  | 'isLogStuck'
  | 'isWritebackHopeless'
  | 'writebackError'
  | 'hasUnsettledWrites'
  | 'hasOpenKeys'
  | 'hasPendingParts'
  | 'hasWaitingRequests'
  | 'requestClose'
  | 'stopAccepting'
  | 'dirtyInLog'
>;

/** Limits of the work before the event loop gets its turn. */
const STEPS_PER_TURN = 32;
const TURN_MAX_MS = 0.5;

/** Result of an orderly close. */
export interface CloseReport {
  /** Keys in the log that are not on the backing device yet, and their bytes; older versions included. */
  readonly dirtyKeys: number;
  readonly dirtyBytes: number;
}

interface Waiter {
  readonly isOver: () => boolean;
  readonly failure: () => PcacheError | undefined;
  readonly resolve: () => void;
  readonly reject: (error: PcacheError) => void;
}

export class CacheDriver<D extends Driven = Cache> {
  private immediate: NodeJS.Immediate | undefined;
  private timer: NodeJS.Timeout | undefined;
  /** Time of the timer, by `clock`; Infinity when none is set. */
  private timerAtMs = Infinity;
  private readonly waiters: Waiter[] = [];
  private closed = false;
  private drains = 0;
  /** The last step had nothing to do. */
  private isIdle = false;

  /** @param giveWay called after each turn of background work, so that threads that wait for this processor can run */
  constructor(
    readonly cache: D,
    private readonly clock: Clock,
    private readonly giveWay = () => {},
  ) {
    cache.onProgress = () => this.kick();
    this.kick();
  }

  /** Makes the driver step the cache soon. Call it after every `submit`. */
  kick(): void {
    if (this.immediate || this.closed) return;
    this.immediate = setImmediate(() => {
      this.immediate = undefined;
      this.turn();
    });
  }

  private turn(): void {
    const endMs = this.clock.nowMs() + TURN_MAX_MS;
    let worked = true;
    for (let n = 0; worked && n < STEPS_PER_TURN; n++) {
      worked = this.cache.step();
      if (this.clock.nowMs() >= endMs) break;
    }
    this.isIdle = !worked;
    this.settleWaiters();
    if (this.closed) return;
    if (worked) this.kick();
    else this.sleep();
    this.giveWay();
  }

  /** Sets the timer for the next deadline. An earlier timer stays; when it fires, the driver comes here again. */
  private sleep(): void {
    const deadlineMs = this.cache.nextDeadlineMs;
    if (deadlineMs >= this.timerAtMs && deadlineMs < Infinity) return;
    clearTimeout(this.timer);
    this.timerAtMs = deadlineMs;
    if (deadlineMs === Infinity) return;
    this.timer = setTimeout(
      () => {
        this.timerAtMs = Infinity;
        this.kick();
      },
      Math.max(1, deadlineMs - this.clock.nowMs()),
    );
  }

  private settleWaiters(): void {
    for (const waiter of [...this.waiters]) {
      const failure = waiter.failure();
      if (!failure && !waiter.isOver()) continue;
      this.waiters.splice(this.waiters.indexOf(waiter), 1);
      if (failure) waiter.reject(failure);
      else waiter.resolve();
    }
  }

  private until(isOver: () => boolean, failure: () => PcacheError | undefined): Promise<void> {
    assert(!this.closed, 'the driver is closed');
    return new Promise((resolve, reject) => {
      this.waiters.push({ isOver, failure, resolve, reject });
      this.kick();
    });
  }

  private closeKsets(): void {
    if (!this.cache.hasOpenKeys) return;
    this.cache.requestClose();
    if (!this.cache.isLogStuck) this.kick();
  }

  /**
   * Writes everything dirty back, open ksets included, and makes it durable.
   * @throws PcacheError the failure of write-back or of the cache device
   */
  async drain(): Promise<void> {
    const { cache } = this;
    this.drains++;
    cache.hurryWriteback = true;
    try {
      await this.until(
        () => {
          this.closeKsets();
          return cache.isClean && !cache.isBackingBusy && !cache.hasUnsettledWrites;
        },
        () => cache.failure ?? (cache.isWritebackHopeless ? cache.writebackError : undefined),
      );
    } finally {
      cache.hurryWriteback = --this.drains > 0;
    }
  }

  /**
   * Closes in order: takes no more requests, serves those already taken, closes the open ksets, and lets write-back end
   * what is under way. Data that stays dirty is in the log, and the next open goes on with it; in the modes that write
   * through none stays dirty unless the backing device fails. The devices stay open; the caller closes them. May be called
   * after a failure.
   * @throws PcacheError the failure of the cache device; CACHE_FULL when the log has no room for open ksets and
   *   write-back cannot make any. Their keys are lost then, as in a crash.
   */
  async close(): Promise<CloseReport> {
    const { cache } = this;
    const noFailure = () => undefined; // a failed cache still ends its requests; its failure is thrown below
    cache.stopAccepting();
    await this.until(() => !cache.hasWaitingRequests && !cache.hasPendingParts, noFailure);
    await this.until(() => {
      this.closeKsets();
      const isHopeless = cache.isLogStuck && cache.isWritebackHopeless && this.isIdle;
      return cache.failure !== undefined || !cache.hasOpenKeys || isHopeless;
    }, noFailure);
    if (cache.isThrough && !cache.failure && !cache.isWritebackHopeless) {
      await this.drain().catch(() => {}); // what stays dirty is reported below
    }
    cache.holdWriteback = true;
    await this.settleDirectWrites();
    await this.until(() => !cache.isBackingBusy, noFailure);
    this.closed = true;
    clearImmediate(this.immediate);
    clearTimeout(this.timer);
    if (cache.failure) throw cache.failure;
    if (cache.hasOpenKeys) throw logStuckError(cache);
    const { keys, bytes } = cache.dirtyInLog();
    return { dirtyKeys: keys, dirtyBytes: bytes };
  }

  /** What was written or zeroed past the cache is durable at return, unless the backing device fails. */
  private async settleDirectWrites(): Promise<void> {
    const { cache } = this;
    await this.until(
      () => {
        if (!cache.hurryWriteback) this.kick();
        cache.hurryWriteback = true;
        return !cache.hasUnsettledWrites || cache.failure !== undefined || cache.writebackError !== undefined;
      },
      () => undefined,
    );
  }
}

function logStuckError(cache: Driven): PcacheError {
  const reason = cache.writebackError?.message ?? 'write-back has stopped';
  return new PcacheError(
    'CACHE_FULL',
    `the last writes are lost: the log of the cache is full, and the cache cannot be written back: ${reason}`,
  );
}
