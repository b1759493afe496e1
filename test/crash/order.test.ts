/** The order rules of the engine, watched at every store of a few simulated lives. */
import { expect, it } from 'vitest';
import { geometryOf } from '../support/sim-device.js';
import { makePlan } from '../support/sim-plan.js';
import { SimRun } from '../support/sim-run.js';
import { OrderWatch, RULES, type Rule } from '../support/sim-watch.js';

const FIRST_SEED = 501;
const SEEDS = 30;

it(`every store comes after the stores it relies on (${SEEDS} seeds)`, { timeout: 300_000 }, () => {
  const seen = new Map<Rule, number>();
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    const { config, ops } = makePlan(seed);
    const run = new SimRun(config, { explores: false });
    const watch = new OrderWatch(geometryOf(config), run.pmem, run.backing, () => run.cache);
    for (const op of ops) run.execute(op);
    run.finish();
    for (const rule of RULES) seen.set(rule, (seen.get(rule) ?? 0) + watch.seen.get(rule)!);
  }
  for (const rule of RULES) expect(seen.get(rule), rule).toBeGreaterThan(20);
});
