/**
 * Two saved results of `pcache replay --json` side by side: the differences of their setups, and every counter with
 * both values. Files are input: a value that one of them lacks, because another version wrote it, is null.
 */
import { readFileSync } from 'node:fs';
import { fromSystemError, PcacheError } from '../engine/errors.js';

export type DiffUnit = 'count' | 'bytes' | 'ns' | 'ratio' | 'per-second' | 'bytes-per-second';

export interface DiffRow {
  readonly name: string;
  readonly unit: DiffUnit;
  /** Null if the result lacks it. */
  readonly a: number | null;
  readonly b: number | null;
  /** `b` minus `a`. */
  readonly difference: number | null;
  /** The difference in percent of `a`; null when `a` is 0, and for ratios. */
  readonly percent: number | null;
}

export interface DiffSection {
  readonly title: string;
  readonly rows: readonly DiffRow[];
}

export interface SetupRow {
  readonly name: string;
  readonly unit: 'bytes' | 'ns' | 'count' | null;
  readonly a: string | number | boolean | null;
  readonly b: string | number | boolean | null;
}

export interface ReplayDiff {
  readonly a: string;
  readonly b: string;
  /** Settings and devices that differ between the two runs. */
  readonly setup: readonly SetupRow[];
  readonly sections: readonly DiffSection[];
  /** Caveats, one line each. */
  readonly notes: readonly string[];
}

/** A result read from a file. */
interface SavedResult {
  readonly path: string;
  readonly content: object;
}

/** Path of a quantity in a result, such as `requests.reads`, or a function of several. */
type Source = string | ((read: (path: string) => number | null) => number | null);
type Quantity = readonly [name: string, unit: DiffUnit, source: Source];

const SETUP: readonly (readonly [name: string, unit: SetupRow['unit'], path: string])[] = [
  ['trace', null, 'trace.name'],
  ['events', null, 'trace.action'],
  ['recorded for', 'ns', 'trace.durationNs'],
  ['highest byte', 'bytes', 'trace.endBytes'],
  ['requests in the trace', 'count', 'trace.counts.selected'],
  ['cache size', 'bytes', 'devices.cacheBytes'],
  ['segments', 'count', 'devices.segments'],
  ['mode', null, 'devices.mode'],
  ['data_crc', null, 'devices.dataCrc'],
  ['gc_percent', 'count', 'devices.gcPercent'],
  ['durability', null, 'devices.durability'],
  ['cache', null, 'devices.cache'],
  ['backing', null, 'devices.backing'],
  ['backing size', 'bytes', 'devices.backingBytes'],
  ['simulated', null, 'simulated'],
  ['lockstep', null, 'lockstep'],
  ['interrupted', null, 'interrupted'],
];

function quotient(part: string, whole: string): Source {
  return (read) => {
    const [p, w] = [read(part), read(whole)];
    return p === null || w === null || w === 0 ? null : p / w;
  };
}

const LATENCIES: readonly (readonly [label: string, field: string])[] = [
  ['mean', 'meanNs'],
  ['p50', 'p50Ns'],
  ['p90', 'p90Ns'],
  ['p99', 'p99Ns'],
  ['p99.9', 'p999Ns'],
  ['p99.99', 'p9999Ns'],
  ['max', 'maxNs'],
];

function latencyOf(kind: string, label: string): Quantity[] {
  const path = `latency.${kind}`;
  return LATENCIES.map(([name, field]) => [
    `${label} ${name}`,
    'ns',
    // Without requests there are no percentiles; zeros would mislead.
    (read) => (read(`${path}.count`) === 0 ? null : read(`${path}.${field}`)),
  ]);
}

const SECTIONS: readonly (readonly [title: string, quantities: readonly Quantity[]])[] = [
  [
    'Requests',
    [
      ['requests', 'count', 'requests.total'],
      ['reads', 'count', 'requests.reads'],
      ['bytes read', 'bytes', 'requests.readBytes'],
      ['read hits', 'count', 'requests.readHits'],
      ['hit bytes', 'bytes', 'requests.readHitBytes'],
      ['hit ratio', 'ratio', 'requests.hitRatioByRequests'],
      ['hit ratio by bytes', 'ratio', 'requests.hitRatioByBytes'],
      ['writes', 'count', 'requests.writes'],
      ['bytes written', 'bytes', 'requests.writeBytes'],
      ['writes bypassing the cache', 'count', 'requests.directWrites'],
      ['bytes bypassing the cache', 'bytes', 'requests.directWriteBytes'],
      ['FUA writes', 'count', 'requests.fuaWrites'],
      ['writes with preflush', 'count', 'requests.preflushWrites'],
      ['flushes', 'count', 'requests.flushes'],
      ['discards (skipped)', 'count', 'requests.discardsSkipped'],
      ['stalled requests', 'count', 'requests.waitedForRoom'],
    ],
  ],
  [
    'Background work',
    [
      ['cache fills, keys', 'count', 'fill.keys'],
      ['cache fills', 'bytes', 'fill.bytes'],
      ['fills dropped', 'count', 'fill.dropped'],
      ['written back', 'bytes', 'writeback.bytes'],
      ['written back / bytes written', 'ratio', quotient('writeback.bytes', 'requests.writeBytes')],
      ['write-back ksets', 'count', 'writeback.ksets'],
      ['write-back keys', 'count', 'writeback.keys'],
      ['write-back writes', 'count', 'writeback.writes'],
      ['write-back flushes', 'count', 'writeback.flushes'],
      ['write-back failures', 'count', 'writeback.failures'],
      ['GC ksets', 'count', 'gc.ksets'],
      ['GC keys', 'count', 'gc.keys'],
      ['segments freed', 'count', 'gc.segmentsFreed'],
      ['dirty at the end, keys', 'count', 'dirtyLeft.keys'],
      ['dirty at the end', 'bytes', 'dirtyLeft.bytes'],
    ],
  ],
  [
    'Segments',
    [
      ['in use at the end', 'count', 'segments.usedAtEnd'],
      ['in use at the peak', 'count', 'segments.usedPeak'],
      ['in use at the peak, share', 'ratio', quotient('segments.usedPeak', 'segments.total')],
      ['index entries', 'count', 'index.entries'],
      ['index', 'bytes', 'index.memoryBytes'],
    ],
  ],
  [
    'Latency',
    [
      ...latencyOf('readHit', 'read hit'),
      ...latencyOf('readMiss', 'read miss'),
      ...latencyOf('write', 'write'),
      ...latencyOf('flush', 'flush'),
    ],
  ],
  [
    'Run',
    [
      ['elapsed time', 'ns', 'elapsedNs'],
      ['requests per second', 'per-second', 'requestsPerSecond'],
      ['bytes per second', 'bytes-per-second', 'bytesPerSecond'],
      ['maximum lag', 'ns', 'maxLagNs'],
    ],
  ],
];

/**
 * Compares the results in two files.
 * @throws PcacheError BAD_RESULT for a file that is not a result, NOT_FOUND, NO_ACCESS or IO
 */
export function diffResults(pathA: string, pathB: string): ReplayDiff {
  const [a, b] = [loadResult(pathA), loadResult(pathB)];
  const sections = SECTIONS.map(([title, quantities]) => ({
    title,
    rows: quantities.map((quantity) => compare(quantity, a, b)).filter(says),
  }));
  return {
    a: pathA,
    b: pathB,
    setup: SETUP.map(([name, unit, path]) => ({ name, unit, a: plainAt(a, path), b: plainAt(b, path) })).filter(
      (row) => row.a !== row.b,
    ),
    sections: sections.filter(({ rows }) => rows.length > 0),
    notes: notesOn(a, b),
  };
}

/** False for a counter that is zero in both runs. */
function says({ unit, a, b }: DiffRow): boolean {
  return unit === 'ratio' ? a !== null || b !== null : (a ?? 0) !== 0 || (b ?? 0) !== 0;
}

function compare([name, unit, source]: Quantity, a: SavedResult, b: SavedResult): DiffRow {
  const valueOf = (result: SavedResult): number | null =>
    typeof source === 'string' ? numberAt(result, source) : source((path) => numberAt(result, path));
  const [x, y] = [valueOf(a), valueOf(b)];
  const difference = x === null || y === null ? null : y - x;
  const percent = difference === null || x === null || x === 0 || unit === 'ratio' ? null : (100 * difference) / x;
  return { name, unit, a: x, b: y, difference, percent };
}

function notesOn(a: SavedResult, b: SavedResult): string[] {
  const notes: string[] = [];
  for (const result of [a, b]) {
    if (valueAt(result, 'interrupted') === true) notes.push(`${result.path} comes from an interrupted run`);
  }
  const sameTrace = ['trace.counts.selected', 'trace.endBytes', 'trace.durationNs', 'requests.total'].every(
    (path) => valueAt(a, path) === valueAt(b, path),
  );
  if (!sameTrace) notes.push('the two runs did not replay the same requests');
  const [simulatedA, simulatedB] = [a, b].map((result) => valueAt(result, 'simulated') === true);
  if (simulatedA !== simulatedB) notes.push('one run was simulated: their times are not comparable');
  return notes;
}

function loadResult(path: string): SavedResult {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw fromSystemError(error, path, 'reading the result');
  }
  const wrong = (what: string): PcacheError =>
    new PcacheError('BAD_RESULT', `${path}: ${what}; save a result with "pcache replay TRACE --json > FILE"`);
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    throw wrong('not a JSON document');
  }
  if (typeof content !== 'object' || content === null) throw wrong('not a result of "pcache replay"');
  const result = { path, content };
  const message = valueAt(result, 'error.message');
  if (typeof message === 'string') throw wrong(`result of a failed run (${message})`);
  if (Array.isArray(valueAt(result, 'curve')))
    throw wrong('result of --sizes or --curve; only results for one size can be compared');
  const known = ['requests.total', 'devices.cacheBytes', 'writeback.bytes'].every(
    (at) => numberAt(result, at) !== null,
  );
  if (!known) throw wrong('not a result of "pcache replay"');
  return result;
}

/** The value at `path`, or undefined. */
function valueAt({ content }: SavedResult, path: string): unknown {
  let value: unknown = content;
  for (const name of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
    value = (value as Record<string, unknown>)[name];
  }
  return value;
}

function numberAt(result: SavedResult, path: string): number | null {
  const value = valueAt(result, path);
  return typeof value === 'number' ? value : null;
}

function plainAt(result: SavedResult, path: string): string | number | boolean | null {
  const value = valueAt(result, path);
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? value : null;
}
