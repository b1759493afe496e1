/**
 * One copy of a dual structure lost, at any moment: on top of each crash, and whichever copy it is, what the
 * other one says is enough.
 */
import { expect, it } from 'vitest';
import { countOf } from '../support/long.js';
import { makePlan } from '../support/sim-plan.js';
import { SimRun } from '../support/sim-run.js';

const FIRST_SEED = 1;
const SEEDS = countOf({ share: 8, all: 40 });

it(`one copy of a pair is enough after any crash (${SEEDS} seeds)`, { timeout: 300_000 }, () => {
  let states = 0;
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    const { config, ops } = makePlan(seed);
    const run = new SimRun(config, { losesCopies: true });
    for (const op of ops) run.execute(op);
    run.finish();
    states += run.result.crashStates;
  }
  expect(states).toBeGreaterThan(SEEDS * 100);
});
