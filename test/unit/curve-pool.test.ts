/** The threads of a curve: outcomes in order, the first failure ends all, an interrupt keeps what was done. */
import { describe, expect, it } from 'vitest';
import { runInThreads } from '../../src/curve/pool.js';
import { PcacheError } from '../../src/engine/errors.js';

interface Job {
  readonly does: 'give' | 'fail' | 'throw' | 'leave' | 'spin';
  readonly value?: unknown;
}

function run(jobs: readonly Job[], options: { threads?: number; signal?: AbortSignal; onEnded?: () => void } = {}) {
  const told: [number, number][] = [];
  const ended: number[] = [];
  const outcome = runInThreads<Job, number>(jobs, {
    module: new URL('../support/pool-worker.js', import.meta.url),
    threads: options.threads ?? 2,
    onProgress: (job, done) => told.push([job, done]),
    onEnded: (job) => {
      ended.push(job);
      options.onEnded?.();
    },
    signal: options.signal ?? new AbortController().signal,
  });
  return { outcome, told, ended };
}

const give = (value: number): Job => ({ does: 'give', value });

describe('threads', () => {
  it.each([1, 2, 9])('%i at once give their outcomes in the order of the jobs', async (threads) => {
    const { outcome, told, ended } = run([1, 2, 3, 4, 5].map(give), { threads });
    expect(await outcome).toEqual([2, 4, 6, 8, 10]);
    expect(told.sort()).toEqual([1, 2, 3, 4, 5].map((value, job) => [job, value]));
    expect(ended.sort()).toEqual([0, 1, 2, 3, 4]);
  });

  it('give no outcomes for no jobs', async () => {
    expect(await run([]).outcome).toEqual([]);
  });

  it('fail with the error of their job, whatever others are doing', async () => {
    const { outcome } = run([{ does: 'spin' }, { does: 'fail', value: 'x.csv' }, give(1)]);
    const error = await outcome.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(PcacheError);
    expect(error).toMatchObject({ code: 'BAD_TRACE', message: 'x.csv: damaged' });
  });

  it('fail with a bug as it was thrown', async () => {
    const error = await run([{ does: 'throw', value: 'of undefined' }]).outcome.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(TypeError);
    expect((error as Error).stack).toContain('pool-worker.js');
  });

  it('do not wait for one that left without a word', async () => {
    await expect(run([{ does: 'leave' }]).outcome).rejects.toThrow(/ended with 0 before its job was done/);
  });

  it('are interrupted in the middle: what was done is kept', async () => {
    const interrupt = new AbortController();
    const jobs: Job[] = [give(1), { does: 'spin' }, { does: 'spin' }, give(4)];
    const { outcome, ended } = run(jobs, { signal: interrupt.signal, onEnded: () => interrupt.abort() });
    expect(await outcome).toEqual([2, undefined, undefined, undefined]);
    expect(ended).toEqual([0]);
  });

  it('are not even started after an interrupt', async () => {
    const { outcome, told } = run([give(1)], { signal: AbortSignal.abort() });
    expect(await outcome).toEqual([undefined]);
    expect(told).toEqual([]);
  });
});
