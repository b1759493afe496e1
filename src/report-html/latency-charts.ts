/** Charts of latencies: how they are spread, and what they were over time. A replay without latencies has none. */
import type { LatencyHistogram } from '../replay/latency.js';
import type { LatencyColumns, LatencyKind } from '../replay/latency-history.js';
import type { ReplayResult } from '../replay/replay-result.js';
import type { LineChart, LineSeries } from './chart.js';
import { clockOf } from './clock.js';

const NOT_KNOWN =
  'Latencies are not known: the replay kept the time of the trace, and had no model of the devices. To estimate them use --simulate --model; to measure them leave --lockstep out.';

const KINDS: readonly (readonly [LatencyKind, string, LineSeries['colour'], LineSeries['dash']])[] = [
  ['readHit', 'read hit', 'green', 'solid'],
  ['readMiss', 'read miss', 'blue', 'solid'],
  ['write', 'write', 'orange', 'solid'],
  ['flush', 'flush', 'grey', 'dotted'],
];

const isThere = (value: number | null) => value !== null;

/** The values of steps, with one more for the x that ends the last. */
function closed(values: readonly (number | null)[]): (number | null)[] {
  return values.length === 0 ? [] : [...values, values[values.length - 1]];
}

/** Mean and 99th percentile of each kind of request over time. */
export function latencyTimeCharts(result: ReplayResult): LineChart[] {
  const { latency, binNs, endNs } = result.timeline;
  const length = latency === null ? 0 : latency.write.requests.length;
  const edgesNs = latency === null ? [] : [...Array.from({ length }, (_, n) => n * binNs), endNs];
  const how = result.simulated ? 'Expected by the model' : 'Measured';
  const chart = (id: string, title: string, column: keyof LatencyColumns, note: string): LineChart => ({
    ...{ kind: 'lines', style: 'steps', id, title },
    note: latency === null ? '' : `${how}, by the time at which requests arrived. ${note}A gap means no such request.`,
    empty: NOT_KNOWN,
    x: { label: clockOf(result), unit: 'time', scale: 'linear', values: edgesNs },
    y: { label: 'latency', unit: 'time', scale: 'log10' },
    series: KINDS.map(([kind, label, colour, dash]) => ({
      ...{ label, colour, dash },
      values: latency === null ? [] : closed(latency[kind][column]),
    })).filter(({ values }) => values.some(isThere)),
  });
  return [
    chart('latency-mean', 'Mean latency over time', 'meanNs', ''),
    chart('latency-p99', '99th percentile of latency over time', 'p99Ns', 'Within 4 %. '),
  ];
}

export function latencyChart(result: ReplayResult): LineChart {
  const none: LatencyHistogram<LatencyKind> = {
    edgesNs: [],
    counts: { readHit: [], readMiss: [], write: [], flush: [] },
  };
  const { edgesNs, counts } = result.latencyHistogram ?? none;
  return {
    kind: 'lines',
    id: 'latency',
    title: 'Latency histogram',
    note: 'How many requests took how long. Each step is a third wider than the one before.',
    wide: true,
    empty: NOT_KNOWN,
    style: 'steps',
    x: { label: 'latency', unit: 'time', scale: 'log10', values: edgesNs },
    y: { label: 'requests', unit: 'count' },
    series: KINDS.map(([kind, label, colour, dash]) => ({
      ...{ label, colour, dash },
      values: closed(counts[kind]),
    })).filter(({ values }) => values.some((value) => value !== null && value > 0)),
  };
}
