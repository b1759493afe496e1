/**
 * Latencies in logarithmic buckets, sixteen to each doubling of nanoseconds: recording is a few additions, and a
 * percentile is good to 6 %. Snapshots subtract, so that a watcher gets the percentiles of its own interval.
 */

const SUB_BITS = 4;
const SUBS = 1 << SUB_BITS;
const BUCKETS = 40 * SUBS;

/** Buckets in use: number of each, and how many values it has. */
export type HistogramSnapshot = readonly (readonly [bucket: number, count: number])[];

export class Histogram {
  private readonly counts = new Float64Array(BUCKETS);
  /** Of all values recorded, ns. */
  sumNs = 0;

  /** @param valueNs not negative. */
  record(valueNs: number, times = 1): void {
    this.counts[bucketOf(valueNs)] += times;
    this.sumNs += valueNs * times;
  }

  snapshot(): HistogramSnapshot {
    const used: [number, number][] = [];
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      if (this.counts[bucket] > 0) used.push([bucket, this.counts[bucket]]);
    }
    return used;
  }
}

function bucketOf(valueNs: number): number {
  let value = valueNs;
  let exponent = 0;
  while (value >= 2 ** 31) {
    value /= 2;
    exponent++;
  }
  const shift = Math.max(0, 31 - Math.clz32(value) - SUB_BITS);
  return Math.min(BUCKETS - 1, (shift + exponent) * SUBS + (value >>> shift));
}

/** Largest value of a bucket, ns. */
function topOf(bucket: number): number {
  if (bucket < 2 * SUBS) return bucket;
  const shift = Math.floor(bucket / SUBS) - 1;
  return ((bucket % SUBS) + SUBS + 1) * 2 ** shift - 1;
}

export function snapshotCount(snapshot: HistogramSnapshot): number {
  return snapshot.reduce((sum, [, count]) => sum + count, 0);
}

/** The value that `percent` of those recorded do not exceed, ns; 0 when nothing was recorded. */
export function percentileNs(snapshot: HistogramSnapshot, percent: number): number {
  let left = (snapshotCount(snapshot) * percent) / 100;
  for (const [bucket, count] of snapshot) {
    left -= count;
    if (left <= 0) return topOf(bucket);
  }
  return 0;
}

/** What was recorded after `earlier` was taken. */
export function snapshotSince(later: HistogramSnapshot, earlier: HistogramSnapshot): HistogramSnapshot {
  const before = new Map(earlier);
  return later
    .map(([bucket, count]) => [bucket, count - (before.get(bucket) ?? 0)] as const)
    .filter(([, count]) => count > 0);
}
