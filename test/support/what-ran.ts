/** Vitest reporter that ends a run with a list of what ran and of what was left out, with the reason. */
import { env, stdout } from 'node:process';
import type { Reporter, TestModule } from 'vitest/node';
import { RUNS_LONG_TESTS } from './long.js';

/** A test that cannot run says why in its title: "… (skipped: blkparse is not installed)". */
const REASON = /\(skipped: ([^)]*)\)/;
const NO_REASON = 'not selected, or no reason in the title';

export interface TestOutcome {
  readonly title: string;
  readonly state: 'passed' | 'failed' | 'skipped' | 'pending';
}

/** @returns lines that say what ran and what was left out. */
export function whatRan(
  outcomes: readonly TestOutcome[],
  files: number,
  runsLongTests: boolean,
  filesLeftOut = 0,
): string {
  const passed = outcomes.filter(({ state }) => state === 'passed').length;
  const failed = outcomes.filter(({ state }) => state === 'failed').length;
  const extent = runsLongTests ? 'all tests, long ones included' : 'the short tests';
  const lines = [`Ran ${extent}: ${passed} passed, ${failed} failed, in ${files} files.`];
  if (filesLeftOut > 0) lines.push(`Left out ${filesLeftOut} files: long, they run in npm run test:all.`);
  const left = new Map<string, number>();
  for (const { title, state } of outcomes) {
    if (state !== 'skipped') continue;
    const reason = REASON.exec(title)?.[1] ?? NO_REASON;
    left.set(reason, (left.get(reason) ?? 0) + 1);
  }
  for (const [reason, count] of [...left].sort()) lines.push(`Left out ${count}: ${reason}.`);
  return lines.join('\n');
}

export default class WhatRan implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const outcomes = modules.flatMap((module) =>
      Array.from(module.children.allTests(), (test) => ({ title: test.fullName, state: test.result().state })),
    );
    const filesLeftOut = Number(env['PCACHE_TEST_FILES_LEFT_OUT'] ?? 0);
    stdout.write(`${whatRan(outcomes, modules.length, RUNS_LONG_TESTS, filesLeftOut)}\n`);
  }
}
