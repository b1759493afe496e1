/**
 * What a chart of the report shows, drawn or as a table. The drawn form is read by `page/lines.js` and
 * `page/map.js`, whose types say the same.
 */
import { formatBytes, formatCount, formatDuration } from '../output/units.js';

export type Unit = 'time' | 'bytes' | 'bytes/s' | 'percent' | 'count' | 'per-second' | 'times';

export interface LineSeries {
  readonly label: string;
  readonly colour: 'blue' | 'orange' | 'green' | 'purple' | 'grey';
  readonly dash: 'solid' | 'dashed' | 'dotted';
  /** One for each x; null where there is none. Of steps the one at the last x is not shown. */
  readonly values: readonly (number | null)[];
}

export interface LineChart {
  readonly kind: 'lines';
  readonly id: string;
  readonly title: string;
  readonly note: string;
  readonly wide?: boolean;
  /** What to say when there is nothing to draw. */
  readonly empty?: string;
  readonly x: {
    readonly label: string;
    readonly unit: Unit;
    readonly scale: 'linear' | 'log10' | 'log2';
    readonly values: readonly number[];
  };
  readonly y: { readonly label: string; readonly unit: Unit; readonly max?: number; readonly scale?: 'log10' };
  /** `steps`: each value holds until the next x, and the last x only ends the last step. */
  readonly style: 'steps' | 'points' | 'plain';
  readonly series: readonly LineSeries[];
}

export interface MapChart {
  readonly kind: 'map';
  readonly id: string;
  readonly title: string;
  readonly note: string;
  readonly wide?: boolean;
  /** What to say when there is nothing to draw. */
  readonly empty?: string;
  readonly x: { readonly unit: 'time'; readonly step: number; readonly end: number };
  readonly y: { readonly unit: Unit; readonly step: number; readonly label: string };
  /** Either rows of letters and what they stand for, or rows of counts and what is counted. */
  readonly states?: readonly string[];
  readonly letters?: Readonly<Record<string, { readonly name: string; readonly colour: string }>>;
  readonly counts?: readonly (readonly number[])[];
  readonly noun?: string;
  /** The largest count in this map and those that are to be compared with it. */
  readonly top?: number;
}

export type Chart = LineChart | MapChart;

/** Whether there is anything to draw. */
export function hasData(chart: Chart): boolean {
  if (chart.kind === 'map') return (chart.states ?? chart.counts ?? []).length > 0;
  const needed = chart.style === 'steps' ? 2 : 1;
  return chart.x.values.length >= needed && chart.series.some(({ values }) => values.some((value) => value !== null));
}

/** A value in its unit, for a table. */
export function show(value: number | null | undefined, unit: Unit): string {
  if (value === null || value === undefined) return '–';
  switch (unit) {
    case 'time':
      return value === 0 ? '0' : formatDuration(value);
    case 'bytes':
      return formatBytes(Math.round(value));
    case 'bytes/s':
      return `${formatBytes(Math.round(value))}/s`;
    case 'percent':
      return `${value.toFixed(1)} %`;
    case 'count':
      // Most of a map's cells are small numbers, and there are thousands of them.
      return Number.isInteger(value) && value >= 0 && value < 1000 ? String(value) : formatCount(value);
    case 'times':
      return `${value.toFixed(2)} ×`;
    case 'per-second':
      return `${formatCount(value)}/s`;
  }
}
