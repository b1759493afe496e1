/**
 * A trace as one stream of requests: merges the files of a recording in time order and hands the requests out
 * in batches. Memory is bounded by the number of files, not by their length; nothing is allocated per record.
 *
 * Order: by time, then sequence number, then file. It is exact as long as no request lies more than the reorder
 * window behind its place in its own file; one that does is delivered when it is found, with the time of the
 * request before it, and counted in `outOfOrder`.
 */
import { assert, PcacheError } from '../engine/errors.js';
import { openFileSource, StreamSource } from './bytes.js';
import type { ByteSource } from './bytes.js';
import { findTraceFiles, STDIN_PATH } from './files.js';
import { Recording } from './recording.js';
import { RequestSelector } from './select.js';
import { makeBatch } from './types.js';
import type { TraceBatch, TraceOptions, TraceTally } from './types.js';

const BATCH_REQUESTS = 4096;

/** Requests a window holds back, and what all windows of a recording of many CPUs hold back together. */
const REORDER_RECORDS = 8192;
const REORDER_RECORDS_TOTAL = 32 * REORDER_RECORDS;
const REORDER_RECORDS_MIN = 1024;

/**
 * Opens TRACE: `-`, a file, or the base name of a recording with a file per CPU. The caller iterates
 * `batches()`, which closes the reader, or calls `close()`.
 * Throws BAD_TRACE for what is no recording, USAGE for a device that is no `major,minor`, and NOT_FOUND,
 * NO_ACCESS, NOT_A_DEVICE or IO for what the system refuses.
 */
export async function openTrace(path: string, options: TraceOptions): Promise<TraceReader> {
  const selector = new RequestSelector(options);
  if (path === STDIN_PATH) {
    assert(options.stdin !== undefined, 'reading a trace from - needs a stream');
    const source = new StreamSource('standard input', options.stdin);
    return openSources('standard input', [() => Promise.resolve(source)], [], selector);
  }
  const { paths, warnings } = await findTraceFiles(path);
  return openSources(
    path,
    paths.map((file) => () => openFileSource(file)),
    warnings,
    selector,
  );
}

async function openSources(
  name: string,
  sources: readonly (() => Promise<ByteSource>)[],
  warnings: readonly string[],
  selector: RequestSelector,
): Promise<TraceReader> {
  const share = Math.floor(REORDER_RECORDS_TOTAL / sources.length);
  const reorderRecords = Math.max(REORDER_RECORDS_MIN, Math.min(REORDER_RECORDS, share));
  const recordings: Recording[] = [];
  try {
    for (const [order, open] of sources.entries()) {
      recordings.push(await Recording.open(await open(), { selector, reorderRecords, order }));
    }
    if (recordings.every((recording) => recording.empty)) {
      const what = recordings.length === 1 ? 'is empty' : `all ${recordings.length} files are empty`;
      throw new PcacheError(
        'BAD_TRACE',
        `${name}: ${what}, a blktrace recording has at least one record; record it again`,
      );
    }
    return new TraceReader(name, recordings, warnings, selector);
  } catch (error) {
    await closeAll(recordings);
    throw error;
  }
}

async function closeAll(recordings: readonly Recording[]): Promise<void> {
  await Promise.all(recordings.map((recording) => recording.close()));
}

function describe(recordings: readonly Recording[]): string {
  const orders = [...new Set(recordings.map((recording) => recording.byteOrder))].filter(
    (order) => order !== undefined,
  );
  const what = recordings.length === 1 ? 'blktrace stream' : `blktrace recording of ${recordings.length} CPUs`;
  const packed = recordings.some((recording) => recording.packed) ? ', gzip' : '';
  return `${what}, ${orders.length === 1 ? orders[0] : 'mixed byte orders'}${packed}`;
}

export class TraceReader {
  /** The trace as the user named it, or `standard input`. */
  readonly name: string;
  /** What it is, for people. */
  readonly format: string;
  readonly files: readonly string[];
  /** One line each; complete once `batches()` has ended. */
  readonly warnings: string[];
  readonly #recordings: readonly Recording[];
  readonly #selector: RequestSelector;
  readonly #batch = makeBatch(BATCH_REQUESTS);
  /** A heap of the recordings that still have requests, the one with the earliest first. */
  readonly #heap: Recording[] = [];
  #started = false;
  /** Times in the windows have an origin of their own; this is the first request's there. */
  #firstTimeNs = Number.NaN;
  #lastTimeNs = 0;

  /** Only `openTrace` makes one. Takes `recordings` over. */
  constructor(name: string, recordings: readonly Recording[], warnings: readonly string[], selector: RequestSelector) {
    this.name = name;
    this.format = describe(recordings);
    this.files = recordings.map((recording) => recording.name);
    this.warnings = [...warnings];
    this.#recordings = recordings;
    this.#selector = selector;
  }

  /** What was met so far: some way ahead of the batches, and complete once `batches()` has ended. */
  get counts(): TraceTally {
    return this.#selector.tally();
  }

  /**
   * The requests in time order. The same batch object is refilled each time. May be iterated once; however that
   * ends (also by leaving the loop), everything is closed. Throws BAD_TRACE for damage in the middle of a file
   * and when several devices have requests and none was chosen, and what reading the files throws.
   */
  async *batches(): AsyncGenerator<TraceBatch, void, undefined> {
    assert(!this.#started, 'a trace is iterated twice');
    this.#started = true;
    try {
      for (const recording of this.#recordings) {
        await this.#refill(recording);
        if (recording.window.count > 0) this.#siftUp(recording);
      }
      const batch = this.#batch;
      while (this.#heap.length > 0 && !this.#selector.ambiguous) {
        const starved = this.#fillBatch();
        if (starved !== undefined) {
          await this.#refill(starved);
          this.#siftDown();
        }
        if (batch.count < batch.op.length) continue;
        yield batch;
        batch.count = 0;
      }
      if (this.#selector.ambiguous) await this.#countRest();
      this.#finish();
      if (batch.count > 0) yield batch;
    } finally {
      await this.close();
    }
  }

  /** Lets go of all files, or destroys the stream. Idempotent; not while a batch is awaited. */
  async close(): Promise<void> {
    this.#heap.length = 0;
    await closeAll(this.#recordings);
  }

  /** Fetches and decodes until the earliest request of `recording` may leave. */
  async #refill(recording: Recording): Promise<void> {
    recording.decode();
    while (!recording.ready) {
      await recording.fetch();
      recording.decode();
    }
  }

  /**
   * Adds to the batch from the windows until it is full or the heap's first recording must be refilled.
   * @returns that recording, which then is no longer in its place in the heap.
   */
  #fillBatch(): Recording | undefined {
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

  #deliver(recording: Recording, batch: TraceBatch): void {
    if (Number.isNaN(this.#firstTimeNs)) this.#firstTimeNs = recording.window.headTimeNs;
    const timeNs = recording.window.headTimeNs - this.#firstTimeNs;
    if (timeNs < this.#lastTimeNs) this.#selector.counts.outOfOrder++;
    else this.#lastTimeNs = timeNs;
    const at = batch.count++;
    batch.timeNs[at] = this.#lastTimeNs;
    recording.window.shiftInto(batch, at);
  }

  /** Reads all files to their ends without delivering, for the sake of the tally. */
  async #countRest(): Promise<void> {
    for (const recording of this.#recordings) {
      recording.window.clear();
      await this.#refill(recording);
    }
  }

  #finish(): void {
    this.#selector.checkDevices(this.name);
    for (const { truncation } of this.#recordings) if (truncation !== undefined) this.warnings.push(truncation);
    const { outOfOrder } = this.#selector.counts;
    if (outOfOrder > 0) {
      this.warnings.push(
        `${this.name}: ${outOfOrder} requests came too late in their file to be put in order; are several recordings in one file?`,
      );
    }
    const nothing = this.#selector.warningIfNothing();
    if (nothing !== undefined) this.warnings.push(`${this.name}: ${nothing}`);
  }

  #siftUp(recording: Recording): void {
    const heap = this.#heap;
    let at = heap.length;
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      if (!this.#isBefore(recording, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = recording;
  }

  /** Puts the first recording, whose earliest request changed, in its place, or takes it out when it has none. */
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

  #isBefore(a: Recording, b: Recording): boolean {
    const difference = a.window.headTimeNs - b.window.headTimeNs;
    if (difference !== 0) return difference < 0;
    if (a.window.headSequence !== b.window.headSequence) return a.window.headSequence < b.window.headSequence;
    return a.order < b.order;
  }
}
