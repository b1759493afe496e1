/** `pcache trace info` and `pcache trace convert` as a user runs them. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { ConvertResult, TraceInfo } from '../../src/trace/index.js';
import { PCACHE, runCli } from '../support/cli.js';
import { itLong } from '../support/long.js';

// Most tests start the program several times.
vi.setConfig({ testTimeout: 60_000 });

const traces = fileURLToPath(new URL('../../fixtures/traces/', import.meta.url));
const PGBENCH = join(traces, 'pgbench.blktrace');
const ALIBABA = '419,W,8192,16384,1577808000000046\n7,R,0,4096,1577808000000146\n419,R,8192,4096,1577808000000246\n';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-trace-cli-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

describe('trace info', () => {
  it('shows what is in a recording', async () => {
    const { status, stdout, stderr } = await runCli(['trace', 'info', PGBENCH]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^Trace\n  trace +\S+pgbench.blktrace  blktrace recording of 2 CPUs, little-endian, gzip\n/);
    expect(stdout).toMatch(/\n  requests +15,414\n/);
    expect(stdout).toMatch(/\n  reads +1,624 +10\.5% +17\.7 MiB /);
    expect(stdout).toMatch(/\n  working set +[▁▂▃▄▅▆▇█]{48}  at most  48\.3 MiB\n/);
  });

  it('gives one JSON document, from standard input too, and leaves no copy behind', async () => {
    const path = file('alibaba', ALIBABA);
    const temporary = join(folder, 'tmp');
    spawnSync('mkdir', [temporary]);
    const { status, stdout, stderr } = await runCli(['trace', 'info', '-', '--json'], {
      stdinFrom: path,
      env: { TMPDIR: temporary },
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const info = JSON.parse(stdout) as TraceInfo;
    expect(info).toMatchObject({ name: 'standard input', format: 'Alibaba CSV', requests: 3, durationNs: 200_000 });
    expect(info.devices).toEqual([
      { name: '419', requests: 2 },
      { name: '7', requests: 1 },
    ]);
    expect(readdirSync(temporary)).toEqual([]);
    const one = await runCli(['trace', 'info', path, '--device', '419', '--json']);
    expect(JSON.parse(one.stdout)).toMatchObject({ requests: 2, counts: { otherDevices: 1 } });
  });

  it('names malformed lines on standard error, and gives up after those allowed', async () => {
    const path = file('bad', `${ALIBABA}419,W,x,1,1\n`);
    const told = await runCli(['trace', 'info', path]);
    expect(told).toMatchObject({
      status: 0,
      stderr: `pcache: ${path}: line 4: column 3 (offset): 'x' is not a number; passed over\n`,
    });
    expect(told.stdout).toMatch(/\n  malformed +1\n/);
    const refused = await runCli(['trace', 'info', path, '--max-malformed', '0']);
    expect(refused).toMatchObject({ status: 8, stdout: '' });
    expect(refused.stderr).toMatch(/^pcache: \S+bad: 1 malformed record of 4, at line 4 for instance: [^\n]*\n$/);
  });

  it('refuses what is no trace, in one line', async () => {
    const unknown = await runCli(['trace', 'info', file('unknown', 'hello\n')]);
    expect(unknown).toMatchObject({ status: 8, stdout: '' });
    expect(unknown.stderr).toMatch(
      /^pcache: \S+unknown: not a known trace, found text: "hello"; docs\/traces\.md lists [^\n]+\n$/,
    );
    expect(await runCli(['trace', 'info', file('x', ALIBABA), '--format', 'nonsense'])).toMatchObject({ status: 16 });
    expect(await runCli(['trace', 'info', PGBENCH, '--device', 'sda'])).toMatchObject({
      status: 16,
      stderr: expect.stringContaining('give its numbers as MAJOR,MINOR') as string,
    });
  });
});

it('trace itself tells its commands, and knows a mistyped one', async () => {
  expect((await runCli(['trace'])).stdout).toContain('trace convert');
  expect((await runCli(['trace', '--help'])).stdout).toContain('trace info');
  expect(await runCli(['trace', 'inof'])).toEqual({
    status: 16,
    signal: null,
    stdout: '',
    stderr: "pcache: 'trace inof' is not a command; did you mean 'trace info'?\nTry 'pcache --help'.\n",
  });
  const missing = await runCli(['trace', 'info']);
  expect(missing).toMatchObject({
    status: 16,
    stderr: "pcache: missing argument TRACE\nTry 'pcache trace info --help'.\n",
  });
});

describe('trace convert', () => {
  it('writes a file, says what was left out, and the same as JSON', async () => {
    const out = join(folder, 'pgbench.msr');
    const { status, stdout, stderr } = await runCli(['trace', 'convert', PGBENCH, out, '--to', 'msr']);
    expect({ status, stdout }).toEqual({
      status: 0,
      stdout: `${PGBENCH}: 11,840 requests written to ${out} as msr, 580.5 KiB\n`,
    });
    expect(stderr).toContain('left out, because msr cannot hold them: 3,574 flushes, the flags of 5,393 requests\n');
    expect(stderr).toContain('times are rounded down to 100 ns in msr\n');
    expect(readFileSync(out, 'utf8').split('\n', 1)[0]).toBe('116444736000000000,254.0,0,Read,2282217472,4096,0');
    const json = await runCli(['trace', 'convert', PGBENCH, join(folder, 'again.msr'), '--to', 'msr', '--json']);
    expect(JSON.parse(json.stdout) as ConvertResult).toMatchObject({
      requests: 11_840,
      flushesLeftOut: 3574,
      to: 'msr',
    });
  });

  it('does not overwrite a file unless told to, and leaves nothing half written', async () => {
    const out = file('mine', 'precious\n');
    const before = readdirSync(folder);
    const refused = await runCli(['trace', 'convert', PGBENCH, out, '--to', 'csv']);
    expect(refused).toMatchObject({ status: 16, stdout: '' });
    expect(refused.stderr).toContain('already exists; give --force to overwrite it');
    expect(readFileSync(out, 'utf8')).toBe('precious\n');
    const damaged = file('damaged', `${ALIBABA}${'no\n'.repeat(200)}`.repeat(2));
    const failed = await runCli(['trace', 'convert', damaged, out, '--to', 'csv', '--force', '--format', 'alibaba']);
    expect(failed.status).toBe(8);
    expect(readFileSync(out, 'utf8')).toBe('precious\n');
    expect(readdirSync(folder).sort()).toEqual([...before, 'damaged'].sort());
    expect(await runCli(['trace', 'convert', PGBENCH, out, '--to', 'csv', '--force'])).toMatchObject({ status: 0 });
    expect(readFileSync(out, 'utf8')).toMatch(/^time_ns,op,/);
  });

  it('reads a stream and writes one, packed where the name says so', async () => {
    const path = file('stream', ALIBABA);
    const { status, stdout, stderr } = await runCli(['trace', 'convert', '-', '-', '--to', 'csv'], { stdinFrom: path });
    expect(status).toBe(0);
    expect(stdout).toBe(
      'time_ns,op,offset_bytes,length_bytes,flags,device\n' +
        '0,write,8192,16384,,419\n100000,read,0,4096,,7\n200000,read,8192,4096,,419\n',
    );
    expect(stderr).toBe('pcache: standard input: 3 requests written to standard output as csv, 123 B\n');
    const out = join(folder, 'packed.csv.gz');
    await runCli(['trace', 'convert', path, out, '--to', 'csv']);
    expect(gunzipSync(readFileSync(out)).toString()).toBe(stdout);
  });

  it('ends quietly when its reader leaves', async () => {
    const result = await runCli(['trace', 'convert', PGBENCH, '-', '--to', 'csv'], { readOnlyBytes: 1000 });
    expect(result).toMatchObject({ status: 0, signal: null, stderr: '' });
  });

  it('stopped by a signal leaves no file', async () => {
    const big = file('big', 'op,offset_bytes,length_bytes\n' + 'w,0,4096\n'.repeat(4_000_000));
    const out = join(folder, 'stopped');
    const result = await runCli(['trace', 'convert', big, out, '--to', 'blkparse'], {
      onStart: (child) => {
        const look = setInterval(() => {
          if (!readdirSync(folder).some((name) => name.startsWith('stopped.'))) return;
          clearInterval(look);
          child.kill('SIGINT');
        }, 5);
      },
    });
    expect(result).toMatchObject({ status: 130, signal: null, stdout: '' });
    expect(result.stderr).toContain('not converted');
    expect(existsSync(out)).toBe(false);
    expect(readdirSync(folder).filter((name) => name.startsWith('stopped'))).toEqual([]);
  });

  const WAITING: readonly (readonly [string, (trace: string) => string[], (name: string) => string])[] = [
    [
      'trace convert',
      (trace) => ['trace', 'convert', trace, 'waited', '--to', 'csv'],
      (name) => `${name}: not converted`,
    ],
    ['trace info', (trace) => ['trace', 'info', trace], (name) => `${name}: interrupted before its end`],
    ['replay', (trace) => ['replay', trace], () => 'interrupted before the trace was read: nothing was replayed'],
  ];
  const WAITED = WAITING.flatMap(([command, ...rest]) => [
    [command, 'standard input', '-', ...rest] as const,
    [command, 'the writer of a pipe', 'pipe', ...rest] as const,
  ]);
  it.each(WAITED)('%s that waits for %s ends at the first signal, and leaves no file', async (...given) => {
    const [, , trace, args, message] = given;
    const own = mkdtempSync(join(folder, 'waiting-'));
    if (trace !== '-') execFileSync('mkfifo', [join(own, trace)]);
    const before = readdirSync(own);
    const child = spawn(process.execPath, [PCACHE, ...args(trace), '--json'], {
      cwd: own,
      env: { ...process.env, TMPDIR: own },
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    let stdout = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    const ended = new Promise((resolve) => child.on('close', resolve));
    while (readdirSync(own).length === before.length) await new Promise((resolve) => setTimeout(resolve, 10));
    child.kill('SIGTERM');
    expect(await ended).toBe(143);
    expect(stdout).toContain('"code": "INTERRUPTED"');
    expect(stdout).toContain(`"${message(trace === '-' ? 'standard input' : trace)}"`);
    expect(readdirSync(own)).toEqual(before);
  });

  it('of a pipe that is written to later is read to its end', async () => {
    const csv = file('written', 'op,offset_bytes,length_bytes\n' + 'w,0,4096\n'.repeat(20_000));
    const pipe = join(folder, 'later');
    execFileSync('mkfifo', [pipe]);
    const reading = runCli(['trace', 'info', pipe, '--json']);
    await new Promise((resolve) => setTimeout(resolve, 300));
    spawn('sh', ['-c', 'cat "$0" >"$1"', csv, pipe], { stdio: 'ignore' });
    const { status, stdout, stderr } = await reading;
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const expected = await runCli(['trace', 'info', csv, '--json']);
    expect(JSON.parse(stdout.replaceAll(pipe, csv))).toEqual(JSON.parse(expected.stdout));
  });

  it.each([
    [['--to', 'nonsense'], /--to/],
    [[], /missing flag --to/],
  ])('refuses %j', async (args, line) => {
    const result = await runCli(['trace', 'convert', PGBENCH, join(folder, 'none'), ...args]);
    expect(result).toMatchObject({ status: 16, stdout: '' });
    expect(result.stderr).toMatch(line);
  });

  it('does not mix the trace with JSON', async () => {
    expect(await runCli(['trace', 'convert', PGBENCH, '-', '--to', 'csv', '--json'])).toMatchObject({ status: 16 });
  });
});

itLong('a converted trace replays to the same counters', { timeout: 120_000 }, async () => {
  const counters = (trace: string): unknown => {
    const run = spawnSync(process.execPath, [PCACHE, 'replay', trace, '--simulate', '--json'], { encoding: 'utf8' });
    expect(run.stderr).toBe('');
    const result = JSON.parse(run.stdout) as Record<string, unknown>;
    const { requests, fill, writeback, gc, status, dirtyLeft } = result;
    return { requests, fill, writeback, gc, status, dirtyLeft };
  };
  for (const name of ['pgbench', 'ext4-sqlite-git']) {
    const recorded = join(traces, `${name}.blktrace`);
    const want = counters(recorded);
    for (const to of ['csv', 'blkparse', 'iolog2', 'iolog3']) {
      const out = join(folder, `${name}.${to}`);
      await runCli(['trace', 'convert', recorded, out, '--to', to]);
      expect(counters(out), `${name} as ${to}`).toEqual(want);
    }
  }
});
