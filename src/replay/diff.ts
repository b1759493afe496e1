/** Saved results of `pcache replay --json` side by side: differences of their setups, and every counter with all values. */
import type { SavedResult } from './saved-result.js';

export type DiffUnit = 'count' | 'bytes' | 'ns' | 'ratio' | 'per-second' | 'bytes-per-second';

/** A quantity in all results; the columns have an element for each result, in the order of the files. */
export interface DiffRow {
  readonly name: string;
  readonly unit: DiffUnit;
  /** Null if the result lacks it. */
  readonly values: readonly (number | null)[];
  /** The value minus that of the first result; null if one of the two is. */
  readonly differences: readonly (number | null)[];
  /** The difference in percent of the first value; null when that is 0, and for ratios. */
  readonly percents: readonly (number | null)[];
}

export interface DiffSection {
  readonly title: string;
  readonly rows: readonly DiffRow[];
}

export interface SetupRow {
  readonly name: string;
  readonly unit: 'bytes' | 'ns' | 'count' | null;
  /** An element for each result. */
  readonly values: readonly (string | number | boolean | null)[];
}

export interface ReplayDiff {
  /** The files that were compared. */
  readonly results: readonly string[];
  /** Settings and devices that are not the same in all runs. */
  readonly setup: readonly SetupRow[];
  readonly sections: readonly DiffSection[];
  /** Caveats, one line each. */
  readonly notes: readonly string[];
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
  ['modelled backing device, read', 'ns', 'model.backing.readNs'],
  ['modelled backing device, write', 'ns', 'model.backing.writeNs'],
  ['modelled backing device, flush', 'ns', 'model.backing.flushNs'],
  ['modelled backing device, seek', 'ns', 'model.backing.seekNs'],
  ['modelled backing device, short seek', 'ns', 'model.backing.shortSeekNs'],
  ['modelled backing device, depth', 'count', 'model.backing.depth'],
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
      ['backing device, reads', 'count', 'backingRequests.reads'],
      ['backing device, bytes read', 'bytes', 'backingRequests.readBytes'],
      ['backing device, writes', 'count', 'backingRequests.writes'],
      ['backing device, bytes written', 'bytes', 'backingRequests.writeBytes'],
      ['backing device, flushes', 'count', 'backingRequests.flushes'],
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

/** Compares results, at least one; differences are against the first. */
export function diffResults(results: readonly SavedResult[]): ReplayDiff {
  const sections = SECTIONS.map(([title, quantities]) => ({
    title,
    rows: quantities.map((quantity) => compare(quantity, results)).filter(says),
  }));
  const setup = SETUP.map(([name, unit, path]) => ({ name, unit, values: results.map((one) => one.plainAt(path)) }));
  return {
    results: results.map(({ path }) => path),
    setup: setup.filter(({ values }) => values.some((value) => value !== values[0])),
    sections: sections.filter(({ rows }) => rows.length > 0),
    notes: notesOn(results),
  };
}

/** False for a counter that is zero in all runs. */
function says({ unit, values }: DiffRow): boolean {
  return values.some((value) => (unit === 'ratio' ? value !== null : (value ?? 0) !== 0));
}

function compare([name, unit, source]: Quantity, results: readonly SavedResult[]): DiffRow {
  const values = results.map((result) =>
    typeof source === 'string' ? result.numberAt(source) : source((path) => result.numberAt(path)),
  );
  const [first] = values;
  const differences = values.map((value) => (first === null || value === null ? null : value - first));
  const percents = differences.map((difference) =>
    difference === null || first === null || first === 0 || unit === 'ratio' ? null : (100 * difference) / first,
  );
  return { name, unit, values, differences, percents };
}

const SAME_TRACE = ['trace.counts.selected', 'trace.endBytes', 'trace.durationNs', 'requests.total'];

function notesOn(results: readonly SavedResult[]): string[] {
  const notes = results
    .filter((result) => result.valueAt('interrupted') === true)
    .map(({ path }) => `${path} comes from an interrupted run`);
  const [first] = results;
  if (results.some((result) => SAME_TRACE.some((path) => result.valueAt(path) !== first.valueAt(path))))
    notes.push('the runs did not replay the same requests');
  const isSimulated = results.map((result) => result.valueAt('simulated') === true);
  if (new Set(isSimulated).size > 1) notes.push('not all runs were simulated: their times are not comparable');
  return notes;
}
