/**
 * Latencies over time, in bounded memory: for each of a fixed number of bins, and each kind of request, the number of
 * requests, the sum of their latencies, and a histogram of 32 steps to a factor of ten. Bins merge in pairs without loss,
 * as those of the timeline do. Memory is taken when the first latency is recorded: a replay in lockstep has none.
 */
const STEPS_PER_DECADE = 32;
/** From 1 ns up; the last step has everything from 100 s up. */
const STEPS = 11 * STEPS_PER_DECADE + 1;
const NS_PER_MS = 1e6;
const P99 = 0.99;

export type LatencyKind = 'readHit' | 'readMiss' | 'write' | 'flush';
const KINDS: readonly LatencyKind[] = ['readHit', 'readMiss', 'write', 'flush'];

/** Latencies of one kind of request, one value for each bin of the timeline, by the time of arrival. */
export interface LatencyColumns {
  /** Number of requests. */
  readonly requests: readonly number[];
  /** Null in bins without requests. */
  readonly meanNs: readonly (number | null)[];
  /** 99th percentile, within 4 %; null in bins without requests. */
  readonly p99Ns: readonly (number | null)[];
}

export type LatencyTimeline = Readonly<Record<LatencyKind, LatencyColumns>>;

class KindHistory {
  private readonly requests: Float64Array;
  private readonly sumNs: Float64Array;
  /** Requests by bin and step. */
  private readonly steps: Uint32Array;

  constructor(private readonly bins: number) {
    this.requests = new Float64Array(bins);
    this.sumNs = new Float64Array(bins);
    this.steps = new Uint32Array(bins * STEPS);
  }

  record(bin: number, ns: number): void {
    this.requests[bin]++;
    this.sumNs[bin] += ns;
    this.steps[bin * STEPS + Math.min(STEPS - 1, Math.floor(Math.log10(ns) * STEPS_PER_DECADE))]++;
  }

  mergePairs(): void {
    const { bins, requests, sumNs, steps } = this;
    for (let n = 0; n < bins / 2; n++) {
      requests[n] = requests[2 * n] + requests[2 * n + 1];
      sumNs[n] = sumNs[2 * n] + sumNs[2 * n + 1];
      for (let step = 0; step < STEPS; step++) {
        steps[n * STEPS + step] = steps[2 * n * STEPS + step] + steps[(2 * n + 1) * STEPS + step];
      }
    }
    requests.fill(0, bins / 2);
    sumNs.fill(0, bins / 2);
    steps.fill(0, (bins / 2) * STEPS);
  }

  finish(bins: number): LatencyColumns {
    const numbers = Array.from({ length: bins }, (_, n) => n);
    const whereAny = (value: (bin: number) => number) =>
      numbers.map((bin) => (this.requests[bin] === 0 ? null : Math.round(value(bin))));
    return {
      requests: Array.from(this.requests.subarray(0, bins)),
      meanNs: whereAny((bin) => this.sumNs[bin] / this.requests[bin]),
      p99Ns: whereAny((bin) => this.p99Ns(bin)),
    };
  }

  /** The geometric middle of the step that holds the 99th percentile. */
  private p99Ns(bin: number): number {
    const wanted = Math.ceil(this.requests[bin] * P99);
    let step = 0;
    for (let seen = this.steps[bin * STEPS]; seen < wanted; seen += this.steps[bin * STEPS + step]) step++;
    return 10 ** ((step + 0.5) / STEPS_PER_DECADE);
  }
}

export class LatencyHistory {
  private kinds: Readonly<Record<LatencyKind, KindHistory>> | undefined;

  /** @param bins an even number */
  constructor(private readonly bins: number) {}

  record(bin: number, kind: LatencyKind, tookMs: number): void {
    this.kinds ??= Object.fromEntries(KINDS.map((name) => [name, new KindHistory(this.bins)])) as Record<
      LatencyKind,
      KindHistory
    >;
    this.kinds[kind].record(bin, Math.max(1, Math.round(tookMs * NS_PER_MS)));
  }

  /** Bins 2n and 2n + 1 become bin n. */
  mergePairs(): void {
    if (this.kinds === undefined) return;
    for (const kind of Object.values(this.kinds)) kind.mergePairs();
  }

  /** The first `bins` bins; null if nothing was recorded. */
  finish(bins: number): LatencyTimeline | null {
    const { kinds } = this;
    if (kinds === undefined) return null;
    const columns = KINDS.map((name) => [name, kinds[name].finish(bins)] as const);
    return Object.fromEntries(columns) as Record<LatencyKind, LatencyColumns>;
  }
}
