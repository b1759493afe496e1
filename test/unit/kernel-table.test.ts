/** The table that `npm run test:kernel` ends with. */
import { expect, it } from 'vitest';

interface Ran {
  readonly file: string;
  readonly title: string;
  readonly state: string;
  readonly durationMs: number;
}
const { kernelTable } = (await import(new URL('../../scripts/kernel-table.mjs', import.meta.url).href)) as {
  kernelTable: (tests: readonly Ran[]) => string;
};

it('the table of a run names each test with its kernel, its result and its time', () => {
  const table = kernelTable([
    { file: 'dax', title: 'a cache on DAX (Linux 7.3.0-rc7) > is kept', state: 'failed', durationMs: 61_400 },
    { file: 'dax', title: 'a cache on DAX (Linux 7.2.13) > is kept', state: 'passed', durationMs: 40_000 },
    { file: 'chain', title: 'an image is (skipped: long)', state: 'skipped', durationMs: 0 },
  ]);
  expect(table).toBe(
    [
      'kernel     result   time  test',
      'any        skipped        chain: an image is (skipped: long)',
      '7.2.13     passed   40 s  dax: a cache on DAX: is kept',
      '7.3.0-rc7  FAILED   61 s  dax: a cache on DAX: is kept',
    ].join('\n'),
  );
});
