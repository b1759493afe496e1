/** The output of `pcache status` for a cache that the kernel has attached: text, and metrics for Prometheus. Pure. */
import type { Position } from '../engine/media/codecs.js';
import { positionText } from '../engine/media/position-text.js';
import type { BlockCounters, KernelStatus } from '../kernel/kernel-status.js';
import { counters, gauge, renderMetrics } from '../nbd/metrics.js';
import { byteRate, bytes, count, duration, ratio, requestRate, text } from '../report-model/report-section.js';
import type { Quantity, ReportRow, ReportSection } from '../report-model/report-section.js';
import { renderReport } from './report.js';
import { extend, historySection, withoutTitles, type History, type TerminalSize } from './status-report.js';

const position = (at: Position): Quantity => text(positionText(at));
const COMPACT_CACHE_ROWS = ['segments in use', 'dirty', 'written back', 'key_head', 'dirty_tail'];

/** @param earlier the previous sample; without one, counts are since the device was made. */
export function kernelStatusText(
  status: KernelStatus,
  earlier: KernelStatus | undefined,
  history: History | undefined,
  bold: (title: string) => string,
): string {
  return renderReport([...sectionsOf(status, earlier), ...(history ? [historySection(history)] : [])], bold);
}

/** The same in few lines, for a small terminal. */
export function compactKernelStatusText(
  status: KernelStatus,
  earlier: KernelStatus | undefined,
  history: History,
  size: TerminalSize,
): string {
  const [head, ...others] = sectionsOf(status, earlier);
  const cache = others.pop()!;
  const rows = cache.rows.filter(({ name }) => COMPACT_CACHE_ROWS.includes(name));
  return withoutTitles([head, ...others, { ...cache, rows }, historySection(history)], size);
}

/** Adds the interval between two samples. */
export function rememberKernel(history: History, { requests, intervalMs }: KernelStatus, earlier: KernelStatus): void {
  const before = earlier.requests;
  if (requests === null || before === null) return;
  const seconds = Math.max(intervalMs ?? 0, 1) / 1000;
  extend(
    history,
    (requests.readBytes - before.readBytes) / seconds,
    (requests.writeBytes - before.writeBytes) / seconds,
  );
}

function sectionsOf(status: KernelStatus, earlier: KernelStatus | undefined): ReportSection[] {
  return [
    { title: 'Attached by the kernel', rows: headRows(status) },
    ...blockSection('Requests', status, status.requests, earlier && (earlier.requests ?? undefined)),
    ...blockSection(
      'Backing device',
      status,
      status.backingRequests,
      earlier && (earlier.backingRequests ?? undefined),
    ),
    { title: 'Cache', rows: cacheRows(status) },
  ];
}

function headRows(status: KernelStatus): ReportRow[] {
  const rows: ReportRow[] = [
    { name: 'cache', values: [text(status.path), text(`${status.mode}, data_crc ${status.dataCrc ? 'on' : 'off'}`)] },
    { name: 'backing', values: [text(status.backing), bytes(status.sizeBytes)] },
    { name: 'device', values: [text(status.device)] },
  ];
  if (status.writebackStandsStill) {
    rows.push({
      name: 'WRITE-BACK STANDS STILL',
      values: [text('for'), duration(status.dirtyTailStillMs * 1e6), text('see the kernel log (dmesg)')],
    });
  }
  return rows;
}

function blockSection(
  title: string,
  { intervalMs }: KernelStatus,
  counts: BlockCounters | null,
  before: BlockCounters | undefined,
): ReportSection[] {
  if (counts === null) return [];
  const seconds = before === undefined ? undefined : Math.max(intervalMs ?? 0, 1) / 1000;
  const since = (key: keyof BlockCounters) => counts[key] - (before?.[key] ?? 0);
  const row = (
    name: string,
    requests: keyof BlockCounters,
    ms: keyof BlockCounters,
    moved?: keyof BlockCounters,
  ): ReportRow => {
    const mean = since(requests) > 0 ? duration((since(ms) * 1e6) / since(requests)) : text('');
    const amount = moved === undefined ? text('') : bytes(since(moved));
    if (seconds === undefined) return { name, values: [count(since(requests)), amount, mean] };
    const throughput = moved === undefined ? text('') : byteRate(since(moved) / seconds);
    const rate = requestRate(since(requests) / seconds);
    return { name, values: [count(since(requests)), rate, amount, throughput, mean] };
  };
  const head = seconds === undefined ? ['', 'requests', 'bytes', 'mean latency'] : undefined;
  return [
    {
      title: seconds === undefined ? title : `${title} in the last interval`,
      head: head ?? ['', 'requests', 'rate', 'bytes', 'throughput', 'mean latency'],
      rows: [
        row('reads', 'readRequests', 'readMs', 'readBytes'),
        row('writes', 'writeRequests', 'writeMs', 'writeBytes'),
        row('flushes', 'flushRequests', 'flushMs'),
        { name: 'under way', values: [count(counts.inFlight)] },
      ],
    },
  ];
}

function cacheRows(status: KernelStatus): ReportRow[] {
  const { segments, segmentsUsed, writtenBackBytes, intervalMs } = status;
  const rows: ReportRow[] = [
    {
      name: 'segments in use',
      values: [ratio(segmentsUsed, segments), text(`${segmentsUsed} of ${segments}, gc_percent ${status.gcPercent}`)],
    },
    { name: 'dirty', values: dirtyQuantities(status) },
  ];
  if (intervalMs !== null) {
    const seconds = Math.max(intervalMs, 1) / 1000;
    rows.push({
      name: 'written back',
      values:
        writtenBackBytes === null
          ? [text('not known: the log changed while it was read')]
          : [bytes(writtenBackBytes), byteRate(writtenBackBytes / seconds)],
    });
  }
  rows.push(
    { name: 'key_head', values: [position(status.keyHead)] },
    { name: 'dirty_tail', values: [position(status.dirtyTail)] },
    { name: 'key_tail', values: [position(status.keyTail)] },
    { name: 'status', values: [text(status.line)] },
  );
  return rows;
}

function dirtyQuantities({ dirtyKeys, dirtyBytes, dirtyIsLowerBound }: KernelStatus): Quantity[] {
  const amount = [bytes(dirtyBytes), text(`in ${dirtyKeys} keys`)];
  return dirtyIsLowerBound ? [text('at least'), ...amount] : amount;
}

/** The metrics have the names that those of a served cache have. */
export function kernelMetricsText(status: KernelStatus): string {
  const counted = ({ readRequests, readBytes, writeRequests, writeBytes, flushRequests }: BlockCounters) => ({
    readRequests,
    readBytes,
    writeRequests,
    writeBytes,
    flushRequests,
  });
  const { requests, backingRequests } = status;
  return renderMetrics([
    gauge('size_bytes', 'size of the logical device', status.sizeBytes),
    ...(requests === null ? [] : counters('server', counted(requests), 'of the block device')),
    ...(backingRequests === null ? [] : counters('backing', counted(backingRequests), 'of the backing device')),
    gauge('segments', 'segments of the cache', status.segments),
    gauge('segments_used', 'segments in use', status.segmentsUsed),
    gauge('gc_percent', 'garbage collection begins at this', status.gcPercent),
    gauge('dirty_keys', 'keys in the log that are not on the backing device', status.dirtyKeys),
    gauge('dirty_bytes', 'bytes of these', status.dirtyBytes),
  ]);
}
