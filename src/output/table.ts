/**
 * Tables: a small one drawn whole (`renderTable`, over cli-table3), and a stream of rows of any length
 * (`RowWriter`) as an aligned table, CSV or NDJSON in constant memory.
 * Both are plain text without borders or colour, so that a log or `awk` can read them.
 */
import CliTable from 'cli-table3';
import { PcacheError } from '../engine/errors.js';
import { shown } from './charset.js';
import type { Output } from './terminal.js';

export type Cell = string | number | boolean | null;

export interface Column<Row> {
  /** Field name in CSV and NDJSON. */
  readonly key: string;
  /** Heading in a table; the key when left out. */
  readonly title?: string;
  /** Width in a streamed table; a longer cell is written whole and shifts its own line. */
  readonly width?: number;
  /** Left when left out. */
  readonly align?: 'left' | 'right';
  /** What CSV and NDJSON hold. */
  value(row: Row): Cell;
  /** What the table shows, where that differs. */
  show?(row: Row): string;
}

export const ROW_FORMATS = ['table', 'csv', 'ndjson'] as const;
export type RowFormat = (typeof ROW_FORMATS)[number];

const GAP = '  ';
/** Rows are handed to the stream in pieces of about this many characters. */
const CHUNK_CHARS = 64 * 1024;

const NO_BORDER = {
  'top': '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  'bottom': '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  'left': '',
  'left-mid': '',
  'mid': '',
  'mid-mid': '',
  'right': '',
  'right-mid': '',
  'middle': GAP,
};

/**
 * A table of few rows with columns as wide as they need, ending in a newline. Cells may hold colour.
 * @param align one per column; `left` where it is left out.
 */
export function renderTable(
  head: readonly string[] | undefined,
  rows: readonly (readonly (string | number)[])[],
  align: readonly ('left' | 'right')[] = [],
): string {
  const table = new CliTable({
    chars: NO_BORDER,
    style: { 'head': [], 'border': [], 'padding-left': 0, 'padding-right': 0 },
    ...(head === undefined ? {} : { head: head.map(shown) }),
    colAligns: columnAligns(head, rows, align),
  });
  for (const row of rows) table.push(row.map((cell) => shown(String(cell))));
  return `${trimLines(table.toString())}\n`;
}

function columnAligns(
  head: readonly string[] | undefined,
  rows: readonly (readonly unknown[])[],
  align: readonly ('left' | 'right')[],
): ('left' | 'right')[] {
  const columns = rows.reduce((most, row) => Math.max(most, row.length), head?.length ?? 0);
  return Array.from({ length: columns }, (_, index) => align[index] ?? 'left');
}

function trimLines(text: string): string {
  return text.replace(/[ \t]+$/gm, '');
}

/** Two columns, `name: value` style, for summaries. */
export function renderFields(fields: readonly (readonly [string, string | number])[]): string {
  return renderTable(
    undefined,
    fields.map(([name, value]) => [`${name}:`, value]),
  );
}

function csvCell(cell: Cell): string {
  if (cell === null) return '';
  const text = String(cell);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * Streams rows. The caller waits when told to:
 * `if (!rows.write(row)) await rows.drained();` and ends with `await rows.end()`.
 * The heading (table, CSV) goes out even when no row follows.
 */
export class RowWriter<Row> {
  private pending = '';
  private headed = false;

  /** @throws PcacheError USAGE for an unknown format */
  constructor(
    private readonly output: Output,
    private readonly columns: readonly Column<Row>[],
    private readonly format: RowFormat,
  ) {
    if (!ROW_FORMATS.includes(format)) {
      throw new PcacheError(
        'USAGE',
        `'${String(format)}' is not an output format; give one of ${ROW_FORMATS.join(', ')}`,
      );
    }
  }

  /** @returns false when the caller must wait for `drained()` before the next row. @throws OutputClosedError */
  write(row: Row): boolean {
    if (!this.headed) this.head();
    this.pending += this.line(row);
    return this.pending.length < CHUNK_CHARS || this.push();
  }

  drained(): Promise<void> {
    return this.output.drained();
  }

  /** Writes what is left. */
  async end(): Promise<void> {
    if (!this.headed) this.head();
    if (!this.push()) await this.output.drained();
  }

  private push(): boolean {
    const text = this.pending;
    this.pending = '';
    return text === '' || this.output.write(text);
  }

  private head(): void {
    this.headed = true;
    if (this.format === 'csv') this.pending += `${this.columns.map((column) => csvCell(column.key)).join(',')}\n`;
    if (this.format === 'table') this.pending += this.aligned(this.columns.map((column) => column.title ?? column.key));
  }

  private line(row: Row): string {
    switch (this.format) {
      case 'ndjson':
        return `${JSON.stringify(Object.fromEntries(this.columns.map((column) => [column.key, column.value(row)])))}\n`;
      case 'csv':
        return `${this.columns.map((column) => csvCell(column.value(row))).join(',')}\n`;
      case 'table':
        return this.aligned(this.columns.map((column) => column.show?.(row) ?? String(column.value(row) ?? '-')));
    }
  }

  private aligned(cells: readonly string[]): string {
    let line = '';
    for (let index = 0; index < cells.length; index++) {
      const cell = shown(cells[index]);
      const { align = 'left', width, key, title } = this.columns[index];
      const columnWidth = Math.max(width ?? 0, (title ?? key).length);
      line += (index === 0 ? '' : GAP) + (align === 'right' ? cell.padStart(columnWidth) : cell.padEnd(columnWidth));
    }
    return `${line.trimEnd()}\n`;
  }
}
