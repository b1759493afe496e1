/** Results of a replay side by side, for people. Pure. */
import { renderTable } from './table.js';
import { formatBytes, formatCount, formatDuration } from './units.js';

export type DiffUnit = 'count' | 'bytes' | 'ns' | 'ratio' | 'per-second' | 'bytes-per-second';

export interface DiffRowJson {
  readonly name: string;
  readonly unit: DiffUnit;
  readonly values: readonly (number | null)[];
  readonly differences: readonly (number | null)[];
  readonly percents: readonly (number | null)[];
}

type SetupValue = string | number | boolean | null;

export interface SetupRowJson {
  readonly name: string;
  readonly unit: 'bytes' | 'ns' | 'count' | null;
  readonly values: readonly SetupValue[];
}

export interface DiffJson {
  readonly results: readonly string[];
  readonly setup: readonly SetupRowJson[];
  readonly sections: readonly { readonly title: string; readonly rows: readonly DiffRowJson[] }[];
  readonly notes: readonly string[];
}

const NOT_THERE = '-';
const SAME = '=';

/** `A` for the first result, `B` for the second. */
export function resultLetter(rank: number): string {
  return String.fromCharCode('A'.charCodeAt(0) + rank);
}

export function showValue(value: number | null, unit: DiffUnit): string {
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

export function showSetup(value: SetupValue, unit: SetupRowJson['unit']): string {
  if (typeof value === 'number') return unit === null ? String(value) : showValue(value, unit);
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  return value ?? NOT_THERE;
}

/** With its sign; of ratios in percentage points. */
function showDifference(difference: number | null, unit: DiffUnit): string {
  if (difference === null) return NOT_THERE;
  if (difference === 0) return SAME;
  const size = Math.abs(difference);
  const text = unit === 'ratio' ? `${(100 * size).toFixed(2)} points` : showValue(size, unit);
  return `${difference < 0 ? '-' : '+'}${text}`;
}

function showPercent(percent: number | null, difference: number | null): string {
  if (percent === null || difference === 0) return '';
  const size = Math.abs(percent);
  if (size < 0.01) return '<0.01%';
  return `${percent < 0 ? '-' : '+'}${size.toFixed(size < 1 ? 2 : size < 100 ? 1 : 0)}%`;
}

/** Headings of a table of differences, without that of the names. */
export function diffHead(results: number): string[] {
  if (results === 2) return ['A', 'B', 'B - A', ''];
  const letters = Array.from({ length: results }, (_, rank) => resultLetter(rank));
  return ['A', ...letters.slice(1).flatMap((letter) => [letter, `${letter} / A`])];
}

/** The cells below `diffHead`: of two results the difference and its percent, of more the percent or else the difference. */
export function diffCells({ unit, values, differences, percents }: DiffRowJson): string[] {
  const texts = values.map((value) => showValue(value, unit));
  const difference = (rank: number) => showDifference(differences[rank], unit);
  const percent = (rank: number) => showPercent(percents[rank], differences[rank]);
  if (values.length === 2) return [...texts, difference(1), percent(1)];
  return texts.flatMap((text, rank) => (rank === 0 ? [text] : [text, percent(rank) || difference(rank)]));
}

export function renderDiff(diff: DiffJson, heading: (title: string) => string): string {
  const letters = diff.results.map((_, rank) => resultLetter(rank));
  const parts = [diff.results.map((path, rank) => `${letters[rank]}: ${path}\n`).join('')];
  const setup = diff.setup.map(({ name, unit, values }) => [
    `  ${name}`,
    ...values.map((value) => showSetup(value, unit)),
  ]);
  parts.push(
    setup.length === 0
      ? `${heading('Setup')}\n  the same\n`
      : `${heading('Setup, where it differs')}\n${renderTable(['', ...letters], setup)}`,
  );
  const head = diffHead(diff.results.length);
  for (const { title, rows } of diff.sections) {
    const table = rows.map((row) => [`  ${row.name}`, ...diffCells(row)]);
    parts.push(
      `${heading(title)}\n${renderTable(['', ...head], table, ['left', ...head.map(() => 'right' as const)])}`,
    );
  }
  return parts.join('\n');
}
