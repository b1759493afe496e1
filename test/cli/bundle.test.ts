/** The program as it is installed (`bundle/`), beside the one of the checkout (`dist/`). */
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CHECKOUT, PCACHE, runCli } from '../support/cli.js';
import { describeWithClient } from '../support/clients.js';
import { casesOf } from '../support/long.js';

const root = new URL('../..', import.meta.url).pathname;
const TRACE = join(root, 'fixtures', 'traces', 'pgbench.blktrace');

const folder = mkdtempSync(join(tmpdir(), 'pcache-bundle-test-'));
const image = join(folder, 'cache.img');

beforeAll(async () => {
  const made = await runCli(['format', image, '--size', '512MiB']);
  expect(made).toMatchObject({ status: 0, stderr: '' });
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe('the bundled program', () => {
  const COMMANDS: readonly (readonly string[])[] = [
    ['--help'],
    ['fsck', '--help'],
    ['info', '/nowhere'],
    ['inof'],
    ['bench', '--help'],
    ['trace', '--help'],
    ['--version'],
    ['info', '--no-such-flag'],
    ['trace', 'foo'],
  ];
  test.each(casesOf(COMMANDS, 4).map((args) => [args.join(' '), args] as const))(
    'answers %s as the checkout does',
    async (_, args) => {
      const [bundled, checkout] = [await runCli([...args]), await runCli([...args], { entry: CHECKOUT })];
      expect(bundled).toEqual(checkout);
    },
  );

  test.each([['info'], ['fsck'], ['dump-keys']])('%s of an image prints what the checkout prints', async (command) => {
    const args = [command, image];
    const [bundled, checkout] = [await runCli(args), await runCli(args, { entry: CHECKOUT })];
    expect(bundled.status).toBe(0);
    expect(bundled).toEqual(checkout);
  });

  test('runs the threads of a curve, and writes a report with the chart library in it', async () => {
    const report = join(folder, 'curve.html');
    const args = ['replay', TRACE, '--sizes', '512MiB,640MiB', '--limit', '2000', '--report', report];
    expect(await runCli(args)).toMatchObject({ status: 0 });
    expect(readFileSync(report, 'utf8')).toContain('uPlot');
  });

  test('reads a trace packed with xz where none of the packages that it is made of are installed', async () => {
    const installed = join(folder, 'installed');
    for (const name of ['bundle', 'package.json']) cpSync(join(root, name), join(installed, name), { recursive: true });
    const trace = join(root, 'fixtures', 'traces', 'kinds', 'requests.csv.xz');
    const entry = join(installed, 'bundle', 'pcache.cjs');
    expect(await runCli(['trace', 'info', trace], { entry })).toMatchObject({ status: 0, stderr: '' });
  });

  test.skipIf(process.getuid?.() !== 0)('runs as a user whom the system does not know (needs root to try)', () => {
    chmodSync(folder, 0o755);
    const installed = join(folder, 'for-anybody');
    for (const name of ['bundle', 'package.json']) cpSync(join(root, name), join(installed, name), { recursive: true });
    const args = [join(installed, 'bundle', 'pcache.cjs'), 'info', '/nowhere'];
    const { status, stderr } = spawnSync(process.execPath, args, { uid: 54321, gid: 54321, env: {}, encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 8, stderr: 'pcache: /nowhere: no such file; check the path\n' });
  });

  test('runs the threads of a benchmark', async () => {
    const args = ['bench', '--jobs', '2', '--seconds', '1', '--cache-size', '512MiB', '--span', '256MiB', '--json'];
    expect(await runCli(args)).toMatchObject({ status: 0 });
  });
});

describeWithClient('the start of the bundled program', 'strace', (strace) => {
  test('the version needs at most ten files beyond those of Node.js itself', () => {
    const opened = (args: readonly string[]) => {
      const log = join(folder, 'strace.log');
      spawnSync(strace, ['-f', '-qq', '-e', 'trace=open,openat', '-o', log, process.execPath, ...args]);
      return readFileSync(log, 'utf8')
        .split('\n')
        .filter((line) => /open(at)?\(/.test(line) && !line.includes('= -1'));
    };
    expect(opened([PCACHE, '--version']).length - opened(['-e', '0']).length).toBeLessThanOrEqual(10);
  });
});
