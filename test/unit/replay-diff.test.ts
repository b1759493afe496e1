/** Saved results side by side: what is compared, what is said to differ, and what is no result. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { renderDiff } from '../../src/output/diff-report.js';
import { diffResults, type DiffRow, type ReplayDiff } from '../../src/replay/diff.js';
import { loadResults } from '../../src/replay/saved-result.js';
import { comparisonPage } from '../../src/report-html/comparison.js';

const folder = mkdtempSync(join(tmpdir(), 'pcache-diff-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Result {
  [name: string]: unknown;
  requests: Record<string, number | null>;
  devices: Record<string, unknown>;
  trace: Record<string, unknown>;
}

function result(): Result {
  const latency = {
    count: 10,
    meanNs: 1000,
    p50Ns: 900,
    p90Ns: 1500,
    p99Ns: 2000,
    p999Ns: 2500,
    p9999Ns: 2500,
    maxNs: 2600,
  };
  const none = { count: 0, meanNs: 0, p50Ns: 0, p90Ns: 0, p99Ns: 0, p999Ns: 0, p9999Ns: 0, maxNs: 0 };
  return {
    simulated: false,
    lockstep: false,
    trace: { name: 'a.blktrace', action: 'queue', durationNs: 1e9, endBytes: 4096, counts: { selected: 30 } },
    devices: {
      cache: 'ephemeral',
      cacheBytes: 2 ** 29,
      segments: 31,
      mode: 'writeback',
      dataCrc: false,
      gcPercent: 70,
    },
    requests: {
      total: 30,
      reads: 10,
      readBytes: 40_960,
      readHits: 5,
      hitRatioByRequests: 0.5,
      hitRatioByBytes: 0.25,
      writes: 20,
      writeBytes: 81_920,
      flushes: 0,
    },
    latency: { readHit: latency, readMiss: none, write: latency, flush: none },
    elapsedNs: 1e8,
    writeback: { bytes: 40_960, keys: 10 },
    segments: { total: 31, usedAtEnd: 2, usedPeak: 3 },
    interrupted: false,
  };
}

let number = 0;
function saved(content: unknown): string {
  const path = join(folder, `${number++}.json`);
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

const load = (...contents: unknown[]) => loadResults(contents.map((content) => saved(content)));
const compare = (...contents: unknown[]): ReplayDiff => diffResults(load(...contents));
const rowOf = (diff: ReplayDiff, name: string): DiffRow | undefined =>
  diff.sections.flatMap(({ rows }) => rows).find((row) => row.name === name);
const rendered = (diff: ReplayDiff): string => renderDiff(diff, (title) => title);

it('two equal results have no difference', () => {
  const diff = compare(result(), result());
  expect(diff).toMatchObject({ setup: [], notes: [] });
  const rows = diff.sections.flatMap(({ rows }) => rows);
  expect(rows.length).toBeGreaterThan(20);
  for (const { differences } of rows) expect(differences).toEqual([0, 0]);
  expect(rendered(diff)).toContain('Setup\n  the same\n');
});

it('counters, ratios and percentiles are compared, with difference and percent', () => {
  const b = result();
  Object.assign(b.requests, { readHits: 8, hitRatioByRequests: 0.8, waitedForRoom: 3 });
  b['writeback'] = { bytes: 20_480, keys: 10 };
  b['latency'] = { ...(b['latency'] as object), write: { count: 10, p99Ns: 3000 } };
  const diff = compare(result(), b);
  expect(rowOf(diff, 'read hits')).toEqual({
    name: 'read hits',
    unit: 'count',
    values: [5, 8],
    differences: [0, 3],
    percents: [0, 60],
  });
  expect(rowOf(diff, 'hit ratio')).toMatchObject({ values: [0.5, 0.8], percents: [null, null] });
  expect(rowOf(diff, 'written back')).toMatchObject({
    values: [40_960, 20_480],
    differences: [0, -20_480],
    percents: [0, -50],
  });
  expect(rowOf(diff, 'written back / bytes written')).toMatchObject({
    values: [0.5, 0.25],
    differences: [0, -0.25],
  });
  expect(rowOf(diff, 'write p99')).toMatchObject({ values: [2000, 3000], differences: [0, 1000], percents: [0, 50] });
  // What one result does not have is no zero, nor are percentiles of nothing.
  expect(rowOf(diff, 'write p50')).toMatchObject({ values: [900, null], differences: [0, null], percents: [0, null] });
  expect(rowOf(diff, 'stalled requests')).toMatchObject({ values: [null, 3], differences: [null, null] });
  expect(rowOf(diff, 'read miss p50')).toBeUndefined();
  const text = rendered(diff);
  expect(text).toMatch(/\n  read hits +5 +8 +\+3 +\+60\.0%\n/);
  expect(text).toMatch(/\n  hit ratio +50\.00% +80\.00% +\+30\.00 points\n/);
  expect(text).toMatch(/\n  written back +40 KiB +20 KiB +-20 KiB +-50\.0%\n/);
  expect(text).toMatch(/\n  write p99 +2\.00 µs +3\.00 µs +\+1\.00 µs +\+50\.0%\n/);
  expect(text).toMatch(/\n  write p50 +900 ns +- +-\n/);
});

it('small differences are not rounded to none', () => {
  const big = (bytes: number): Result => {
    const one = result();
    one.requests['writeBytes'] = bytes;
    return one;
  };
  const text = rendered(compare(big(1e12), big(1e12 + 512)));
  expect(text).toMatch(/\n  bytes written +931\.3 GiB +931\.3 GiB +\+512 B +<0\.01%\n/);
  expect(rendered(compare(big(1000), big(998)))).toMatch(/ -2 B +-0\.20%\n/);
});

it('what the runs were made with is compared too', () => {
  const b = result();
  Object.assign(b.devices, { cacheBytes: 2 ** 30, segments: 63, gcPercent: 10, dataCrc: true });
  b.trace['name'] = 'b.blktrace';
  const diff = compare(result(), b);
  expect(diff.setup).toEqual([
    { name: 'trace', unit: null, values: ['a.blktrace', 'b.blktrace'] },
    { name: 'cache size', unit: 'bytes', values: [2 ** 29, 2 ** 30] },
    { name: 'segments', unit: 'count', values: [31, 63] },
    { name: 'data_crc', unit: null, values: [false, true] },
    { name: 'gc_percent', unit: 'count', values: [70, 10] },
  ]);
  expect(diff.notes).toEqual([]);
  expect(rendered(diff)).toMatch(/\n  cache size +512 MiB +1 GiB\n(?:.*\n)*  data_crc +no +yes\n/);
});

it('says when two results are hardly comparable', () => {
  const other = { ...result(), simulated: true, interrupted: true };
  other.trace['endBytes'] = 8192;
  const diff = compare(result(), other);
  expect(diff.notes).toEqual([
    `${diff.results[1]} comes from an interrupted run`,
    'the runs did not replay the same requests',
    'not all runs were simulated: their times are not comparable',
  ]);
  const shorter = result();
  shorter.requests['total'] = 10;
  expect(compare(result(), shorter).notes).toEqual(['the runs did not replay the same requests']);
});

it('models of the backing device are compared too', () => {
  const modelled = (seekNs: number) => ({ ...result(), model: { backing: { readNs: 100, seekNs, depth: 1 } } });
  expect(compare(modelled(12e6), modelled(0)).setup).toEqual([
    { name: 'modelled backing device, seek', unit: 'ns', values: [12e6, 0] },
  ]);
});

it('more than two results are compared with the first, up to eight', () => {
  const sized = (cacheBytes: number, readHits: number): Result => {
    const one = result();
    Object.assign(one.devices, { cacheBytes });
    Object.assign(one.requests, { readHits, hitRatioByRequests: readHits / 10 });
    return one;
  };
  const diff = compare(sized(2 ** 29, 5), sized(2 ** 30, 6), sized(2 ** 31, 0));
  expect(diff.setup).toEqual([{ name: 'cache size', unit: 'bytes', values: [2 ** 29, 2 ** 30, 2 ** 31] }]);
  expect(rowOf(diff, 'read hits')).toMatchObject({
    values: [5, 6, 0],
    differences: [0, 1, -5],
    percents: [0, 20, -100],
  });
  const text = rendered(diff);
  expect(text).toMatch(/\n  cache size +512 MiB +1 GiB +2 GiB\n/);
  expect(text).toMatch(/\n +A +B +B \/ A +C +C \/ A\n/);
  expect(text).toMatch(/\n  read hits +5 +6 +\+20\.0% +0 +-100%\n/);
  expect(text).toMatch(/\n  hit ratio +50\.00% +60\.00% +\+10\.00 points +0\.00% +-50\.00 points\n/);
  expect(() => compare(...Array.from({ length: 9 }, result))).toThrow(
    '--diff compares at most 8 results; 9 were given',
  );
});

describe('the page that compares results', () => {
  /** Two bins of half a second, or four of a quarter. */
  function timed(binNs: number, bins: number, more: object = {}): Result {
    const column = (value: number) => Array.from({ length: bins }, () => value);
    const latency = { requests: column(2), meanNs: column(1000 * bins), p99Ns: column(2000) };
    const none = { requests: column(0), meanNs: column(0), p99Ns: column(0) };
    return {
      ...result(),
      timeline: {
        ...{ binNs, endNs: 1e9 },
        counts: { reads: column(4), readBytes: column(4096), readMissBytes: column(1024), writeBytes: column(8192) },
        levels: { dirtyBytes: Array.from({ length: bins }, (_, n) => n) },
        latency: { readHit: latency, readMiss: none, write: latency, flush: none },
      },
      ...more,
    };
  }
  interface Shown {
    readonly id: string;
    readonly x: { readonly label: string; readonly values: number[] };
    readonly series: { readonly label: string; readonly values: number[] }[];
  }
  function shown(...contents: unknown[]): [page: string, charts: Shown[]] {
    const results = load(...contents);
    const page = comparisonPage(diffResults(results), results);
    const json = /<script type="application\/json" id="charts">(.*?)<\/script>/s.exec(page)![1];
    return [page, JSON.parse(json) as Shown[]];
  }

  it('lays their timelines over one another, in the coarser bins', () => {
    const [page, charts] = shown(timed(5e8, 2), timed(2.5e8, 4));
    const of = (id: string) => charts.find((chart) => chart.id === id)!;
    expect(of('hit-ratio').series.map(({ label, values }) => [label, values])).toEqual([
      ['A', [75, 75, 75]],
      ['B', [75, 75, 75]],
    ]);
    expect(of('throughput').x).toMatchObject({ label: 'replay time', values: [0, 5e8, 1e9] });
    expect(of('throughput').series.map(({ values }) => values[0])).toEqual([2 * 12_288, 4 * 12_288]);
    expect(of('dirty').series.map(({ values }) => values)).toEqual([
      [0, 1, 1],
      [1, 3, 3],
    ]);
    expect(of('latency-reads').series.map(({ values }) => values[1])).toEqual([2000, 4000]);
    expect(page).toContain('Comparison of 2 replays');
    expect(page).toMatch(/<th scope="row">read hits<\/th>\s*<td>5<\/td>\s*<td>5<\/td>\s*<td>=<\/td>/);
  });

  it('draws nothing over time where clocks differ or a timeline is missing, and says so', () => {
    const [page, charts] = shown(timed(5e8, 2), timed(5e8, 2, { simulated: true, lockstep: true }));
    expect(charts).toEqual([]);
    expect(page).toContain('Not drawn, because the clocks differ: A has replay time, B has trace time.');
    for (const timeline of [
      undefined,
      null,
      7,
      { binNs: 1, endNs: 1 },
      { binNs: 0, endNs: 1, counts: { reads: [1] } },
    ]) {
      const [without, none] = shown(timed(5e8, 2), { ...result(), timeline });
      expect(none).toEqual([]);
      expect(without).toContain('Not drawn, because B has no timeline');
    }
  });

  it('escapes what a file holds, and takes columns of anything but numbers for missing', () => {
    const name = '</script><img src=x onerror=alert(1)>';
    const odd = timed(5e8, 2);
    odd.trace['name'] = name;
    odd.devices['mode'] = name;
    (odd['timeline'] as { counts: object }).counts = {
      reads: [1, 1],
      readBytes: [name, {}],
      readMissBytes: 'x',
    };
    const [page, charts] = shown(odd, timed(5e8, 2));
    expect(page).not.toContain('<img');
    expect(charts.find(({ id }) => id === 'hit-ratio')!.series.map(({ label }) => label)).toEqual(['B']);
    expect(page.replace(/<script>.*?<\/script>/s, '')).not.toMatch(/NaN|undefined|Infinity/);
  });
});

describe('what is no result', () => {
  it.each<[string, unknown, string]>([
    ['no JSON', 'hello', 'not a JSON document'],
    ['nothing', '', 'not a JSON document'],
    ['a number', 7, 'not a result of "pcache replay"'],
    ['null', null, 'not a result of "pcache replay"'],
    ['a list', [1], 'not a result of "pcache replay"'],
    ['another result', { requests: 7, devices: [] }, 'not a result of "pcache replay"'],
    ['a failed run', { error: { code: 'IO', message: 'x: broke' } }, 'result of a failed run (x: broke)'],
    [
      'a curve',
      { curve: [], requests: { total: 1 } },
      'result of --sizes or --curve; only results for one size can be compared',
    ],
  ])('%s is refused in one line', (_, content, why) => {
    const wrong = saved(typeof content === 'string' ? content : JSON.stringify(content));
    for (const pair of [[wrong, saved(result())] as const, [saved(result()), wrong] as const]) {
      let message = '';
      try {
        loadResults(pair);
      } catch (error) {
        expect(error).toMatchObject({ code: 'BAD_RESULT', exitStatus: 8 });
        message = (error as Error).message;
      }
      expect(message).toBe(`${wrong}: ${why}; save a result with "pcache replay TRACE --json > FILE"`);
    }
  });

  it('a missing file is named', () => {
    expect(() => loadResults([join(folder, 'missing'), saved(result())])).toThrow(
      `${join(folder, 'missing')}: no such file`,
    );
  });
});
