/** `pcache replay --sizes` and `--curve` as a user runs them, on the recordings in `fixtures/traces`. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LruPoint } from '../../src/curve/lru-curve.js';
import type { CurveResult } from '../../src/curve/result.js';
import type { ReplayResult } from '../../src/replay/replay-result.js';
import { runCli, type CliOptions } from '../support/cli.js';

const traces = fileURLToPath(new URL('../../fixtures/traces/', import.meta.url));
const PGBENCH = join(traces, 'pgbench.blktrace');
const EXT4 = join(traces, 'ext4-sqlite-git.blktrace');
const MIB = 2 ** 20;

let folder: string;
let temporary: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-curve-test-'));
  temporary = join(folder, 'tmp');
  mkdirSync(temporary);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const pcache = (args: string[], options: CliOptions = {}) =>
  runCli(args, { ...options, env: { TMPDIR: temporary, ...options.env } });

async function json<Result>(args: string[], options?: CliOptions): Promise<Result> {
  const run = await pcache(['replay', '--json', ...args], options);
  expect(run.stderr).toBe('');
  expect(run.status).toBe(0);
  return JSON.parse(run.stdout) as Result;
}

const lruAt = ({ lru }: CurveResult, bytes: number): LruPoint =>
  lru!.points.find(({ cacheBytes }) => cacheBytes === bytes)!;

describe('replay --sizes', { timeout: 120_000 }, () => {
  it('gives for each size what a simulation of that size alone gives', async () => {
    const flags = ['--loop', '6', '--gc-percent', '10', '--data-crc'];
    const { curve, requests, threads } = await json<CurveResult>([PGBENCH, '--sizes', '512MiB,1GiB', ...flags]);
    expect(curve.map((point) => point.cacheBytes)).toEqual([512 * MIB, 1024 * MIB]);
    expect(threads).toBeGreaterThanOrEqual(1);
    for (const point of curve) {
      const alone = await json<ReplayResult>([PGBENCH, '--simulate', '--cache-size', `${point.cacheBytes}`, ...flags]);
      expect(requests).toMatchObject({ total: alone.requests.total, reads: 6 * 1624, writes: 6 * 10_216 });
      expect(point).toMatchObject({
        segments: alone.devices.segments,
        hitRatioByRequests: alone.requests.hitRatioByRequests,
        hitRatioByBytes: alone.requests.hitRatioByBytes,
        missRatioByRequests: 1 - alone.requests.hitRatioByRequests!,
        backingWriteBytes: alone.writeback.bytes,
        writeAmplification: alone.writeback.bytes / alone.requests.writeBytes,
        dirtyPeakBytes: alone.timeline.dirtyPeakBytes,
        gcSegmentsFreed: alone.gc.segmentsFreed,
        segmentsPeak: alone.segments.usedPeak,
        waitedForRoom: alone.requests.waitedForRoom,
        holdsAll: false,
      });
      expect(point.gcSegmentsFreed).toBeGreaterThan(0);
      expect(point.dataBytes).toBe(point.segments * 16_764_928);
    }
    expect(curve[1].hitRatioByRequests).toBeGreaterThan(curve[0].hitRatioByRequests!);
  });

  it('expects latencies with a model of the devices, as a simulation of that size alone does', async () => {
    const flags = ['--simulate', '--model', 'sata-ssd', '--backing-depth', '2', '--speed', '4x', '--limit', '3000'];
    const { curve, withoutCache } = await json<CurveResult>([PGBENCH, '--sizes', '512MiB', '--lru', 'none', ...flags]);
    const alone = await json<ReplayResult>([PGBENCH, '--cache-size', '512MiB', ...flags]);
    expect(curve[0].latency).toEqual(alone.latency);
    expect(curve[0].backingBusy).toBe(alone.model!.backingBusy);
    expect(curve[0].dirtyPeakBytes).toBe(alone.timeline.dirtyPeakBytes);
    expect(withoutCache).toEqual({
      model: { pmem: alone.model!.pmem, backing: alone.model!.backing },
      latency: alone.latencyWithoutCache,
      backingBusy: alone.model!.backingBusyWithoutCache,
    });
  });

  it('counts what goes past the cache as written to the backing device', async () => {
    const through = await json<CurveResult>([EXT4, '--sizes', '512MiB', '--lru', 'none', '--mode', 'writethrough']);
    expect(through.curve[0].holdsAll).toBe(true);
    expect(through.curve[0].writeAmplification).toBeGreaterThan(0.95);
    expect(through.curve[0].writeAmplification).toBeLessThanOrEqual(1);
    const around = await json<CurveResult>([EXT4, '--sizes', '512MiB', '--lru', 'none', '--mode', 'writearound']);
    expect(around.curve[0].writeAmplification).toBe(1);
    expect(around.curve[0].hitRatioByRequests).toBeLessThan(through.curve[0].hitRatioByRequests!);
    expect(around.lru).toBeNull();
  });
});

describe('replay --curve', { timeout: 120_000 }, () => {
  it('chooses sizes; where all fits dm-pcache hits what LRU hits', async () => {
    const result = await json<CurveResult>([EXT4, '--curve']);
    expect(result.curve.map((point) => point.cacheBytes)).toEqual([512 * MIB, 1024 * MIB]);
    expect(result.trace).toMatchObject({ name: EXT4, loops: 1 });
    for (const point of result.curve) {
      expect(point.holdsAll).toBe(true);
      const { reads } = lruAt(result, point.dataBytes);
      expect(point.hitRatioByRequests).toBeGreaterThan(0.5);
      expect(reads).toEqual({
        byRequests: { ratio: point.hitRatioByRequests, error: 0 },
        byBytes: { ratio: point.hitRatioByBytes, error: 0 },
      });
    }
    expect(result.lru).toMatchObject({ method: 'exact', sampling: null, reads: 178, writes: 1083 });
    expect(result.lru!.uniqueBlocks * 4096).toBe(result.trace.uniqueBytes);
    expect(lruAt(result, 4 * MIB).reads.byBytes!.ratio).toBeLessThan(0.05);
  });

  it('shows the table, the LRU curve and the chart, and nothing on standard error', async () => {
    const run = await pcache(['replay', EXT4, '--curve']);
    expect(run.stderr).toBe('');
    expect(run.status).toBe(0);
    expect(run.stdout).toMatch(/^ +512 MiB +495\.6 MiB +69\.7% +69\.7% +97\.8% +97\.8% /m);
    expect(run.stdout).toContain('smallest size already holds the whole trace');
    expect(run.stdout).toMatch(/^ +64 MiB +69\.7% +97\.8% +28\.1% +42\.0%$/m);
    expect(run.stdout).toMatch(/100% ┤ +·+●/);
  });

  it('compares other policies with LRU when asked to, and says the working set', async () => {
    const run = await pcache(['replay', EXT4, '--sizes', '512MiB', '--policy', 'sieve,fifo']);
    expect(run.stdout).toMatch(/^ +size +dm-pcache +LRU +SIEVE +FIFO$/m);
    expect(run.stdout).toMatch(
      /^ +working set: +by second: median [\d.]+ [KM]iB, at most [\d.]+ [KM]iB \(in second \d+ of \d+\)$/m,
    );
    const { policies, lru, answers, trace } = await json<CurveResult>([
      EXT4,
      '--sizes',
      '512MiB',
      '--policy',
      's3-fifo,fifo',
    ]);
    expect(policies.map(({ policy }) => policy)).toEqual(['s3-fifo', 'fifo']);
    for (const { points, references, uniqueBlocks } of policies) {
      expect({ references, uniqueBlocks }).toEqual({ references: lru!.references, uniqueBlocks: lru!.uniqueBlocks });
      // Where everything fits, all policies miss each block once.
      expect(points.at(-1)!.missedReferences).toBe(uniqueBlocks);
      expect(points.at(-1)!.reads).toEqual(lru!.points.at(-1)!.reads);
      for (const { cacheBytes } of points) expect(lruAt({ lru } as CurveResult, cacheBytes)).toBeDefined();
    }
    const { workingSet } = answers;
    expect(workingSet!.byIntervalBytes).toHaveLength(Math.floor(trace.durationNs / 1e9) + 1);
    expect(workingSet!.maxBytes).toBeLessThanOrEqual(trace.uniqueBytes!);
  });

  it('samples when asked to, and is near', async () => {
    const exact = await json<CurveResult>([EXT4, '--curve']);
    const sampled = await json<CurveResult>([EXT4, '--curve', '--lru', '60%', '--limit', '5000']);
    expect(sampled.lru).toMatchObject({ method: 'sampled', sampling: { kind: 'fixed-rate', samples: 8 } });
    expect(sampled.lru!.sampling!.rate).toBeCloseTo(0.6, 3);
    const [{ dataBytes }] = exact.curve;
    const { ratio, error } = lruAt(sampled, dataBytes).reads.byBytes!;
    expect(error).toBeGreaterThan(0);
    expect(Math.abs(ratio - lruAt(exact, dataBytes).reads.byBytes!.ratio)).toBeLessThan(0.02);
  });

  it('takes standard input, a limit, and does without the native helper', async () => {
    const file = join(folder, 'one.blktrace');
    writeFileSync(file, gunzipSync(readFileSync(`${EXT4}.0.gz`)));
    const flags = ['--sizes', '512MiB', '--limit', '300'];
    const whole = await json<CurveResult>([file, ...flags]);
    const piped = await json<CurveResult>(['-', ...flags], { stdinFrom: file, env: { PCACHE_NATIVE: 'off' } });
    expect(piped.trace.name).toBe('-');
    expect(piped.requests).toEqual(whole.requests);
    expect(piped.requests!.total).toBe(300);
    expect(piped.lru).toEqual(whole.lru);
    expect({ ...piped.curve[0], elapsedNs: 0 }).toEqual({ ...whole.curve[0], elapsedNs: 0 });
    expect(piped.lru!.reads + piped.lru!.writes + piped.requests!.flushes).toBe(300);
    expect(readdirSync(temporary)).toEqual([]);
  });

  it('stops all threads at an interrupt: what was done is the result, exit 130', async () => {
    const file = join(folder, 'endless.blktrace');
    writeFileSync(file, gunzipSync(readFileSync(`${PGBENCH}.0.gz`)));
    // So many passes would take hours. The copy of standard input is there once the command listens.
    const run = await pcache(['replay', '-', '--curve', '--loop', '100000', '--json'], {
      stdinFrom: file,
      onStart: (child) => {
        const timer = setInterval(() => {
          if (readdirSync(temporary).length === 0) return;
          clearInterval(timer);
          setTimeout(() => child.kill('SIGINT'), 700);
        }, 20);
      },
    });
    expect(run.status).toBe(130);
    expect(JSON.parse(run.stdout) as CurveResult).toMatchObject({ interrupted: true, curve: [], lru: null });
    expect(run.stderr).toBe('pcache: interrupted: stopping; interrupt again to exit at once\n');
    expect(readdirSync(temporary)).toEqual([]);
  });
});

describe('replay --sizes refuses in one line', () => {
  it.each([
    [['--sizes', '1GiB,512MiB'], /512 MiB follows 1 GiB; list each size once, in ascending order/],
    [['--sizes', '512MiB,512MiB'], /512 MiB follows 512 MiB/],
    [['--sizes', '256MiB,512MiB'], /256 MiB is too small; a cache needs at least 512 MiB/],
    [['--sizes', '512MiB,'], /'' is not a size/],
    [['--sizes', 'much'], /'much' is not a size/],
    [['--sizes', '1GiB', '--curve'], /--curve/],
    [['--curve', '--cache', 'x', '--backing', 'y'], /--cache/],
    [['--curve', '--cache-size', '1GiB'], /--cache-size/],
    [['--curve', '--speed', '2x'], /give --model/],
    [['--curve', '--lru', '101%'], /'101%' is not a method for the LRU curve/],
    [['--curve', '--lru', '0%'], /'0%' is not a method/],
    [['--lru', 'exact'], /--sizes, --curve/],
    [['--policy', 'fifo'], /--sizes, --curve/],
    [['--curve', '--policy', 'fifo,clock'], /'clock' is not a policy; give fifo, s3-fifo, sieve/],
  ])('%j', async (flags, message) => {
    const run = await pcache(['replay', EXT4, ...flags]);
    expect(run.stderr).toMatch(/^pcache: [^\n]+\nTry 'pcache replay --help'\.\n$/);
    expect(run.stderr).toMatch(message);
    expect({ status: run.status, stdout: run.stdout }).toEqual({ status: 16, stdout: '' });
  });
});
