/**
 * Prints `N passed, N failed, N skipped` from what vitest's JSON reporter wrote, alone on a line.
 * Usage: node scripts/count-tests.mjs FILE. Status 1 when anything failed, or when there is no result.
 */
import { readFileSync } from 'node:fs';

/** @returns the line, and whether all went well. A file that could not be loaded counts as one failed test. */
export function countTests(text) {
  const { numPassedTests: passed, numFailedTests, numPendingTests, numTodoTests, testResults } = JSON.parse(text);
  const unloaded = testResults.filter((file) => file.status === 'failed' && file.assertionResults.length === 0).length;
  const failed = numFailedTests + unloaded;
  return {
    line: `${passed} passed, ${failed} failed, ${numPendingTests + numTodoTests} skipped`,
    ok: failed === 0 && passed > 0,
  };
}

if (process.argv[2] !== undefined) {
  let result;
  try {
    result = countTests(readFileSync(process.argv[2], 'utf8'));
  } catch (error) {
    process.stderr.write(`no test results: ${error.message}\n`);
    result = { line: '0 passed, 1 failed', ok: false };
  }
  process.stdout.write(`${result.line}\n`);
  process.exitCode = result.ok ? 0 : 1;
}
