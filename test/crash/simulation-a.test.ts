/**
 * The fixed set of simulated lives, one half of it (the other half is in the file beside this one, so that
 * two processes share the work). PCACHE_SIM_SEEDS adds seeds. Every crash state at every barrier is judged.
 */
import { expect, it } from 'vitest';
import { countOf } from '../support/long.js';
import { expectAllToPass } from '../support/sim-expect.js';
import { seedsFromText } from '../support/sim-seeds.js';

const FIRST_SEED = 1;
const SEEDS = countOf({ share: 12, all: 40 });
const SEEDS_PER_TEXT = 12;
/** Lives that showed a fault once. */
const FAULTY_ONCE = [114969932, 166694304];
const TIMEOUT_MS = 300_000;

it(`the engine survives seeds ${FIRST_SEED} to ${FIRST_SEED + SEEDS - 1}`, { timeout: TIMEOUT_MS }, () => {
  const total = expectAllToPass(Array.from({ length: SEEDS }, (_, n) => FIRST_SEED + n));
  expect(total.crashStates).toBeGreaterThan(SEEDS * 200);
  expect(total.drains).toBeGreaterThan(SEEDS);
});

it(`the engine survives seeds that showed a fault once`, { timeout: TIMEOUT_MS }, () => {
  expectAllToPass(FAULTY_ONCE);
});

const extra = process.env.PCACHE_SIM_SEEDS ?? '';
it.skipIf(extra === '')(
  `the engine survives the seeds of PCACHE_SIM_SEEDS (${extra || 'not set'})`,
  { timeout: TIMEOUT_MS },
  () => {
    expectAllToPass(seedsFromText(extra, SEEDS_PER_TEXT));
  },
);
