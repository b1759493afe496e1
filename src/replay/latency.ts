/**
 * Latency histograms, over Node's own HDR histogram: nanoseconds from 1 up, three significant digits. Beside it a
 * coarse one of equal steps on a logarithmic scale, for pictures.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import { Op } from '../engine/index.js';
import type { LatencyKind } from './latency-history.js';

export interface LatencySummary {
  readonly count: number;
  readonly meanNs: number;
  readonly p50Ns: number;
  readonly p90Ns: number;
  readonly p99Ns: number;
  readonly p999Ns: number;
  readonly p9999Ns: number;
  readonly maxNs: number;
}

/** Bins of the drawn histogram: eight to a decade from 1 ns up, the last for 100 s and more. */
const BINS_PER_DECADE = 8;
const BINS = 11 * BINS_PER_DECADE + 1;

/** Lower end of bin `n` of what `LatencyRecorder.bins` gives, ns. */
export function latencyBinNs(bin: number): number {
  return 10 ** (bin / BINS_PER_DECADE);
}

/** Which latencies a request belongs to. @param missBytes of a read: what the cache did not hold */
export function latencyKind(op: number, missBytes: number): LatencyKind {
  if (op === Op.read) return missBytes === 0 ? 'readHit' : 'readMiss';
  return op === Op.write ? 'write' : 'flush';
}

export class LatencyRecorder {
  /** Durations by bin: the coarse histogram that is drawn. */
  readonly bins = new Float64Array(BINS);
  private readonly histogram: RecordableHistogram = createHistogram({ figures: 3 });

  /** @param ms a duration in milliseconds. */
  recordMs(ms: number): void {
    const ns = Math.max(1, Math.round(ms * 1e6));
    this.histogram.record(ns);
    this.bins[Math.min(BINS - 1, Math.floor(Math.log10(ns) * BINS_PER_DECADE))]++;
  }

  /** All zero when nothing was recorded. */
  summary(): LatencySummary {
    const { histogram } = this;
    const count = histogram.count;
    const at = (percentile: number) => (count === 0 ? 0 : histogram.percentile(percentile));
    return {
      count,
      meanNs: count === 0 ? 0 : Math.round(histogram.mean),
      p50Ns: at(50),
      p90Ns: at(90),
      p99Ns: at(99),
      p999Ns: at(99.9),
      p9999Ns: at(99.99),
      maxNs: count === 0 ? 0 : histogram.max,
    };
  }
}

/** Durations by size, for a picture: bin n counts those from `edgesNs[n]` up to `edgesNs[n + 1]`. */
export interface LatencyHistogram<Kind extends string = string> {
  /** One more than there are bins. */
  readonly edgesNs: readonly number[];
  readonly counts: Readonly<Record<Kind, readonly number[]>>;
}

/** The histograms of several recorders over the range of all; without edges when nothing was recorded. */
export function latencyHistogram<Kind extends string>(
  recorders: Readonly<Record<Kind, LatencyRecorder>>,
): LatencyHistogram<Kind> {
  const entries = Object.entries<LatencyRecorder>(recorders);
  const isUsed = (bin: number) => entries.some(([, { bins }]) => bins[bin] > 0);
  let first = 0;
  while (first < BINS && !isUsed(first)) first++;
  let end = BINS;
  while (end > first && !isUsed(end - 1)) end--;
  const counts = entries.map(([kind, { bins }]) => [kind, Array.from(bins.subarray(first, end))]);
  return {
    edgesNs: end > first ? Array.from({ length: end - first + 1 }, (_, n) => latencyBinNs(first + n)) : [],
    counts: Object.fromEntries(counts) as Record<Kind, number[]>,
  };
}
