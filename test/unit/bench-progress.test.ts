/** How far a benchmark says it is, and how long its rounds are. */
import { expect, it } from 'vitest';
import { measuredShare, requestsFor } from '../../src/bench/requests.js';

it('a measurement is done when both its time and its rounds are', () => {
  const slow = { warmUpSeconds: 20, wanted: 3 };
  // Rounds of ten seconds, on a disk: the time was over in the first.
  const shares = [1, 2, 3, 4, 5].map((rounds) => measuredShare({ ...slow, seconds: 10 * rounds, rounds }));
  expect(shares).toEqual([4 / 8, 5 / 8, 6 / 8, 7 / 8, 1]);
  // Many short rounds: the time decides.
  expect(measuredShare({ warmUpSeconds: 1, seconds: 1.5, rounds: 100, wanted: 4 })).toBe(0.5);
  expect(measuredShare({ warmUpSeconds: 1, seconds: 9, rounds: 100, wanted: 4 })).toBe(1);
});

it('rounds are as long as fits in the time that is asked for, within limits', () => {
  const limits = { requestsMin: 1024, requestsMax: 32_768 };
  expect(requestsFor({ secondsEach: 1e-6, seconds: 3, ...limits })).toBe(32_768);
  expect(requestsFor({ secondsEach: 2 ** -13, seconds: 5, ...limits })).toBe(8192);
  expect(requestsFor({ secondsEach: 1e-3, seconds: 1, ...limits })).toBe(1024);
});
