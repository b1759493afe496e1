/** Runs seeds inside a test, which fails with the first that fails, shortened to a test of its own. */
import { expect } from 'vitest';
import { isFailure, runSeed } from './sim-seeds.js';

/** How long to shorten a plan that fails; 0 where only the verdict counts. */
const SHRINK_MS = Number(process.env.PCACHE_SIM_SHRINK_MS ?? 30_000);

/** @returns how many crash states were judged, and how many of them drained. */
export function expectAllToPass(seeds: readonly number[]): { crashStates: number; drains: number } {
  const total = { crashStates: 0, drains: 0 };
  for (const seed of seeds) {
    const result = runSeed(seed, SHRINK_MS);
    if (isFailure(result)) expect.fail(`seed ${result.seed}: ${result.message}\n${result.test}`);
    total.crashStates += result.crashStates;
    total.drains += result.drains;
  }
  return total;
}
