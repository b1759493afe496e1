/** The charts of many cache sizes: what each would have done with the trace, beside an ideal LRU. */
import type { LruPoint } from '../curve/lru-curve.js';
import type { CurveResult } from '../curve/result.js';
import type { LineChart, LineSeries } from './chart.js';

const percent = (ratio: number | null | undefined) => (ratio === null || ratio === undefined ? null : ratio * 100);
const missOf = (share: LruPoint['all']['byBytes']) => (share === null ? null : percent(1 - share.ratio));

export function sizeCharts({ curve, lru }: CurveResult): LineChart[] {
  const lruPoints = lru?.points ?? [];
  const sizes = curve.map(({ cacheBytes }) => cacheBytes);
  const allSizes = [...new Set([...sizes, ...lruPoints.map(({ cacheBytes }) => cacheBytes)])].sort((a, b) => a - b);
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
  return charts.map((chart) => ({ ...chart, series: chart.series.filter(({ values }) => values.some(isThere)) }));
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
