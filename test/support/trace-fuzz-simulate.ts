/** Requests as `read` of trace-fuzz.ts lists them, for a simulation. */
import type { SimulatedTrace } from '../../src/simulate/simulate.js';
import { makeBatch, TraceOp, type TraceBatch } from '../../src/trace/index.js';

export function simulatedTrace(lines: readonly string[]): SimulatedTrace & { readonly requests: number } {
  const batch = makeBatch(lines.length);
  let endBytes = 0;
  let requests = 0;
  for (const line of lines) {
    const [timeNs, op, flags, offset, length] = line.split(' ').map(Number);
    const at = batch.count++;
    [batch.timeNs[at], batch.op[at], batch.flags[at]] = [timeNs, op, flags];
    [batch.offsetBytes[at], batch.lengthBytes[at]] = [offset, length];
    endBytes = Math.max(endBytes, offset + length);
    if (op !== TraceOp.discard) requests++;
  }
  async function* batches(): AsyncGenerator<TraceBatch, void, undefined> {
    await Promise.resolve();
    yield batch;
  }
  return {
    batches,
    endBytes,
    requests,
    describe: () => ({
      name: 'fuzz',
      format: '',
      action: 'queue',
      durationNs: 0,
      endBytes,
      uniqueBytes: undefined,
      counts: {},
    }),
  };
}
