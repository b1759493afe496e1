/** The HTML report of a replay: all charts, all of their data as tables, and nothing from outside that is not escaped. */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CurveResult } from '../../src/curve/result.js';
import type { ReplayResult } from '../../src/replay/replay-result.js';
import type { Chart } from '../../src/report-html/chart.js';
import { formatBytes, formatDuration } from '../../src/output/units.js';
import { html, jsonForScript } from '../../src/report-html/html.js';
import { reportPage } from '../../src/report-html/page.js';
import { ReportFile } from '../../src/report-html/report-file.js';
import { makeModel, runSimulation } from '../../src/simulate/index.js';

const TRACE = fileURLToPath(new URL('../../fixtures/traces/pgbench.blktrace', import.meta.url));
const LATENCY_CHARTS = ['latency-mean', 'latency-p99', 'latency'];
const CHARTS = [
  ...['hit-ratio', 'throughput', 'requests', 'dirty', 'writeback', 'gc', ...LATENCY_CHARTS, 'segments'],
  ...['addresses-reads', 'addresses-writes'],
];

const ORIGIN = {
  version: '1.2.3',
  commandLine: "pcache replay 'a <b>.trace' --loop 4",
  madeAt: new Date('2026-05-04T13:37:59Z'),
};
const pageOf = (shown: ReplayResult | CurveResult) => reportPage(shown, ORIGIN);

let folder: string;
/** A recorded workload, four times over, so that there are hits and collections. */
let result: ReplayResult;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-report-test-'));
  const ignore = () => {};
  result = await runSimulation(
    {
      ...{ trace: TRACE, action: 'queue', traceDevice: undefined, format: undefined, malformedLimit: undefined },
      ...{ loops: 4, limit: Infinity, stdin: process.stdin, cacheBytes: 512 * 2 ** 20, backingBytes: undefined },
      ...{ dataCrc: false, gcPercent: 50, mode: undefined, model: makeModel('nvme', {}, {}), speed: 1 },
    },
    { begins: ignore, progress: ignore, warn: ignore, onInterrupt: ignore },
  );
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function chartsIn(page: string): Chart[] {
  const json = /<script type="application\/json" id="charts">(.*?)<\/script>/s.exec(page)![1];
  return JSON.parse(json) as Chart[];
}

/** The cells of the table that belongs to a chart: a row of texts for each of its rows. */
function tableIn(page: string, id: string): string[][] {
  const card = page.slice(page.indexOf(`id="plot-${id}"`));
  const body = /<tbody>(.*?)<\/tbody>/s.exec(card)![1];
  return [...body.matchAll(/<tr>(.*?)<\/tr>/gs)].map(([, row]) =>
    [...row.matchAll(/<t[hd][^>]*>(.*?)<\/t[hd]>/gs)].map(([, cell]) => cell.trim()),
  );
}

/** Of each row of the savings: without cache, with cache, spared. */
function savingsIn(page: string): Record<string, string[]> {
  const body = /Requests of the backing device<\/h2>.*?<tbody>(.*?)<\/tbody>/s.exec(page)![1];
  const rows = [...body.matchAll(/<tr>(.*?)<\/tr>/gs)].map(([, row]) =>
    [...row.matchAll(/<t[hd][^>]*>(.*?)<\/t[hd]>/gs)].map(([, cell]) => cell.trim()),
  );
  return Object.fromEntries(rows.map(([name, ...cells]) => [name, cells.slice(0, 3)]));
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);
const numberOf = (text: string) => Number(text.replaceAll(',', ''));

describe('the page of a replay', () => {
  it('says which program made it, when, and how', () => {
    const footer = /<footer>(.*?)<\/footer>/s.exec(pageOf(result))![1].replaceAll(/\s+/g, ' ');
    expect(footer).toContain('Made by pcache 1.2.3 on <time datetime="2026-05-04T13:37:59.000Z">2026-05-04 13:37 UTC');
    expect(footer).toContain('<code>pcache replay &#39;a &lt;b&gt;.trace&#39; --loop 4</code>');
  });

  it('has every chart, and each has its data as a table', () => {
    const page = pageOf(result);
    const charts = chartsIn(page);
    expect(charts.map(({ id }) => id)).toEqual(CHARTS);
    for (const chart of charts) {
      expect(page).toContain(`id="plot-${chart.id}"`);
      const rows = tableIn(page, chart.id);
      if (chart.kind === 'lines') {
        expect(rows).toHaveLength(chart.x.values.length - (chart.style === 'steps' ? 1 : 0));
        expect(rows.every((row) => row.length === 1 + chart.series.length)).toBe(true);
        expect(chart.series.every(({ values }) => values.length === chart.x.values.length)).toBe(true);
      } else {
        expect(rows).toHaveLength((chart.states ?? chart.counts)!.length);
      }
    }
  });

  it('loses none of the numbers on the way to charts and tables', () => {
    const page = pageOf(result);
    const { requests, gc, latencyHistogram, timeline } = result;
    const freed = tableIn(page, 'gc').map((row) => numberOf(row[1]));
    expect(gc.segmentsFreed).toBeGreaterThan(5);
    expect(sum(freed)).toBe(sum(timeline.counts.segmentsFreed));
    const reads = tableIn(page, 'addresses-reads').map((row) => sum(row.slice(1).map(numberOf)));
    expect(sum(reads)).toBe(requests.reads);
    const writes = tableIn(page, 'addresses-writes').map((row) => sum(row.slice(1).map(numberOf)));
    expect(sum(writes)).toBe(requests.writes);
    const latencies = tableIn(page, 'latency').map((row) => sum(row.slice(1).map(numberOf)));
    expect(sum(latencies)).toBe(sum(Object.values(latencyHistogram!.counts).map(sum)));
    expect(sum(latencies)).toBe(requests.total);

    // A rate in each step times its length is what there was.
    const throughput = chartsIn(page).find(({ id }) => id === 'throughput')!;
    if (throughput.kind !== 'lines') throw new Error('not a line chart');
    const { values: edges } = throughput.x;
    const written = throughput.series[1].values.slice(0, -1);
    const bytes = written.map((rate, n) => (rate! * (edges[n + 1] - edges[n])) / 1e9);
    expect(sum(bytes)).toBeCloseTo(requests.writeBytes, -1);
  });

  it('shows over time the latencies that make up the totals', () => {
    const page = pageOf(result);
    const { requests, readHit, readMiss, write, flush } = { ...result, ...result.latency! };
    const latency = result.timeline.latency!;
    for (const [kind, summary] of Object.entries({ readHit, readMiss, write, flush })) {
      const { requests: counts, meanNs } = latency[kind as keyof typeof latency];
      expect(sum(counts)).toBe(summary.count);
      const mean = sum(counts.map((count, n) => count * (meanNs[n] ?? 0))) / summary.count;
      expect(Math.abs(mean - summary.meanNs)).toBeLessThan(0.01 * summary.meanNs);
    }
    expect(requests.total).toBeGreaterThan(0);
    const means = tableIn(page, 'latency-mean');
    expect(means).toHaveLength(latency.write.requests.length);
    expect(means[0][3]).toBe(formatDuration(latency.write.meanNs[0]!));
    expect(tableIn(page, 'latency-p99')[0][3]).toBe(formatDuration(latency.write.p99Ns[0]!));
  });

  it('tells what the cache spared the backing device', () => {
    const { requests: r, backingRequests: b, latencyWithoutCache: alone } = result;
    expect(b.writeBytes).toBe(result.writeback.bytes);
    expect(b.reads).toBeGreaterThan(0);
    const rows = savingsIn(pageOf(result));
    expect(rows['reads']).toEqual([r.reads, b.reads, r.reads - b.reads].map((n) => n.toLocaleString('en-US')));
    const [without, withCache] = [r.readBytes + r.writeBytes, b.readBytes + b.writeBytes].map((n) => formatBytes(n));
    expect(rows['all bytes'].slice(0, 2)).toEqual([without, withCache]);
    const requests = sum(Object.values(alone!).map(({ count }) => count));
    const meanNs = sum(Object.values(alone!).map(({ count, meanNs: mean }) => count * mean)) / requests;
    expect(rows['mean latency of a request, estimated'][0]).toBe(formatDuration(meanNs));
    const unknown = pageOf({ ...result, latencyWithoutCache: null, model: null });
    expect(savingsIn(unknown)).not.toHaveProperty('mean latency of a request, estimated');
    expect(unknown).toContain('The time spared is not known');
  });

  it('names the clock of its charts: of the trace, of the model, or of this machine', () => {
    const clockIn = (page: string) => /Over time<\/h2>\s*<p class="note">([^:]+):/.exec(page)![1];
    expect(clockIn(pageOf(result))).toBe('Simulated time');
    expect(clockIn(pageOf({ ...result, lockstep: true }))).toBe('Trace time');
    const measured = pageOf({ ...result, simulated: false, maxLagNs: null });
    expect(clockIn(measured)).toBe('Replay time');
    expect(measured).toContain('at full speed');
    for (const chart of chartsIn(measured)) {
      if (chart.kind === 'lines' && chart.id !== 'latency') expect(chart.x.label).toBe('replay time');
    }
  });

  it('tells the states of a segment one after the other, up to the end', () => {
    const page = pageOf(result);
    const rows = tableIn(page, 'segments');
    expect(rows[0][1]).toBe('log all the time');
    expect(rows.some(([, runs]) => /^free until [^,]+, dirty until|^free until [^,]+, clean until/.test(runs))).toBe(
      true,
    );
    expect(rows.some(([, runs]) => runs.includes('collected until'))).toBe(true);
  });

  it('has the headline numbers', () => {
    const page = pageOf(result);
    const { requests, segments } = result;
    const tiles = [...page.matchAll(/<dt>(.*?)<\/dt>.*?<div class="value">(.*?)<\/div>/gs)];
    const tile = Object.fromEntries(tiles.map(([, name, value]) => [name, value]));
    expect(tile['Read hit ratio']).toBe(`${(100 * requests.hitRatioByRequests!).toFixed(1)}%`);
    expect(tile['Requests']).toBe(requests.total.toLocaleString('en-US'));
    expect(tile['Segments in use at most']).toBe(`${segments.usedPeak} of ${segments.total}`);
    expect(tile['Write-back amplification']).toMatch(/^\d\.\d\d ×$/);
    expect(Object.keys(tile)).toHaveLength(6);
  });

  it('asks for nothing outside, and lets only its own script run', () => {
    const page = pageOf(result);
    const styles = /<style>(.*?)<\/style>/s.exec(page)![1];
    expect(styles).not.toMatch(/url\(|@import/);
    expect(page.replace(/<script>.*?<\/script>/s, '')).not.toMatch(/\s(src|href)=/);
    const script = /<script>(.*?)<\/script>/s.exec(page)![1];
    expect(script).not.toContain('\r');
    expect(script).toContain('Permission is hereby granted, free of charge');
    expect(page).toContain(`script-src &#39;sha256-${createHash('sha256').update(script).digest('base64')}&#39;`);
  });

  it('escapes what comes from outside', () => {
    const name = `</script><img src=x onerror=alert(1)>'"&amp;`;
    const page = pageOf({
      ...result,
      trace: { ...result.trace, name, format: name },
      devices: { ...result.devices, cache: name, backing: name },
    });
    expect(page).not.toContain('<img');
    expect(page).toContain('&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&#39;&quot;&amp;amp;');
    expect(jsonForScript({ name }).text).not.toContain('<');
    expect(JSON.parse(jsonForScript({ name }).text)).toEqual({ name });
    expect(html`<b>${name}</b>`.text).not.toContain('<img');
  });

  it('says so where there is nothing: no reads, no latencies, an interrupt', () => {
    const { timeline, requests } = result;
    const none = timeline.counts.reads.map(() => 0);
    const page = pageOf({
      ...result,
      interrupted: true,
      latency: null,
      latencyHistogram: null,
      requests: { ...requests, reads: 0, readHits: 0, readBytes: 0, readHitBytes: 0, hitRatioByRequests: null },
      timeline: {
        ...{ ...timeline, latency: null },
        counts: { ...timeline.counts, reads: none, readHits: none, readBytes: none },
      },
    });
    expect(chartsIn(page).map(({ id }) => id)).toEqual(
      CHARTS.filter((id) => id !== 'hit-ratio' && !LATENCY_CHARTS.includes(id)),
    );
    expect(page).toContain('none of it happened');
    expect(page).toContain('had no model of the devices');
    expect(page).toContain('The replay was interrupted');
    expect(page.replace(/<script>.*?<\/script>/s, '')).not.toMatch(/NaN|undefined|Infinity/);
  });
});

describe('the page of many sizes', () => {
  const share = (ratio: number) => ({ ratio, error: 0 });
  /** As much of a point as the page looks at. */
  const pointOf = (cacheBytes: number) =>
    ({
      ...{ cacheBytes, hitRatioByRequests: 0.25, missRatioByBytes: 0.75, writeAmplification: 0.5 },
      ...{ dirtyPeakBytes: 2 ** 20, holdsAll: true },
    }) as unknown as CurveResult['curve'][number];
  const curve = (sizes: number[]): CurveResult => ({
    trace: { ...result.trace, loops: 1 },
    cache: { mode: 'writeback', dataCrc: false, gcPercent: 70 },
    requests: result.requests,
    withoutCache: null,
    threads: 1,
    elapsedNs: 1e9,
    curve: sizes.map(pointOf),
    policies: [],
    answers: { nearlyBest: null, coldMissRatioByBytes: null, workingSet: null },
    lru: {
      ...{ method: 'exact', blockBytes: 4096, uniqueBlocks: 1, references: 1, reads: 1, writes: 1, sampling: null },
      points: [2 ** 20, 2 ** 29].map((cacheBytes) => ({
        cacheBytes,
        reads: { byRequests: null, byBytes: share(0.4) },
        all: { byRequests: null, byBytes: null },
      })),
    },
    interrupted: false,
  });

  it('has the curve beside that of LRU, with a table', () => {
    const page = pageOf(curve([2 ** 29, 2 ** 30]));
    expect(chartsIn(page).map(({ id }) => id)).toEqual(['size-curve', 'size-writes', 'size-dirty']);
    expect(tableIn(page, 'size-curve')).toEqual([
      ['1 MiB', '–', '60.0 %'],
      ['512 MiB', '75.0 %', '60.0 %'],
      ['1 GiB', '75.0 %', '–'],
    ]);
    expect(tableIn(page, 'size-writes')).toEqual([
      ['512 MiB', '0.50 ×'],
      ['1 GiB', '0.50 ×'],
    ]);
  });

  it('draws other policies beside LRU, and the working set by hour', () => {
    const workingSet = {
      intervalNs: 3600e9,
      byIntervalBytes: [4096, 8192],
      medianBytes: 4096,
      maxBytes: 8192,
      rate: 1,
    };
    const point = { cacheBytes: 2 ** 20, missedReferences: 1 };
    const shares = { reads: { byRequests: null, byBytes: share(0.3) }, all: { byRequests: null, byBytes: null } };
    const page = pageOf({
      ...curve([2 ** 29]),
      policies: [
        { policy: 's3-fifo', blockBytes: 4096, uniqueBlocks: 1, references: 1, points: [{ ...point, ...shares }] },
      ],
      answers: { nearlyBest: null, coldMissRatioByBytes: null, workingSet },
    });
    expect(tableIn(page, 'size-curve')).toEqual([
      ['1 MiB', '–', '60.0 %', '70.0 %'],
      ['512 MiB', '75.0 %', '60.0 %', '–'],
    ]);
    expect(page).toContain('S3-FIFO, reads');
    expect(page).toContain('Working set by hour');
    expect(tableIn(page, 'working-set').map(([, bytes]) => bytes)).toEqual(['4 KiB', '8 KiB']);
  });

  it('does with one size, and with none', () => {
    expect(chartsIn(pageOf(curve([2 ** 29])))).toHaveLength(3);
    expect(chartsIn(pageOf({ ...curve([]), interrupted: true, lru: null }))).toHaveLength(0);
  });
});

describe('the file of a report', () => {
  const file = (name: string) => join(folder, name);

  it('is written as a whole, and may be overwritten by another report', () => {
    const path = file('new.html');
    new ReportFile(path).save(pageOf(result));
    const again = new ReportFile(path);
    again.save(`${pageOf(result)}<!-- second -->`);
    expect(readFileSync(path, 'utf8')).toContain('<!-- second -->');
    expect(readdirSync(folder)).toEqual(['new.html']);
  });

  it('is not put over anything else, nor where it cannot be written; known before the replay', () => {
    const notes = file('notes.html');
    writeFileSync(notes, '<!doctype html><title>my notes</title>');
    expect(() => new ReportFile(notes)).toThrow(/notes.html: exists and is not a report of pcache; remove it/);
    expect(readFileSync(notes, 'utf8')).toContain('my notes');
    const empty = file('empty.html');
    writeFileSync(empty, '');
    expect(() => new ReportFile(empty)).toThrow(/not a report/);
    expect(() => new ReportFile(folder)).toThrow(/not a regular file/);
    expect(() => new ReportFile('/dev/null')).toThrow(/not a regular file/);
    expect(() => new ReportFile(file('missing/a.html'))).toThrow(/no such file/);
    expect(() => new ReportFile('/proc/a.html')).toThrow(/a.html/);
  });

  it('keeps a symbolic link, and leaves nothing behind when it fails', () => {
    const inner = file('inner');
    mkdirSync(inner);
    new ReportFile(join(inner, 'a.html')).save(pageOf(result));
    const link = file('link.html');
    symlinkSync(join(inner, 'a.html'), link);
    new ReportFile(link).save(`${pageOf(result)}<!-- through the link -->`);
    expect(readFileSync(join(inner, 'a.html'), 'utf8')).toContain('<!-- through the link -->');
    const gone = new ReportFile(join(inner, 'b.html'));
    rmSync(inner, { recursive: true });
    expect(() => gone.save('x')).toThrow(/b.html: no such file/);
    chmodSync(folder, 0o755);
    expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });
});
