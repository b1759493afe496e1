/**
 * The fixed set of simulated lives, one half of it (the other half is in the file beside this one, so that
 * two processes share the work). PCACHE_SIM_SEEDS adds seeds. Every crash state at every barrier is judged.
 */
import { expect, it } from 'vitest';
import { countOf } from '../support/long.js';
import { expectAllToPass } from '../support/sim-expect.js';

const FIRST_SEED = 1001;
const SEEDS = countOf({ share: 12, all: 40 });
const TIMEOUT_MS = 300_000;

it(`the engine survives seeds ${FIRST_SEED} to ${FIRST_SEED + SEEDS - 1}`, { timeout: TIMEOUT_MS }, () => {
  const total = expectAllToPass(Array.from({ length: SEEDS }, (_, n) => FIRST_SEED + n));
  expect(total.crashStates).toBeGreaterThan(SEEDS * 200);
  expect(total.drains).toBeGreaterThan(SEEDS);
});

it.each([
  [
    819602895,
    'an old LAST kset behind the end of the log, which leads to what a torn write of payload left of an old kset',
  ],
])('the engine survives seed %i: %s', { timeout: TIMEOUT_MS }, (seed) => {
  expectAllToPass([seed]);
});
