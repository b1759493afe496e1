/** `pcache replay --simulate` and `--lockstep` as a user runs them. */
import { createReadStream, createWriteStream, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createGunzip } from 'node:zlib';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ReplayResult } from '../../src/replay/replay-result.js';
import { runCli, type CliOptions } from '../support/cli.js';
import { casesOf } from '../support/long.js';

const traces = fileURLToPath(new URL('../../fixtures/traces/', import.meta.url));
const PGBENCH = join(traces, 'pgbench.blktrace');
const EXT4 = join(traces, 'ext4-sqlite-git.blktrace');

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-simulate-test-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const pcache = (args: string[], options: CliOptions = {}) =>
  runCli(['replay', ...args], { ...options, env: { TMPDIR: folder, ...options.env } });

async function json(args: string[], options?: CliOptions): Promise<ReplayResult> {
  const run = await pcache([...args, '--json'], options);
  expect(run.stderr).toBe('');
  expect(run.status).toBe(0);
  return JSON.parse(run.stdout) as ReplayResult;
}

/** What is told of the same run whatever it ran on. */
function counted(result: ReplayResult) {
  const { simulated: _s, elapsedNs: _e, requestsPerSecond: _r, bytesPerSecond: _b, verify: _v, ...rest } = result;
  const { cache: _c, backing: _k, durability: _d, ...devices } = result.devices;
  return { ...rest, devices };
}

describe('replay --simulate', { timeout: 120_000 }, () => {
  it.each(casesOf([[PGBENCH], [EXT4]], 1))('%s: finds what a replay in lockstep finds, byte by byte', async (trace) => {
    const args = [trace, '--cache-size', '512MiB', '--gc-percent', '20', '--loop', '3'];
    const real = await json([...args, '--lockstep', '--verify']);
    const simulated = await json([...args, '--simulate']);
    expect(real.verify!.mismatchCount).toBe(0);
    expect(real).toMatchObject({ simulated: false, lockstep: true, latency: null, interrupted: false });
    expect(simulated).toMatchObject({ simulated: true, lockstep: true, latency: null, verify: null, model: null });
    expect(simulated.devices.durability).toBeNull();
    expect(counted(simulated)).toEqual(counted(real));
    expect(simulated.requests.total).toBe(3 * (trace === PGBENCH ? 15_414 : 1272));
    expect(readdirSync(folder)).toEqual([]);
  });

  it('says in tables that it was a simulation', async () => {
    const run = await pcache([EXT4, '--simulate']);
    expect(run.status).toBe(0);
    expect(run.stderr).toBe('');
    expect(run.stdout).toMatch(/simulated in/);
    expect(run.stdout).toMatch(/simulation speed/);
    expect(run.stdout).not.toMatch(/p99/);
  });

  it('takes standard input as it comes when it knows the backing device’s size', async () => {
    const file = join(folder, 'one');
    await pipeline(createReadStream(`${EXT4}.0.gz`), createGunzip(), createWriteStream(file));
    const known = await json([file, '--simulate', '--cache-size', '512MiB']);
    const size = String(known.devices.backingBytes);
    const piped = await json(['-', '--simulate', '--cache-size', '512MiB', '--backing-size', size], {
      stdinFrom: file,
    });
    const { uniqueBytes: _u, name: _n, ...trace } = known.trace;
    expect(counted(piped)).toEqual({ ...counted(known), trace: { ...trace, name: '-' } });
    const small = await pcache(['-', '--simulate', '--backing-size', '1MiB', '--json'], { stdinFrom: file });
    expect(small.stderr).toMatch(/^pcache: request at byte [^\n]+ the device ends at byte 1048576\n$/);
    expect(small.status).toBe(8);
    rmSync(file);
  });

  it('--model tells latencies with the cache and without', async () => {
    const run = await pcache([EXT4, '--simulate', '--model', 'hdd', '--backing-depth', '2']);
    expect(run.status).toBe(0);
    for (const part of ['Expected latency', 'without cache: read', 'backing device', 'busy', 'p99.99']) {
      expect(run.stdout).toContain(part);
    }
    const bench = join(folder, 'bench.json');
    const engine = { nsPerRequest: 900 };
    writeFileSync(
      bench,
      JSON.stringify({ pattern: 'randread', blockBytes: 4096, engine, limit: { nsPerRequest: 400 } }),
    );
    const args = [EXT4, '--simulate', '--model', 'nvme', '--pmem-bench', bench, '--pmem-write-ns', '123'];
    const result = await json([...args, '--backing-read-us', '500']);
    expect(result).toMatchObject({ simulated: true, lockstep: false });
    expect(result.model!.pmem).toMatchObject({ readNs: 500, readBytesPerSecond: 10_240_000_000, writeNs: 123 });
    expect(result.latency!.readMiss.p50Ns).toBeGreaterThan(500_000);
    expect(result.latencyWithoutCache!.read.count).toBe(178);
    expect(result.elapsedNs).toBeLessThan(result.trace.durationNs);
    rmSync(bench);
  });

  it.each([
    [['--simulate', '--speed', 'realtime'], /--model/],
    [['--model', 'hdd'], /simulate/],
    [['--backing-size', '4GiB'], /simulate/],
    [['--simulate', '--model', 'tape'], /model/],
    [['--simulate', '--backing-depth', '2'], /model/],
    [['--simulate', '--model', 'hdd', '--backing-depth', '1000000'], /4096/],
    [['--simulate', '--verify'], /verify/],
    [['--simulate', '--cache-size', '1MiB'], /512 MiB/],
    [['--simulate', '--backing-size', '4GiB', '--loop', '2'], /--loop/],
    [['--lockstep', '--speed', '4x'], /--lockstep/],
    [['--simulate', '--model', 'hdd', '--backing-short-seek-us', '12001'], /average seek, 12000/],
    [['--simulate', '--model', 'hdd', '--pmem-bench', '/nonexistent'], /nonexistent/],
  ])('refuses %j in one line', async (flags, message) => {
    const run = await pcache([EXT4, ...flags]);
    expect(run.stdout).toBe('');
    expect(run.stderr).toMatch(/^pcache: [^\n]+\n(Try '[^\n]+'\.\n)?$/);
    expect(run.stderr).toMatch(message);
    expect([8, 16]).toContain(run.status);
  });

  it('stops at an interrupt with what it has', async () => {
    const file = join(folder, 'endless');
    await pipeline(createReadStream(`${PGBENCH}.0.gz`), createGunzip(), createWriteStream(file));
    // So many passes would take hours. The copy of standard input is there once the command listens.
    const run = await pcache(['-', '--simulate', '--loop', '100000', '--json'], {
      stdinFrom: file,
      onStart: (child) => {
        const timer = setInterval(() => {
          if (!readdirSync(folder).some((name) => name.startsWith('pcache-trace-'))) return;
          clearInterval(timer);
          setTimeout(() => child.kill('SIGINT'), 700);
        }, 20);
      },
    });
    expect(run.status).toBe(130);
    const result = JSON.parse(run.stdout) as ReplayResult;
    expect(result.interrupted).toBe(true);
    expect(result.requests.total).toBeLessThan(15_414 * 100_000);
  });
});
