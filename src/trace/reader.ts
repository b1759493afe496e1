/**
 * A trace as one stream of requests: merges the files of a recording in time order and hands the requests out
 * in batches. Memory is bounded by the number of files, not by their length; nothing is allocated per record.
 *
 * Order: by time, then sequence number, then file. It is exact as long as no request lies more than the reorder
 * window behind its place in its own file; one that does is delivered when it is found, with the time of the
 * request before it, and counted in `outOfOrder`.
 */
import { assert, PcacheError } from '../engine/errors.js';
import { openFileSource, openStream, StreamSource } from './bytes.js';
import type { ByteSource } from './bytes.js';
import { counted } from './counted.js';
import { findTraceFiles, traceName } from './files.js';
import type { TraceInput } from './input.js';
import { LineInput } from './lines.js';
import { openInput } from './open.js';
import { Recording } from './recording.js';
import { RequestSelector } from './select.js';
import { RequeuedRequests } from './requeued.js';
import { REQUEUE, RequestSink } from './sink.js';
import { makeBatch } from './types.js';
import type { DeviceBatch, MalformedRecord, TraceOptions, TraceTally } from './types.js';

const BATCH_REQUESTS = 4096;

/** Requests a window holds back, and what all windows of a recording of many CPUs hold back together. */
const REORDER_RECORDS = 8192;
const REORDER_RECORDS_TOTAL = 32 * REORDER_RECORDS;
const REORDER_RECORDS_MIN = 1024;

/**
 * Opens TRACE: `-`, a file, or the base name of a blktrace recording with a file per CPU. The caller iterates
 * `batches()`, which closes the reader, or calls `close()`.
 * Throws BAD_TRACE for what is no trace, USAGE for a device that is no `major,minor` where the trace has these, and
 * NOT_FOUND, NO_ACCESS, NOT_A_DEVICE or IO for what the system refuses.
 */
export async function openTrace(path: string, options: TraceOptions): Promise<TraceReader> {
  const stream = await openStream(path, options);
  if (stream !== undefined) {
    const source = new StreamSource(traceName(path), stream);
    return openSources(source.name, [() => Promise.resolve(source)], [], options);
  }
  const { paths, warnings, missing } = await findTraceFiles(path);
  return openSources(
    options.name ?? path,
    paths.map((file) => () => openFileSource(file, paths.length === 1 ? options.name : undefined)),
    warnings,
    options,
    missing,
  );
}

async function openSources(
  name: string,
  sources: readonly (() => Promise<ByteSource>)[],
  warnings: readonly string[],
  options: TraceOptions,
  missingFiles = 0,
): Promise<TraceReader> {
  const share = Math.floor(REORDER_RECORDS_TOTAL / sources.length);
  const reorderRecords = Math.max(REORDER_RECORDS_MIN, Math.min(REORDER_RECORDS, share));
  const sink = new RequestSink(options);
  sink.counts.missingFiles = missingFiles;
  const selector = new RequestSelector(sink, options.action);
  const inputs: TraceInput[] = [];
  try {
    for (const [order, open] of sources.entries()) {
      const context = { sink, reorderRecords, order, selector, isAlone: sources.length === 1 };
      inputs.push(await openInput(await open(), context, options));
    }
    if (inputs.every((input) => input instanceof Recording && input.empty)) {
      const what = inputs.length === 1 ? 'is empty' : `all ${inputs.length} files are empty`;
      throw new PcacheError('BAD_TRACE', `${name}: ${what}, a trace has at least one record; record it again`);
    }
    return new TraceReader(name, inputs, warnings, sink);
  } catch (error) {
    await closeAll(inputs);
    throw error;
  }
}

async function closeAll(inputs: readonly TraceInput[]): Promise<void> {
  await Promise.all(inputs.map((input) => input.close()));
}

function describe(inputs: readonly TraceInput[]): string {
  const packings = new Set(inputs.map(({ packing }) => packing).filter((packing) => packing !== undefined));
  const packed = [...packings].map((packing) => `, ${packing}`).join('');
  const orders = new Set<string>();
  const versions = new Set<number>();
  for (const input of inputs) {
    if (!(input instanceof Recording)) return `${input.format}${packed}`;
    if (input.kind === undefined) continue;
    orders.add(input.kind.byteOrder);
    versions.add(input.kind.layout.version);
  }
  const what = inputs.length === 1 ? 'blktrace stream' : `blktrace recording of ${inputs.length} CPUs`;
  const version = versions.size === 1 && !versions.has(8) ? '' : `, version ${[...versions].sort().join(' and ')}`;
  return `${what}${version}, ${orders.size === 1 ? [...orders][0] : 'mixed byte orders'}${packed}`;
}

export class TraceReader implements AsyncDisposable {
  /** The trace as the user named it, or `standard input`. */
  readonly name: string;
  /** What it is, for people. */
  readonly format: string;
  readonly files: readonly string[];
  /** One line each; complete once `batches()` has ended. */
  readonly warnings: string[];
  readonly #inputs: readonly TraceInput[];
  readonly #sink: RequestSink;
  readonly #batch = makeBatch(BATCH_REQUESTS);
  /** A heap of the inputs that still have requests, the one with the earliest first. */
  readonly #heap: TraceInput[] = [];
  #started = false;
  /** Times in the windows have an origin of their own; this is the first request's there. */
  #firstTimeNs = Number.NaN;
  #lastTimeNs = 0;
  readonly #requeued = new RequeuedRequests();

  /** Only `openTrace` makes one. Takes `inputs` over. */
  constructor(name: string, inputs: readonly TraceInput[], warnings: readonly string[], sink: RequestSink) {
    this.name = name;
    this.format = describe(inputs);
    this.files = inputs.map((input) => input.name);
    this.warnings = [...warnings];
    this.#inputs = inputs;
    this.#sink = sink;
  }

  /** What was met so far: some way ahead of the batches, and complete once `batches()` has ended. */
  get counts(): TraceTally {
    return this.#sink.tally();
  }

  /** The devices met so far, by the numbers that the batches give them; `''` where the format names none. */
  get deviceNames(): readonly string[] {
    return this.#sink.devices.names;
  }

  /** The first malformed records; `counts.malformed` says how many there are. */
  get malformed(): readonly MalformedRecord[] {
    return this.#sink.malformed;
  }

  /**
   * The requests in time order. The same batch object is refilled each time. May be iterated once; however that
   * ends (also by leaving the loop), everything is closed. Throws BAD_TRACE for damage in the middle of a file
   * (or more malformed records than allowed), for a trace without requests, and when several devices have requests and
   * none was chosen; and what reading the files throws.
   */
  async *batches(): AsyncGenerator<DeviceBatch, void, undefined> {
    assert(!this.#started, 'a trace is iterated twice');
    this.#started = true;
    try {
      for (const input of this.#inputs) {
        await this.#refill(input);
        if (input.window.count > 0) this.#siftUp(input);
      }
      const batch = this.#batch;
      while (this.#heap.length > 0 && !this.#sink.ambiguous) {
        const starved = this.#fillBatch();
        if (starved !== undefined) {
          await this.#refill(starved);
          this.#siftDown();
        }
        if (batch.count < batch.op.length) continue;
        yield batch;
        batch.count = 0;
      }
      if (this.#sink.ambiguous) await this.#countRest();
      this.#finish();
      if (batch.count > 0) yield batch;
    } finally {
      await this.close();
    }
  }

  /** Lets go of all files, or destroys the stream. Idempotent; not while a batch is awaited. */
  async close(): Promise<void> {
    this.#heap.length = 0;
    await closeAll(this.#inputs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Fetches and decodes until the earliest request of `input` may leave. */
  async #refill(input: TraceInput): Promise<void> {
    input.decode();
    while (!input.ready) {
      await input.fetch();
      input.decode();
    }
  }

  /**
   * Adds to the batch from the windows until it is full or the heap's first input must be refilled.
   * @returns that input, which then is no longer in its place in the heap.
   */
  #fillBatch(): TraceInput | undefined {
    const batch = this.#batch;
    const capacity = batch.op.length;
    while (batch.count < capacity && this.#heap.length > 0) {
      const first = this.#heap[0];
      this.#deliver(first, batch);
      if (!first.ready) {
        first.decode();
        if (!first.ready) return first;
      }
      this.#siftDown();
    }
    return undefined;
  }

  #deliver(input: TraceInput, batch: DeviceBatch): void {
    if (Number.isNaN(this.#firstTimeNs)) this.#firstTimeNs = input.window.headTimeNs;
    const timeNs = input.window.headTimeNs - this.#firstTimeNs;
    if (timeNs < this.#lastTimeNs) this.#sink.counts.outOfOrder++;
    else this.#lastTimeNs = timeNs;
    const at = batch.count;
    batch.timeNs[at] = this.#lastTimeNs;
    input.window.shiftInto(batch, at);
    if (batch.op[at] === REQUEUE) this.#requeued.add(batch, at);
    else if (this.#requeued.takes(batch, at)) this.#sink.uncount(batch.op[at], batch.flags[at], batch.device[at]);
    else batch.count++;
  }

  /** Reads all files to their ends without delivering, for the sake of the tally. */
  async #countRest(): Promise<void> {
    for (const input of this.#inputs) {
      input.window.clear();
      await this.#refill(input);
    }
  }

  #finish(): void {
    this.#sink.checkDevices(this.name);
    this.#sink.checkReadable(this.name);
    this.#sink.checkNotEmpty(this.name);
    for (const input of this.#inputs) {
      if (input instanceof LineInput) this.warnings.push(...input.warnings());
      if (input instanceof Recording && input.reordering !== undefined) this.warnings.push(input.reordering);
      if (input.truncation !== undefined) this.warnings.push(input.truncation);
    }
    this.warnings.push(...this.#sink.warnings(this.name));
    const { outOfOrder } = this.#sink.counts;
    if (outOfOrder > 0) {
      this.warnings.push(
        `${this.name}: ${counted(outOfOrder, 'request')} came too late in their file to be put in order; are several recordings in one file?`,
      );
    }
  }

  #siftUp(input: TraceInput): void {
    const heap = this.#heap;
    let at = heap.length;
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      if (!this.#isBefore(input, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = input;
  }

  /** Puts the first input, whose earliest request changed, in its place, or takes it out when it has none. */
  #siftDown(): void {
    const heap = this.#heap;
    if (heap.length === 0) return;
    if (heap[0].window.count === 0) {
      const last = heap.pop();
      if (heap.length === 0 || last === undefined) return;
      heap[0] = last;
    }
    const moved = heap[0];
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.#isBefore(heap[child + 1], heap[child])) child++;
      if (!this.#isBefore(heap[child], moved)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = moved;
  }

  #isBefore(a: TraceInput, b: TraceInput): boolean {
    const difference = a.window.headTimeNs - b.window.headTimeNs;
    if (difference !== 0) return difference < 0;
    if (a.window.headSequence !== b.window.headSequence) return a.window.headSequence < b.window.headSequence;
    return a.order < b.order;
  }
}
