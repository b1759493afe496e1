/** Runs seeds one after the other and says what came of them: used by the tests and by `npm run sim`. */
import { makePlan } from './sim-plan.js';
import { runPlan, type SimResult } from './sim-run.js';
import { asTest, failureOf, shrink } from './sim-shrink.js';

const SHRINK_MS = 30_000;

export interface SeedFailure {
  readonly seed: number;
  readonly message: string;
  /** The shortened plan as the text of a test. */
  readonly test: string;
}

/** Runs one seed. @returns what it did, or how it failed. */
export function runSeed(seed: number, shrinkMs = SHRINK_MS): SimResult | SeedFailure {
  const plan = makePlan(seed);
  try {
    return runPlan(plan);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const short = shrink(plan, error, shrinkMs);
    const last = failureOf(short) ?? error;
    return { seed, message: error.stack ?? error.message, test: asTest(short, last) };
  }
}

export function isFailure(result: SimResult | SeedFailure): result is SeedFailure {
  return 'test' in result;
}

/**
 * Seeds that somebody asks for by text: a number is that seed, anything else, a commit hash for instance,
 * stands for a few seeds of its own. Several are separated by commas.
 */
export function seedsFromText(text: string, each: number): number[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .flatMap((part) => {
      if (/^\d{1,9}$/.test(part)) return [Number(part)];
      let hash = 0x811c9dc5;
      for (const char of part) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193) >>> 0;
      return Array.from({ length: each }, (_, n) => ((hash >>> 4) + n * 7919) % 1_000_000_000);
    });
}
