/** Traces as what is simulated: of a file that was looked through already, and of one that is read as it comes. */
import { traceOptionsOf, type TraceChoice } from '../replay/replay.js';
import { describeTrace, type ReplayResult } from '../replay/replay-result.js';
import { FileTraceSource, loopBatches } from '../replay/trace-source.js';
import { openTrace, type TraceBatch, type TraceFootprint, type TraceOptions } from '../trace/index.js';
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

/**
 * A trace that is read only once, for a backing device of a given size. What the result says of it is known at
 * the end.
 */
export async function streamedTrace(
  choice: TraceChoice,
  backingBytes: number,
): Promise<SimulatedTrace & { readonly warnings: readonly string[] }> {
  const reader = await openTrace(choice.trace, {
    ...traceOptionsOf(choice),
    stdin: choice.stdin,
    onPipe: choice.onPipe,
  });
  let durationNs = 0;
  let endBytes = 0;
  async function* batches(): AsyncGenerator<TraceBatch, void, undefined> {
    for await (const batch of reader.batches()) {
      durationNs = batch.timeNs[batch.count - 1];
      for (let i = 0; i < batch.count; i++) {
        const end = batch.offsetBytes[i] + batch.lengthBytes[i];
        if (end > endBytes) endBytes = end;
      }
      yield batch;
    }
  }
  const describe = (): ReplayResult['trace'] => {
    const { counts, format } = reader;
    return describeTrace(choice.trace, choice.action, { format, durationNs, endBytes, uniqueBytes: undefined, counts });
  };
  return { endBytes: backingBytes, warnings: reader.warnings, batches, describe };
}
