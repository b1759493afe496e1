/**
 * The fields of one line of a table, one after the other, without making strings. A field is `bytes[start, end)`: blanks
 * around it and a pair of quotes are not part of it.
 */
import { Char } from './cursor.js';
import type { Cursor } from './cursor.js';

const LONGEST_KEY = 6;

export class FieldReader {
  /** The field that `next` found. */
  start = 0;
  end = 0;
  /** Whether it is of digits only, and has some. */
  isDigits = false;
  #bytes: Uint8Array = new Uint8Array(0);
  #first = true;
  readonly #separator: number;

  /** @param separator a blank stands for any number of blanks and tabs */
  constructor(separator: number) {
    this.#separator = separator;
  }

  get isEmpty(): boolean {
    return this.end === this.start;
  }

  get length(): number {
    return this.end - this.start;
  }

  begin(line: Cursor): void {
    this.#bytes = line.bytes;
    this.#first = true;
    if (this.#separator === Char.space) line.skipBlanks();
  }

  /** Moves past the next field. @returns false at the end of the line */
  next(line: Cursor): boolean {
    const { bytes, end } = line;
    const separator = this.#separator;
    let at = line.at;
    if (separator === Char.space) {
      if (at >= end) return false;
    } else if (this.#first) this.#first = false;
    else if (at >= end) return false;
    else at++; // the separator
    while (at < end && (bytes[at] === Char.space || bytes[at] === Char.tab) && bytes[at] !== separator) at++;
    if (at < end && bytes[at] === Char.quote) return this.#nextQuoted(line, at + 1);
    const start = at;
    let digits = true;
    for (; at < end && bytes[at] !== separator; at++) {
      const char = bytes[at];
      if (separator === Char.space && char === Char.tab) break;
      if (char < Char.zero || char > Char.zero + 9) digits = false;
    }
    let stop = at;
    if (!digits) {
      while (stop > start && (bytes[stop - 1] === Char.space || bytes[stop - 1] === Char.tab)) stop--;
      for (digits = stop > start, at = start; digits && at < stop; at++) {
        digits = bytes[at] >= Char.zero && bytes[at] <= Char.zero + 9;
      }
      at = stop;
      while (at < end && bytes[at] !== separator && (bytes[at] === Char.space || bytes[at] === Char.tab)) at++;
    }
    this.start = start;
    this.end = stop;
    this.isDigits = digits && stop > start;
    line.at = at;
    if (separator === Char.space) line.skipBlanks();
    return true;
  }

  #nextQuoted(line: Cursor, start: number): boolean {
    const { bytes, end } = line;
    let at = start;
    let digits = true;
    for (; at < end && bytes[at] !== Char.quote; at++) {
      if (bytes[at] < Char.zero || bytes[at] > Char.zero + 9) digits = false;
    }
    this.start = start;
    this.end = at;
    this.isDigits = digits && at > start;
    while (at < end && bytes[at] !== this.#separator) at++;
    line.at = at;
    if (this.#separator === Char.space) line.skipBlanks();
    return true;
  }

  /** Whether nothing but empty fields is left of the line. */
  onlyEmptyLeft(line: Cursor): boolean {
    while (this.next(line)) if (!this.isEmpty) return false;
    return true;
  }

  /** The field as a string. */
  text(): string {
    return Buffer.from(this.#bytes.subarray(this.start, this.end)).toString('utf8');
  }

  /** The field for a message: cut when it is long, and of printable characters. */
  shown(): string {
    return shownText(this.text());
  }

  /** A field of at most six bytes as a number, letters in lower case. */
  key(): number {
    let key = 0;
    for (let at = this.start; at < this.end; at++) {
      const char = this.#bytes[at];
      key = key * 256 + (char >= 0x41 && char <= 0x5a ? char | 0x20 : char);
    }
    return key;
  }

  static keyOf(word: string): number {
    let key = 0;
    for (const char of Buffer.from(word.slice(0, LONGEST_KEY))) key = key * 256 + char;
    return key;
  }

  /** All fields of the line from where it is. */
  all(line: Cursor): string[] {
    const { at } = line;
    const fields: string[] = [];
    this.begin(line);
    while (this.next(line)) fields.push(this.text());
    line.at = at;
    return fields;
  }
}

const SHOWN_CHARACTERS = 40;

/** A part of a trace for a message: cut when it is long, and of printable characters. */
export function shownText(text: string, charactersMax = SHOWN_CHARACTERS): string {
  const printable = text.slice(0, charactersMax).replace(/[^\x20-\x7e\u00a0-\uffff]/g, '?');
  return text.length > charactersMax ? `${printable}…` : printable;
}
