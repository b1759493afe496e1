/** Which rounds of a benchmark count as the quietest. */
import { describe, expect, it } from 'vitest';
import { plainLoopNs } from '../../src/bench/plain-loop.js';
import { quietestOf } from '../../src/bench/requests.js';

const round = (plainLoopNs: number, engineNs: number) => ({
  requests: 1,
  engineNs,
  limitNs: 100,
  groupedNs: 50,
  plainLoopNs,
});

describe('the quietest rounds', () => {
  it('are the fifth in which the plain loop took the shortest', () => {
    const rounds = [30, 11, 20, 10, 25, 12, 18, 16, 15, 14].map((loopNs, n) => round(loopNs, 100 + n));
    expect(quietestOf(rounds)).toEqual({
      rounds: 2,
      ratio: { median: 100 / 101, min: 100 / 103, max: 100 / 101 },
      slowdown: { median: 1.1, min: 1, max: 1.1 },
      slowdownOfAll: { median: 1.6, min: 1, max: 3 },
    });
  });

  it('are at least one', () => {
    expect(quietestOf([round(10, 200)])).toMatchObject({ rounds: 1, ratio: { median: 0.5 } });
  });

  it('are known by a loop that takes time', () => {
    expect(plainLoopNs()).toBeGreaterThan(10_000);
  });
});
