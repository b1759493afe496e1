/**
 * Our own CSV: the first line names the columns, in any order. `op` (read, write, flush, discard, or their first
 * letters), `offset_bytes` and `length_bytes` must be there; `time_ns`, `flags` and `device` may be; others are
 * passed over. Flags are names joined by `|`. Lines that begin with `#` are comments. Only a device may be in quotes.
 */
import { PcacheError } from '../engine/errors.js';
import { Char, Epoch } from './cursor.js';
import type { Cursor } from './cursor.js';
import { NOT_A_RECORD } from './lines.js';
import type { LineFormat } from './lines.js';
import type { RequestSink } from './sink.js';
import { TraceFlag, TraceOp } from './types.js';
import type { ReorderWindow } from './window.js';

export const CSV_COLUMNS = ['time_ns', 'op', 'offset_bytes', 'length_bytes', 'flags', 'device'] as const;
type Column = (typeof CSV_COLUMNS)[number];
const REQUIRED: readonly Column[] = ['op', 'offset_bytes', 'length_bytes'];

const BAR = 0x7c;
const QUOTE = 0x22;
const FLAG_NAMES = Object.entries(TraceFlag);
const OP_NAMES = Object.entries(TraceOp);

/** The columns that a header names, or undefined when it is none: a name that is not ours stands as undefined. */
export function csvColumns(header: string): (Column | undefined)[] | undefined {
  const names = header.split(',').map((name) => name.trim().toLowerCase());
  if (!REQUIRED.every((column) => names.includes(column))) return undefined;
  return names.map((name) => CSV_COLUMNS.find((column) => column === name));
}

export class PlainCsvFormat implements LineFormat {
  readonly label = 'pcache CSV';
  readonly #file: string;
  #columns: readonly (Column | undefined)[] | undefined;
  readonly #epoch = new Epoch();
  readonly #unknown: string[] = [];
  // The fields of the line.
  #timeNs = 0;
  #op = -1;
  #flags = 0;
  #offsetBytes = -1;
  #lengthBytes = -1;
  #deviceAt = 0;
  #deviceEnd = 0;

  /** @param file what to call it in an error */
  constructor(file: string) {
    this.#file = file;
  }

  take(line: Cursor, sink: RequestSink, window: ReorderWindow): string | undefined {
    if (line.peek() === Char.hash) return NOT_A_RECORD;
    if (this.#columns === undefined) {
      this.#takeHeader(line);
      return NOT_A_RECORD;
    }
    const start = line.at;
    const wrong = this.#readFields(line, this.#columns);
    if (wrong !== undefined) {
      line.at = start;
      return this.#takeRepeatedHeader(line) ? NOT_A_RECORD : wrong;
    }
    const device = sink.devices.indexOfBytes(line.bytes, this.#deviceAt, this.#deviceEnd);
    if (!sink.wants(device)) return undefined;
    if (this.#op === TraceOp.flush) this.#offsetBytes = this.#lengthBytes = 0;
    return sink.request(window, device, this.#timeNs, 0, this.#op, this.#flags, this.#offsetBytes, this.#lengthBytes);
  }

  warnings(): readonly string[] {
    return this.#unknown.length === 0
      ? []
      : [`columns that mean nothing here are passed over: ${this.#unknown.join(', ')}`];
  }

  /** Files that were put one behind the other have more than one. @returns false when it is none */
  #takeRepeatedHeader(line: Cursor): boolean {
    const columns = csvColumns(Buffer.from(line.bytes.subarray(line.at, line.end)).toString('utf8'));
    if (columns === undefined) return false;
    this.#columns = columns;
    return true;
  }

  #takeHeader(line: Cursor): void {
    const text = Buffer.from(line.bytes.subarray(line.at, line.end)).toString('utf8');
    const columns = csvColumns(text);
    if (columns === undefined) {
      throw new PcacheError(
        'BAD_TRACE',
        `${this.#file}: must begin with a line that names its columns, at least ${REQUIRED.join(', ')}; found "${text.slice(0, 60)}"; add it`,
      );
    }
    const names = text.split(',');
    columns.forEach((column, i) => {
      if (column === undefined) this.#unknown.push(names[i].trim());
    });
    this.#columns = columns;
  }

  #readFields(line: Cursor, columns: readonly (Column | undefined)[]): string | undefined {
    this.#flags = 0;
    this.#deviceAt = this.#deviceEnd = line.at;
    for (let i = 0; i < columns.length; i++) {
      if (i > 0 && !line.skip(Char.comma)) return `it has ${i} fields instead of ${columns.length}`;
      const wrong = this.#readField(line, columns[i]);
      if (wrong !== undefined) return wrong;
    }
    return line.atEnd ? undefined : `it has more than ${columns.length} fields`;
  }

  #readDevice(line: Cursor): string | undefined {
    const quoted = line.skip(QUOTE);
    this.#deviceAt = line.at;
    line.skipTo(quoted ? QUOTE : Char.comma);
    this.#deviceEnd = line.at;
    return quoted && !line.skip(QUOTE) ? 'the quotes around its device do not end' : undefined;
  }

  #readField(line: Cursor, column: Column | undefined): string | undefined {
    const start = line.at;
    switch (column) {
      case 'time_ns':
        if (!line.longDigits()) return 'its time_ns is no number';
        this.#timeNs = this.#epoch.since(line);
        return undefined;
      case 'offset_bytes':
        this.#offsetBytes = line.digits();
        return this.#offsetBytes < 0 ? 'its offset_bytes is no number' : undefined;
      case 'length_bytes':
        this.#lengthBytes = line.digits();
        return this.#lengthBytes < 0 ? 'its length_bytes is no number' : undefined;
      case 'op':
        this.#op = readOp(line);
        return this.#op < 0 ? `its op is '${line.text(start)}'` : undefined;
      case 'flags':
        this.#flags = readFlags(line);
        return this.#flags < 0 ? `its flags are '${line.text(start)}'` : undefined;
      case 'device':
        return this.#readDevice(line);
      case undefined:
        line.skipTo(Char.comma);
        return undefined;
    }
  }
}

/** A `TraceOp`, or -1. */
function readOp(line: Cursor): number {
  const start = line.at;
  line.skipTo(Char.comma);
  for (let i = 0; i < OP_NAMES.length; i++) {
    const name = OP_NAMES[i][0];
    if (line.spells(name, start)) return OP_NAMES[i][1];
  }
  if (line.spells('r', start)) return TraceOp.read;
  if (line.spells('w', start)) return TraceOp.write;
  if (line.spells('f', start)) return TraceOp.flush;
  return line.spells('d', start) ? TraceOp.discard : -1;
}

/** `TraceFlag` bits, or -1. */
function readFlags(line: Cursor): number {
  const { bytes } = line;
  let flags = 0;
  while (!line.atEnd && line.peek() !== Char.comma) {
    const start = line.at;
    while (!line.atEnd && bytes[line.at] !== Char.comma && bytes[line.at] !== BAR) line.at++;
    const flag = flagNamed(line, start);
    if (flag === 0) {
      line.skipTo(Char.comma);
      return -1;
    }
    flags |= flag;
    line.skip(BAR);
  }
  return flags;
}

/** One `TraceFlag` bit, or 0. */
function flagNamed(line: Cursor, start: number): number {
  for (let i = 0; i < FLAG_NAMES.length; i++) if (line.spells(FLAG_NAMES[i][0], start)) return FLAG_NAMES[i][1];
  return 0;
}
