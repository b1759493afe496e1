/**
 * Makes a plan that fails short: drops operations, then requests, as long as it still fails the same way,
 * and prints what is left as a test. Bounded in time.
 */
import type { SimOp, SimPlan } from './sim-plan.js';
import { runPlan } from './sim-run.js';

/** What a plan fails with, or undefined when it passes. */
export function failureOf(plan: SimPlan): Error | undefined {
  try {
    runPlan(plan);
    return undefined;
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
}

/** Failures of one kind start alike: what follows are numbers. */
function kindOf(error: Error): string {
  return `${error.name}:${error.message.slice(0, 24)}`;
}

/**
 * @param plan one that fails with `failure`.
 * @param budgetMs how long to try.
 * @param fails runs a plan; replaceable for tests.
 */
export function shrink(plan: SimPlan, failure: Error, budgetMs: number, fails = failureOf): SimPlan {
  const deadline = Date.now() + budgetMs;
  const kind = kindOf(failure);
  const stillFails = (ops: readonly SimOp[]) => {
    const error = fails({ config: plan.config, ops });
    return error !== undefined && kindOf(error) === kind;
  };
  let ops = plan.ops;
  let changed = true;
  while (changed && Date.now() < deadline) {
    const before = weight(ops);
    ops = dropPieces(ops, stillFails, deadline);
    ops = dropRequests(ops, stillFails, deadline);
    changed = weight(ops) < before;
  }
  return { config: plan.config, ops };
}

function weight(ops: readonly SimOp[]): number {
  return ops.reduce((sum, op) => sum + 1 + (op.kind === 'submit' ? op.requests.length : 0), 0);
}

/** Drops runs of elements, long ones first, while `keeps` says that what is left will do. */
function dropPieces<T>(items: readonly T[], keeps: (items: readonly T[]) => boolean, deadline: number): readonly T[] {
  let left = items;
  for (let size = Math.ceil(left.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < left.length && Date.now() < deadline;) {
      const shorter = [...left.slice(0, from), ...left.slice(from + size)];
      if (keeps(shorter)) left = shorter;
      else from += size;
    }
  }
  return left;
}

function dropRequests(
  ops: readonly SimOp[],
  stillFails: (ops: readonly SimOp[]) => boolean,
  deadline: number,
): readonly SimOp[] {
  let left = ops;
  for (let i = 0; i < left.length; i++) {
    const op = left[i];
    if (op.kind !== 'submit' || op.requests.length < 2) continue;
    const withRequests = (requests: typeof op.requests) =>
      left.map((other, n) => (n === i ? { ...op, requests } : other));
    const requests = dropPieces(op.requests, (some) => some.length > 0 && stillFails(withRequests(some)), deadline);
    left = withRequests(requests);
  }
  return left;
}

/** The plan as the text of a test. */
export function asTest(plan: SimPlan, failure: Error): string {
  const lines = [`it('seed ${plan.config.seed}: ${failure.message.split(/[;:(]/)[0].trim()}', () => {`, '  runPlan({'];
  lines.push(`    config: ${JSON.stringify(plan.config)},`, '    ops: [');
  for (const op of plan.ops) lines.push(`      ${JSON.stringify(op)},`);
  lines.push('    ],', '  });', '});');
  return lines.join('\n');
}
