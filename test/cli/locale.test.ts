/** `LC_ALL=C` and the width of the terminal, on whole commands. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PCACHE, runCli } from '../support/cli.js';
import { unpackImage } from '../support/images.js';

const TRACE = 'fixtures/traces/pgbench.blktrace';
/** With hits, so that there is something to draw. */
const CURVE = [
  ...['replay', 'fixtures/traces/ext4-sqlite-git.blktrace', '--limit', '3000', '--loop', '2'],
  ...['--sizes', '512MiB'],
];
let folder: string;
let image: { cachePath: string; backingPath: string };

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-locale-'));
  image = await unpackImage('dirty-crc');
}, 60_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function textOf(args: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  const { stdout, stderr } = await runCli(args, { env });
  return stdout + stderr;
}

describe('in the locale C', { timeout: 120_000 }, () => {
  const C = { LC_ALL: 'C' };
  const beyondAscii = /[^\0-\x7f]/;

  it('commands print ASCII only, with the layout that they have in UTF-8', async () => {
    const { cachePath, backingPath } = image;
    const runs = [
      ['info', cachePath, backingPath],
      ['fsck', cachePath, backingPath],
      ['map', cachePath, backingPath, '0-1M'],
      ['dump-keys', cachePath],
      ['writeback', cachePath, backingPath, '--dry-run'],
      ['replay', TRACE, '--limit', '2000'],
      CURVE,
      ['trace', 'info', TRACE],
      ['replay', '--help'],
      ['bench', '--help'],
      ['info', join(folder, 'missing')],
    ];
    const texts: string[] = [];
    for (const args of runs) texts.push(await textOf(args, C));
    for (const [at, text] of texts.entries()) {
      expect(text, runs[at].join(' ')).not.toBe('');
      expect(text, runs[at].join(' ')).not.toMatch(beyondAscii);
    }
    // The same commands do have more to show.
    expect(texts.join('')).toMatch(/\d us\b/);
    const chart = texts[runs.indexOf(CURVE)].split('\n');
    expect(chart.some((line) => /^ +\d+% \+/.test(line))).toBe(true);
    expect(chart.some((line) => /^ {9}\+-{64}$/.test(line))).toBe(true);
  });

  it('status of an attached cache prints ASCII only, with --watch too', async () => {
    const [cache, back] = [join(folder, 'cache'), join(folder, 'back')];
    await runCli(['format', cache, '--size', '512MiB']);
    execFileSync('truncate', ['-s', '16M', back]);
    const pcache = `'${process.execPath}' '${PCACHE}'`;
    // The second update is written to a closed pipe, which ends it.
    const watch = `${pcache} status --socket "$PCACHE_SOCKET" --watch | head -n 12 >'${folder}/watched'`;
    await textOf(['attach', cache, back, '--exec', watch], C);
    const watched = execFileSync('cat', [join(folder, 'watched')], { encoding: 'utf8' });
    expect(watched).toContain('backing');
    expect(watched).not.toMatch(beyondAscii);
  });
});

it('the chart of a curve is as wide as COLUMNS', { timeout: 60_000 }, async () => {
  const widths = await Promise.all(
    ['60', '130'].map(async (columns) => {
      const text = await textOf(CURVE, { COLUMNS: columns });
      return text.split('\n').find((line) => line.includes('└─'))!.length;
    }),
  );
  expect(widths).toEqual([54, 124]);
});
