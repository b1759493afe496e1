/**
 * One file or stream of a blktrace recording, cut into records.
 */
import { assert, PcacheError } from '../engine/errors.js';
import { BUFFER_BYTES, TraceInput } from './input.js';
import type { InputContext, OpenedFile } from './input.js';
import { Field, MAX_RECORD_BYTES, recordKindOf } from './record.js';
import type { RecordKind } from './record.js';
import type { RequestSelector } from './select.js';

export class Recording extends TraceInput {
  readonly format = 'blktrace';
  /** Undefined for an empty file: normal for a CPU that did nothing, as long as others have something. */
  readonly kind: RecordKind | undefined;
  readonly #selector: RequestSelector;
  #records = 0;

  constructor(file: OpenedFile, context: InputContext, selector: RequestSelector) {
    super(file, context);
    this.#selector = selector;
    this.kind = recordKindOf(file.buffer.subarray(0, file.filledBytes));
  }

  get empty(): boolean {
    return this.kind === undefined;
  }

  decode(): void {
    const view = this.view;
    if (this.kind === undefined) return;
    const { layout, byteOrder, magic } = this.kind;
    const { headerBytes } = layout;
    const littleEndian = byteOrder === 'little-endian';
    const window = this.window;
    const end = this.end;
    let at = this.start;
    while (end - at >= headerBytes && window.count < window.capacity) {
      if (view.getUint32(at + Field.magic, littleEndian) !== magic) throw this.#badMagic(at, littleEndian, magic);
      const next = at + headerBytes + view.getUint16(at + layout.pduLength, littleEndian);
      if (next > end) break;
      const wrong = this.#selector.take(view, at, layout, littleEndian, window);
      if (wrong !== undefined) this.sink.reject(this.name, this.placeOf(at), wrong);
      this.#records++;
      at = next;
    }
    this.start = at;
  }

  protected atEnd(cutShort: boolean): string | undefined {
    return this.cutShortAt(cutShort, this.#records);
  }

  #badMagic(at: number, littleEndian: boolean, magic: number): PcacheError {
    const found = this.view
      .getUint32(at + Field.magic, littleEndian)
      .toString(16)
      .padStart(8, '0');
    return new PcacheError(
      'BAD_TRACE',
      `${this.name}: damaged at ${this.placeOf(at)}: record ${this.#records} starts with ${found} ` +
        `instead of ${magic.toString(16)}; record it again, or cut it off there`,
    );
  }
}

assert(BUFFER_BYTES > MAX_RECORD_BYTES, 'the buffer does not hold the longest record');
