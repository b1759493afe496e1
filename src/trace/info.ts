/**
 * What is in a trace, as one plain object: the JSON of `pcache trace info`. Two passes: the first finds how long the
 * trace is, the second divides that into intervals. Memory is bounded whatever the trace says.
 */
import { createHistogram } from 'node:perf_hooks';
import { assert } from '../engine/errors.js';
import { openTrace } from './reader.js';
import { BLOCK_BYTES, MAX_INTERVALS, TouchedBlocks } from './touched.js';
import { TraceOp } from './types.js';
import type { DeviceBatch, MalformedRecord, TraceOptions } from './types.js';

/** Intervals over which the trace is followed. */
const INTERVALS = 48;
/** A request goes on with a stream if it begins where one of so many before it, of its kind, has ended. */
const STREAMS = 32;
/** Sizes from below 2^10 to 2^30 and above. */
const SMALLEST_SIZE_BITS = 9;
const SIZE_CLASSES = 23;
/** Batches between two turns of the event loop. */
const BATCHES_PER_TURN = 16;

export const OPS = ['read', 'write', 'flush', 'discard'] as const;
export type OpName = (typeof OPS)[number];

export interface OpInfo {
  readonly requests: number;
  readonly bytes: number;
  /** Null without any, as the two below. */
  readonly meanBytes: number | null;
  readonly minBytes: number | null;
  readonly maxBytes: number | null;
  /** Requests that begin and end at multiples of 4 KiB. */
  readonly aligned: number;
  /** Requests that begin where the one of the same kind before them ended. */
  readonly sequential: number;
  /** Requests that begin where one of the 32 of the same kind before them ended. */
  readonly inStreams: number;
}

export interface TraceInterval {
  /** Where it begins, ns after the first request. */
  readonly startNs: number;
  readonly requests: Readonly<Record<OpName, number>>;
  readonly readBytes: number;
  readonly writeBytes: number;
  /** Size of the 4 KiB blocks touched in it; null when they are spread too far to tell, as below. */
  readonly workingSetBytes: number | null;
  /** Size of the 4 KiB blocks touched from the beginning to its end. */
  readonly footprintBytes: number | null;
}

export interface TraceInfo {
  readonly name: string;
  readonly format: string;
  readonly files: readonly string[];
  readonly action: string;
  /** From the first request to the last. */
  readonly durationNs: number;
  readonly requests: number;
  readonly devices: readonly { readonly name: string; readonly requests: number }[];
  readonly operations: Readonly<Record<OpName, OpInfo>>;
  /** Requests by size: from `fromBytes` up to below `toBytes`; classes without any are left out. */
  readonly sizes: readonly {
    readonly fromBytes: number;
    readonly toBytes: number | null;
    readonly reads: number;
    readonly writes: number;
    readonly discards: number;
  }[];
  readonly footprint: {
    /** Largest end of a read or write. */
    readonly endBytes: number;
    /** Size of the 4 KiB blocks touched, read, written; null when they are spread too far to tell, as below. */
    readonly uniqueBytes: number | null;
    readonly uniqueReadBytes: number | null;
    readonly uniqueWriteBytes: number | null;
    /** Blocks of reads that had been read or written before, of all blocks read: what an endless cache would hit. */
    readonly readAgainRatio: number | null;
    /** Blocks of writes that had been written before, of all blocks written. */
    readonly writtenAgainRatio: number | null;
  };
  /** Between one request and the next; null with less than two. */
  readonly interArrival: {
    readonly meanNs: number;
    readonly p50Ns: number;
    readonly p90Ns: number;
    readonly p99Ns: number;
    readonly maxNs: number;
  } | null;
  /** Equal parts of the duration, or of the requests where all have the same time. */
  readonly overTime: { readonly by: 'time' | 'requests'; readonly intervals: readonly TraceInterval[] };
  /** What the reader met, by name. */
  readonly counts: Readonly<Record<string, number>>;
  readonly malformed: readonly MalformedRecord[];
  readonly warnings: readonly string[];
}

export interface InfoObserver {
  /** @param total requests to expect, when known */
  begins(phase: 'measure' | 'look', total: number | undefined): void;
  progress(done: number): void;
  /** Called now and then; throws to give up. */
  turn(): Promise<void>;
}

/** Reads TRACE twice. Throws what `openTrace` and `TraceReader.batches` throw. */
export async function describeTrace(path: string, options: TraceOptions, observer: InfoObserver): Promise<TraceInfo> {
  const wanted = { ...options, allDevices: options.device === undefined };
  observer.begins('measure', undefined);
  let requests = 0;
  let durationNs = 0;
  await followTrace(path, wanted, observer, (batch) => {
    requests += batch.count;
    durationNs = batch.timeNs[batch.count - 1];
  });
  observer.begins('look', requests);
  const look = new Look(durationNs, requests);
  const reader = await followTrace(path, wanted, observer, (batch) => look.take(batch));
  const { devices, ...counts } = reader.counts;
  return {
    name: reader.name,
    format: reader.format,
    files: reader.files,
    action: options.action,
    durationNs,
    requests,
    devices: [...devices].map(([name, count]) => ({ name, requests: count })).sort((a, b) => b.requests - a.requests),
    ...look.summary(),
    counts: { ...counts },
    malformed: reader.malformed,
    warnings: reader.warnings,
  };
}

async function followTrace(
  path: string,
  options: TraceOptions,
  observer: InfoObserver,
  take: (batch: DeviceBatch) => void,
): Promise<Awaited<ReturnType<typeof openTrace>>> {
  const reader = await openTrace(path, options);
  let done = 0;
  let batches = 0;
  for await (const batch of reader.batches()) {
    take(batch);
    done += batch.count;
    observer.progress(done);
    if (++batches % BATCHES_PER_TURN === 0) await observer.turn();
  }
  return reader;
}

/** Of the requests of one kind. */
class OpTally {
  requests = 0;
  bytes = 0;
  minBytes = Infinity;
  maxBytes = 0;
  aligned = 0;
  sequential = 0;
  inStreams = 0;
  readonly sizes = new Float64Array(SIZE_CLASSES);
  readonly #ends = new Float64Array(STREAMS).fill(-1);
  readonly #devices = new Float64Array(STREAMS).fill(-1);
  #latest = 0;

  take(device: number, offsetBytes: number, lengthBytes: number): void {
    this.requests++;
    this.bytes += lengthBytes;
    this.minBytes = Math.min(this.minBytes, lengthBytes);
    this.maxBytes = Math.max(this.maxBytes, lengthBytes);
    if (offsetBytes % BLOCK_BYTES === 0 && lengthBytes % BLOCK_BYTES === 0) this.aligned++;
    this.sizes[sizeClass(lengthBytes)]++;
    this.#follow(device, offsetBytes, offsetBytes + lengthBytes);
  }

  #follow(device: number, start: number, end: number): void {
    if (this.#ends[this.#latest] === start && this.#devices[this.#latest] === device) this.sequential++;
    let stream = 0;
    while (stream < STREAMS && !(this.#ends[stream] === start && this.#devices[stream] === device)) stream++;
    if (stream < STREAMS) this.inStreams++;
    else stream = (this.#latest + 1) % STREAMS;
    this.#latest = stream;
    this.#ends[stream] = end;
    this.#devices[stream] = device;
  }

  summary(): OpInfo {
    const { requests, bytes, aligned, sequential, inStreams } = this;
    const of = (value: number): number | null => (requests === 0 ? null : value);
    return {
      requests,
      bytes,
      meanBytes: of(bytes / requests),
      minBytes: of(this.minBytes),
      maxBytes: of(this.maxBytes),
      aligned,
      sequential,
      inStreams,
    };
  }
}

/** Class 0 is below 1 KiB, each of the others goes up to twice as much. */
function sizeClass(lengthBytes: number): number {
  const bits = Math.floor(Math.log2(Math.max(1, lengthBytes)));
  return Math.min(SIZE_CLASSES - 1, Math.max(0, bits - SMALLEST_SIZE_BITS));
}

/** The second pass. */
class Look {
  readonly #tallies: Readonly<Record<OpName, OpTally>>;
  readonly #byNumber: readonly OpTally[];
  readonly #touched = new TouchedBlocks(INTERVALS);
  /** Requests by interval and kind, then bytes read and written. */
  readonly #requests = OPS.map(() => new Float64Array(INTERVALS));
  readonly #bytes = [new Float64Array(INTERVALS), new Float64Array(INTERVALS)];
  readonly #gaps = createHistogram({ figures: 3 });
  readonly #byTime: boolean;
  #done = 0;
  #lastNs = Number.NaN;
  #endBytes = 0;

  constructor(
    private readonly durationNs: number,
    private readonly total: number,
  ) {
    this.#byTime = durationNs > 0;
    this.#tallies = { read: new OpTally(), write: new OpTally(), flush: new OpTally(), discard: new OpTally() };
    this.#byNumber = OPS.map((name) => this.#tallies[name]);
  }

  take(batch: DeviceBatch): void {
    for (let i = 0; i < batch.count; i++) this.#takeOne(batch, i);
  }

  #takeOne(batch: DeviceBatch, i: number): void {
    const op = batch.op[i];
    const timeNs = batch.timeNs[i];
    const offset = batch.offsetBytes[i];
    const length = batch.lengthBytes[i];
    const device = batch.device[i];
    const share = this.#byTime ? timeNs / this.durationNs : this.#done / this.total;
    const interval = Math.min(INTERVALS - 1, Math.floor(share * INTERVALS));
    this.#done++;
    if (!Number.isNaN(this.#lastNs)) this.#gaps.record(Math.max(1, Math.round(timeNs - this.#lastNs)));
    this.#lastNs = timeNs;
    this.#requests[op][interval]++;
    this.#byNumber[op].take(device, offset, length);
    if (op !== TraceOp.read && op !== TraceOp.write) return;
    this.#bytes[op][interval] += length;
    this.#endBytes = Math.max(this.#endBytes, offset + length);
    this.#touched.add(device, op === TraceOp.read, interval, offset, length);
  }

  summary(): Pick<TraceInfo, 'operations' | 'sizes' | 'footprint' | 'interArrival' | 'overTime'> {
    const { read, write, flush, discard } = this.#tallies;
    return {
      operations: {
        read: read.summary(),
        write: write.summary(),
        flush: flush.summary(),
        discard: discard.summary(),
      },
      sizes: this.#sizes(),
      footprint: this.#footprint(),
      interArrival: this.#interArrival(),
      overTime: { by: this.#byTime ? 'time' : 'requests', intervals: this.#intervals() },
    };
  }

  #sizes(): TraceInfo['sizes'] {
    const { read, write, discard } = this.#tallies;
    const classes = Array.from({ length: SIZE_CLASSES }, (_, i) => ({
      fromBytes: i === 0 ? 0 : 2 ** (i + SMALLEST_SIZE_BITS),
      toBytes: i === SIZE_CLASSES - 1 ? null : 2 ** (i + SMALLEST_SIZE_BITS + 1),
      reads: read.sizes[i],
      writes: write.sizes[i],
      discards: discard.sizes[i],
    }));
    return classes.filter(({ reads, writes, discards }) => reads + writes + discards > 0);
  }

  #footprint(): TraceInfo['footprint'] {
    const touched = this.#touched;
    const known = (value: number): number | null => (touched.overflowed ? null : value);
    const ratio = (again: number, first: number): number | null =>
      again + first === 0 ? null : known(again / (again + first));
    const { readAgain, writtenAgain, written } = touched;
    return {
      endBytes: this.#endBytes,
      uniqueBytes: known(touched.touched * BLOCK_BYTES),
      uniqueReadBytes: known(touched.read * BLOCK_BYTES),
      uniqueWriteBytes: known(written * BLOCK_BYTES),
      readAgainRatio: ratio(readAgain, touched.readFirst),
      writtenAgainRatio: ratio(writtenAgain, written),
    };
  }

  #interArrival(): TraceInfo['interArrival'] {
    const gaps = this.#gaps;
    if (this.#done < 2) return null;
    // What the histogram holds as 1 ns, its least, may have been none.
    const at = (percentile: number): number => (gaps.percentile(percentile) <= 1 ? 0 : gaps.percentile(percentile));
    return {
      meanNs: this.durationNs / (this.#done - 1),
      p50Ns: at(50),
      p90Ns: at(90),
      p99Ns: at(99),
      maxNs: gaps.max <= 1 ? 0 : gaps.max,
    };
  }

  #intervals(): TraceInterval[] {
    const touched = this.#touched;
    let footprint = 0;
    return Array.from({ length: INTERVALS }, (_, i) => {
      footprint += touched.newByInterval[i] * BLOCK_BYTES;
      return {
        startNs: (i * this.durationNs) / INTERVALS,
        requests: {
          read: this.#requests[TraceOp.read][i],
          write: this.#requests[TraceOp.write][i],
          flush: this.#requests[TraceOp.flush][i],
          discard: this.#requests[TraceOp.discard][i],
        },
        readBytes: this.#bytes[TraceOp.read][i],
        writeBytes: this.#bytes[TraceOp.write][i],
        workingSetBytes: touched.overflowed ? null : touched.byInterval[i] * BLOCK_BYTES,
        footprintBytes: touched.overflowed ? null : footprint,
      };
    });
  }
}

assert(INTERVALS <= MAX_INTERVALS, 'there are more intervals than a block can name');
