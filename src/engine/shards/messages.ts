/** What the threads of one cache say to one another, over a port per shard. Everything else is in shared memory. */
import type { CloseReport } from '../driver.js';
import type { ErrorNote } from '../errors.js';
import type { EngineStats } from '../stats.js';

/** How a shard stands. */
export interface ShardStatus {
  readonly stats: EngineStats;
  readonly openKeys: boolean;
  readonly waitingRequests: number;
  readonly pendingBackingReads: number;
  readonly indexEntries: number;
  readonly indexMemoryBytes: number;
}

export type ToShard =
  /** There may be something to do: room, or a flush that somebody has asked for. */
  | { readonly kind: 'wake' }
  /** Close the open ksets and answer. */
  | { readonly kind: 'drain' }
  /** Let go of the open segment, close the open ksets, and answer. */
  | { readonly kind: 'yield' }
  /** Those who wait for room are to fail. */
  | { readonly kind: 'fail'; readonly error: ErrorNote }
  | { readonly kind: 'status' }
  /** Take no more requests, end those taken, close the ksets, answer, and be done. */
  | { readonly kind: 'close' };

export type FromShard =
  | { readonly kind: 'ready' }
  /** The cache device has failed, or the cache could not even be loaded. */
  | { readonly kind: 'failed'; readonly error: ErrorNote }
  /** There is something to do for the coordinator. */
  | { readonly kind: 'kick' }
  /** A flush was asked for, or served: there is something to do for other shards. */
  | { readonly kind: 'flush' }
  | { readonly kind: 'drained'; readonly error?: ErrorNote }
  | { readonly kind: 'yielded' }
  | { readonly kind: 'status'; readonly status: ShardStatus }
  | { readonly kind: 'closed'; readonly report?: CloseReport; readonly error?: ErrorNote };
