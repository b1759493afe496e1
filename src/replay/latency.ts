/** Latency histograms, over Node's own HDR histogram: nanoseconds from 1 up, three significant digits. */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';

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

export class LatencyRecorder {
  private readonly histogram: RecordableHistogram = createHistogram({ figures: 3 });

  /** @param ms a duration in milliseconds. */
  recordMs(ms: number): void {
    this.histogram.record(Math.max(1, Math.round(ms * 1e6)));
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
