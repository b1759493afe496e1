/** A small chart of shares over sizes, in characters: sizes on a logarithmic axis, shares from 0 up. Pure. */
import { formatBytes } from './units.js';

/** Columns beside the chart: its labels, and a margin. */
const BESIDE_COLUMNS = 16;
const CHART_COLUMNS_MIN = 24;
const CHART_COLUMNS_MAX = 120;
const ROWS = 8;
/** Where the vertical axis may end. */
const TOPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1];

export interface ChartPoint {
  readonly sizeBytes: number;
  /** 0 to 1. */
  readonly ratio: number;
}

/** Points under one mark; a later series is drawn over an earlier one. */
export interface ChartSeries {
  readonly mark: string;
  /** By rising size. */
  readonly points: readonly ChartPoint[];
  /** Fill the columns between the points too. */
  readonly joined: boolean;
}

/**
 * @param widthColumns of the terminal
 * @returns lines that end in newlines; nothing when there is no point above 0
 */
export function drawChart(series: readonly ChartSeries[], widthColumns: number): string {
  const chartColumns = Math.min(Math.max(widthColumns - BESIDE_COLUMNS, CHART_COLUMNS_MIN), CHART_COLUMNS_MAX);
  const points = series.flatMap((one) => one.points);
  const highest = Math.max(0, ...points.map((point) => point.ratio));
  if (highest === 0) return '';
  const top = TOPS.find((value) => value >= highest) ?? 1;
  const sizes = points.map((point) => point.sizeBytes);
  const [first, last] = [Math.min(...sizes), Math.max(...sizes)];
  const octaves = Math.log2(last / first);
  const columnOf = (bytes: number) =>
    octaves === 0 ? 0 : Math.round((Math.log2(bytes / first) / octaves) * (chartColumns - 1));
  const rows = Array.from({ length: ROWS + 1 }, () => new Array<string>(chartColumns).fill(' '));
  const put = (column: number, ratio: number, mark: string) => {
    rows[ROWS - Math.round((Math.min(ratio, top) / top) * ROWS)][column] = mark;
  };
  for (const { mark, points: own, joined } of series) {
    own.forEach((point, i) => {
      const column = columnOf(point.sizeBytes);
      put(column, point.ratio, mark);
      if (!joined || i === 0) return;
      const from = columnOf(own[i - 1].sizeBytes);
      for (let between = from + 1; between < column; between++) {
        const share = (between - from) / (column - from);
        put(between, own[i - 1].ratio + share * (point.ratio - own[i - 1].ratio), mark);
      }
    });
  }
  return `${rows.map((row, i) => `${axisLabel(i, top)}${row.join('').trimEnd()}`).join('\n')}\n${sizeAxis(first, last, chartColumns)}`;
}

function axisLabel(row: number, top: number): string {
  const labelled = row % (ROWS / 4) === 0;
  const percent = ((ROWS - row) / ROWS) * top * 100;
  const text = labelled ? `${Number(percent.toFixed(2))}%` : '';
  return `  ${text.padStart(6)} ${labelled ? '┤' : '│'}`;
}

/** The axis below, with the sizes at its ends and in the middle. */
function sizeAxis(first: number, last: number, chartColumns: number): string {
  const indent = ' '.repeat(9);
  const left = formatBytes(first);
  const right = formatBytes(last);
  const middle = formatBytes(2 ** Math.round(Math.log2(first * last) / 2));
  const room = chartColumns - left.length - middle.length - right.length;
  const gap = ' '.repeat(Math.max(1, Math.floor(room / 2)));
  return `${indent}└${'─'.repeat(chartColumns)}\n${indent} ${left}${gap}${middle}${gap}${right}\n`;
}
