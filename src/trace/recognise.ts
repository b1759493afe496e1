/**
 * Which format a trace is in, by how it begins. Names of files say nothing.
 */
import { csvColumns } from './plain-csv.js';
import { describeForeign } from './foreign.js';
import { iologVersion } from './iolog.js';
import { byteOrderOf } from './record.js';
import type { TraceFormat } from './types.js';
import { vscsiLayoutOf } from './vscsi.js';

/** So many lines are looked at. */
const LINES_LOOKED_AT = 200;

/** What a line of each of the formats without a header of their own looks like. */
const LINE_PATTERNS: readonly { readonly format: TraceFormat; readonly pattern: RegExp }[] = [
  { format: 'blkparse', pattern: /^\s*\d+,\d+\s+\d+\s+\d+\s+\d+\.\d{9}\s+\d+\s+[A-Za-z]{1,2}\s/ },
  { format: 'msr', pattern: /^\d+,[^,]*,[^,]*,(?:read|write),\d+,\d+(?:,\d+)?$/i },
  { format: 'alibaba', pattern: /^\d+,[rw],\d+,\d+,\d+$/i },
  // Seconds since 1970 have ten digits from 2001 to 2286.
  { format: 'tencent', pattern: /^\d{10},\d+,\d+,[01],\d+$/ },
];
const FIVE_NUMBERS = /^\d+,\d+,\d+,\d+,\d+$/;

/** The format, or what the file seems to be instead and what to do. */
export type Recognised =
  { readonly format: TraceFormat } | { readonly found: string; readonly remedy: string | undefined };

/** @param head how the file begins: at least a record, up to many lines; at least one byte. */
export function recognise(head: Uint8Array): Recognised {
  if (byteOrderOf(head) !== undefined) return { format: 'blktrace' };
  const vscsi = vscsiLayoutOf(head);
  if (vscsi !== undefined) return { format: vscsi.version === 1 ? 'vscsi1' : 'vscsi2' };
  const lines = Buffer.from(head)
    .toString('latin1')
    .replace(/^\u00ef\u00bb\u00bf/, '')
    .split('\n', LINES_LOOKED_AT + 1)
    .slice(0, LINES_LOOKED_AT)
    .map((line) => line.replace(/\r$/, ''))
    .filter((line) => line !== '' && !line.startsWith('#'));
  return (lines.length > 0 ? recogniseText(lines) : undefined) ?? { found: describeForeign(head), remedy: undefined };
}

function recogniseText(lines: readonly string[]): Recognised | undefined {
  const version = iologVersion(lines[0]);
  if (version === 2 || version === 3) return { format: 'iolog' };
  if (version !== undefined) {
    return { found: `a fio iolog of version ${version}`, remedy: 'only versions 2 and 3 are read' };
  }
  if (csvColumns(lines[0]) !== undefined) return { format: 'csv' };
  // The last line may be cut, a malformed one may be anywhere.
  const share = (pattern: RegExp): number => lines.filter((line) => pattern.test(line)).length / lines.length;
  const fitting = LINE_PATTERNS.filter(({ pattern }) => share(pattern) >= 0.5);
  if (fitting.length === 1) return { format: fitting[0].format };
  if (share(FIVE_NUMBERS) < 0.5) return undefined;
  return {
    found: 'a CSV of five numbers a line, whose times do not look like seconds since 1970',
    remedy: "if it is Tencent's say so with --format tencent, otherwise give it a header (--format csv)",
  };
}
