/**
 * A trace written in another format. One pass; a batch is in memory at a time.
 */
import { gzipSync } from 'node:zlib';
import { openTrace } from './reader.js';
import type { TraceOptions } from './types.js';
import { TraceWriter, WRITE_TRAITS } from './writers.js';
import type { WriteFormat, WriteTally } from './writers.js';

/** Batches between two turns of the event loop. */
const BATCHES_PER_TURN = 16;

export interface ConvertJob {
  readonly trace: string;
  readonly options: TraceOptions;
  readonly to: WriteFormat;
  readonly gzip: boolean;
  /** Called with each piece. @returns when the next one may come */
  readonly sink: (bytes: Uint8Array) => Promise<void>;
  readonly progress: (requests: number) => void;
  /** Called now and then; throws to give up. */
  readonly turn: () => Promise<void>;
}

export interface ConvertResult extends WriteTally {
  readonly trace: string;
  readonly format: string;
  readonly to: WriteFormat;
  /** Bytes written. */
  readonly bytes: number;
  readonly devices: readonly string[];
  /** Times were rounded down to a multiple of it. */
  readonly timeUnitNs: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly warnings: readonly string[];
}

/** Throws what `openTrace` and `TraceReader.batches` throw, and what `sink` and `turn` do. */
export async function convertTrace(job: ConvertJob): Promise<ConvertResult> {
  const { devices: holdsDevices, timeUnitNs } = WRITE_TRAITS[job.to];
  const allDevices = holdsDevices && job.options.device === undefined;
  const reader = await openTrace(job.trace, { ...job.options, allDevices });
  const writer = new TraceWriter(job.to);
  let bytes = 0;
  const write = async (piece: Uint8Array): Promise<void> => {
    if (piece.length === 0) return;
    // Members of gzip one behind the other are one gzip file.
    const packed = job.gzip ? gzipSync(piece) : piece;
    bytes += packed.length;
    await job.sink(packed);
  };
  let batches = 0;
  for await (const batch of reader.batches()) {
    await write(writer.encode(batch, reader.deviceNames));
    job.progress(writer.tally.requests);
    if (++batches % BATCHES_PER_TURN === 0) await job.turn();
  }
  await write(writer.finish());
  const { devices, ...counts } = reader.counts;
  return {
    trace: reader.name,
    format: reader.format,
    to: job.to,
    ...writer.tally,
    bytes,
    devices: [...devices.keys()],
    timeUnitNs,
    counts: { ...counts },
    warnings: reader.warnings,
  };
}
