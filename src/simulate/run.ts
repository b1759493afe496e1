/** `pcache replay --simulate`: from the user's choice of trace and cache to the result. */
import type { CacheMode } from '../engine/media/codecs.js';
import { PcacheError } from '../engine/errors.js';
import { withScannedTrace, type ReplayObserver, type TraceChoice } from '../replay/replay.js';
import type { ReplayResult } from '../replay/replay-result.js';
import { BACKING_PRESET_NAMES, type LatencyModel } from './latency-model.js';
import { streamedTrace, traceOfFile } from './traces.js';
import { simulate, type SimulatedTrace } from './simulate.js';

export interface SimulationChoice extends TraceChoice {
  readonly cacheBytes: number | undefined;
  /**
   * Size of the backing device. With it the trace is read only once, as it comes: nobody looks through it first
   * to see how far it reaches.
   */
  readonly backingBytes: number | undefined;
  readonly dataCrc: boolean;
  readonly gcPercent: number | undefined;
  readonly mode: CacheMode | undefined;
  readonly model: LatencyModel | undefined;
  /** Infinity when not asked for. */
  readonly speed: number;
}

/** @throws PcacheError as `simulate`, and USAGE for options that contradict one another */
export async function runSimulation(choice: SimulationChoice, observer: ReplayObserver): Promise<ReplayResult> {
  if (choice.model === undefined && choice.speed !== Infinity) {
    const presets = BACKING_PRESET_NAMES.join(', ');
    throw new PcacheError(
      'USAGE',
      `a simulation has a speed only with a model of the devices; give --model (${presets})`,
    );
  }
  let interrupted = false;
  let stopRunner = () => {};
  observer.onInterrupt(() => {
    interrupted = true;
    stopRunner();
  });
  const run = async (trace: SimulatedTrace, expected: number | undefined) => {
    observer.begins('replay', expected);
    return simulate({
      ...choice,
      speed: choice.speed === Infinity ? 1 : choice.speed,
      trace,
      onProgress: (requests) => observer.progress(requests),
      onStoppable: (stop) => {
        stopRunner = stop;
        if (interrupted) stop();
      },
    });
  };
  if (choice.backingBytes === undefined) {
    return withScannedTrace(choice, observer, ({ path, options, footprint, expected }) => {
      const trace = traceOfFile(path, options, footprint, choice.loops);
      return run({ ...trace, describe: () => ({ ...trace.describe(), name: choice.trace }) }, expected);
    });
  }
  if (choice.loops > 1) {
    throw new PcacheError('USAGE', '--backing-size has the trace read only once; leave it out to use --loop');
  }
  const trace = await streamedTrace(choice, choice.backingBytes);
  const result = await run(trace, Number.isFinite(choice.limit) ? choice.limit : undefined);
  for (const warning of trace.warnings) observer.warn(warning);
  return result;
}
