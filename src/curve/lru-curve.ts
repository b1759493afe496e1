/**
 * The miss-ratio curve of an ideal LRU cache for a trace: the reference that people know, beside what dm-pcache does.
 * The cache is one of 4 KiB blocks; reads and writes both bring a block in (flushes and discards do not count), as
 * dm-pcache in writeback does. A request hits when all its blocks do; by bytes each block counts for what the request
 * takes of it.
 */
export const LRU_BLOCK_BYTES = 4096;

/** A share from 0 to 1, and how far the truth may be from it: half of a 95 % confidence interval, 0 when it is exact. */
export interface Share {
  readonly ratio: number;
  readonly error: number;
}

/** What hits at one size; null where there is nothing to hit, and by requests when sampled: samples do not tell. */
export interface HitShares {
  readonly byRequests: Share | null;
  readonly byBytes: Share | null;
}

export interface LruPoint {
  readonly cacheBytes: number;
  /** Of reads, as dm-pcache counts them. */
  readonly reads: HitShares;
  /** Of reads and writes. */
  readonly all: HitShares;
}

export interface LruCurve {
  readonly method: 'exact' | 'sampled';
  readonly blockBytes: number;
  /** Different blocks that were touched; an estimate when sampled. */
  readonly uniqueBlocks: number;
  /** Touches of a block; a request of several blocks has as many. */
  readonly references: number;
  readonly reads: number;
  readonly writes: number;
  readonly sampling: SamplingSummary | null;
  readonly points: readonly LruPoint[];
}

export interface SamplingSummary {
  readonly kind: 'fixed-rate' | 'fixed-size';
  /** Disjoint samples; the estimate is their mean, the error comes from how they differ. */
  readonly samples: number;
  /** Share of all blocks in any of the samples, at the end. */
  readonly rate: number;
  readonly sampledBlocks: number;
}

export type Sampling =
  /** Share of all blocks in any of the samples, above 0 to 1. */
  | { readonly kind: 'fixed-rate'; readonly rate: number }
  /** Blocks of each sample at most. */
  | { readonly kind: 'fixed-size'; readonly blocks: number };

export type LruMethod = { readonly kind: 'exact' } | Sampling;

/** Counts a stream of requests. */
export interface RequestCounter {
  /** @param end one past the last byte; after `offset`. */
  request(isRead: boolean, offset: number, end: number): void;
}

/** `ExactLru` or `SampledLru`. */
export interface LruCounter extends RequestCounter {
  curve(): LruCurve;
}

/** An exact share; null of nothing. */
export function shareOf(part: number, whole: number): Share | null {
  return whole === 0 ? null : { ratio: part / whole, error: 0 };
}
