/** How far a benchmark says it is. */
import { expect, it } from 'vitest';
import { measuredShare } from '../../src/bench/requests.js';

it('a measurement is done when both its time and its rounds are', () => {
  const slow = { warmUpSeconds: 20, wanted: 3 };
  // Rounds of ten seconds, on a disk: the time was over in the first.
  const shares = [1, 2, 3, 4, 5].map((rounds) => measuredShare({ ...slow, seconds: 10 * rounds, rounds }));
  expect(shares).toEqual([3 / 7, 4 / 7, 5 / 7, 6 / 7, 1]);
  // Many short rounds: the time decides.
  expect(measuredShare({ warmUpSeconds: 1, seconds: 1.5, rounds: 100, wanted: 4 })).toBe(0.5);
  expect(measuredShare({ warmUpSeconds: 1, seconds: 9, rounds: 100, wanted: 4 })).toBe(1);
});
