/** `pcache bench` as a user runs it. What it measures is not judged here: times are not for tests. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CheckBenchResult } from '../../src/bench/fsck-bench.js';
import type { JobsBenchResult } from '../../src/bench/jobs-bench.js';
import type { RecoveryBenchResult } from '../../src/bench/recovery-bench.js';
import type { RequestBenchResult } from '../../src/bench/requests.js';
import type { WritebackBenchResult } from '../../src/bench/writeback-bench.js';
import { makeDevices } from '../nbd/attached.js';
import { runCli } from '../support/cli.js';
import { casesOf } from '../support/long.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-bench-test-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const bench = (...args: string[]) => runCli(['bench', ...args], { env: { TMPDIR: folder } });

async function benchJson<T>(...args: string[]): Promise<T> {
  const run = await bench(...args, '--json');
  expect(run.stderr).toBe('');
  expect(run.status).toBe(0);
  return JSON.parse(run.stdout) as T;
}

const SMALL = ['--cache-size', '512MiB', '--seconds', '1'];

describe('bench', { timeout: 60_000 }, () => {
  const MIXES: readonly [string, string, string, string[]][] = [
    ['randwrite', '4k', '1', ['--data-crc', '--fua', '4']],
    ['randread', '4k', '32', []],
    ['randwrite', '4k', '32', []],
    ['read', '64k', '1', []],
    ['write', '512', '32', []],
    ['zipf', '4k', '8', []],
  ];
  it.each(casesOf(MIXES, 2))(
    'measures %s of %s at depth %s beside the limit of the device',
    async (pattern, bs, depth, more) => {
      const result = await benchJson<RequestBenchResult>(
        '--pattern',
        pattern,
        '--bs',
        bs,
        '--depth',
        depth,
        ...SMALL,
        ...more,
      );
      expect(result).toMatchObject({ pattern, depth: Number(depth), durability: 'volatile' });
      expect(result.rounds).toBeGreaterThanOrEqual(5);
      expect(result.requests).toBeGreaterThan(1000);
      const { median, min, max } = result.ratio;
      expect(min).toBeGreaterThan(0);
      expect(median).toBeGreaterThanOrEqual(min);
      expect(max).toBeGreaterThanOrEqual(median);
      expect(result.quietest.rounds).toBe(Math.ceil(result.rounds / 5));
      expect(result.quietest.ratio.min).toBeGreaterThanOrEqual(min);
      expect(result.quietest.ratio.max).toBeLessThanOrEqual(max);
      expect(result.quietest.slowdown.min).toBe(1);
      expect(result.quietest.slowdownOfAll.max).toBeGreaterThanOrEqual(result.quietest.slowdown.max);
      expect(result.engine.latency.p99Ns).toBeGreaterThanOrEqual(result.engine.latency.p50Ns);
      expect(result.index.keys).toBeGreaterThan(1000);
      expect(readdirSync(folder)).toEqual([]);
    },
  );

  it('models more jobs than there are processors, and what they share', async () => {
    const one = await benchJson<JobsBenchResult>('jobs', '--jobs', '1,4', '--depth', '1', '--cache-size', '512MiB');
    expect(one.steps.map(({ jobs }) => jobs)).toEqual([1, 4]);
    const [alone, four] = one.steps;
    expect([alone.times, alone.transfersPerRequest, alone.lockWaitShare]).toEqual([1, 0, 0]);
    expect(four.times).toBeGreaterThan(2);
    expect(four.lockHeldShare).toBeGreaterThan(alone.lockHeldShare);
    // Two lines for each kset of 128 keys, the lock's and that of the log's head, and a few for a new segment.
    expect(four.transfersPerRequest).toBeGreaterThan(1 / 128);
    expect(four.transfersPerRequest).toBeLessThan(3 / 128);
    // Each write takes the lock for its kset.
    const fua = ['jobs', '--jobs', '8,16', '--depth', '1', '--fua', '1', '--cache-size', '1GiB'];
    const { steps, scalesTo, lockCeiling } = await benchJson<JobsBenchResult>(...fua);
    expect(scalesTo).toBe(8);
    expect(steps[1].lockHeldShare).toBeGreaterThan(0.9);
    expect(steps[1].requestsPerSecond).toBeLessThan(1.05 * lockCeiling!);
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each([
    [['--jobs', '4,2'], 16, /--jobs '4,2': give numbers from 1 to 64 in ascending order/],
    [['--jobs', '0'], 16, /--jobs '0': give numbers/],
    [
      ['--jobs', '64', '--cache-size', '512MiB'],
      8,
      /64 jobs: the cache is too small for them; use a larger --cache-size/,
    ],
    [['--jobs', '2', '--span', '4k'], 16, /2 jobs: --span is too small for them/],
  ])('refuses to model %j', async (args, status, message) => {
    const run = await bench('jobs', ...args);
    expect([run.status, run.stdout]).toEqual([status, '']);
    expect(run.stderr).toMatch(message);
    expect(readdirSync(folder)).toEqual([]);
  });

  const MIXES_OF_JOBS: readonly [string, string, string[]][] = [
    ['randwrite', '2', ['--fua', '8']],
    ['mixed', '3', ['--data-crc', '--depth', '1']],
    ['read', '2', ['--bs', '64k']],
  ];
  it.each(casesOf(MIXES_OF_JOBS, 1))('measures %s of %s jobs at once', async (pattern, jobs, more) => {
    const run = await bench('--pattern', pattern, '--jobs', jobs, ...SMALL, ...more, '--json');
    expect(run.status).toBe(0);
    if (Number(jobs) > availableParallelism()) expect(run.stderr).toMatch(/^pcache: --jobs \d exceeds .*\n$/);
    else expect(run.stderr).toBe('');
    const result = JSON.parse(run.stdout) as RequestBenchResult;
    expect(result).toMatchObject({ pattern, jobs: Number(jobs), durability: 'volatile' });
    expect(result.rounds).toBeGreaterThanOrEqual(5);
    expect(result.requests % (result.rounds * Number(jobs))).toBe(0);
    expect(result.engine.requestsPerSecond).toBeGreaterThan(1000);
    expect(result.limit.requestsPerSecond).toBeGreaterThan(1000);
    expect(result.ratio.min).toBeGreaterThan(0);
    expect(result.engine.latency.p50Ns).toBeGreaterThan(0);
    expect(result.index.keys).toBeGreaterThan(1000);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('run with several jobs on the user’s devices leaves a cache like any other', async () => {
    const { cache, backing } = await makeDevices(folder);
    const run = await bench(cache, backing, '--jobs', '2', '--seconds', '1', '--json');
    expect(JSON.parse(run.stdout)).toMatchObject({ cache, jobs: 2 });
    expect((await runCli(['fsck', cache, backing])).status).toBe(0);
    rmSync(cache);
    rmSync(backing);
  });

  it('refuses more jobs than there is room for', async () => {
    const tooFew = await bench('--jobs', '3', '--span', '8MiB', ...SMALL);
    expect(tooFew.status).toBe(16);
    expect(tooFew.stderr).toMatch(/--jobs 3: --span holds fewer blocks than there are jobs/);
    const tooMany = await bench('--jobs', '65');
    expect(tooMany.status).toBe(16);
  });

  it('shows tables', async () => {
    const run = await bench(...SMALL);
    expect(run.stderr).toBe('');
    for (const part of ['engine', 'limit', 'ratio', 'quietest', 'plain loop', 'p99.9', 'bytes per key'])
      expect(run.stdout).toContain(part);
  });

  it('uses the user’s devices', async () => {
    const { cache, backing } = await makeDevices(folder);
    const result = await benchJson<RequestBenchResult>(cache, backing, '--seconds', '1');
    expect(result.cache).toBe(cache);
    expect((await runCli(['fsck', cache, backing])).status).toBe(0);
    rmSync(cache);
    rmSync(backing);
  });

  it('measures recovery, fsck, write-back and CRC', async () => {
    const few = ['--cache-size', '512MiB', '--keys', '20000', '--rounds', '2'];
    const recovery = await benchJson<RecoveryBenchResult>('recovery', ...few);
    expect(recovery).toMatchObject({ keys: 20_000, rounds: 2, index: { entries: 20_000 } });
    const check = await benchJson<CheckBenchResult>('fsck', ...few);
    expect(check).toMatchObject({ keys: 20_000, payloadBytes: 20_000 * 4096, clean: true });
    const writeback = await benchJson<WritebackBenchResult>('writeback', ...few);
    expect(writeback).toMatchObject({ keys: 20_000, writes: expect.any(Number) as number });
    expect(writeback.writes).toBeGreaterThan(0);
    const modelled = await bench('writeback', '--model', 'hdd', '--keys', '1000');
    expect(modelled.stdout).toMatch(/one sweep \(bound\) .* 1\.00 /);
    const crc = await bench('crc');
    expect(crc.stdout).toContain('tables');
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each([
    [['--bs', '1000'], 16, '--bs 1000: must be a multiple of 512'],
    [['--bs', '8MiB'], 16, 'up to 4194304'],
    [['--span', '100'], 16, 'smaller than one block'],
    [['--pattern', 'backwards'], 16, 'backwards'],
    [['cache.img'], 16, 'CACHE and BACKING must be given together'],
    [['--cache-size', '1MiB'], 8, 'too few for a cache'],
    [['recovery', '--keys', '10000000'], 16, 'use a larger --cache-size'],
    [['writeback', '--model', 'hdd', '--rounds', '2'], 16, 'rounds'],
    [['writeback', '--model', 'tape'], 16, 'tape'],
    [['recovery', '--keys', '1000', '--span', '1MiB'], 16, 'holds fewer blocks of 4096 bytes'],
  ])('%j is refused', async (args, status, message) => {
    const run = await bench(...args);
    expect(run.stderr.split('\n')[0]).toContain(message);
    expect(run.status).toBe(status);
  });
});
