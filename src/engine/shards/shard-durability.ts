/**
 * What a shard knows of the durability of the backing device. The coordinator makes all flushes of it, for write-back and
 * for the shards, because a backing device that fails a flush may have dropped what write-back wrote there: only the
 * thread that sees the failure writes it again. A flush covers what any thread has done.
 *
 * The numbers of flushes are in shared memory (`FlushField`). The coordinator publishes the number of a flush before the
 * flush begins. So a shard that finds a lower one when a hole has been made can count on that flush.
 */
import type { BackingDurability } from '../background/backing-durability.js';
import type { PcacheError } from '../errors.js';
import { FlushField, type SharedState } from './shared-state.js';

export class ShardDurability implements BackingDurability {
  onChange: (error: PcacheError | undefined) => void = () => {};
  /** No request waits for write-back: several threads share caches of the modes that do not write through only. */
  readonly written = 0;
  /** The coordinator reports that as a failure. */
  readonly stopped = false;
  failures = 0;
  lastError: PcacheError | undefined;
  /** Number of the last flush that this shard asked for, and of the last that it knows to have succeeded. */
  private asked = 0;
  private done = 0;

  /** A ticket is the number of the flush that serves it. */
  readonly flushes = {
    request: (): number => {
      this.asked = this.next;
      this.state.raiseBackingFlush(FlushField.wanted, this.asked);
      this.onAsked();
      return this.asked;
    },
    owe: (): number => {
      const { next } = this;
      this.state.raiseBackingFlush(FlushField.owed, next);
      return next;
    },
    isServed: (ticket: number): boolean => this.done >= ticket,
    isDone: (flush: number): boolean => this.done >= flush,
  };

  /** @param onAsked called when the coordinator has a flush to make */
  constructor(
    private readonly state: SharedState,
    private readonly onAsked: () => void,
  ) {}

  private get next(): number {
    return this.state.backingFlush(FlushField.begun) + 1;
  }

  /** A flush that this shard asked for has not succeeded yet, as far as it knows. */
  get isWanted(): boolean {
    return this.asked > this.done;
  }

  get othersOweFlush(): boolean {
    return this.state.backingFlush(FlushField.owed) > this.state.backingFlush(FlushField.done);
  }

  /** Takes over the number of the last flush that succeeded. @returns whether it is a new one */
  refresh(): boolean {
    const done = this.state.backingFlush(FlushField.done);
    if (done === this.done) return false;
    this.done = done;
    this.failures = 0;
    this.lastError = undefined;
    this.onChange(undefined);
    return true;
  }

  /** A flush that some shard asked for has failed. */
  failed(error: PcacheError): void {
    this.refresh();
    this.failures++;
    this.lastError = error;
    this.onChange(error);
  }
}
