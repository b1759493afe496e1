/** `pcache replay --report` as a user runs it. What the page looks like is tested in `test/browser`. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ReplayResult } from '../../src/replay/replay-result.js';
import { runCli } from '../support/cli.js';

const TRACE = fileURLToPath(new URL('../../fixtures/traces/ext4-sqlite-git.blktrace', import.meta.url));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-report-test-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const replay = (...args: string[]) => runCli(['replay', ...args], { cwd: folder });

describe('replay --report', { timeout: 60_000 }, () => {
  it('writes the page and says where', async () => {
    const run = await replay(TRACE, '--report', 'a.html');
    expect(run).toMatchObject({ status: 0, stderr: '' });
    expect(run.stdout).toMatch(/\nReport written to a\.html\.\n$/);
    const page = readFileSync(join(folder, 'a.html'), 'utf8');
    expect(page).toMatch(/^<!doctype html>/);
    expect(page).toMatch(/<\/html>\s*$/);
    expect(page).toContain(`<code>pcache replay ${TRACE} --report a.html</code>`);
    expect(readdirSync(folder)).toEqual(['a.html']);
  });

  it.each([[[]], [['--simulate']], [['--simulate', '--model', 'hdd']], [['--sizes', '512MiB,1GiB']]])(
    'with --json %j: the document alone on standard output, and the page beside it',
    async (flags) => {
      const run = await replay(TRACE, '--json', '--report', 'b.html', ...flags);
      expect(run).toMatchObject({ status: 0, stderr: '' });
      expect((JSON.parse(run.stdout) as ReplayResult).trace.name).toBe(TRACE);
      expect(readFileSync(join(folder, 'b.html'), 'utf8')).toContain('ext4-sqlite-git.blktrace');
    },
  );

  it('has a bounded timeline in the document, which adds up', async () => {
    const run = await replay(TRACE, '--json', '--lockstep');
    const { requests, timeline } = JSON.parse(run.stdout) as ReplayResult;
    const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);
    expect(sum(timeline.counts.reads)).toBe(requests.reads);
    expect(sum(timeline.counts.writeBytes)).toBe(requests.writeBytes);
    expect(timeline.counts.reads.length).toBeLessThanOrEqual(128);
    expect(run.stdout.length).toBeLessThan(100_000);
  });

  it('refuses, before it replays anything, a file that is something else, or cannot be written', async () => {
    const oneLine = /^pcache: [^\n]+\n(Try '[^\n]+'\.\n)?$/;
    const notes = join(folder, 'notes.html');
    writeFileSync(notes, 'my notes');
    for (const [path, status, message] of [
      ['notes.html', 16, /notes\.html: exists and is not a report of pcache; remove it or give another name/],
      ['.', 16, /not a regular file/],
      ['none/a.html', 8, /none\/a\.html: no such file/],
    ] as const) {
      // The trace does not exist either: that the file is refused shows that it was looked at first.
      const run = await replay('no-such-trace', '--report', path, '--force');
      expect(run.stderr).toMatch(oneLine);
      expect(run.stderr).toMatch(message);
      expect(run).toMatchObject({ status, stdout: '' });
    }
    expect(readFileSync(notes, 'utf8')).toBe('my notes');
  });

  it('writes nothing when there is no result', async () => {
    const before = readdirSync(folder);
    expect((await replay('no-such-trace', '--report', 'c.html')).status).toBe(8);
    expect(readdirSync(folder)).toEqual(before);
  });
});
