/**
 * Formats and parses sizes, ranges, durations and counts. Pure. The `parse` functions throw a usage error that says
 * what is accepted.
 */
import { PcacheError } from '../engine/errors.js';

const KIB = 1024;
const BINARY_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** What a size may end in, lower-cased, and how many bytes that is. */
const SIZE_SUFFIX_BYTES = new Map<string, number>([
  ['', 1],
  ['b', 1],
  ...['k', 'm', 'g', 't'].flatMap((letter, index): [string, number][] => {
    const binary = KIB ** (index + 1);
    return [
      [letter, binary],
      [`${letter}ib`, binary],
      [`${letter}b`, 1000 ** (index + 1)],
    ];
  }),
]);

const SIZE_ACCEPTED =
  'give a number of bytes, or one with K, M, G, T (or KiB, MiB, GiB, TiB; kB, MB, GB, TB are decimal)';
const RANGE_ACCEPTED =
  'give OFFSET, OFFSET-END or OFFSET+LENGTH, such as 1M, 0-64K or 1M+4K (END is the first byte after the range)';

/**
 * A size in the largest binary unit that it reaches: `1.5 GiB`, `512 MiB`, `900 B`.
 * With `exact`, bytes that the unit rounds away are given as well: `1.0 MiB (1048577 bytes)`.
 */
export function formatBytes(bytes: number, options: { exact?: boolean } = {}): string {
  const magnitude = Math.abs(bytes);
  let unit = 0;
  while (unit < BINARY_UNITS.length - 1 && magnitude >= KIB ** (unit + 1)) unit++;
  // 1023.96 KiB would round to "1024.0 KiB"
  if (unit > 0 && unit < BINARY_UNITS.length - 1 && Number((magnitude / KIB ** unit).toFixed(1)) >= KIB) unit++;
  const value = bytes / KIB ** unit;
  const text = `${Number.isInteger(value) ? value : value.toFixed(1)} ${BINARY_UNITS[unit]}`;
  const rounded = !Number.isInteger(value * 10);
  return options.exact === true && rounded ? `${text} (${bytes} bytes)` : text;
}

/**
 * Bytes from what a user wrote: `4096`, `4k`, `512M`, `1GiB`, `1.5G`, `10MB`.
 * @throws PcacheError USAGE for anything that is not a whole number of bytes between 0 and 2^53 - 1.
 */
export function parseSize(text: string): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text);
  const unitBytes = match === null ? undefined : SIZE_SUFFIX_BYTES.get(match[2].toLowerCase());
  if (match === null || unitBytes === undefined) {
    throw new PcacheError('USAGE', `'${text}' is not a size; ${SIZE_ACCEPTED}`);
  }
  const bytes = exactProduct(match[1], unitBytes);
  if (bytes === undefined) {
    throw new PcacheError('USAGE', `'${text}' is not a whole number of bytes; ${SIZE_ACCEPTED}`);
  }
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new PcacheError('USAGE', `'${text}' is too large; a size must be below 8 PiB`);
  }
  return Number(bytes);
}

/** `decimal` × `unitBytes` without rounding, or undefined if that is not whole. */
function exactProduct(decimal: string, unitBytes: number): bigint | undefined {
  const [whole, fraction = ''] = decimal.split('.');
  const scale = 10n ** BigInt(fraction.length);
  const product = BigInt(whole + fraction) * BigInt(unitBytes);
  return product % scale === 0n ? product / scale : undefined;
}

/** A range of bytes; `endBytes` is the first byte after it, Infinity when it was left open. */
export interface ByteRange {
  readonly startBytes: number;
  readonly endBytes: number;
}

/**
 * A range from `OFFSET` (to the end), `OFFSET-END` or `OFFSET+LENGTH`; each part as `parseSize` takes it.
 * @throws PcacheError USAGE
 */
export function parseRange(text: string): ByteRange {
  const match = /^(\d[^-+]*)(?:([-+])([^-+]*))?$/.exec(text.trim());
  if (match === null) throw new PcacheError('USAGE', `'${text}' is not a range; ${RANGE_ACCEPTED}`);
  const startBytes = parseSize(match[1]);
  if (match[2] === undefined) return { startBytes, endBytes: Infinity };
  if (match[3].trim() === '') throw new PcacheError('USAGE', `'${text}' is not a range; ${RANGE_ACCEPTED}`);
  const second = parseSize(match[3]);
  const endBytes = match[2] === '+' ? startBytes + second : second;
  if (!Number.isSafeInteger(endBytes))
    throw new PcacheError('USAGE', `'${text}' is too large; a range must end below 8 PiB`);
  if (endBytes <= startBytes) throw new PcacheError('USAGE', `'${text}' is an empty range; ${RANGE_ACCEPTED}`);
  return { startBytes, endBytes };
}

/** A duration: `870 ns`, `12.3 µs`, `4.56 ms`, `7.89 s`, `3m 05s`, `2h 07m`. */
export function formatDuration(durationNs: number): string {
  const magnitude = Math.abs(durationNs);
  if (magnitude < 1e3) return `${Math.round(durationNs)} ns`;
  if (magnitude < 999.95e3) return `${significant(durationNs / 1e3)} µs`;
  if (magnitude < 999.95e6) return `${significant(durationNs / 1e6)} ms`;
  if (magnitude < 59.995e9) return `${significant(durationNs / 1e9)} s`;
  const seconds = Math.round(magnitude / 1e9);
  const sign = durationNs < 0 ? '-' : '';
  const two = (value: number): string => String(value).padStart(2, '0');
  if (seconds < 3600) return `${sign}${Math.floor(seconds / 60)}m ${two(seconds % 60)}s`;
  return `${sign}${Math.floor(seconds / 3600)}h ${two(Math.floor((seconds % 3600) / 60))}m`;
}

/** An interval by its name: `second`, `minute`, `hour`, `day`, `24 days`. */
export function intervalName(intervalNs: number): string {
  const days = intervalNs / 86_400e9;
  if (days < 1) return intervalNs >= 3600e9 ? 'hour' : intervalNs >= 60e9 ? 'minute' : 'second';
  return days === 1 ? 'day' : `${days} days`;
}

function significant(value: number): string {
  const magnitude = Math.abs(value);
  return value.toFixed(magnitude < 9.995 ? 2 : magnitude < 99.95 ? 1 : 0);
}

/** A count with a comma every three digits: `1,234,567`. Starting the system's formatter takes milliseconds. */
export function formatCount(count: number): string {
  const [whole, fraction] = String(Math.round(count * 10) / 10).split('.');
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ',');
  return fraction === undefined ? grouped : `${grouped}.${fraction}`;
}

/** `part` of `whole` as `12.3%`; `-` when there is no whole. */
export function formatPercent(part: number, whole: number): string {
  return whole > 0 ? `${((100 * part) / whole).toFixed(1)}%` : '-';
}

const SPARK_LEVELS = '▁▂▃▄▅▆▇█';

/** One character per value, scaled from 0 to the largest; what is not a finite number becomes a space. */
export function sparkline(values: readonly number[]): string {
  const finite = values.filter((value) => Number.isFinite(value));
  const top = finite.reduce((most, value) => Math.max(most, value), 0);
  const steps = SPARK_LEVELS.length - 1;
  return values
    .map((value) => {
      if (!Number.isFinite(value)) return ' ';
      return SPARK_LEVELS[top <= 0 ? 0 : Math.round((Math.max(0, value) / top) * steps)];
    })
    .join('');
}
