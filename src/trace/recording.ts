/**
 * One file or stream of a recording: finds out what it is, cuts it into records, and keeps the requests among
 * them in a window, in time order. Decoding is synchronous over what was fetched; only `fetch` waits.
 *
 * Invariants: `#buffer[#start, #end)` is what was fetched and not yet cut; it starts at a record.
 */
import { assert, PcacheError } from '../engine/errors.js';
import { GunzipSource } from './bytes.js';
import type { ByteSource } from './bytes.js';
import { describeForeign, isGzip } from './foreign.js';
import { byteOrderOf, Field, MAX_RECORD_BYTES, RECORD_HEADER_BYTES, RECORD_MAGIC } from './record.js';
import type { RequestSelector } from './select.js';
import { ReorderWindow } from './window.js';

/** Holds the longest record, and otherwise as much as makes waiting for a read rare. */
const BUFFER_BYTES = 256 * 1024;

const ACCEPTED = 'accepted are blktrace files, blkparse -d dumps, and either packed with gzip';

/** What a file of a recording needs to know of the whole. */
export interface RecordingContext {
  readonly selector: RequestSelector;
  /** A request is put in its place if at most so many later ones come before it in the file. */
  readonly reorderRecords: number;
  readonly order: number;
}

export class Recording {
  readonly name: string;
  /** Its place among the files of the recording. */
  readonly order: number;
  /** Undefined as long as nothing was read, and for an empty file. */
  byteOrder: 'little-endian' | 'big-endian' | undefined;
  readonly packed: boolean;
  readonly window: ReorderWindow;
  /** Why this file was not read to the end of its last record, if so. */
  truncation: string | undefined;
  readonly #source: ByteSource;
  readonly #selector: RequestSelector;
  readonly #reorderRecords: number;
  readonly #buffer: Uint8Array;
  readonly #view: DataView;
  #start = 0;
  #end = 0;
  /** Byte offset in the (unpacked) recording of `#buffer[0]`. */
  #bufferOffsetBytes = 0;
  #records = 0;
  #sourceEnded = false;

  private constructor(source: ByteSource, packed: boolean, context: RecordingContext, buffer: Uint8Array) {
    const { selector, reorderRecords } = context;
    this.name = source.name;
    this.order = context.order;
    this.packed = packed;
    this.#source = source;
    this.#selector = selector;
    this.#reorderRecords = reorderRecords;
    this.window = new ReorderWindow(2 * reorderRecords);
    this.#buffer = buffer;
    this.#view = new DataView(buffer.buffer);
  }

  /**
   * Reads the beginning of `source` and recognises it. Takes `source` over: closes it when this fails.
   * Throws BAD_TRACE for what is no recording.
   */
  static async open(source: ByteSource, context: RecordingContext): Promise<Recording> {
    let current = source;
    try {
      const buffer = new Uint8Array(BUFFER_BYTES);
      let end = await fillAtLeast(current, buffer, 0, 2);
      const packed = isGzip(buffer.subarray(0, end));
      if (packed) {
        current = new GunzipSource(source, buffer.slice(0, end));
        end = 0;
      }
      const recording = new Recording(current, packed, context, buffer);
      recording.#end = await fillAtLeast(current, buffer, end, RECORD_HEADER_BYTES);
      recording.#recognise();
      return recording;
    } catch (error) {
      await current.close();
      throw error;
    }
  }

  #recognise(): void {
    if (this.#end === 0) return;
    const head = this.#buffer.subarray(0, this.#end);
    this.byteOrder = byteOrderOf(head);
    if (this.byteOrder !== undefined) return;
    const within = this.packed ? ' (in its gzip data)' : '';
    throw new PcacheError(
      'BAD_TRACE',
      `${this.name}: not a blktrace recording${within}, found ${describeForeign(head)}; ${ACCEPTED}`,
    );
  }

  /** True when the file holds nothing at all: normal for a CPU that did nothing, as long as others have something. */
  get empty(): boolean {
    return this.byteOrder === undefined;
  }

  /** True when the window's earliest request may leave: enough others are behind it, or no more will come. */
  get ready(): boolean {
    return this.#sourceEnded || this.window.count > this.#reorderRecords;
  }

  /** Cuts records off what was fetched until that is used up or the window is full. */
  decode(): void {
    const view = this.#view;
    const littleEndian = this.byteOrder === 'little-endian';
    const window = this.window;
    const end = this.#end;
    let at = this.#start;
    while (end - at >= RECORD_HEADER_BYTES && window.count < window.capacity) {
      if (view.getUint32(at + Field.magic, littleEndian) !== RECORD_MAGIC) throw this.#badMagic(at, littleEndian);
      const next = at + RECORD_HEADER_BYTES + view.getUint16(at + Field.pduLength, littleEndian);
      if (next > end) break;
      this.#selector.take(view, at, littleEndian, window);
      this.#records++;
      at = next;
    }
    this.#start = at;
  }

  /**
   * Fetches more bytes; at the end of the file, notes whether a record was cut. To be called when `ready` is
   * false after `decode`: then what is left in the buffer is less than a record.
   */
  async fetch(): Promise<void> {
    this.#buffer.copyWithin(0, this.#start, this.#end);
    this.#bufferOffsetBytes += this.#start;
    this.#end -= this.#start;
    this.#start = 0;
    const got = await this.#source.read(this.#buffer, this.#end, this.#buffer.length - this.#end);
    this.#end += got;
    if (got > 0) return;
    this.#sourceEnded = true;
    const cutShort = this.#source instanceof GunzipSource && this.#source.cutShort;
    if (this.#end === 0 && !cutShort) return;
    this.#selector.counts.truncated++;
    const what = cutShort ? 'its gzip data end early' : `its last record has only ${this.#end} bytes`;
    this.truncation = `${this.name}: cut short: ${what}; the ${this.#records} whole records before that are used`;
  }

  #badMagic(at: number, littleEndian: boolean): PcacheError {
    const found = this.#view
      .getUint32(at + Field.magic, littleEndian)
      .toString(16)
      .padStart(8, '0');
    const position = this.#bufferOffsetBytes + at;
    const unpacked = this.packed ? ' of the unpacked data' : '';
    return new PcacheError(
      'BAD_TRACE',
      `${this.name}: damaged at byte ${position}${unpacked}: record ${this.#records} starts with ${found} ` +
        `instead of ${RECORD_MAGIC.toString(16)}; record it again, or cut it off there`,
    );
  }

  close(): Promise<void> {
    return this.#source.close();
  }
}

/** Reads on until `buffer[0, minimum)` is filled or the source ends. @returns bytes in `buffer` from 0 on. */
async function fillAtLeast(source: ByteSource, buffer: Uint8Array, have: number, minimum: number): Promise<number> {
  let end = have;
  while (end < minimum) {
    const got = await source.read(buffer, end, buffer.length - end);
    if (got === 0) break;
    end += got;
  }
  return end;
}

assert(BUFFER_BYTES > MAX_RECORD_BYTES, 'the buffer does not hold the longest record');
