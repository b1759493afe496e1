/**
 * Long tests: whole simulations, whole damage tables, a million messages. `npm run test:all` (PCACHE_TEST_ALL=1, as
 * in CI) runs all of them; `npm test` skips them with the reason in their title, or runs a smaller share of them, so
 * that it ends within five minutes on two processors.
 */
import { describe, it } from 'vitest';

export const RUNS_LONG_TESTS = process.env['PCACHE_TEST_ALL'] === '1';

/** Ends the title of every skipped long test; the reporter `what-ran.ts` counts by it. */
export const LONG_TEST_REASON = '(skipped: long, runs in npm run test:all)';

/** `describe` for tests that take long. `body` is not called in `npm test`. */
export function describeLong(name: string, body: () => void): void {
  if (RUNS_LONG_TESTS) describe(name, body);
  else it.skip(`${name} ${LONG_TEST_REASON}`, () => undefined);
}

/** `it` for a test that takes long. */
export function itLong(name: string, options: { timeout: number }, body: () => void | Promise<void>): void {
  if (RUNS_LONG_TESTS) it(name, options, body);
  else it.skip(`${name} ${LONG_TEST_REASON}`, () => undefined);
}

/**
 * Number of seeds, rounds or messages of a test that has a share of it in `npm test`. Name the number in the title.
 * @returns `all` in `npm run test:all`, otherwise `share`.
 */
export function countOf({ share, all }: { readonly share: number; readonly all: number }): number {
  return RUNS_LONG_TESTS ? all : share;
}

/**
 * Cases of a table of which `npm test` runs the first ones only.
 * @returns all of `cases` in `npm run test:all`, otherwise the first `share` of them.
 */
export function casesOf<T>(cases: readonly T[], share: number): readonly T[] {
  return cases.slice(0, countOf({ share, all: cases.length }));
}
