/**
 * Which format a trace is in, by how it begins. Names of files say nothing.
 */
import { BIOSNOOP_HEADER, BIOSNOOP_WITHOUT_SECTORS } from './biosnoop.js';
import { PREAMBLE, SUMMARY } from './blkparse.js';
import { describeForeign } from './foreign.js';
import { iologVersion } from './iolog.js';
import { recordKindOf } from './record.js';
import { looksLikeOracleGeneral } from './oracle-general.js';
import { tableShapeOf } from './table-shape.js';
import { BLK_TRACER_LINE, TRACEPOINT_LINE } from './tracepoint.js';
import type { TraceFormat } from './types.js';
import { XPERF_LINE } from './xperf.js';
import { vscsiLayoutOf } from './vscsi.js';

/** So many lines are looked at. */
const LINES_LOOKED_AT = 200;

/** What a line of each of the formats looks like that are neither tables nor begin with a signature. */
const LINE_PATTERNS: readonly { readonly format: TraceFormat; readonly pattern: RegExp }[] = [
  { format: 'blkparse', pattern: /^\s*\d+,\d+\s+\d+\s+\d+\s+\d+\.\d{9}\s+\d+\s+[A-Za-z]{1,2}\s/ },
  { format: 'ftrace-blk', pattern: BLK_TRACER_LINE },
];
/** What one line of some formats is enough to know them by. */
const TELLING_LINES: readonly { readonly format: TraceFormat; readonly pattern: RegExp }[] = [
  { format: 'biosnoop', pattern: BIOSNOOP_HEADER },
  { format: 'xperf', pattern: XPERF_LINE },
  { format: 'tracepoints', pattern: TRACEPOINT_LINE },
];
const FIVE_NUMBERS = /^\d+,\d+,\d+,\d+,\d+$/;

/** The format, or what the file seems to be instead and what to do. */
export type Recognised =
  { readonly format: TraceFormat } | { readonly found: string; readonly remedy: string | undefined };

/** @param head how the file begins: at least a record, up to many lines; at least one byte. */
export function recognise(head: Uint8Array): Recognised {
  if (recordKindOf(head) !== undefined) return { format: 'blktrace' };
  const vscsi = vscsiLayoutOf(head);
  if (vscsi !== undefined) return { format: vscsi.version === 1 ? 'vscsi1' : 'vscsi2' };
  const lines = firstLines(head);
  const found = lines.length > 0 ? recogniseText(lines) : undefined;
  if (found !== undefined) return found;
  if (looksLikeOracleGeneral(head)) return { format: 'oracle-general' };
  return { found: describeForeign(head), remedy: undefined };
}

/** The first lines of a text, without empty ones and comments; a header may be a comment too. */
export function firstLines(head: Uint8Array): string[] {
  return Buffer.from(head)
    .toString('latin1')
    .replace(/^\u00ef\u00bb\u00bf/, '')
    .split('\n', LINES_LOOKED_AT + 1)
    .slice(0, LINES_LOOKED_AT)
    .map((line) => line.replace(/\r$/, ''))
    .filter((line) => line.trim() !== '' && (!line.startsWith('#') || /^#[A-Z_]+\.I,/.test(line)));
}

function recogniseText(lines: readonly string[]): Recognised | undefined {
  const version = iologVersion(lines[0]);
  if (version === 2 || version === 3) return { format: 'iolog' };
  if (version !== undefined) {
    return { found: `a fio iolog of version ${version}`, remedy: 'only versions 2 and 3 are read' };
  }
  for (const { format, pattern } of TELLING_LINES) if (lines.some((line) => pattern.test(line))) return { format };
  if (lines.some((line) => BIOSNOOP_WITHOUT_SECTORS.test(line))) {
    return {
      found: "text of bpftrace's biosnoop, which does not say where on the disk a request is",
      remedy: "record with bcc's biosnoop, or the tracepoint block_rq_issue",
    };
  }
  // blkparse's summary can be longer than a short trace.
  const summary = lines.findIndex((line) => SUMMARY.test(line));
  const events = lines.slice(0, summary < 0 ? lines.length : summary).filter((line) => !PREAMBLE.test(line));
  // The last line may be cut, a malformed one may be anywhere.
  const fit = (among: readonly string[], pattern: RegExp): boolean =>
    among.length > 0 && among.filter((line) => pattern.test(line)).length >= 0.5 * among.length;
  const fitting = LINE_PATTERNS.find(({ pattern }) => fit(events, pattern));
  if (fitting !== undefined) return { format: fitting.format };
  const table = tableShapeOf(lines);
  if (table !== undefined) return { format: table.definition.format };
  if (!fit(lines, FIVE_NUMBERS)) return undefined;
  return {
    found: 'a CSV of five numbers a line, whose times do not look like seconds since 1970',
    remedy: "if it is Tencent's say so with --format tencent, otherwise give it a header (--format csv)",
  };
}
