/**
 * All trace readers over damaged inputs: none may crash, hang, lose a record without counting it, or say anything but one
 * clean line. What is read must not depend on how the bytes come in.
 *
 * PCACHE_TRACE_FUZZ=N reads N inputs, PCACHE_TRACE_FUZZ_SEED=N others; `npm run fuzz:traces` reads as many as one likes.
 */
import { expect, it } from 'vitest';
import { countOf } from '../support/long.js';
import { fuzzTraces } from '../support/trace-fuzz-run.js';

const INPUTS = Number(process.env['PCACHE_TRACE_FUZZ'] ?? countOf({ share: 2000, all: 12_000 }));
const SEED = Number(process.env['PCACHE_TRACE_FUZZ_SEED'] ?? 1);
const SIMULATED_EVERY = 64;

it(
  `the readers take or refuse ${INPUTS} damaged traces of seed ${SEED}, in one line and with everything counted`,
  { timeout: 900_000 },
  async () => {
    const tally = await fuzzTraces({
      seed: SEED,
      from: 0,
      to: INPUTS,
      simulatedEvery: SIMULATED_EVERY,
      onFailure: (message) => {
        throw new Error(message);
      },
    });
    const { formats, ...counts } = tally;
    console.log(`${INPUTS} inputs of seed ${SEED}: ${JSON.stringify(counts)}, ${formats.size} kinds read`);
    expect(tally.done).toBe(INPUTS);
    expect(tally.read).toBeGreaterThan(INPUTS / 5);
    expect(tally.refused).toBeGreaterThan(INPUTS / 20);
    expect(tally.simulated).toBeGreaterThan(INPUTS / SIMULATED_EVERY / 5);
  },
);
