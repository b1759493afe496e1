/** Report of `pcache bench scale`. Pure. */
import type { AxisResult, ScaleResult } from '../bench/scale.js';
import type { LinearCost, RequestCost, StepResult } from '../bench/scale-measure.js';
import type { ScaleAxis, ScaleStep } from '../bench/scale-steps.js';
import type { Verdict } from '../bench/scale-verdict.js';
import { text, type Quantity, type ReportSection } from '../report-model/report-section.js';
import { formatBytes, formatCount, formatDuration } from './units.js';

function title(axis: ScaleAxis, step: ScaleStep): string {
  const cache = `${formatBytes(step.cacheBytes)} cache`;
  const backing = `${formatBytes(step.backingBytes)} backing device`;
  const keys = `${formatCount(step.keys)} keys`;
  switch (axis) {
    case 'cache':
      return `Size of the cache (${keys}, ${backing})`;
    case 'backing':
      return `Size of the backing device (${keys}, ${cache})`;
    case 'keys':
      return `Number of keys (${backing}, a cache filled to at most 80%)`;
  }
}

function sizeText(axis: ScaleAxis, step: ScaleStep): string {
  switch (axis) {
    case 'cache':
      return formatBytes(step.cacheBytes);
    case 'backing':
      return formatBytes(step.backingBytes);
    case 'keys':
      return formatCount(step.keys);
  }
}

/** Engine, limit, ratio. */
function requestCells({ engineNs, limitNs, ratio }: RequestCost): Quantity[] {
  return [text(engineNs.toFixed(0)), text(limitNs.toFixed(0)), text(ratio.median.toFixed(2))];
}

function requestRow(axis: ScaleAxis, step: StepResult) {
  return {
    name: sizeText(axis, step),
    values: [
      ...requestCells(step.read),
      ...requestCells(step.write),
      text(step.index.bytesPerKey.toFixed(1)),
      text(step.memoryLoadNs.toFixed(1)),
    ],
  };
}

function linearCells({ elapsedNs, nsPerKey }: LinearCost): Quantity[] {
  return [text(formatDuration(elapsedNs)), text(nsPerKey.toFixed(0))];
}

const NAMES: Record<Verdict['measure'], string> = {
  'read': 'read',
  'write': 'write',
  'attach': 'attach, per key',
  'fsck': 'fsck, per key',
  'dump-keys': 'dump-keys, per key',
};
const KINDS: Record<Verdict['kind'], readonly [ofRequests: string, ofAllKeys: string]> = {
  'flat': ['flat', 'linear'],
  'cache-misses': ['flat except for cache misses', 'linear except for cache misses'],
  'grows': ['grows', 'worse than linear'],
};

/** `flat except for cache misses: 211 ns → 305 ns, factor 1.45 (limit 1.02); a load from memory +98 ns` */
export function verdictText({ kind, firstNs, lastNs, times, limitTimes, memoryLoadGrowthNs }: Verdict): string {
  const limit = limitTimes === undefined ? '' : ` (limit ${limitTimes.toFixed(2)})`;
  const load = kind === 'cache-misses' ? `; a load from memory +${memoryLoadGrowthNs.toFixed(0)} ns` : '';
  const word = KINDS[kind][limitTimes === undefined ? 1 : 0];
  return `${word}: ${firstNs.toFixed(0)} ns → ${lastNs.toFixed(0)} ns, factor ${times.toFixed(2)}${limit}${load}`;
}

function axisReport({ axis, steps, skipped, verdicts }: AxisResult): ReportSection[] {
  const sections: ReportSection[] = [];
  const head = ['', 'read ns', 'limit', 'ratio', 'write ns', 'limit', 'ratio', 'index B/key', 'load ns'];
  if (steps.length > 0) {
    sections.push({ title: title(axis, steps[0]), head, rows: steps.map((step) => requestRow(axis, step)) });
    sections.push({
      title: 'Operations over all keys',
      head: ['', 'attach', 'ns/key', 'fsck', 'ns/key', 'dump-keys', 'ns/key'],
      rows: steps.map((step) => ({
        name: sizeText(axis, step),
        values: [...linearCells(step.attach), ...linearCells(step.fsck), ...linearCells(step.dumpKeys)],
      })),
    });
  }
  const left = skipped.map((step) => ({
    name: sizeText(axis, step),
    values: [text(`left out: needs ${formatBytes(Math.round(step.neededBytes))} of memory`)],
  }));
  const rows = [
    ...verdicts.map((verdict) => ({ name: NAMES[verdict.measure], values: [text(verdictText(verdict))] })),
    ...left,
  ];
  if (rows.length > 0) sections.push({ title: `By ${axis}`, rows });
  return sections;
}

export function scaleReport(result: ScaleResult): ReportSection[] {
  return [
    {
      title: 'Scale',
      rows: [
        {
          name: 'requests',
          values: [text(`random, ${formatBytes(result.blockBytes)}, depth ${result.depth}; reads are hits`)],
        },
        { name: 'memory', values: [text(`up to ${formatBytes(result.memoryBytes)}`)] },
      ],
    },
    ...result.axes.flatMap(axisReport),
  ];
}
