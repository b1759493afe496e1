/** `pcache replay` as a user runs it, on the recordings in `fixtures/traces`. */
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ReplayResult } from '../../src/replay/replay-result.js';
import { runCli, type CliOptions } from '../support/cli.js';
import { casesOf } from '../support/long.js';

const traces = fileURLToPath(new URL('../../fixtures/traces/', import.meta.url));
const PGBENCH = join(traces, 'pgbench.blktrace');
const EXT4 = join(traces, 'ext4-sqlite-git.blktrace');

/** What blkparse counts of queue events: see fixtures/traces/README.md. */
const EXPECTED = {
  [PGBENCH]: { reads: 1624, writes: 10_216, flushes: 3574, discardsSkipped: 0 },
  [EXT4]: { reads: 178, writes: 1083, flushes: 11, discardsSkipped: 22 },
};

let folder: string;
let temporary: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-replay-test-'));
  temporary = join(folder, 'tmp');
  mkdirSync(temporary);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const pcache = (args: string[], options: CliOptions = {}) =>
  runCli(args, { ...options, env: { TMPDIR: temporary, ...options.env } });

async function replayJson(args: string[], options?: CliOptions): Promise<ReplayResult> {
  const run = await pcache(['replay', '--json', ...args], options);
  expect(run.stderr).toBe('');
  expect(run.status).toBe(0);
  return JSON.parse(run.stdout) as ReplayResult;
}

function sparse(name: string, bytes: number): string {
  const path = join(folder, name);
  const fd = openSync(path, 'w');
  ftruncateSync(fd, bytes);
  closeSync(fd);
  return path;
}

async function formatted(name: string, ...flags: string[]): Promise<string> {
  const path = join(folder, name);
  rmSync(path, { force: true });
  const run = await pcache(['format', path, '--size', '512MiB', ...flags]);
  expect(run.stderr).toBe('');
  return path;
}

describe('replay', { timeout: 120_000 }, () => {
  const RUNS: readonly [string, readonly string[]][] = [
    [PGBENCH, ['--cache-size', '1GiB', '--data-crc', '--verify-reads']],
    [EXT4, ['--mode', 'writeonly']],
    [EXT4, []],
    [EXT4, ['--data-crc', '--gc-percent', '0']],
    [PGBENCH, ['--cache-size', '512MiB']],
    [PGBENCH, ['--mode', 'writethrough']],
    [PGBENCH, ['--mode', 'writearound', '--data-crc']],
  ];
  it.each(casesOf(RUNS, 1))('%s %j: replays what blkparse counts and verifies every byte', async (trace, flags) => {
    const result = await replayJson([trace, '--verify', ...flags]);
    expect(result.requests).toMatchObject(EXPECTED[trace]);
    expect(result.verify).toMatchObject({ mismatchCount: 0, backingSectorsChecked: result.devices.backingBytes / 512 });
    expect(result.verify!.readSectorsChecked).toBe(result.requests.readBytes / 512);
    expect(result.dirtyLeft).toEqual({ keys: 0, bytes: 0 });
    expect(result.latency!.write.count).toBe(EXPECTED[trace].writes);
    expect(result.latency!.readHit.count + result.latency!.readMiss.count).toBe(EXPECTED[trace].reads);
    expect(result.segments.overTime.length).toBeGreaterThan(2);
    expect(readdirSync(temporary)).toEqual([]);
  });

  it('shows the report as tables, and nothing on standard error', async () => {
    const run = await pcache(['replay', EXT4, '--verify']);
    expect(run.stderr).toBe('');
    expect(run.status).toBe(0);
    for (const part of [
      'hit ratio',
      'p99.99',
      'read miss',
      'write-back',
      'segments freed',
      'in use over time',
      'discards (skipped)',
    ]) {
      expect(run.stdout).toContain(part);
    }
    expect(run.stdout).toMatch(/mismatches +0\n/);
    expect(run.stdout).toMatch(/[▁▂▃▄▅▆▇█]{10}/);
  });

  it('uses the user’s devices, which then fsck and go on', async () => {
    const cache = await formatted('own.cache', '--data-crc');
    const backing = sparse('own.back', 3 * 2 ** 30);
    const args = [PGBENCH, '--cache', cache, '--backing', backing];
    const first = await replayJson([...args, '--verify', '--limit', '5000']);
    expect(first.requests.total).toBe(5000);
    expect(first.verify!.mismatchCount).toBe(0);
    const again = await replayJson([...args]);
    expect(again.segments.usedAtStart).toBeGreaterThan(1);
    const fsck = await pcache(['fsck', cache, backing]);
    expect(fsck.stdout).toContain('clean');
    expect(fsck.status).toBe(0);
  });

  it('reads the trace from standard input', async () => {
    const file = join(folder, 'one.blktrace');
    writeFileSync(file, gunzipSync(readFileSync(`${EXT4}.0.gz`)));
    const one = await replayJson([file]);
    const piped = await replayJson(['-'], { stdinFrom: file });
    expect(piped.requests).toMatchObject({ reads: one.requests.reads, writes: one.requests.writes });
    expect(readdirSync(temporary)).toEqual([]);
  });

  it('keeps to the pace it is given', async () => {
    const result = await replayJson([EXT4, '--speed', '20x']);
    expect(result.elapsedNs).toBeGreaterThan((result.trace.durationNs / 20) * 0.99);
    expect(result.maxLagNs).not.toBeNull();
  });

  it('stops at an interrupt: consistent, reported, exit 130, nothing left', async () => {
    const cache = await formatted('stopped.cache');
    const backing = sparse('stopped.back', 3 * 2 ** 30);
    let sent = false;
    // --speed realtime would take 45 s; the signal comes once the cache is open for writing.
    const running = pcache(
      ['replay', PGBENCH, '--cache', cache, '--backing', backing, '--speed', 'realtime', '--json'],
      {
        onStart: (child) => {
          const timer = setInterval(() => {
            if (sent || !readFileSync('/proc/locks', 'utf8').includes(`${child.pid}`)) return;
            sent = true;
            clearInterval(timer);
            setTimeout(() => child.kill('SIGINT'), 300);
          }, 20);
        },
      },
    );
    const run = await running;
    expect(run.status).toBe(130);
    expect((JSON.parse(run.stdout) as ReplayResult).interrupted).toBe(true);
    expect((await pcache(['fsck', cache, backing])).status).toBe(0);
  });

  it('finds what a backing device does wrong', async () => {
    const cache = await formatted('wrong.cache');
    const backing = sparse('wrong.back', 3 * 2 ** 30);
    await replayJson([EXT4, '--cache', cache, '--backing', backing, '--verify']);
    // The same replay begins its versions anew: what it left is "original" now, and must still be there.
    const again = await replayJson([EXT4, '--cache', cache, '--backing', backing, '--verify']);
    expect(again.verify!.mismatchCount).toBe(0);
  });
});

describe('replay refuses', { timeout: 60_000 }, () => {
  /** One line, and after wrong usage where to look. */
  const oneLine = /^pcache: [^\n]+\n(Try '[^\n]+'\.\n)?$/;

  it.each([
    ['a missing trace', () => join(folder, 'none'), /no such file/],
    ['a directory', () => folder, /./],
    ['an empty file', () => sparse('empty', 0), /empty/],
    ['a foreign file', () => fileURLToPath(import.meta.url), /not a known trace/],
  ] as const)('%s', async (_what, trace, message) => {
    const run = await pcache(['replay', trace()]);
    expect(run.stderr).toMatch(oneLine);
    expect(run.stderr).toMatch(message);
    expect(run.stdout).toBe('');
    expect(run.status).toBe(8);
  });

  it('a truncated trace only in part: what is whole is replayed, with a warning', async () => {
    const file = join(folder, 'cut.blktrace');
    const whole = gunzipSync(readFileSync(`${EXT4}.0.gz`));
    writeFileSync(file, whole.subarray(0, whole.length - 20));
    const run = await pcache(['replay', file, '--json']);
    expect(run.status).toBe(0);
    expect(run.stderr).toMatch(oneLine);
    expect((JSON.parse(run.stdout) as ReplayResult).trace.counts.truncated).toBe(1);
  });

  it('a cache without a backing device, a size for a cache that exists, an unknown speed', async () => {
    const cache = sparse('usage.cache', 512 * 2 ** 20);
    for (const flags of [
      ['--cache', cache],
      ['--cache', cache, '--backing', cache, '--cache-size', '1GiB'],
      ['--speed', '-3x'],
      ['--cache-size', '4'],
      ['--limit', '0'],
    ]) {
      const run = await pcache(['replay', EXT4, ...flags]);
      expect(run.stderr).not.toBe('');
      expect([8, 16]).toContain(run.status);
      expect(run.stdout).toBe('');
    }
  });

  it('a cache that is not formatted, a backing device too small, the same device twice, a filesystem', async () => {
    const blank = sparse('blank.cache', 512 * 2 ** 20);
    const cache = await formatted('good.cache');
    const large = sparse('large.back', 3 * 2 ** 30);
    const small = sparse('small.back', 2 ** 20);
    const ext4 = sparse('ext4.back', 3 * 2 ** 30);
    const fd = openSync(ext4, 'r+');
    writeFileSync(fd, Buffer.concat([Buffer.alloc(1024 + 56), Buffer.from([0x53, 0xef])]));
    closeSync(fd);
    for (const [cachePath, backingPath, message] of [
      [blank, large, /not a pcache/],
      [cache, small, /small.back.*trace reaches/],
      [cache, cache, /same device/],
      [cache, ext4, /ext4.back.*--force/],
    ] as const) {
      const run = await pcache(['replay', EXT4, '--cache', cachePath, '--backing', backingPath]);
      expect(run.stderr).toMatch(oneLine);
      expect(run.stderr).toMatch(message);
      expect([8, 16]).toContain(run.status);
    }
  });
});
