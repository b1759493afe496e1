/**
 * One file or stream of a blktrace recording, cut into records.
 */
import { assert, PcacheError } from '../engine/errors.js';
import { BUFFER_BYTES, TraceInput } from './input.js';
import type { InputContext, OpenedFile } from './input.js';
import { Field, MAX_RECORD_BYTES, recordKindOf } from './record.js';
import type { RecordKind } from './record.js';
import { CpuWindow } from './cpu-window.js';
import type { RequestSelector } from './select.js';
import { ReorderWindow } from './window.js';

export class Recording extends TraceInput {
  readonly format = 'blktrace';
  readonly window: CpuWindow | ReorderWindow;
  /** Undefined for an empty file: normal for a CPU that did nothing, as long as others have something. */
  readonly kind: RecordKind | undefined;
  readonly #selector: RequestSelector;
  #records = 0;

  constructor(file: OpenedFile, context: InputContext & { readonly isAlone: boolean }, selector: RequestSelector) {
    super(file, context);
    // One file may hold the records of all CPUs, as a pipe delivers them.
    this.window = context.isAlone ? new CpuWindow() : new ReorderWindow(2 * context.reorderRecords);
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
      let wrong: string | undefined;
      if (window instanceof ReorderWindow) wrong = this.#selector.take(view, at, layout, littleEndian, window);
      else {
        const lane = window.laneOf(view.getUint32(at + layout.cpu, littleEndian));
        const { count } = lane;
        wrong = this.#selector.take(view, at, layout, littleEndian, lane);
        if (lane.count > count) window.entered(this.#selector.latestNs, 1);
      }
      if (wrong !== undefined) this.sink.reject(this.name, this.placeOf(at), wrong);
      this.#records++;
      at = next;
    }
    this.start = at;
  }

  /** What to say of records that came in pieces of several CPUs. */
  get reordering(): string | undefined {
    const { window } = this;
    if (window instanceof ReorderWindow || window.cpus < 2 || window.latenessNs === 0) return undefined;
    const seconds = (window.latenessNs / 1e9).toPrecision(3);
    return (
      `${this.name}: pieces of ${window.cpus} CPUs overlap by up to ${seconds} s; ` +
      `up to ${window.heldMax} requests were held back to put them in order`
    );
  }

  protected override isSettled(reorderRecords: number): boolean {
    return this.window instanceof ReorderWindow ? this.window.count > reorderRecords : this.window.ready;
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
