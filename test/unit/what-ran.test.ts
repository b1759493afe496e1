/** The last lines of a test run, and the helpers that leave long tests out of `npm test`. */
import { describe, expect, it } from 'vitest';
import { casesOf, countOf, LONG_TEST_REASON, RUNS_LONG_TESTS } from '../support/long.js';
import { whatRan } from '../support/what-ran.js';

describe('the last lines of a test run', () => {
  it('say how many tests passed and failed, and whether long ones were among them', () => {
    const outcomes = [
      { title: 'a', state: 'passed' },
      { title: 'b', state: 'passed' },
      { title: 'c', state: 'failed' },
    ] as const;
    expect(whatRan(outcomes, 2, false)).toBe('Ran the short tests: 2 passed, 1 failed, in 2 files.');
    expect(whatRan(outcomes, 2, false, 3)).toContain('\nLeft out 3 files: long, they run in npm run test:all.');
    expect(whatRan(outcomes, 2, true)).toBe('Ran all tests, long ones included: 2 passed, 1 failed, in 2 files.');
  });

  it('name each reason for which tests were left out, with their number', () => {
    const outcomes = [
      { title: `every seed ${LONG_TEST_REASON}`, state: 'skipped' },
      { title: `every table ${LONG_TEST_REASON}`, state: 'skipped' },
      { title: 'a trace > reads as blkparse does (skipped: blkparse is not installed)', state: 'skipped' },
      { title: 'not selected by -t', state: 'skipped' },
    ] as const;
    expect(whatRan(outcomes, 1, false).split('\n').slice(1)).toEqual([
      'Left out 1: blkparse is not installed.',
      'Left out 2: long, runs in npm run test:all.',
      'Left out 1: not selected, or no reason in the title.',
    ]);
  });
});

it('countOf gives the share in npm test and everything in npm run test:all', () => {
  expect(RUNS_LONG_TESTS).toBe(process.env['PCACHE_TEST_ALL'] === '1');
  expect(countOf({ share: 3, all: 40 })).toBe(RUNS_LONG_TESTS ? 40 : 3);
});

it('casesOf gives the first cases in npm test and all of them in npm run test:all', () => {
  expect(casesOf(['a', 'b', 'c'], 2)).toEqual(RUNS_LONG_TESTS ? ['a', 'b', 'c'] : ['a', 'b']);
});
