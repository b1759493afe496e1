/** Shows a report of sections of named quantities as tables for people. Pure. */
import type { Quantity, ReportSection } from '../report-model/report-section.js';
import { renderTable } from './table.js';
import { formatBytes, formatCount, formatDuration, formatPercent, sparkline } from './units.js';

/** A quantity as text. */
export function showQuantity(quantity: Quantity): string {
  switch (quantity.kind) {
    case 'text':
      return quantity.value;
    case 'count':
      return formatCount(quantity.value);
    case 'bytes':
      return formatBytes(quantity.value);
    case 'duration-ns':
      return formatDuration(quantity.value);
    case 'bytes-per-second':
      return `${formatBytes(Math.round(quantity.value))}/s`;
    case 'per-second':
      return `${formatCount(Math.round(quantity.value))} ${Math.round(quantity.value) === 1 ? 'request' : 'requests'}/s`;
    case 'ratio':
      return formatPercent(quantity.part, quantity.whole);
    case 'series':
      return sparkline(quantity.values);
  }
}

/** Each section with its title above it, an empty line between two. */
export function renderReport(sections: readonly ReportSection[], heading: (title: string) => string): string {
  return sections.map((section) => `${heading(section.title)}\n${renderSection(section)}`).join('\n');
}

function renderSection({ head, rows }: ReportSection): string {
  if (head === undefined) {
    return renderTable(
      undefined,
      rows.map(({ name, values }) => [`  ${name}`, values.map(showQuantity).join('  ')]),
    );
  }
  const align = head.map((title, column) => (column === 0 || title === '' ? 'left' : 'right'));
  const pad = (cells: string[]) => [...cells, ...new Array<string>(Math.max(0, head.length - cells.length)).fill('')];
  return renderTable(
    head.map((title, column) => (column === 0 ? `  ${title}` : title)),
    rows.map(({ name, values }) => pad([`  ${name}`, ...values.map(showQuantity)])),
    align,
  );
}
