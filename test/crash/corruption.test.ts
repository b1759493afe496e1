/**
 * Simulated lives under data_crc and verifyReads in which dirty payload goes bad on the medium: no read returns
 * wrong bytes, write-back writes everything else and nothing that is bad, dirty_tail stays in front of it, and
 * fsck sees it.
 */
import { expect, it } from 'vitest';
import { countOf } from '../support/long.js';
import { makePlan, withCorruption } from '../support/sim-plan.js';
import { SimRun } from '../support/sim-run.js';

const FIRST_SEED = 3001;
const SEEDS = countOf({ share: 20, all: 60 });

it(
  `data that went bad is neither read nor written back, and all other data is (${SEEDS} seeds)`,
  { timeout: 300_000 },
  () => {
    let corrupt = 0;
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
      const { config, ops } = withCorruption(makePlan(seed));
      const run = new SimRun(config);
      for (const op of ops) run.execute(op);
      run.finish();
      if (run.world.corruption.isAny) corrupt++;
    }
    expect(corrupt).toBeGreaterThan(SEEDS / 3);
  },
);
