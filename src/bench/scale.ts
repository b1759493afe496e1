/**
 * `pcache bench scale`: what a request and a key cost as the cache, the backing device, or the number of keys
 * grows. Each step is made and measured by itself, in memory that is given back before the next one. Steps that
 * take more memory than there may be are left out, and named.
 */
import { availableMemoryBytes } from '../replay/replay-devices.js';
import { measureStep, SCALE_DEPTH, type StepHooks, type StepResult } from './scale-measure.js';
import {
  FULL_EFFORT,
  memoryNeeded,
  QUICK_EFFORT,
  SCALE_BLOCK_BYTES,
  scaleStep,
  type AxisSizes,
  type ScaleAxis,
  type ScaleStep,
} from './scale-steps.js';
import { judgeAxis, type Verdict } from './scale-verdict.js';

/** Of the memory that is free so much is used unless the user says. */
const MEMORY_SHARE = 0.7;

export interface ScaleOptions {
  readonly axes: readonly AxisSizes[];
  readonly quick: boolean;
  /** Memory that a step may take, bytes; a share of what is free when undefined. */
  readonly memoryBytes: number | undefined;
  readonly openRows: StepHooks['openRows'];
  /** Called now and then with the number of steps that are done, and what is being done. */
  readonly onProgress: (step: number, doing: string) => void;
  readonly breathe: () => Promise<void>;
  readonly isStopped: () => boolean;
}

export interface SkippedStep extends ScaleStep {
  readonly neededBytes: number;
}

export interface AxisResult {
  readonly axis: ScaleAxis;
  readonly steps: readonly StepResult[];
  /** What memory was too small for. */
  readonly skipped: readonly SkippedStep[];
  readonly verdicts: readonly Verdict[];
}

export interface ScaleResult {
  readonly blockBytes: number;
  readonly depth: number;
  readonly memoryBytes: number;
  readonly axes: readonly AxisResult[];
}

/** Thrown through a step that is to end. */
class Stopped extends Error {}

/** Goes through all steps; stopped, it returns those that were done. */
export async function benchScale(options: ScaleOptions): Promise<ScaleResult> {
  const memoryBytes = options.memoryBytes ?? Math.floor(availableMemoryBytes() * MEMORY_SHARE);
  const axes: AxisResult[] = [];
  let done = 0;
  for (const { axis, sizes } of options.axes) {
    if (options.isStopped()) break;
    axes.push(await measureAxis(axis, sizes, memoryBytes, done, options));
    done += sizes.length;
  }
  return { blockBytes: SCALE_BLOCK_BYTES, depth: SCALE_DEPTH, memoryBytes, axes };
}

async function measureAxis(
  axis: ScaleAxis,
  sizes: readonly number[],
  memoryBytes: number,
  stepsBefore: number,
  options: ScaleOptions,
): Promise<AxisResult> {
  const effort = options.quick ? QUICK_EFFORT : FULL_EFFORT;
  const steps: StepResult[] = [];
  const skipped: SkippedStep[] = [];
  for (const size of sizes) {
    const step = scaleStep(axis, size, options.quick);
    const neededBytes = memoryNeeded(step, effort);
    if (neededBytes > memoryBytes) {
      skipped.push({ ...step, neededBytes });
      continue;
    }
    try {
      steps.push(await measureStep(step, effort, hooksFor(options, stepsBefore + steps.length + skipped.length)));
    } catch (error) {
      if (error instanceof Stopped) break;
      throw error;
    }
  }
  return { axis, steps, skipped, verdicts: judgeAxis(axis, steps) };
}

function hooksFor({ openRows, onProgress, breathe, isStopped }: ScaleOptions, step: number): StepHooks {
  const check = () => {
    if (isStopped()) throw new Stopped();
  };
  return {
    openRows,
    onPhase: async (phase) => {
      onProgress(step, phase);
      await breathe();
      check();
    },
    onFill: (keys) => {
      onProgress(step, `${keys} keys written`);
      check();
    },
  };
}
