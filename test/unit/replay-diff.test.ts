/** Two saved results side by side: what is compared, what is said to differ, and what is no result. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { renderDiff } from '../../src/output/diff-report.js';
import { diffResults, type DiffRow, type ReplayDiff } from '../../src/replay/diff.js';

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

const compare = (a: unknown, b: unknown): ReplayDiff => diffResults(saved(a), saved(b));
const rowOf = (diff: ReplayDiff, name: string): DiffRow | undefined =>
  diff.sections.flatMap(({ rows }) => rows).find((row) => row.name === name);
const rendered = (diff: ReplayDiff): string => renderDiff(diff, (title) => title);

it('two equal results have no difference', () => {
  const diff = compare(result(), result());
  expect(diff).toMatchObject({ setup: [], notes: [] });
  const rows = diff.sections.flatMap(({ rows }) => rows);
  expect(rows.length).toBeGreaterThan(20);
  for (const { difference } of rows) expect(difference).toBe(0);
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
    a: 5,
    b: 8,
    difference: 3,
    percent: 60,
  });
  expect(rowOf(diff, 'hit ratio')).toMatchObject({ a: 0.5, b: 0.8, percent: null });
  expect(rowOf(diff, 'written back')).toMatchObject({ a: 40_960, b: 20_480, difference: -20_480, percent: -50 });
  expect(rowOf(diff, 'written back / bytes written')).toMatchObject({ a: 0.5, b: 0.25, difference: -0.25 });
  expect(rowOf(diff, 'write p99')).toMatchObject({ a: 2000, b: 3000, difference: 1000, percent: 50 });
  // What one result does not have is no zero, nor are percentiles of nothing.
  expect(rowOf(diff, 'write p50')).toMatchObject({ a: 900, b: null, difference: null, percent: null });
  expect(rowOf(diff, 'stalled requests')).toMatchObject({ a: null, b: 3, difference: null });
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
    { name: 'trace', unit: null, a: 'a.blktrace', b: 'b.blktrace' },
    { name: 'cache size', unit: 'bytes', a: 2 ** 29, b: 2 ** 30 },
    { name: 'segments', unit: 'count', a: 31, b: 63 },
    { name: 'data_crc', unit: null, a: false, b: true },
    { name: 'gc_percent', unit: 'count', a: 70, b: 10 },
  ]);
  expect(diff.notes).toEqual([]);
  expect(rendered(diff)).toMatch(/\n  cache size +512 MiB +1 GiB\n(?:.*\n)*  data_crc +no +yes\n/);
});

it('says when two results are hardly comparable', () => {
  const other = { ...result(), simulated: true, interrupted: true };
  other.trace['endBytes'] = 8192;
  const diff = compare(result(), other);
  expect(diff.notes).toEqual([
    `${diff.b} comes from an interrupted run`,
    'the two runs did not replay the same requests',
    'one run was simulated: their times are not comparable',
  ]);
  const shorter = result();
  shorter.requests['total'] = 10;
  expect(compare(result(), shorter).notes).toEqual(['the two runs did not replay the same requests']);
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
        diffResults(...pair);
      } catch (error) {
        expect(error).toMatchObject({ code: 'BAD_RESULT', exitStatus: 8 });
        message = (error as Error).message;
      }
      expect(message).toBe(`${wrong}: ${why}; save a result with "pcache replay TRACE --json > FILE"`);
    }
  });

  it('a missing file is named', () => {
    expect(() => diffResults(join(folder, 'missing'), saved(result()))).toThrow(
      `${join(folder, 'missing')}: no such file`,
    );
  });
});
