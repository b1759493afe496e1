/** The program as it is installed (`bundle/`), beside the one of the checkout (`dist/`). */
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CompiledCode } from '../../src/layout/compiled-code.js';
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

  describe('the compiled code beside it', () => {
    const installed = join(folder, 'compiled');
    const entry = join(installed, 'bundle', 'pcache.cjs');
    const compiledFile = join(installed, 'bundle', 'compiled.code');
    const whole = readFileSync(join(root, 'bundle', 'compiled.code'));
    let printed: Awaited<ReturnType<typeof runCli>>;
    beforeAll(async () => {
      printed = await runCli(['info', image]);
      for (const name of ['bundle', 'package.json', 'native/build/Release/pcache_native.node'])
        cpSync(join(root, name), join(installed, name), { recursive: true });
    });

    test('is taken by V8 for every chunk that is in it', () => {
      const script = `
        import { join } from 'node:path';
        import { compileChunk, CompiledCode } from ${JSON.stringify(join(root, 'dist/layout/compiled-code.js'))};
        const folder = process.argv[1];
        const code = CompiledCode.read(folder);
        const taken = code.names.filter((name) => !compileChunk(join(folder, name), code.of(name)).cachedDataRejected);
        console.log(JSON.stringify({ chunks: code.names.length, taken: taken.length }));`;
      const args = ['--input-type=module', '-e', script, join(installed, 'bundle')];
      const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
      expect(stderr).toBe('');
      const { chunks, taken } = JSON.parse(stdout) as { chunks: number; taken: number };
      expect(chunks).toBeGreaterThan(20);
      expect(taken).toBe(chunks);
    });

    const damages: readonly (readonly [string, (file: Buffer) => Buffer | undefined])[] = [
      ['is missing', () => undefined],
      ['is empty', () => Buffer.alloc(0)],
      ['is cut within its index', (file) => file.subarray(0, 100)],
      ['is cut within a chunk', (file) => file.subarray(0, file.length / 4)],
      ['was compiled by another Node.js', (file) => CompiledCode.encode(new Map([['main.cjs', file]]), 'v1.2.3 x64')],
      [
        'has an index with other bytes',
        (file) => Buffer.from(file.toString('latin1').replace('chunk', 'chunj'), 'latin1'),
      ],
      ['has other bytes', (file) => file.map((byte, n) => (n > 8192 && n % 1001 === 0 ? byte ^ 0x55 : byte)) as Buffer],
      ['belongs to other chunks', (file) => Buffer.concat([file.subarray(0, 4096), file.subarray(4160)])],
    ];
    test.each(damages)('may be wrong: where it %s, the program compiles', async (_, damage) => {
      const file = damage(whole);
      rmSync(compiledFile, { force: true });
      if (file !== undefined) writeFileSync(compiledFile, file);
      expect(await runCli(['info', image], { entry })).toEqual(printed);
    });
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
