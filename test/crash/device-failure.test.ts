/** Simulated lives in which the cache device fails: once, a few times in a row, or for good. */
import { expect, it } from 'vitest';
import { countOf } from '../support/long.js';
import { makePlan, withFault } from '../support/sim-plan.js';
import { runPlan } from '../support/sim-run.js';

const FIRST_SEED = 2001;
const SEEDS = countOf({ share: 8, all: 20 });

it(
  `a cache whose device fails acknowledges nothing wrong, ends every request and opens again (${SEEDS} seeds)`,
  { timeout: 300_000 },
  () => {
    let crashes = 0;
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
      crashes += runPlan(withFault(makePlan(seed))).crashes;
    }
    expect(crashes).toBeGreaterThan(SEEDS);
  },
);
