/**
 * A file of a trace in a text format, cut into lines. What a line means is its format's.
 */
import type { Cursor } from './cursor.js';
import { Cursor as LineCursor } from './cursor.js';
import { TraceInput } from './input.js';
import type { InputContext, OpenedFile } from './input.js';
import type { RequestSink } from './sink.js';
import { ReorderWindow } from './window.js';

/** What a line was found to be, other than a record: neither is counted. */
export const NOT_A_RECORD = 'not a record';
/** Nothing from this line on belongs to the trace. */
export const END_OF_TRACE = 'end of the trace';

export interface LineFormat {
  /** What it is, for people. */
  readonly label: string;
  /**
   * Takes one line, which is not empty; a request goes to the sink, and into `window`, which has room.
   * @param line at its first character, without its end of line
   * @returns undefined for a record, `NOT_A_RECORD`, `END_OF_TRACE`, or why it is malformed
   */
  take(line: Cursor, sink: RequestSink, window: ReorderWindow): string | undefined;
  /** What to say at the end of the trace. */
  warnings?(): readonly string[];
}

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;

export class LineInput extends TraceInput {
  readonly window: ReorderWindow;
  readonly format: string;
  readonly #format: LineFormat;
  readonly #cursor = new LineCursor();
  /** Lines that ended before `buffer[start]`. */
  #lines = 0;
  /** Within a line that is longer than the buffer. */
  #skipping = false;
  /** Past what belongs to the trace. */
  #over = false;

  constructor(file: OpenedFile, context: InputContext, format: LineFormat) {
    super(file, context);
    this.window = new ReorderWindow(2 * context.reorderRecords);
    this.#format = format;
    this.format = format.label;
    // A byte order mark.
    const [a, b, c] = file.buffer;
    if (this.end >= 3 && a === 0xef && b === 0xbb && c === 0xbf) this.start = 3;
  }

  warnings(): readonly string[] {
    return (this.#format.warnings?.() ?? []).map((line) => `${this.name}: ${line}`);
  }

  decode(): void {
    const { buffer, window, end } = this;
    let at = this.start;
    while (at < end && window.count < window.capacity) {
      const newline = buffer.indexOf(NEWLINE, at);
      if (newline < 0 || newline >= end) {
        if (end - at === buffer.length) {
          this.#tooLong();
          at = end;
        }
        break;
      }
      this.#lines++;
      if (this.#skipping) this.#skipping = false;
      else if (!this.#over) this.#take(at, newline);
      at = newline + 1;
    }
    this.start = at;
  }

  /** The buffer is full of one line. */
  #tooLong(): void {
    if (!this.#skipping && !this.#over) {
      this.sink.counts.records++;
      this.#reject(`the line is longer than ${this.buffer.length} bytes`, this.#lines + 1);
    }
    this.#skipping = true;
  }

  #take(start: number, newline: number): void {
    const end = newline > start && this.buffer[newline - 1] === CARRIAGE_RETURN ? newline - 1 : newline;
    if (end === start) return;
    const { sink } = this;
    this.#cursor.set(this.buffer, start, end);
    const found = this.#format.take(this.#cursor, sink, this.window);
    if (found === undefined) sink.counts.records++;
    else if (found === END_OF_TRACE) this.#over = true;
    else if (found !== NOT_A_RECORD) {
      sink.counts.records++;
      this.#reject(found, this.#lines);
    }
  }

  #reject(why: string, line: number): void {
    this.sink.reject(this.name, `line ${line}`, why);
  }

  /** The last line has no newline. Whole or not, nobody knows; it is used if it can be, and that is said. */
  protected atEnd(cutShort: boolean): string | undefined {
    const rest = this.end - this.start;
    if (cutShort) {
      this.sink.counts.truncated++;
      return `${this.name}: cut short: its ${this.packing} data end early; the ${this.#lines} whole lines before that are used`;
    }
    if (rest === 0 || this.#skipping || this.#over) return undefined;
    const { counts } = this.sink;
    const { start, end } = this;
    this.start = end;
    this.#cursor.set(this.buffer, start, end);
    const found = this.#format.take(this.#cursor, this.sink, this.window);
    if (found === END_OF_TRACE) return undefined;
    if (found === NOT_A_RECORD) {
      return `${this.name}: line ${this.#lines + 1}, the last, is not a request and does not end in a newline; it may have been cut`;
    }
    if (found === undefined) {
      counts.records++;
      return `${this.name}: line ${this.#lines + 1}, the last, does not end in a newline; it is used, but may have been cut`;
    }
    counts.truncated++;
    return `${this.name}: cut short: line ${this.#lines + 1}, the last, has no end (${found}); the lines before it are used`;
  }
}
