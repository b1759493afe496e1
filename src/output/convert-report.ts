/** The output of `pcache trace convert`. Pure. */
import { formatBytes, formatCount, formatDuration } from './units.js';

export interface ConvertJson {
  readonly trace: string;
  readonly format: string;
  /** Null for standard output. */
  readonly file: string | null;
  readonly to: string;
  readonly requests: number;
  /** Bytes written. */
  readonly bytes: number;
  readonly devices: readonly string[];
  readonly flushesLeftOut: number;
  readonly discardsLeftOut: number;
  readonly tooLongLeftOut: number;
  readonly withoutFlags: number;
  readonly writesAsReads: number;
  /** Times were rounded down to a multiple of it. */
  readonly timeUnitNs: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly warnings: readonly string[];
}

export function convertLine({ trace, file, to, requests, bytes }: ConvertJson): string {
  const what = requests === 1 ? '1 request' : `${formatCount(requests)} requests`;
  return `${trace}: ${what} written to ${file ?? 'standard output'} as ${to}, ${formatBytes(bytes)}`;
}

/** Warnings of the reader, and what the output format cannot hold. */
export function convertNotes(result: ConvertJson): string[] {
  const { trace, to, flushesLeftOut, discardsLeftOut, tooLongLeftOut, withoutFlags, writesAsReads, timeUnitNs } =
    result;
  const lost: string[] = [];
  if (flushesLeftOut > 0) lost.push(`${formatCount(flushesLeftOut)} flushes`);
  if (discardsLeftOut > 0) lost.push(`${formatCount(discardsLeftOut)} discards`);
  if (tooLongLeftOut > 0) lost.push(`${formatCount(tooLongLeftOut)} requests of 4 GiB or more`);
  if (withoutFlags > 0) lost.push(`the flags of ${formatCount(withoutFlags)} requests`);
  const notes = [...result.warnings];
  if (lost.length > 0) notes.push(`${trace}: left out, because ${to} cannot hold them: ${lost.join(', ')}`);
  if (writesAsReads > 0)
    notes.push(`${trace}: ${to} does not tell the ${formatCount(writesAsReads)} writes from reads`);
  if (timeUnitNs > 1) notes.push(`${trace}: times are rounded down to ${formatDuration(timeUnitNs)} in ${to}`);
  return notes;
}
