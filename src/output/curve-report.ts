/** Report of `pcache replay --sizes` and `--curve`: caches of several sizes beside an ideal LRU. Pure. */
import type { LruCurve, LruPoint, Share } from '../curve/lru-curve.js';
import { POLICY_TITLES } from '../curve/policies.js';
import type { CurvePoint, CurveResult } from '../curve/result.js';
import type { WorkingSet } from '../curve/working-set.js';
import { drawChart } from './line-chart.js';
import { renderFields, renderTable } from './table.js';
import { formatBytes, formatCount, formatDuration, formatPercent, intervalName } from './units.js';

type Latencies = NonNullable<CurvePoint['latency']>;

/** Rows shown of the LRU curve; the JSON document has all. */
const LRU_ROWS = 13;

/** @param widthColumns of the terminal, for the chart */
export function renderCurve(result: CurveResult, heading: (title: string) => string, widthColumns: number): string {
  const sections = [`${heading('Curve')}\n${renderSummary(result)}`];
  if (result.curve.length > 0) sections.push(`${heading('dm-pcache')}\n${renderCaches(result)}${notes(result)}`);
  const latency = renderLatency(result);
  if (latency !== '') sections.push(`${heading('Expected latency')}\n${latency}`);
  if (result.lru) sections.push(`${heading('LRU, for comparison')}\n${renderLru(result.lru)}`);
  if (result.policies.length > 0) {
    sections.push(`${heading('Policies, for comparison')}\n${renderPolicies(result)}`);
  }
  const chart = renderChart(result, widthColumns);
  if (chart !== '') sections.push(`${heading('Hit ratio of reads, by bytes')}\n${chart}`);
  return sections.join('\n');
}

/** The size to choose, what it costs, and what no size gains. */
function answerFields({ nearlyBest, coldMissRatioByBytes, workingSet }: CurveResult['answers']): [string, string][] {
  const fields: [string, string][] = [];
  if (nearlyBest !== null) {
    const { cacheBytes, hitRatioByBytes, bestHitRatioByBytes, backingWriteBytes, writeAmplification } = nearlyBest;
    const cost = writeAmplification === null ? '' : `, ${formatPercent(writeAmplification, 1)} of the writes`;
    fields.push([
      'nearly the best',
      `${formatBytes(cacheBytes)}, the smallest within 2 points: ${formatPercent(hitRatioByBytes, 1)} of bytes read hit ` +
        `(best ${formatPercent(bestHitRatioByBytes, 1)}); writes back ${formatBytes(backingWriteBytes)}${cost}`,
    ]);
  }
  if (coldMissRatioByBytes !== null) {
    fields.push(['cold misses', `${formatPercent(coldMissRatioByBytes, 1)} of bytes read; no size of cache hits them`]);
  }
  if (workingSet !== null && workingSet.maxBytes > 0) fields.push(['working set', showWorkingSet(workingSet)]);
  return fields;
}

/** `by hour: median 1.2 GiB, at most 3.4 GiB (in hour 5 of 24)` */
function showWorkingSet({ intervalNs, byIntervalBytes, medianBytes, maxBytes, rate }: WorkingSet): string {
  const unit = intervalName(intervalNs);
  const hours = byIntervalBytes.length;
  const peak = hours === 1 ? '' : ` (in ${unit} ${byIntervalBytes.indexOf(maxBytes) + 1} of ${hours})`;
  const about = rate < 1 ? ', estimated from a sample of the blocks' : '';
  return `by ${unit}: median ${formatBytes(medianBytes)}, at most ${formatBytes(maxBytes)}${peak}${about}`;
}

function indented(text: string): string {
  return text.replace(/^(?=.)/gm, '  ');
}

function renderSummary({
  trace,
  cache,
  requests,
  threads,
  elapsedNs,
  curve,
  answers,
  interrupted,
}: CurveResult): string {
  const passes = trace.loops > 1 ? `, repeated ${formatCount(trace.loops)} times` : '';
  const fields: [string, string][] = [
    ['trace', `${trace.name}  ${trace.format}${passes}`],
    ['events replayed', trace.action],
  ];
  if (requests) {
    fields.push(
      ['reads', `${formatCount(requests.reads)}, ${formatBytes(requests.readBytes)}`],
      ['writes', `${formatCount(requests.writes)}, ${formatBytes(requests.writeBytes)}`],
      ['flushes', formatCount(requests.flushes)],
    );
  }
  if (trace.uniqueBytes !== undefined) fields.push(['footprint', `${formatBytes(trace.uniqueBytes)} in 4 KiB blocks`]);
  fields.push(
    ['cache', `${cache.mode}  data_crc ${cache.dataCrc ? 'on' : 'off'}  gc_percent ${cache.gcPercent}`],
    ['simulated', `${count(curve.length, 'size')} in ${formatDuration(elapsedNs)}, ${count(threads, 'thread')}`],
  );
  fields.push(...answerFields(answers));
  if (interrupted) fields.push(['interrupted', 'unfinished sizes are missing']);
  return indented(renderFields(fields));
}

function count(number: number, noun: string): string {
  return `${formatCount(number)} ${noun}${number === 1 ? '' : 's'}`;
}

/** `12.3%`, with its error where it has one: `12.3% ± 0.4`. */
function showShare(share: Share | null): string {
  if (share === null) return '-';
  const percent = formatPercent(share.ratio, 1);
  return share.error === 0 ? percent : `${percent} ± ${(share.error * 100).toFixed(1)}`;
}

function ratio(value: number | null): string {
  return value === null ? '-' : formatPercent(value, 1);
}

function renderCaches({ curve, lru }: CurveResult): string {
  const points = new Map((lru?.points ?? []).map((point) => [point.cacheBytes, point]));
  const byRequests = lru !== null && lru.method === 'exact';
  const head = ['size', 'data area', 'hit ratio'];
  if (byRequests) head.push('LRU');
  head.push('by bytes');
  if (lru) head.push('LRU');
  head.push('written back', 'of writes', 'dirty peak', 'freed by GC', 'stalled');
  const rows = curve.map((point) => [
    formatBytes(point.cacheBytes),
    formatBytes(point.dataBytes),
    ratio(point.hitRatioByRequests),
    ...(byRequests ? [showShare(points.get(point.dataBytes)?.reads.byRequests ?? null)] : []),
    ratio(point.hitRatioByBytes),
    ...(lru ? [showShare(points.get(point.dataBytes)?.reads.byBytes ?? null)] : []),
    formatBytes(point.backingWriteBytes),
    ratio(point.writeAmplification),
    formatBytes(point.dirtyPeakBytes),
    count(point.gcSegmentsFreed, 'segment'),
    formatCount(point.waitedForRoom),
  ]);
  const align = head.map(() => 'right' as const);
  return indented(renderTable(head, rows, align));
}

/** Remarks under the table. */
function notes({ curve, requests, lru, withoutCache }: CurveResult): string {
  const lines: string[] = [];
  if (requests?.reads === 0) lines.push('The trace has no reads, so there is no hit ratio.');
  else if (curve.every((point) => point.readHitBytes === 0)) {
    lines.push('No read hit the cache at any of these sizes.');
  }
  const holding = curve.find((point) => point.holdsAll);
  if (holding) lines.push(...holdsAllNote(holding, curve[0], lru));
  if (lru && requests?.reads !== 0)
    lines.push('LRU: an ideal cache as large as the data area, without log and segments.');
  if (withoutCache === null) {
    lines.push(
      'The simulated backing device is infinitely fast; add --model to see how long data stays dirty on a real one.',
    );
  }
  return `\n${lines.map((line) => `  ${line}\n`).join('')}`;
}

function holdsAllNote(holding: CurvePoint, smallest: CurvePoint, lru: LruCurve | null): string[] {
  if (holding !== smallest)
    return [`${formatBytes(holding.cacheBytes)} holds the whole trace; larger caches gain nothing.`];
  const below = lru ? ' The LRU curve below shows smaller sizes.' : '';
  return [`The smallest size already holds the whole trace; larger caches gain nothing.${below}`];
}

/** Latency of hits, misses, writes and flushes for each size, and of the backing device alone. */
function renderLatency({ curve, withoutCache }: CurveResult): string {
  if (withoutCache === null) return '';
  const kinds: readonly (keyof Latencies)[] = ['readHit', 'readMiss', 'write', 'flush'];
  const head = ['size', 'read hit p50', 'p99', 'read miss p50', 'p99', 'write p50', 'p99', 'flush p50', 'p99'];
  const shown = (summary: Latencies['write']) =>
    summary.count === 0 ? ['-', '-'] : [formatDuration(summary.p50Ns), formatDuration(summary.p99Ns)];
  const rows = curve.flatMap(({ cacheBytes, latency, backingBusy }) =>
    latency === null
      ? []
      : [[formatBytes(cacheBytes), ...kinds.flatMap((kind) => shown(latency[kind])), ratio(backingBusy)]],
  );
  const { read, write, flush } = withoutCache.latency;
  rows.push(['no cache', ...['', ''], ...[read, write, flush].flatMap(shown), ratio(withoutCache.backingBusy)]);
  head.push('backing busy');
  return indented(
    renderTable(
      head,
      rows,
      head.map(() => 'right' as const),
    ),
  );
}

function renderLru(lru: LruCurve): string {
  const { sampling } = lru;
  const method =
    sampling === null
      ? 'exact, by stack distances'
      : `sampled: ${count(sampling.sampledBlocks, 'block')}, ${showRate(sampling.rate)} of all; ± is the 95% confidence interval`;
  const byRequests = sampling === null;
  const head = ['size', ...(byRequests ? ['reads'] : []), 'by bytes', ...(byRequests ? ['reads and writes'] : [])];
  head.push(byRequests ? 'by bytes' : 'reads and writes by bytes');
  const rows = pick(lru.points).map(({ cacheBytes, reads, all }) => [
    formatBytes(cacheBytes),
    ...(byRequests ? [showShare(reads.byRequests)] : []),
    showShare(reads.byBytes),
    ...(byRequests ? [showShare(all.byRequests)] : []),
    showShare(all.byBytes),
  ]);
  return `  ${method}; blocks of ${formatBytes(lru.blockBytes)}, inserted by reads and writes\n\n${indented(
    renderTable(
      head,
      rows,
      head.map(() => 'right' as const),
    ),
  )}`;
}

/** A share that may be small: `0.012%`. */
function showRate(rate: number): string {
  return `${Number((rate * 100).toPrecision(2))}%`;
}

/** The largest sizes that are powers of two. */
function pick(points: readonly LruPoint[]): LruPoint[] {
  const doubling = points.filter(({ cacheBytes }) => Number.isInteger(Math.log2(cacheBytes)));
  return doubling.slice(-LRU_ROWS);
}

/** Hit ratio of reads by bytes under every policy, the caches themselves included. */
function renderPolicies({ curve, lru, policies }: CurveResult): string {
  const ofLru = new Map((lru?.points ?? []).map((point) => [point.cacheBytes, point]));
  const ofCaches = new Map(curve.map((point) => [point.dataBytes, point]));
  const shown = curve.length > 0;
  const head = ['size', ...(shown ? ['dm-pcache'] : []), ...(lru ? ['LRU'] : [])];
  head.push(...policies.map(({ policy }) => POLICY_TITLES[policy]));
  const rows = policies[0].points.map(({ cacheBytes }, i) => [
    formatBytes(cacheBytes),
    ...(shown ? [ratio(ofCaches.get(cacheBytes)?.hitRatioByBytes ?? null)] : []),
    ...(lru ? [showShare(ofLru.get(cacheBytes)?.reads.byBytes ?? null)] : []),
    ...policies.map(({ points }) => showShare(points[i].reads.byBytes)),
  ]);
  const align = head.map(() => 'right' as const);
  const about = `hit ratio of reads, by bytes; blocks of ${formatBytes(policies[0].blockBytes)}, inserted by reads and writes`;
  return `  ${about}\n\n${indented(renderTable(head, rows, align))}`;
}

function renderChart({ curve, lru }: CurveResult, widthColumns: number): string {
  const series = [
    {
      mark: '·',
      joined: true,
      points: (lru?.points ?? []).flatMap(({ cacheBytes, reads: { byBytes } }) =>
        byBytes === null ? [] : [{ sizeBytes: cacheBytes, ratio: byBytes.ratio }],
      ),
    },
    {
      mark: '●',
      joined: false,
      points: curve.flatMap(({ dataBytes, hitRatioByBytes }) =>
        hitRatioByBytes === null ? [] : [{ sizeBytes: dataBytes, ratio: hitRatioByBytes }],
      ),
    },
  ];
  const chart = drawChart(series, widthColumns);
  return chart === '' ? '' : `${chart}  ● dm-pcache${lru ? '   · LRU' : ''}, by data area\n`;
}
