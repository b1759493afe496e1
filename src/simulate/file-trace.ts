/** A trace of a file as what is simulated. */
import { describeTrace } from '../replay/result.js';
import { FileTraceSource, loopBatches } from '../replay/trace-source.js';
import type { TraceFootprint, TraceOptions } from '../trace/index.js';
import type { SimulatedTrace } from './simulate.js';

/**
 * @param path what `openTrace` takes, not standard input
 * @param footprint what `scanTrace` found with the same options
 * @param loops passes over the trace, one after another
 */
export function traceOfFile(
  path: string,
  options: TraceOptions,
  footprint: TraceFootprint,
  loops = 1,
): SimulatedTrace & { readonly requests: number } {
  const source = new FileTraceSource(path, options, footprint);
  const { selected, discards } = footprint.counts;
  return {
    requests: (selected - discards) * loops,
    endBytes: footprint.endBytes,
    batches: () => loopBatches(source, loops, footprint.durationNs),
    describe: () => describeTrace(path, options.action, footprint),
  };
}
