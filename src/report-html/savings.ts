/**
 * What the cache spared the backing device: the requests of the trace, which without a cache all go to it, beside those
 * that it got. Times are known only where the latencies without a cache are, by the model of a simulation.
 */
import { formatBytes, formatCount, formatDuration, formatPercent } from '../output/units.js';
import type { LatencySummary } from '../replay/latency.js';
import type { ReplayResult } from '../replay/replay-result.js';
import { text, type ReportRow, type ReportSection } from '../report-model/report-section.js';

type Format = (value: number) => string;

/** Negative where the backing device got more than without a cache. */
const percentOf = (part: number, whole: number) =>
  part < 0 ? `-${formatPercent(-part, whole)}` : formatPercent(part, whole);

function row(name: string, format: Format, without: number, withCache: number): ReportRow {
  const spared = without - withCache;
  const cells = [format(without), format(withCache), format(spared), percentOf(spared, without)];
  return { name, values: cells.map(text) };
}

/** Over the requests of all kinds; 0 without any. */
function meanNs(summaries: readonly LatencySummary[]): number {
  const requests = summaries.reduce((total, { count }) => total + count, 0);
  return summaries.reduce((total, { count, meanNs: mean }) => total + count * mean, 0) / Math.max(1, requests);
}

export function savingsSection(result: ReplayResult): ReportSection {
  const { requests: r, backingRequests: b, latency, latencyWithoutCache, model } = result;
  const rows = [
    row('reads', formatCount, r.reads, b.reads),
    row('bytes read', formatBytes, r.readBytes, b.readBytes),
    row('writes', formatCount, r.writes, b.writes),
    row('bytes written', formatBytes, r.writeBytes, b.writeBytes),
    row('flushes', formatCount, r.flushes, b.flushes),
    row('all requests', formatCount, r.reads + r.writes + r.flushes, b.reads + b.writes + b.flushes),
    row('all bytes', formatBytes, r.readBytes + r.writeBytes, b.readBytes + b.writeBytes),
  ];
  if (latency !== null && latencyWithoutCache !== null) {
    const [without, withCache] = [latencyWithoutCache, latency].map((kinds) => meanNs(Object.values(kinds)));
    rows.push(row('mean latency of a request, estimated', formatDuration, without, withCache));
  }
  if (model !== null && model.backingBusy !== null && model.backingBusyWithoutCache !== null) {
    const busy: Format = (share) => percentOf(share, 1);
    rows.push({
      name: 'backing device busy, estimated',
      values: [busy(model.backingBusyWithoutCache), busy(model.backingBusy)].map(text),
    });
  }
  return {
    title: 'Requests of the backing device',
    head: ['', 'without cache', 'with cache', 'spared', 'share'],
    rows,
  };
}

/** What the table leaves open. */
export function savingsNote({ dirtyLeft, latencyWithoutCache }: ReplayResult): string {
  const notes = ['Without a cache the backing device gets every request of the trace as it is.'];
  if (dirtyLeft !== null && dirtyLeft.bytes > 0)
    notes.push(
      `At the end ${formatBytes(dirtyLeft.bytes)} were dirty: they are written back later, and not in these figures.`,
    );
  if (latencyWithoutCache === null)
    notes.push(
      'The time spared is not known, because nothing was measured without the cache; --simulate --model estimates it.',
    );
  return notes.join(' ');
}
