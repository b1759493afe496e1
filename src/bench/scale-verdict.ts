/**
 * What the steps of an axis say: whether a cost stays as it is while its axis grows. A cost that grows because
 * what it needs has left the processor's caches is told from one that grows by itself: beside it stands what one
 * load from memory of the index's size takes, and a request, or a key at attach, takes a few of those.
 */
import type { StepResult } from './scale-measure.js';
import type { ScaleAxis } from './scale-steps.js';

type Measure = 'read' | 'write' | 'attach' | 'fsck' | 'dump-keys';

/** A cost that rises to so many times what it was before is flat: it is measured no better, and once where it is long. */
const FLAT_TIMES: Record<Measure, number> = {
  'read': 1.25,
  'write': 1.25,
  'attach': 1.5,
  'fsck': 1.5,
  'dump-keys': 1.5,
};
/** Loads of a request or a key that may miss the caches: its subtree, its entry, and the neighbours that move. */
const LOADS: Record<Measure, number> = { 'read': 3, 'write': 3, 'attach': 3, 'fsck': 0, 'dump-keys': 0 };
/** Below so many keys what a cache costs without any is more than they do. */
const LINEAR_KEYS_MIN = 100_000;

export type VerdictKind = 'flat' | 'cache-misses' | 'grows';

export interface Verdict {
  readonly measure: Measure;
  readonly kind: VerdictKind;
  /** Cost of a request or a key at the first and last step, ns. */
  readonly firstNs: number;
  readonly lastNs: number;
  /** The most that it rises, from any step to a later one; below 1 when it only falls. */
  readonly times: number;
  /** The same of the limit at the same addresses; of requests. */
  readonly limitTimes: number | undefined;
  /** What one load from memory of the index's size takes at the last step more than at the first, ns. */
  readonly memoryLoadGrowthNs: number;
}

/** Nothing is said of an axis with fewer than two steps. */
export function judgeAxis(axis: ScaleAxis, steps: readonly StepResult[]): Verdict[] {
  const verdicts: Verdict[] = [];
  for (const measure of ['read', 'write'] as const) {
    const limit = steps.map((step) => step[measure].limitNs);
    add(verdicts, measure, steps, (step) => step[measure].engineNs, limit);
  }
  if (axis !== 'keys') return verdicts;
  const many = steps.filter((step) => step.keys >= LINEAR_KEYS_MIN);
  add(verdicts, 'attach', many, (step) => step.attach.nsPerKey);
  add(verdicts, 'fsck', many, (step) => step.fsck.nsPerKey);
  add(verdicts, 'dump-keys', many, (step) => step.dumpKeys.nsPerKey);
  return verdicts;
}

function add(
  verdicts: Verdict[],
  measure: Measure,
  steps: readonly StepResult[],
  costOf: (step: StepResult) => number,
  limit?: readonly number[],
): void {
  if (steps.length < 2) return;
  const costs = steps.map(costOf);
  const loads = steps.map((step) => step.memoryLoadNs);
  const memoryLoadGrowthNs = Math.max(0, loads[loads.length - 1] - loads[0]);
  verdicts.push({
    measure,
    kind: kindOf(measure, costs, limit, memoryLoadGrowthNs),
    firstNs: costs[0],
    lastNs: costs[costs.length - 1],
    times: riseOf(costs, (before, after) => after / before),
    limitTimes: limit && riseOf(limit, (before, after) => after / before),
    memoryLoadGrowthNs,
  });
}

/** The most, by `measure`, that a step differs from one before it. */
function riseOf(costs: readonly number[], measure: (before: number, after: number) => number): number {
  let most = -Infinity;
  let least = costs[0];
  for (const cost of costs.slice(1)) {
    most = Math.max(most, measure(least, cost));
    least = Math.min(least, cost);
  }
  return most;
}

function kindOf(
  measure: Measure,
  costs: readonly number[],
  limit: readonly number[] | undefined,
  loadGrowthNs: number,
): VerdictKind {
  const flatTimes = FLAT_TIMES[measure];
  if (riseOf(costs, (before, after) => after / before) <= flatTimes) return 'flat';
  const rise = (before: number, after: number) => after - before;
  const limitNs = limit ? Math.max(0, riseOf(limit, rise)) : 0;
  const explainedNs = Math.min(...costs) * (flatTimes - 1) + limitNs + LOADS[measure] * loadGrowthNs;
  return riseOf(costs, rise) <= explainedNs ? 'cache-misses' : 'grows';
}
