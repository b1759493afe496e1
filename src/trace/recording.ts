/**
 * One file or stream of a blktrace recording, cut into records.
 */
import { assert, PcacheError } from '../engine/errors.js';
import { BUFFER_BYTES, TraceInput } from './input.js';
import type { InputContext, OpenedFile } from './input.js';
import { byteOrderOf, Field, MAX_RECORD_BYTES, RECORD_HEADER_BYTES, RECORD_MAGIC } from './record.js';
import type { RequestSelector } from './select.js';

export class Recording extends TraceInput {
  readonly format = 'blktrace';
  /** Undefined for an empty file: normal for a CPU that did nothing, as long as others have something. */
  readonly byteOrder: 'little-endian' | 'big-endian' | undefined;
  readonly #selector: RequestSelector;
  #records = 0;

  constructor(file: OpenedFile, context: InputContext, selector: RequestSelector) {
    super(file, context);
    this.#selector = selector;
    this.byteOrder = byteOrderOf(file.buffer.subarray(0, file.filledBytes));
  }

  get empty(): boolean {
    return this.byteOrder === undefined;
  }

  decode(): void {
    const view = this.view;
    const littleEndian = this.byteOrder === 'little-endian';
    const window = this.window;
    const end = this.end;
    let at = this.start;
    while (end - at >= RECORD_HEADER_BYTES && window.count < window.capacity) {
      if (view.getUint32(at + Field.magic, littleEndian) !== RECORD_MAGIC) throw this.#badMagic(at, littleEndian);
      const next = at + RECORD_HEADER_BYTES + view.getUint16(at + Field.pduLength, littleEndian);
      if (next > end) break;
      const wrong = this.#selector.take(view, at, littleEndian, window);
      if (wrong !== undefined) this.sink.reject(this.name, this.placeOf(at), wrong);
      this.#records++;
      at = next;
    }
    this.start = at;
  }

  protected atEnd(cutShort: boolean): string | undefined {
    if (this.end === 0 && !cutShort) return undefined;
    this.sink.counts.truncated++;
    const what = cutShort ? `its ${this.packing} data end early` : `its last record has only ${this.end} bytes`;
    return `${this.name}: cut short: ${what}; the ${this.#records} whole records before that are used`;
  }

  #badMagic(at: number, littleEndian: boolean): PcacheError {
    const found = this.view
      .getUint32(at + Field.magic, littleEndian)
      .toString(16)
      .padStart(8, '0');
    return new PcacheError(
      'BAD_TRACE',
      `${this.name}: damaged at ${this.placeOf(at)}: record ${this.#records} starts with ${found} ` +
        `instead of ${RECORD_MAGIC.toString(16)}; record it again, or cut it off there`,
    );
  }
}

assert(BUFFER_BYTES > MAX_RECORD_BYTES, 'the buffer does not hold the longest record');
