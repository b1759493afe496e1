/** Messages between the thread that has a cache and those that serve its clients. */
import type { QueuePlace } from '../block-device/ublk-queue.js';
import type { MappedDevice } from '../engine/device/mapped.js';
import type { SharedBacking } from '../engine/device/backing-file.js';
import type { ErrorNote } from '../engine/errors.js';
import type { ShardSeed, ShardStatus } from '../engine/index.js';
import type { ExchangeSeed } from '../engine/shards/exchange-seed.js';
import type { Activity } from './activity.js';
import type { TlsRequest } from './tls.js';

/** `workerData` of a thread that serves. */
export interface ServingData {
  readonly shard: ShardSeed;
  readonly exchange: ExchangeSeed;
  readonly device: MappedDevice;
  readonly backing: SharedBacking;
  readonly sizeBytes: number;
  readonly description: string;
  readonly exportName: string | undefined;
  readonly tls: TlsRequest;
  readonly pressure: Float64Array;
}

export interface ThreadStatus {
  readonly activity: Activity;
  readonly shard: ShardStatus;
}

/** Clients and queues have numbers, which the sender gives them. */
export type ToServing =
  | {
      readonly kind: 'client';
      readonly client: number;
      readonly fd: number;
      readonly origin: string;
      readonly isDevice: boolean;
      /** Shared: set to 1 when negotiation is over. */
      readonly admitted: Int32Array;
    }
  | { readonly kind: 'stop' | 'destroy' | 'evict'; readonly client: number }
  | { readonly kind: 'queue'; readonly queue: number; readonly place: QueuePlace }
  | { readonly kind: 'close queue'; readonly queue: number }
  | { readonly kind: 'status'; readonly id: number }
  | { readonly kind: 'stop pacing' };

export type FromServing =
  | { readonly kind: 'released'; readonly client: number }
  | { readonly kind: 'queue served'; readonly queue: number; readonly error: ErrorNote | undefined }
  | { readonly kind: 'queue ended'; readonly queue: number; readonly errno: number }
  | { readonly kind: 'queue closed'; readonly queue: number }
  | { readonly kind: 'status'; readonly id: number; readonly status: ThreadStatus }
  | { readonly kind: 'tell'; readonly of: string; readonly text: string };
