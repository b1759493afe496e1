/** Messages between the threads of one cache, over one port a shard. All other communication is in shared memory. */
import type { CloseReport } from '../driver.js';
import type { ErrorNote } from '../errors.js';
import type { EngineStats } from '../stats.js';

/** Status of a shard. */
export interface ShardStatus {
  readonly stats: EngineStats;
  readonly openKeys: boolean;
  readonly waitingRequests: number;
  readonly pendingBackingReads: number;
  readonly indexEntries: number;
  readonly indexMemoryBytes: number;
}

export type ToShard =
  /** There may be something to do: a free segment, or a flush that some shard asked for, of the log or the backing device. */
  | { readonly kind: 'wake' }
  /** Close the open ksets. */
  | { readonly kind: 'commit' }
  /** Close the open ksets and answer. */
  | { readonly kind: 'drain' }
  /** Leave the open segment, close the open ksets, and answer. */
  | { readonly kind: 'yield' }
  /** Requests that wait for room have to fail. */
  | { readonly kind: 'fail'; readonly error: ErrorNote }
  /** A flush of the backing device that some shard asked for has failed. The coordinator tries again. */
  | { readonly kind: 'unflushed'; readonly error: ErrorNote }
  | { readonly kind: 'status' }
  /** Take no more requests, end those taken, close the open ksets, answer, and end. */
  | { readonly kind: 'close' };

export type FromShard =
  | { readonly kind: 'ready' }
  /** The cache device failed, or the cache could not be loaded. */
  | { readonly kind: 'failed'; readonly error: ErrorNote }
  /** The coordinator has something to do. */
  | { readonly kind: 'kick' }
  /** A flush was asked for: the other shards have to serve it. */
  | { readonly kind: 'flush asked' }
  /** A flush is served, or will not be: groups that wait for it can go on. */
  | { readonly kind: 'flush ended' }
  | { readonly kind: 'drained'; readonly error?: ErrorNote }
  | { readonly kind: 'yielded' }
  | { readonly kind: 'status'; readonly status: ShardStatus }
  | { readonly kind: 'closed'; readonly report?: CloseReport; readonly error?: ErrorNote };
