/** `pcache replay A.json B.json... --diff` as a user runs it. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { ReplayDiff } from '../../src/replay/diff.js';
import { runCli } from '../support/cli.js';

vi.setConfig({ testTimeout: 60_000 });

const PGBENCH = fileURLToPath(new URL('../../fixtures/traces/pgbench.blktrace', import.meta.url));

let folder: string;
let a: string;
let b: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-diff-cli-'));
  [a, b] = ['a.json', 'b.json'].map((name) => join(folder, name));
  await runCli(['replay', PGBENCH, '--simulate', '--json'], { stdoutTo: a });
  await runCli(['replay', PGBENCH, '--simulate', '--cache-size', '1GiB', '--limit', '9000', '--json'], { stdoutTo: b });
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('compares two results, on the terminal and as JSON', async () => {
  const { status, stdout, stderr } = await runCli(['replay', a, b, '--diff']);
  expect(status).toBe(0);
  expect(stderr).toBe('pcache: the runs did not replay the same requests\n');
  expect(stdout).toMatch(/\n  cache size +512 MiB +1 GiB\n/);
  expect(stdout).toMatch(/\n  requests +15,414 +9,000 +-6,414 +-41\.6%\n/);
  expect(stdout).toMatch(/\n  hit ratio +0\.00% +0\.00% +=\n/);
  const json = await runCli(['replay', a, b, '--diff', '--json']);
  const diff = JSON.parse(json.stdout) as ReplayDiff;
  expect(diff.sections[0].rows[0]).toMatchObject({
    ...{ name: 'requests', values: [15_414, 9000], differences: [0, -6414] },
  });
});

it('writes three results into a page of charts', async () => {
  const page = join(folder, 'all.html');
  const { status, stdout } = await runCli(['replay', a, b, a, '--diff', '--report', page]);
  expect(status).toBe(0);
  expect(stdout).toMatch(/\n  requests +15,414 +9,000 +-41\.6% +15,414 +=\n/);
  expect(stdout).toMatch(/\nReport written to \S+all\.html\.\n$/);
  const html = readFileSync(page, 'utf8');
  expect(html).toContain('Comparison of 3 replays');
  expect(html).toContain(`--diff --report ${page}</code>`);
  expect(html).toContain('All have trace time');
});

it.each<[string[], string]>([
  [['--diff', '--report', '/dev/full'], '/dev/full: not a regular file; give the report a name of its own'],
  [['--diff'], '--diff compares results; give A.json and B.json'],
  [['other'], 'unexpected argument other; a second argument needs --diff'],
  [['other', '--diff', '--limit', '4'], '--diff cannot be used with --limit'],
])('refuses %j', async (args, line) => {
  const result = await runCli(['replay', 'a.json', ...args]);
  expect(result).toEqual({
    status: 16,
    signal: null,
    stdout: '',
    stderr: `pcache: ${line}\nTry 'pcache replay --help'.\n`,
  });
});

it('refuses a file that is not a result', async () => {
  const result = await runCli(['replay', a, PGBENCH + '.0.gz', '--diff']);
  expect(result).toMatchObject({ status: 8, stdout: '' });
  expect(result.stderr).toMatch(/^pcache: \S+: not a JSON document; save a result with [^\n]+\n$/);
});
