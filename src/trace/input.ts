/**
 * One file or stream of a trace, whatever its format: keeps what was fetched of it in a buffer, and its requests in a
 * window, in time order. Cutting records off is synchronous over what was fetched; only `fetch` waits.
 *
 * Invariants: `buffer[start, end)` is what was fetched and not yet cut; it starts at a record.
 */
import type { RequestSink } from './sink.js';
import type { UnpackedSource } from './unpack.js';
import type { RequestWindow } from './window.js';

/** Holds the longest record, and otherwise as much as makes waiting for a read rare. */
export const BUFFER_BYTES = 256 * 1024;

/** What a file needs to know of the whole trace. */
export interface InputContext {
  readonly sink: RequestSink;
  /** A request is put in its place if at most so many later ones come before it in the file. */
  readonly reorderRecords: number;
  /** The file's place among those of the trace. */
  readonly order: number;
}

/** A file that was opened, and its beginning. */
export interface OpenedFile {
  readonly source: UnpackedSource;
  /** `BUFFER_BYTES` long. */
  readonly buffer: Uint8Array;
  /** Bytes in `buffer` from 0 on. */
  readonly filledBytes: number;
}

export abstract class TraceInput {
  readonly name: string;
  readonly order: number;
  readonly packing: string | undefined;
  abstract readonly window: RequestWindow;
  /** Why this file was not read to the end of its last record, or may not have been. */
  truncation: string | undefined;
  protected readonly sink: RequestSink;
  protected readonly buffer: Uint8Array;
  protected readonly view: DataView;
  protected start = 0;
  protected end: number;
  /** Byte offset in the (unpacked) file of `buffer[0]`. */
  protected bufferOffsetBytes = 0;
  readonly #source: UnpackedSource;
  readonly #reorderRecords: number;
  #sourceEnded = false;

  protected constructor({ source, buffer, filledBytes }: OpenedFile, context: InputContext) {
    this.name = source.name;
    this.order = context.order;
    this.packing = source.packing;
    this.sink = context.sink;
    this.#source = source;
    this.#reorderRecords = context.reorderRecords;
    this.buffer = buffer;
    this.view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
    this.end = filledBytes;
  }

  /** What it is, for people. */
  abstract readonly format: string;

  /** Cuts records off what was fetched until that is used up or the window is full. */
  abstract decode(): void;

  /**
   * The file has ended, and `buffer[start, end)` was not cut: there is no whole record in it.
   * @param cutShort the packed data ended early
   * @returns what to say of that
   */
  protected abstract atEnd(cutShort: boolean): string | undefined;

  /** True when the window's earliest request may leave: enough others are behind it, or no more will come. */
  get ready(): boolean {
    return this.#sourceEnded || this.isSettled(this.#reorderRecords);
  }

  /** Whether the window's earliest request may leave though more will come. */
  protected isSettled(reorderRecords: number): boolean {
    return this.window.count > reorderRecords;
  }

  /** `position` in the buffer as a place in the file. */
  protected placeOf(position: number): string {
    return `byte ${this.bufferOffsetBytes + position}${this.packing === undefined ? '' : ' of the unpacked data'}`;
  }

  /**
   * Fetches more bytes. To be called when `ready` is false after `decode`: then what is left in the buffer is less
   * than a record.
   */
  async fetch(): Promise<void> {
    this.buffer.copyWithin(0, this.start, this.end);
    this.bufferOffsetBytes += this.start;
    this.end -= this.start;
    this.start = 0;
    const got = await this.#source.read(this.buffer, this.end, this.buffer.length - this.end);
    this.end += got;
    if (got > 0) return;
    this.#sourceEnded = true;
    this.truncation = this.atEnd(this.#source.cutShort);
  }

  /** As `atEnd`, for records of bytes. @param records whole ones so far */
  protected cutShortAt(cutShort: boolean, records: number): string | undefined {
    if (this.end === 0 && !cutShort) return undefined;
    this.sink.counts.truncated++;
    const what = cutShort ? `its ${this.packing} data end early` : `its last record has only ${this.end} bytes`;
    return `${this.name}: cut short: ${what}; the ${records} whole records before that are used`;
  }

  close(): Promise<void> {
    return this.#source.close();
  }
}
