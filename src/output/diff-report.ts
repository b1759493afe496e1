/** Two results of a replay side by side, for people. Pure. */
import { renderTable } from './table.js';
import { formatBytes, formatCount, formatDuration } from './units.js';

type DiffUnit = 'count' | 'bytes' | 'ns' | 'ratio' | 'per-second' | 'bytes-per-second';

interface DiffRow {
  readonly name: string;
  readonly unit: DiffUnit;
  readonly a: number | null;
  readonly b: number | null;
  readonly difference: number | null;
  readonly percent: number | null;
}

type SetupValue = string | number | boolean | null;

interface SetupRow {
  readonly name: string;
  readonly unit: 'bytes' | 'ns' | 'count' | null;
  readonly a: SetupValue;
  readonly b: SetupValue;
}

export interface DiffJson {
  readonly a: string;
  readonly b: string;
  readonly setup: readonly SetupRow[];
  readonly sections: readonly { readonly title: string; readonly rows: readonly DiffRow[] }[];
  readonly notes: readonly string[];
}

const ALIGN = ['left', 'right', 'right', 'right', 'right'] as const;
const NOT_THERE = '-';
const SAME = '=';

function show(value: number | null, unit: DiffUnit): string {
  if (value === null) return NOT_THERE;
  switch (unit) {
    case 'count':
      return formatCount(value);
    case 'bytes':
      return formatBytes(value);
    case 'ns':
      return formatDuration(value);
    case 'ratio':
      return `${(100 * value).toFixed(2)}%`;
    case 'per-second':
      return `${formatCount(Math.round(value))}/s`;
    case 'bytes-per-second':
      return `${formatBytes(Math.round(value))}/s`;
  }
}

function showSetup(value: SetupValue, unit: SetupRow['unit']): string {
  if (typeof value === 'number') return unit === null ? String(value) : show(value, unit);
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  return value ?? NOT_THERE;
}

/** With its sign; of ratios in percentage points. */
function showDifference({ difference, unit }: DiffRow): string {
  if (difference === null) return NOT_THERE;
  if (difference === 0) return SAME;
  const size = Math.abs(difference);
  const text = unit === 'ratio' ? `${(100 * size).toFixed(2)} points` : show(size, unit);
  return `${difference < 0 ? '-' : '+'}${text}`;
}

function showPercent({ percent, difference }: DiffRow): string {
  if (percent === null || difference === 0) return '';
  const size = Math.abs(percent);
  if (size < 0.01) return '<0.01%';
  return `${percent < 0 ? '-' : '+'}${size.toFixed(size < 1 ? 2 : size < 100 ? 1 : 0)}%`;
}

export function renderDiff(diff: DiffJson, heading: (title: string) => string): string {
  const parts = [`A: ${diff.a}\nB: ${diff.b}\n`];
  const setup = diff.setup.map(({ name, unit, a, b }) => [`  ${name}`, showSetup(a, unit), showSetup(b, unit)]);
  parts.push(
    setup.length === 0
      ? `${heading('Setup')}\n  the same\n`
      : `${heading('Setup, where it differs')}\n${renderTable(['', 'A', 'B'], setup)}`,
  );
  for (const { title, rows } of diff.sections) {
    const table = rows.map((row) => [
      `  ${row.name}`,
      show(row.a, row.unit),
      show(row.b, row.unit),
      showDifference(row),
      showPercent(row),
    ]);
    parts.push(`${heading(title)}\n${renderTable(['', 'A', 'B', 'B - A', ''], table, ALIGN)}`);
  }
  return parts.join('\n');
}
