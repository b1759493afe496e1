/** The charts of many cache sizes: what each would have done with the trace, beside an ideal LRU. */
import type { LruPoint } from '../curve/lru-curve.js';
import { POLICY_TITLES, type PolicyName } from '../curve/policies.js';
import type { CurveResult } from '../curve/result.js';
import type { WorkingSet } from '../curve/working-set.js';
import { intervalName } from '../output/units.js';
import type { LineChart, LineSeries } from './chart.js';

const percent = (ratio: number | null | undefined) => (ratio === null || ratio === undefined ? null : ratio * 100);
const missOf = (share: LruPoint['all']['byBytes']) => (share === null ? null : percent(1 - share.ratio));

const sizeOf = ({ cacheBytes }: { readonly cacheBytes: number }) => cacheBytes;

export function sizeCharts({ curve, lru, policies, answers }: CurveResult): LineChart[] {
  const lruPoints = lru?.points ?? [];
  const sizes = curve.map(sizeOf);
  const allSizes = [...new Set([...curve, ...lruPoints, ...policies.flatMap(({ points }) => points)].map(sizeOf))].sort(
    (a, b) => a - b,
  );
  const x = { label: 'cache size', unit: 'bytes', scale: 'log2' } as const;
  const cacheOf = new Map(curve.map((point) => [point.cacheBytes, point]));
  const lruOf = new Map(lruPoints.map((point) => [point.cacheBytes, point]));
  const ofLru = (value: (point: LruPoint) => number | null) =>
    allSizes.map((size) => {
      const point = lruOf.get(size);
      return point === undefined ? null : value(point);
    });
  const error = lru?.method === 'sampled' ? ' The LRU curve is estimated from samples.' : '';
  const common = { kind: 'lines', style: 'points', x: { ...x, values: sizes } } as const;
  const charts: LineChart[] = [
    {
      ...common,
      id: 'size-curve',
      title: 'Miss ratio by cache size',
      note: `Share of bytes that are not in the cache; a cache of LRU keeps what was used last, and all its size is for data.${error}`,
      wide: true,
      x: { ...x, values: allSizes },
      y: { label: 'miss ratio', unit: 'percent', max: 100 },
      series: [
        line(
          'dm-pcache, reads',
          'orange',
          'solid',
          allSizes.map((size) => percent(cacheOf.get(size)?.missRatioByBytes)),
        ),
        line(
          'LRU, reads',
          'blue',
          'dashed',
          ofLru(({ reads }) => missOf(reads.byBytes)),
        ),
        line(
          'LRU, reads and writes',
          'grey',
          'dotted',
          ofLru(({ all }) => missOf(all.byBytes)),
        ),
        ...policies.map(({ policy, points }) => {
          const pointOf = new Map(points.map((point) => [point.cacheBytes, point]));
          const values = allSizes.map((size) => missOf(pointOf.get(size)?.reads.byBytes ?? null));
          return line(`${POLICY_TITLES[policy]}, reads`, POLICY_COLOURS[policy], 'dotted', values);
        }),
      ],
    },
    {
      ...common,
      id: 'size-writes',
      title: 'Write-back amplification by cache size',
      note: 'Bytes written to the backing device for each byte that was written.',
      y: { label: 'amplification', unit: 'times' },
      series: [
        line(
          'dm-pcache',
          'orange',
          'solid',
          curve.map(({ writeAmplification }) => writeAmplification),
        ),
      ],
    },
    {
      ...common,
      id: 'size-dirty',
      title: 'Dirty data at most, by cache size',
      note: 'The most that was not on the backing device yet.',
      y: { label: 'dirty at most', unit: 'bytes' },
      series: [
        line(
          'dm-pcache',
          'orange',
          'solid',
          curve.map(({ dirtyPeakBytes }) => dirtyPeakBytes),
        ),
      ],
    },
  ];
  if (answers.workingSet !== null) charts.push(workingSetChart(answers.workingSet));
  return charts.map((chart) => ({ ...chart, series: chart.series.filter(({ values }) => values.some(isThere)) }));
}

const POLICY_COLOURS: Readonly<Record<PolicyName, LineSeries['colour']>> = {
  'fifo': 'grey',
  's3-fifo': 'green',
  'sieve': 'purple',
};

function workingSetChart({ intervalNs, byIntervalBytes, rate }: WorkingSet): LineChart {
  const unit = intervalName(intervalNs);
  const edgesNs = Array.from({ length: byIntervalBytes.length + 1 }, (_, i) => i * intervalNs);
  return {
    kind: 'lines',
    style: 'steps',
    id: 'working-set',
    title: `Working set by ${unit}`,
    note: `Different blocks of 4 KiB read or written in each ${unit}.${rate < 1 ? ' Estimated from a sample of the blocks.' : ''}`,
    x: { label: 'time of the trace', unit: 'time', scale: 'linear', values: edgesNs },
    y: { label: 'working set', unit: 'bytes' },
    series: [line('reads and writes', 'blue', 'solid', [...byIntervalBytes, null])],
  };
}

const isThere = (value: number | null) => value !== null;

function line(
  label: string,
  colour: LineSeries['colour'],
  dash: LineSeries['dash'],
  values: readonly (number | null)[],
): LineSeries {
  return { label, colour, dash, values };
}
