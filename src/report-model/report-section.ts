/**
 * A report as data: sections of named quantities, in the order in which they are shown. Whatever makes a report (replay,
 * traces, benchmarks, the status of a server) gives these; `output/report.ts` shows them in a terminal and
 * `report-html/` in a page.
 */

/** A value and what it measures. */
export type Quantity =
  | { readonly kind: 'text'; readonly value: string }
  | { readonly kind: 'count' | 'bytes' | 'duration-ns' | 'bytes-per-second' | 'per-second'; readonly value: number }
  | { readonly kind: 'ratio'; readonly part: number; readonly whole: number }
  | { readonly kind: 'series'; readonly values: readonly number[] };

export interface ReportRow {
  readonly name: string;
  readonly values: readonly Quantity[];
}

export interface ReportSection {
  readonly title: string;
  /** Headings of a table; a section without is a list of names and values. */
  readonly head?: readonly string[];
  readonly rows: readonly ReportRow[];
}

export const text = (value: string): Quantity => ({ kind: 'text', value });
export const count = (value: number): Quantity => ({ kind: 'count', value });
export const bytes = (value: number): Quantity => ({ kind: 'bytes', value });
export const duration = (valueNs: number): Quantity => ({ kind: 'duration-ns', value: valueNs });
export const byteRate = (value: number): Quantity => ({ kind: 'bytes-per-second', value });
export const requestRate = (value: number): Quantity => ({ kind: 'per-second', value });
export const ratio = (part: number, whole: number): Quantity => ({ kind: 'ratio', part, whole });
export const series = (values: readonly number[]): Quantity => ({ kind: 'series', values });
