/** `pcache bench scale` as a user runs it. What it measures is not judged here: times are not for tests. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ScaleResult } from '../../src/bench/scale.js';
import { runCli } from '../support/cli.js';
import { itLong } from '../support/long.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-scale-test-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const scale = (...args: string[]) => runCli(['bench', 'scale', '--quick', ...args], { env: { TMPDIR: folder } });

describe('bench scale', { timeout: 60_000 }, () => {
  itLong('bench scale measures every axis', { timeout: 120_000 }, async () => {
    const run = await scale('--json');
    expect(run.stderr).toBe('');
    expect(run.status).toBe(0);
    const { axes } = JSON.parse(run.stdout) as ScaleResult;
    expect(axes.map(({ axis, steps }) => [axis, steps.length])).toEqual([
      ['cache', 2],
      ['backing', 2],
      ['keys', 2],
    ]);
    for (const { steps, skipped, verdicts } of axes) {
      expect(skipped).toEqual([]);
      expect(verdicts.map(({ measure }) => measure)).toEqual(['read', 'write']);
      for (const step of steps) {
        for (const cost of [step.read, step.write]) {
          expect(cost.engineNs).toBeGreaterThan(0);
          expect(cost.limitNs).toBeGreaterThan(0);
        }
        for (const cost of [step.attach, step.fsck, step.dumpKeys]) expect(cost.elapsedNs).toBeGreaterThan(0);
        expect(step.index.bytesPerKey).toBeGreaterThanOrEqual(12);
        expect(step.memoryLoadNs).toBeGreaterThan(0);
      }
    }
    expect(readdirSync(folder)).toEqual([]);
  });

  it('shows tables, and names what memory is too small for', async () => {
    const run = await scale('--axis', 'keys', '--sizes', '1000,2000,20000000', '--memory', '600MiB');
    expect(run.stderr).toBe('');
    for (const part of ['Number of keys', 'index B/key', 'dump-keys', '2,000', 'By keys', 'write']) {
      expect(run.stdout).toContain(part);
    }
    expect(run.stdout).toMatch(/20,000,000 +left out: needs 2\.\d GiB of memory/);
  });

  it('ends on SIGINT with what is done', async () => {
    const large = ['--axis', 'keys', '--sizes', '30000000', '--memory', '8GiB', '--json'];
    const run = await runCli(['bench', 'scale', '--quick', ...large], {
      env: { TMPDIR: folder },
      onStart: (child) => setTimeout(() => child.kill('SIGINT'), 5000),
    });
    expect(run.status).toBe(130);
    const { axes } = JSON.parse(run.stdout) as ScaleResult;
    expect(axes).toMatchObject([{ axis: 'keys', steps: [], verdicts: [] }]);
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each([
    [['--axis', 'sideways'], 'sideways'],
    [['--sizes', '1000'], '--sizes needs exactly one --axis'],
    [['--axis', 'keys', '--sizes', '2000,1000'], 'in ascending order'],
  ])('%j is refused', async (args, message) => {
    const run = await scale(...args);
    expect(run.stderr.split('\n')[0]).toContain(message);
    expect(run.status).toBe(16);
  });
});
