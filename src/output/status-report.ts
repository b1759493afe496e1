/** The text output of `pcache status`: since the attach, or for the interval between two samples. Pure. */
import type { Position } from '../engine/media/codecs.js';
import { positionText } from '../engine/media/position-text.js';
import { percentileNs, snapshotCount, snapshotSince } from '../nbd/histogram.js';
import type { LatencyKind } from '../nbd/activity.js';
import type { AttachStatus, CacheState } from '../nbd/status.js';
import { bytes, count, text } from '../report-model/report-section.js';
import type { Quantity, ReportRow, ReportSection } from '../report-model/report-section.js';
import { shown } from './charset.js';
import { renderReport } from './report.js';

type Sections = readonly ReportSection[];
type Row = ReportRow;

const KINDS: readonly (readonly [LatencyKind, string])[] = [
  ['readHit', 'read hit'],
  ['readMiss', 'read miss'],
  ['write', 'write'],
  ['flush', 'flush'],
];
const PERCENTILES = [50, 90, 99, 99.9, 100] as const;
/** Number of samples in the throughput history. */
const HISTORY = 60;

export interface LatencyJson {
  readonly count: number;
  readonly p50Ns: number;
  readonly p90Ns: number;
  readonly p99Ns: number;
  readonly p999Ns: number;
  readonly maxNs: number;
}

export type StatusJson = Omit<AttachStatus, 'latency'> & {
  readonly latency: Readonly<Record<LatencyKind, LatencyJson>>;
};

/** The status with percentiles instead of histograms, since the attach. */
export function statusJson(status: AttachStatus): StatusJson {
  const summaries = KINDS.map(([kind]) => {
    const snapshot = status.latency[kind];
    const at = (percent: number) => percentileNs(snapshot, percent);
    const percentiles = { p50Ns: at(50), p90Ns: at(90), p99Ns: at(99), p999Ns: at(99.9), maxNs: at(100) };
    return [kind, { count: snapshotCount(snapshot), ...percentiles }] as const;
  });
  return { ...status, latency: Object.fromEntries(summaries) as Record<LatencyKind, LatencyJson> };
}

/** Throughput of each interval so far. */
export interface History {
  readonly readBytesPerSecond: number[];
  readonly writeBytesPerSecond: number[];
}

/** @param earlier the previous sample; without one, counts are since the attach. */
export function statusText(
  status: AttachStatus,
  earlier: AttachStatus | undefined,
  history: History | undefined,
  bold: (title: string) => string,
): string {
  const seconds = Math.max(status.uptimeMs - (earlier?.uptimeMs ?? 0), 1) / 1000;
  return renderReport(
    [
      { title: 'Attached', rows: headRows(status) },
      requestSection(status, earlier, seconds),
      latencySection(status, earlier),
      ...cacheSections(status, earlier, seconds),
      ...(history ? [historySection(history)] : []),
    ],
    bold,
  );
}

/**
 * The same in few lines, for a terminal that is smaller than `statusText` takes. Lines are cut to its width.
 * @param earlier as in `statusText`
 */
export function compactStatusText(
  status: AttachStatus,
  earlier: AttachStatus | undefined,
  history: History,
  size: TerminalSize,
): string {
  const seconds = Math.max(status.uptimeMs - (earlier?.uptimeMs ?? 0), 1) / 1000;
  const [cache, backing, ...others] = headRows(status);
  const head = [cache, backing, ...others.filter(({ name }) => name !== 'device')];
  const sections = [
    { title: '', rows: head },
    requestSection(status, earlier, seconds),
    latencySection(status, earlier),
    ...cacheSections(status, earlier, seconds).map((section) => ({
      ...section,
      rows: section.rows.filter(({ name }) => COMPACT_CACHE_ROWS.includes(name)),
    })),
    historySection(history),
  ];
  return withoutTitles(sections, size);
}

/** Sections without their titles and the lines between them, cut to the size of a terminal. */
export function withoutTitles(sections: readonly ReportSection[], { columns, rows }: TerminalSize): string {
  const lines = sections.flatMap((section) =>
    renderReport([section], () => '')
      .trimEnd()
      .split('\n')
      .slice(1),
  );
  return lines
    .slice(0, rows)
    .map((line) => cutTo(shown(line), columns))
    .join('\n');
}

/** Size of a terminal in characters. */
export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

/** Does a text without colours fit on a terminal? */
export function fitsOn(text: string, { columns, rows }: TerminalSize): boolean {
  const lines = text.trimEnd().split('\n');
  return lines.length <= rows && lines.every((line) => line.length <= columns);
}

const COMPACT_CACHE_ROWS = ['hit ratio', 'segments in use', 'dirty', 'written back', 'stalled requests'];

function cutTo(line: string, columns: number): string {
  if (line.length <= columns) return line;
  const ellipsis = shown('…');
  return `${line.slice(0, columns - ellipsis.length)}${ellipsis}`;
}

/** Adds the interval between two samples. */
export function remember(history: History, status: AttachStatus, earlier: AttachStatus): void {
  const seconds = Math.max(status.uptimeMs - earlier.uptimeMs, 1) / 1000;
  const moved = (key: 'readBytes' | 'writeBytes') => (status.server[key] - earlier.server[key]) / seconds;
  extend(history, moved('readBytes'), moved('writeBytes'));
}

/** Adds the throughput of an interval. */
export function extend(history: History, readBytesPerSecond: number, writeBytesPerSecond: number): void {
  const add = (series: number[], value: number) => {
    series.push(value);
    if (series.length > HISTORY) series.shift();
  };
  add(history.readBytesPerSecond, readBytesPerSecond);
  add(history.writeBytesPerSecond, writeBytesPerSecond);
}

function headRows(status: AttachStatus): Row[] {
  const { cache, server } = status;
  const rows: Row[] = [
    { name: 'cache', values: [text(status.path), ...(cache ? [text(`${cache.mode}, ${cache.durability}`)] : [])] },
    { name: 'backing', values: [text(status.backing), bytes(status.sizeBytes)] },
    ...(status.device === null ? [] : [{ name: 'device', values: [text(status.device)] }]),
    { name: 'served at', values: [text(status.uri), ...(status.readOnly ? [text('read-only')] : [])] },
    { name: 'attached for', values: [{ kind: 'duration-ns', value: status.uptimeMs * 1e6 }] },
    { name: 'connections', values: [text(`${server.connections} open, ${server.accepted} in total`)] },
  ];
  if (cache?.failure) rows.push({ name: 'FAILED', values: [text(cache.failure)] });
  if (cache?.writebackError) rows.push({ name: 'WRITE-BACK FAILING', values: [text(cache.writebackError)] });
  return rows;
}

function requestSection(status: AttachStatus, earlier: AttachStatus | undefined, seconds: number): Sections[number] {
  const { server } = status;
  const before = earlier?.server;
  const row = (name: string, requests: number, moved: number | undefined): Row => ({
    name,
    values: [
      count(requests),
      { kind: 'per-second', value: requests / seconds },
      ...(moved === undefined ? [] : [bytes(moved), { kind: 'bytes-per-second', value: moved / seconds } as const]),
    ],
  });
  const since = (key: keyof typeof server) => server[key] - (before?.[key] ?? 0);
  return {
    title: earlier ? 'Requests in the last interval' : 'Requests',
    head: ['', 'requests', 'rate', 'bytes', 'throughput'],
    rows: [
      row('reads', since('readRequests'), since('readBytes')),
      row('writes', since('writeRequests'), since('writeBytes')),
      row('trims', since('trimRequests'), since('trimBytes')),
      row('zeroes', since('zeroRequests'), since('zeroBytes')),
      row('flushes', since('flushRequests'), undefined),
      row('failed', since('failedRequests'), undefined),
    ],
  };
}

function latencySection(status: AttachStatus, earlier: AttachStatus | undefined): Sections[number] {
  return {
    title: 'Latency',
    head: ['', 'requests', ...PERCENTILES.map((percent) => (percent === 100 ? 'max' : `p${percent}`))],
    rows: KINDS.map(([kind, name]) => {
      const snapshot = earlier ? snapshotSince(status.latency[kind], earlier.latency[kind]) : status.latency[kind];
      const requests = snapshotCount(snapshot);
      const values = PERCENTILES.map((percent): Quantity => {
        return { kind: 'duration-ns', value: percentileNs(snapshot, percent) };
      });
      return { name, values: [count(requests), ...(requests === 0 ? [] : values)] };
    }),
  };
}

function cacheSections(status: AttachStatus, earlier: AttachStatus | undefined, seconds: number): Sections {
  const { cache } = status;
  if (!cache) return [];
  const { engine } = cache;
  const before = earlier?.cache?.engine;
  const since = (key: keyof typeof engine) => engine[key] - (before?.[key] ?? 0);
  const position = (at: Position) => text(positionText(at));
  const hitBytes = since('readBytes') - since('readMissBytes');
  return [
    {
      title: 'Cache',
      rows: [
        { name: 'hit ratio', values: [{ kind: 'ratio', part: since('readHits'), whole: since('reads') }] },
        { name: '  by bytes', values: [{ kind: 'ratio', part: hitBytes, whole: since('readBytes') }] },
        {
          name: 'segments in use',
          values: [
            { kind: 'ratio', part: cache.segmentsUsed, whole: cache.segments },
            text(`${cache.segmentsUsed} of ${cache.segments}, gc_percent ${cache.gcPercent}`),
          ],
        },
        { name: 'dirty', values: dirtyQuantities(cache) },
        {
          name: 'written back',
          values: [
            bytes(since('writebackBytes')),
            { kind: 'bytes-per-second', value: since('writebackBytes') / seconds },
          ],
        },
        { name: 'segments freed', values: [count(since('segmentsFreed'))] },
        { name: 'stalled requests', values: [count(cache.waitingRequests)] },
        { name: 'key_head', values: [position(cache.keyHead)] },
        { name: 'dirty_tail', values: [position(cache.dirtyTail)] },
        { name: 'key_tail', values: [position(cache.keyTail)] },
        { name: 'index', values: [text(`${cache.indexEntries} entries,`), bytes(cache.indexMemoryBytes)] },
        { name: 'status', values: [text(cache.line)] },
      ],
    },
  ];
}

function dirtyQuantities({ dirtyBytes, dirtyKeys, oldestDirtyMs }: CacheState): Quantity[] {
  const inKeys = [bytes(dirtyBytes), text(`in ${dirtyKeys} keys`)];
  if (oldestDirtyMs === null) return inKeys;
  return [...inKeys, text('oldest'), { kind: 'duration-ns', value: oldestDirtyMs * 1e6 }];
}

export function historySection({ readBytesPerSecond, writeBytesPerSecond }: History): Sections[number] {
  return {
    title: 'Throughput over time',
    rows: [
      { name: 'reads', values: [{ kind: 'series', values: readBytesPerSecond }] },
      { name: 'writes', values: [{ kind: 'series', values: writeBytesPerSecond }] },
    ],
  };
}
