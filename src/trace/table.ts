/**
 * Traces as tables: a request a line, in fields with a separator between them. What the columns mean is a definition's
 * (`table-definitions.ts`, or the user's own); how fields are written down is the same for all: with blanks around
 * them, in quotes, with a separator behind the last, numbers as `number-field.ts` reads them.
 */
import { FieldReader, shownText } from './field-reader.js';
import { Char } from './cursor.js';
import type { Cursor } from './cursor.js';
import { NOT_A_RECORD } from './lines.js';
import type { LineFormat } from './lines.js';
import { Clock, NotANumber, TIME_DIGITS_MAX, wholeNumber, whyNot } from './number-field.js';
import type { RequestSink } from './sink.js';
import { NO_OPERATION, TraceFlag, TraceOp } from './types.js';
import type { Column, TableDefinition } from './types.js';
import type { ReorderWindow } from './window.js';

const FLAG_NAMES = Object.entries(TraceFlag);
const TRUE_WORDS = new Set(['true', '1', 'yes']);
const FALSE_WORDS = new Set(['false', '0', 'no', '']);

/** Column names shown in a message. */
const NAMES_SHOWN_MAX = 10;

function namesText(names: readonly string[]): string {
  const more = names.length - NAMES_SHOWN_MAX;
  const shown = names
    .slice(0, NAMES_SHOWN_MAX)
    .map((name) => shownText(name))
    .join(', ');
  return more > 0 ? `${shown} and ${more} more` : shown;
}

/** The columns that a line names, or undefined when it is not a header of that table. */
export function headerColumns(
  definition: TableDefinition,
  names: readonly string[],
): { columns: Column[]; unknown: string[] } | undefined {
  const lower = names.map((name) => name.toLowerCase());
  if (definition.required.length === 0) return undefined;
  if (!definition.required.every((name) => lower.includes(name))) return undefined;
  const unknown: string[] = [];
  const columns = lower.map((name, i): Column => {
    const column = definition.named.get(name);
    if (column === undefined && name !== '') unknown.push(names[i]);
    return column ?? { role: 'ignored', name: names[i], unit: 1 };
  });
  while (columns.length > 0 && columns[columns.length - 1].role === 'ignored' && names[columns.length - 1] === '') {
    columns.pop();
  }
  return { columns, unknown };
}

export class TableFormat implements LineFormat {
  readonly label: string;
  readonly #definition: TableDefinition;
  readonly #fields: FieldReader;
  readonly #ops: ReadonlyMap<string, number>;
  /** Words of at most six letters, as `FieldReader.key` packs them. */
  readonly #shortOps = new Map<number, number>();
  readonly #deviceJoin: number;
  #columns: readonly Column[] | undefined;
  #fieldsMin = 0;
  #hasHeader = false;
  #clock: Clock | undefined;
  #unknown: readonly string[] = [];
  #linesBeforeHeader = 0;
  #skip: number;
  #anyRecord = false;
  // The request of the line.
  #timeNs = 0;
  #op = -1;
  #flags = 0;
  #offsetBytes = -1;
  #lengthBytes = -1;
  #isFlush = false;
  /** The column of an offset or length that is empty; -1 without one. */
  #blank = -1;
  #device = new Uint8Array(64);
  #deviceLength = 0;
  #deviceParts = 0;

  /** @param separator of the fields; a blank stands for any number of blanks and tabs */
  constructor(definition: TableDefinition, separator: number) {
    this.#definition = definition;
    this.label = definition.label;
    this.#fields = new FieldReader(separator);
    this.#ops = definition.ops;
    for (const [word, op] of definition.ops) if (word.length <= 6) this.#shortOps.set(FieldReader.keyOf(word), op);
    this.#deviceJoin = (definition.deviceJoin ?? '_').charCodeAt(0);
    this.#skip = definition.skipLines ?? 0;
    if (definition.columns !== undefined) this.#use(definition.columns, definition.fieldsMin);
  }

  #use(columns: readonly Column[], fieldsMin = columns.length): void {
    this.#columns = columns;
    this.#fieldsMin = fieldsMin;
    const time = columns.find(({ role }) => role === 'time');
    if (time !== undefined) this.#clock ??= new Clock(time.unit);
  }

  take(line: Cursor, sink: RequestSink, window: ReorderWindow): string | undefined {
    if (this.#skip > 0) {
      this.#skip--;
      return NOT_A_RECORD;
    }
    const start = line.at;
    if (!this.#anyRecord && this.#beginsWithWord(line)) {
      const isHeader = this.#takeHeader(line);
      line.at = start;
      if (isHeader || line.peek() === Char.hash || this.#isForeignHeader(line)) return NOT_A_RECORD;
    } else if (line.peek() === Char.hash) return NOT_A_RECORD;
    if (this.#columns === undefined) {
      this.#linesBeforeHeader++;
      return `it stands before the line that names the columns (at least ${this.#definition.required.join(', ')})`;
    }
    const wrong = this.#readFields(line, this.#columns);
    if (wrong !== undefined) {
      line.at = start;
      return this.#isNames(line) && this.#takeHeader(line) ? NOT_A_RECORD : wrong;
    }
    this.#anyRecord = true;
    if (this.#op === NO_OPERATION) {
      sink.counts.withoutOperation++;
      return undefined;
    }
    const device = sink.devices.indexOfBytes(this.#device, 0, this.#deviceLength);
    if (!sink.wants(device)) return undefined;
    return this.#request(sink, window, device);
  }

  #request(sink: RequestSink, window: ReorderWindow, device: number): string | undefined {
    let op = this.#op;
    let flags = this.#flags;
    if (this.#isFlush) {
      if (this.#lengthBytes === 0) op = TraceOp.flush;
      else if (op === TraceOp.write) flags |= TraceFlag.preflush;
    }
    if (op === TraceOp.flush) return sink.request(window, device, this.#timeNs, 0, op, flags, 0, 0);
    return sink.request(window, device, this.#timeNs, 0, op, flags, this.#offsetBytes, this.#lengthBytes);
  }

  warnings(): readonly string[] {
    return this.#unknown.length === 0 || this.#definition.namesUnknown !== true
      ? []
      : [`columns that mean nothing here are passed over: ${namesText(this.#unknown)}`];
  }

  /** Whether the first field begins otherwise than a number does. */
  #beginsWithWord(line: Cursor): boolean {
    const { bytes, end } = line;
    let at = line.at;
    while (at < end && (bytes[at] === Char.space || bytes[at] === Char.tab || bytes[at] === Char.quote)) at++;
    const first = at < end ? bytes[at] : 0;
    return !((first >= Char.zero && first <= Char.zero + 9) || first === Char.minus || first === Char.dot);
  }

  /** @returns false when the line names no columns of this table */
  #takeHeader(line: Cursor): boolean {
    const found = headerColumns(this.#definition, this.#fields.all(line));
    if (found === undefined) return false;
    this.#use(found.columns);
    this.#hasHeader = true;
    if (this.#unknown.length === 0) this.#unknown = found.unknown;
    return true;
  }

  /** A first line without any number, where the columns are known without it: a header in other words. */
  #isForeignHeader(line: Cursor): boolean {
    return this.#columns !== undefined && !this.#hasHeader && this.#isNames(line);
  }

  /** Are there several fields, and no number among them? A request that runs into a header is not one. */
  #isNames(line: Cursor): boolean {
    const start = line.at;
    const fields = this.#fields.all(line);
    line.at = start;
    return fields.length > 1 && fields.every((field) => field === '' || wholeNumber(field) === NotANumber.text);
  }

  #readFields(line: Cursor, columns: readonly Column[]): string | undefined {
    const fields = this.#fields;
    this.#flags = 0;
    this.#isFlush = false;
    this.#deviceLength = this.#deviceParts = 0;
    this.#op = this.#definition.op ?? TraceOp.read;
    this.#offsetBytes = 0;
    this.#lengthBytes = this.#definition.lengthBytes ?? 0;
    this.#blank = -1;
    fields.begin(line);
    for (let i = 0; i < columns.length; i++) {
      if (!fields.next(line)) {
        if (i >= this.#fieldsMin) break;
        return `it has ${i} ${i === 1 ? 'field' : 'fields'} instead of ${columns.length}`;
      }
      const column = columns[i];
      const wrong = this.#readField(line, column);
      if (wrong !== undefined) return `column ${i + 1} (${column.name}): ${wrong}`;
      if (fields.isEmpty && (column.role === 'offset' || column.role === 'length')) this.#blank = i;
    }
    if (this.#blank >= 0 && this.#op !== TraceOp.flush && this.#op !== NO_OPERATION) {
      return `column ${this.#blank + 1} (${columns[this.#blank].name}): it is empty`;
    }
    if (this.#definition.allowsMore) return undefined;
    return fields.onlyEmptyLeft(line) ? undefined : `it has more than ${columns.length} fields`;
  }

  #readField(line: Cursor, column: Column): string | undefined {
    switch (column.role) {
      case 'time':
        return this.#readTime(line);
      case 'offset':
        this.#offsetBytes = this.#whole(line, column.unit);
        return this.#offsetBytes >= 0 ? undefined : this.#notANumber(this.#offsetBytes);
      case 'length':
        this.#lengthBytes = this.#whole(line, column.unit);
        return this.#lengthBytes >= 0 ? undefined : this.#notANumber(this.#lengthBytes);
      case 'op':
        return this.#readOp();
      case 'flags':
        return this.#readFlags();
      case 'device':
        this.#addDevice(line.bytes);
        return undefined;
      case 'flush':
      case 'fua':
        return this.#readTruth(column.role);
      case 'ignored':
        return undefined;
    }
  }

  #notANumber(value: number): string {
    return `'${this.#fields.shown()}' ${whyNot(value)}`;
  }

  #readTime(line: Cursor): string | undefined {
    const fields = this.#fields;
    const clock = this.#clock!;
    if (fields.isDigits && fields.length <= TIME_DIGITS_MAX) {
      const { at } = line;
      line.at = fields.start;
      line.longDigits();
      line.at = at;
      this.#timeNs = clock.since(line);
      return undefined;
    }
    const timeNs = clock.sinceText(fields.text());
    if (timeNs === undefined) return this.#notANumber(NotANumber.text);
    this.#timeNs = timeNs;
    return undefined;
  }

  /** The field as a whole number times `unit`, or a `NotANumber`; 0 when it is empty. */
  #whole(line: Cursor, unit: number): number {
    const fields = this.#fields;
    if (fields.isDigits) {
      const { at } = line;
      line.at = fields.start;
      const value = line.digits();
      line.at = at;
      return value * unit;
    }
    if (fields.isEmpty) return 0; // which only a flush may
    const value = wholeNumber(fields.text());
    return value < 0 ? value : value * unit;
  }

  #readOp(): string | undefined {
    const fields = this.#fields;
    const op = fields.length <= 6 ? this.#shortOps.get(fields.key()) : this.#ops.get(fields.text().toLowerCase());
    if (op === undefined) return `'${fields.shown()}' is not an operation`;
    this.#op = op;
    return undefined;
  }

  #readFlags(): string | undefined {
    const text = this.#fields.text();
    if (text === '') return undefined;
    for (const name of text.toLowerCase().split('|')) {
      const flag = FLAG_NAMES.find(([known]) => known === name);
      if (flag === undefined) return `'${this.#fields.shown()}' is not a list of flags`;
      this.#flags |= flag[1];
    }
    return undefined;
  }

  #readTruth(role: 'flush' | 'fua'): string | undefined {
    const word = this.#fields.text().toLowerCase();
    const isTrue = TRUE_WORDS.has(word);
    if (!isTrue && !FALSE_WORDS.has(word)) return `'${this.#fields.shown()}' is neither true nor false`;
    if (!isTrue) return undefined;
    if (role === 'flush') this.#isFlush = true;
    else this.#flags |= TraceFlag.fua;
    return undefined;
  }

  #addDevice(bytes: Uint8Array): void {
    const { start, end } = this.#fields;
    const needed = this.#deviceLength + 1 + (end - start);
    if (needed > this.#device.length) {
      const grown = new Uint8Array(2 * needed);
      grown.set(this.#device);
      this.#device = grown;
    }
    let at = this.#deviceLength;
    if (this.#deviceParts++ > 0) this.#device[at++] = this.#deviceJoin;
    for (let from = start; from < end; from++) this.#device[at++] = bytes[from];
    this.#deviceLength = at;
  }
}
