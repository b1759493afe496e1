/**
 * The trace that a run reads, once or several times over (`--loop`). A short one is decoded once and kept; one
 * that is longer than that is read anew each time, so memory does not grow with the trace.
 */
import { openTrace, type TraceBatch, type TraceFootprint, type TraceOptions } from '../trace/index.js';

/** Requests that are kept in memory, 32 bytes each. */
const KEPT_REQUESTS_MAX = 1_000_000;
const TURN_EVERY_MS = 20;

export interface TraceSource {
  /** The requests from first to last. May be called again when the last iteration has ended. */
  batches(): AsyncIterable<TraceBatch> | Iterable<TraceBatch>;
}

/** A trace that was looked at already. @param path what `openTrace` takes, not standard input */
export class FileTraceSource implements TraceSource {
  private kept: TraceBatch[] | undefined;

  constructor(
    private readonly path: string,
    private readonly options: TraceOptions,
    private readonly footprint: TraceFootprint,
  ) {}

  batches(): AsyncIterable<TraceBatch> | Iterable<TraceBatch> {
    return this.kept ?? this.read();
  }

  private async *read(): AsyncGenerator<TraceBatch, void, undefined> {
    const kept: TraceBatch[] | undefined = this.footprint.counts.selected <= KEPT_REQUESTS_MAX ? [] : undefined;
    const reader = await openTrace(this.path, this.options);
    for await (const batch of reader.batches()) {
      kept?.push(copyOf(batch));
      yield batch;
    }
    this.kept = kept;
  }
}

/**
 * The requests of `loops` passes over a trace, each of which begins when the last request of the one before it
 * did. What is kept in memory comes without a turn of the event loop, and signals are heard in turns only: so there
 * is one every so often. @param durationNs from the trace's first request to its last
 */
export async function* loopBatches(
  source: TraceSource,
  loops: number,
  durationNs: number,
): AsyncGenerator<TraceBatch, void, undefined> {
  let shifted = new Float64Array(0);
  let turnAtMs = performance.now();
  for (let pass = 0; pass < loops; pass++) {
    for await (const batch of source.batches()) {
      if (performance.now() - turnAtMs > TURN_EVERY_MS) {
        await new Promise((resolve) => setImmediate(resolve));
        turnAtMs = performance.now();
      }
      if (pass === 0) {
        yield batch;
        continue;
      }
      if (shifted.length < batch.count) shifted = new Float64Array(batch.count);
      for (let i = 0; i < batch.count; i++) shifted[i] = batch.timeNs[i] + pass * durationNs;
      yield { ...batch, timeNs: shifted };
    }
  }
}

function copyOf({ count, timeNs, op, flags, offsetBytes, lengthBytes }: TraceBatch): TraceBatch {
  return {
    count,
    timeNs: timeNs.slice(0, count),
    op: op.slice(0, count),
    flags: flags.slice(0, count),
    offsetBytes: offsetBytes.slice(0, count),
    lengthBytes: lengthBytes.slice(0, count),
  };
}
