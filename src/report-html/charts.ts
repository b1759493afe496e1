/** The charts of a replay, from its result: what happened over time, and the maps. */
import { formatBytes } from '../output/units.js';
import type { ReplayResult } from '../replay/replay-result.js';
import { SEGMENT_LETTERS } from '../replay/segment-history.js';
import type { ReplayTimeline } from '../replay/timeline-recorder.js';
import type { LineChart, LineSeries, MapChart } from './chart.js';
import { clockOf, TRACE_TIME } from './clock.js';

type Counts = ReplayTimeline['counts'];

/** Bins with their duration. A last bin that is shorter than half belongs to the one before: its rates are chance. */
interface Bins {
  /** Where each begins, and where the last ends, ns. */
  readonly edgesNs: readonly number[];
  /** The sum of a counter in each. */
  readonly sums: (name: keyof Counts) => readonly number[];
}

function binsOf({ binNs, endNs, counts }: ReplayTimeline): Bins {
  const all = counts.reads.length;
  const folds = all > 1 && endNs - (all - 1) * binNs < binNs / 2;
  const length = folds ? all - 1 : all;
  return {
    edgesNs: [...Array.from({ length }, (_, n) => n * binNs), endNs],
    sums: (name) => {
      const column = counts[name].slice(0, length);
      if (folds) column[length - 1] += counts[name][length];
      return column;
    },
  };
}

/** Everything that happened over time, in the order of the page. */
export function timeCharts(result: ReplayResult): LineChart[] {
  const bins = binsOf(result.timeline);
  const { edgesNs, sums } = bins;
  const seconds = edgesNs.slice(1).map((end, n) => (end - edgesNs[n]) / 1e9);
  const rate = (...names: (keyof Counts)[]) =>
    closed(seconds.map((length, n) => names.reduce((sum, name) => sum + sums(name)[n], 0) / length));
  const x = { label: clockOf(result), unit: 'time', scale: 'linear', values: edgesNs } as const;
  const steps = { kind: 'lines', style: 'steps', x } as const;
  return [
    {
      ...steps,
      id: 'hit-ratio',
      title: 'Read hit ratio',
      note: 'Reads served wholly from the cache, and the share of bytes that came from it. A gap means no reads.',
      y: { label: 'hit ratio', unit: 'percent', max: 100 },
      series: [
        line('by requests', 'blue', 'solid', shares(sums('readHits'), sums('reads'))),
        line(
          'by bytes',
          'orange',
          'dashed',
          shares(minus(sums('readBytes'), sums('readMissBytes')), sums('readBytes')),
        ),
      ],
    },
    {
      ...steps,
      id: 'throughput',
      title: 'Throughput',
      note: 'Bytes of the requests.',
      y: { label: 'throughput', unit: 'bytes/s' },
      series: [
        line('reads', 'blue', 'solid', rate('readBytes')),
        line('writes', 'orange', 'solid', rate('writeBytes')),
      ],
    },
    {
      ...steps,
      id: 'requests',
      title: 'Requests',
      note: 'How many a second.',
      y: { label: 'requests', unit: 'per-second' },
      series: [
        line('reads', 'blue', 'solid', rate('reads')),
        line('writes', 'orange', 'solid', rate('writes')),
        line('flushes', 'grey', 'dotted', rate('flushes')),
      ],
    },
    {
      ...steps,
      id: 'writeback',
      title: 'Write-back and fills',
      note: 'Bytes written to the backing device, and bytes of misses put into the cache.',
      y: { label: 'traffic', unit: 'bytes/s' },
      series: [
        line('written back', 'orange', 'solid', rate('writebackBytes', 'directWriteBytes')),
        line('filled', 'blue', 'solid', rate('fillBytes')),
      ],
    },
    {
      ...steps,
      id: 'gc',
      title: 'Garbage collection',
      note: 'Segments freed in each step of time.',
      y: { label: 'segments freed', unit: 'count' },
      series: [line('segments freed', 'purple', 'solid', closed(sums('segmentsFreed')))],
    },
    dirtyChart(result),
  ];
}

/** Levels are those at the end of each bin; before the first there is nothing to say. */
function dirtyChart(result: ReplayResult): LineChart {
  const { binNs, endNs, levels } = result.timeline;
  return {
    kind: 'lines',
    id: 'dirty',
    title: 'Dirty data',
    note: `What the cache holds at the end of each step of time that is not on the backing device yet, overwritten versions included. The most at any moment was ${formatBytes(result.timeline.dirtyPeakBytes)}.`,
    style: 'plain',
    x: {
      label: clockOf(result),
      unit: 'time',
      scale: 'linear',
      values: levels.dirtyBytes.map((_, n) => Math.min((n + 1) * binNs, endNs)),
    },
    y: { label: 'dirty data', unit: 'bytes' },
    series: [line('dirty', 'orange', 'solid', levels.dirtyBytes)],
  };
}

/** What each letter of the segment map means and how it is coloured, in the order of the legend. */
export const SEGMENT_STATES = {
  [SEGMENT_LETTERS.free]: { name: 'free', colour: 'state-free' },
  [SEGMENT_LETTERS.dirty]: { name: 'dirty', colour: 'state-dirty' },
  [SEGMENT_LETTERS.clean]: { name: 'clean', colour: 'state-clean' },
  [SEGMENT_LETTERS.collected]: { name: 'collected', colour: 'state-collected' },
  [SEGMENT_LETTERS.log]: { name: 'log', colour: 'state-log' },
  [SEGMENT_LETTERS.unknown]: { name: 'not looked at', colour: 'state-unknown' },
} as const;

export function segmentChart({ timeline }: ReplayResult): MapChart {
  const { segmentsPerRow, rows } = timeline.segmentMap;
  const grouped = segmentsPerRow > 1 ? ` A row is ${segmentsPerRow} segments, and shows what most of them are.` : '';
  return {
    kind: 'map',
    id: 'segments',
    title: 'Segments',
    note: `What each segment was used for. Dirty: holds data that is not on the backing device yet; clean: all its data is; collected: freed by garbage collection in this step.${grouped}`,
    wide: true,
    x: { unit: 'time', step: timeline.binNs, end: timeline.endNs },
    y: { unit: 'count', step: segmentsPerRow, label: 'segment' },
    states: rows,
    letters: SEGMENT_STATES,
  };
}

/** Reads and writes by address and time, on one scale. */
export function addressCharts({ timeline }: ReplayResult): MapChart[] {
  const { columnNs, columns, rowBytes, reads, writes } = timeline.addresses;
  const numbers = (lines: readonly string[]) => lines.map((row) => row.split(' ').map(Number));
  const counts = { reads: numbers(reads), writes: numbers(writes) };
  const top = Math.max(1, ...counts.reads.flat(), ...counts.writes.flat());
  return (['reads', 'writes'] as const).map((noun) => ({
    kind: 'map',
    id: `addresses-${noun}`,
    title: noun === 'reads' ? 'Where it reads' : 'Where it writes',
    note: `Number of ${noun} that begin in each range of the device, over ${TRACE_TIME}.`,
    x: { unit: 'time', step: columnNs, end: columns * columnNs },
    y: { unit: 'bytes', step: rowBytes, label: 'address' },
    counts: counts[noun],
    noun,
    top,
  }));
}

function line(
  label: string,
  colour: LineSeries['colour'],
  dash: LineSeries['dash'],
  values: readonly (number | null)[],
): LineSeries {
  return { label, colour, dash, values };
}

/** The values of steps, with one more for the x that ends the last. */
function closed(values: readonly (number | null)[]): (number | null)[] {
  return values.length === 0 ? [] : [...values, values[values.length - 1]];
}

function shares(parts: readonly number[], wholes: readonly number[]): (number | null)[] {
  return closed(parts.map((part, n) => (wholes[n] === 0 ? null : (100 * part) / wholes[n])));
}

function minus(a: readonly number[], b: readonly number[]): number[] {
  return a.map((value, n) => value - b[n]);
}
