/**
 * Reads the fields of one line of text straight from its bytes: no strings are made. Each method moves on past what
 * it found, and leaves the place where it is when it found nothing.
 */

/** Digits in the low part of a number that is kept in two. */
const LOW_DIGITS = 9;
const LOW_UNIT = 10 ** LOW_DIGITS;

export const Char = {
  tab: 0x09,
  space: 0x20,
  quote: 0x22,
  hash: 0x23,
  parenthesis: 0x28,
  plus: 0x2b,
  comma: 0x2c,
  minus: 0x2d,
  dot: 0x2e,
  zero: 0x30,
  semicolon: 0x3b,
  bracket: 0x5b,
  bar: 0x7c,
} as const;

export class Cursor {
  bytes: Uint8Array = new Uint8Array(0);
  at = 0;
  /** Where the line ends, its newline and carriage return not counted. */
  end = 0;
  /** The number that `longDigits` found is `high` × 10^9 + `low`. */
  high = 0;
  low = 0;

  set(bytes: Uint8Array, start: number, end: number): void {
    this.bytes = bytes;
    this.at = start;
    this.end = end;
  }

  get atEnd(): boolean {
    return this.at >= this.end;
  }

  /** The character here; -1 at the end. */
  peek(): number {
    return this.at < this.end ? this.bytes[this.at] : -1;
  }

  /** @returns true when `char` is here */
  skip(char: number): boolean {
    if (this.at >= this.end || this.bytes[this.at] !== char) return false;
    this.at++;
    return true;
  }

  skipBlanks(): void {
    const { bytes, end } = this;
    let at = this.at;
    while (at < end && (bytes[at] === Char.space || bytes[at] === Char.tab)) at++;
    this.at = at;
  }

  /** A decimal number; -1 when there is none here. Rounded from 2^53 on. */
  digits(): number {
    const { bytes, end } = this;
    let at = this.at;
    let value = 0;
    for (; at < end; at++) {
      const digit = bytes[at] - Char.zero;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
    }
    if (at === this.at) return -1;
    this.at = at;
    return value;
  }

  /** A decimal number of any length into `high` and `low`, exact below 9 × 10^24. @returns false when there is none */
  longDigits(): boolean {
    const { bytes, end } = this;
    const from = this.at;
    let stop = from;
    while (stop < end && bytes[stop] >= Char.zero && bytes[stop] <= Char.zero + 9) stop++;
    if (stop === from) return false;
    const split = Math.max(from, stop - LOW_DIGITS);
    let high = 0;
    let low = 0;
    for (let at = from; at < split; at++) high = high * 10 + (bytes[at] - Char.zero);
    for (let at = split; at < stop; at++) low = low * 10 + (bytes[at] - Char.zero);
    this.high = high;
    this.low = low;
    this.at = stop;
    return true;
  }

  /** Moves to the next `char` or the end. */
  skipTo(char: number): void {
    const { bytes, end } = this;
    let at = this.at;
    while (at < end && bytes[at] !== char) at++;
    this.at = at;
  }

  /** Moves past what is no blank. */
  skipWord(): void {
    const { bytes, end } = this;
    let at = this.at;
    while (at < end && bytes[at] !== Char.space && bytes[at] !== Char.tab) at++;
    this.at = at;
  }

  /** Is `bytes[start, here)` this word, in whatever case? `word` is in lower case, letters only. */
  spells(word: string, start: number): boolean {
    if (this.at - start !== word.length) return false;
    for (let i = 0; i < word.length; i++) if ((this.bytes[start + i] | 0x20) !== word.charCodeAt(i)) return false;
    return true;
  }

  /** The line from `start` to here, for an error: cut when it is long. */
  text(start: number): string {
    return Buffer.from(this.bytes.subarray(start, Math.min(this.at, start + 40))).toString('latin1');
  }
}

/** Times as differences to the first one met: exact where the times themselves exceed what a double holds. */
export class Epoch {
  #high = Number.NaN;
  #low = 0;

  /** What the cursor's `longDigits` found, less the first such, in the same unit. */
  since(cursor: Cursor): number {
    if (Number.isNaN(this.#high)) {
      this.#high = cursor.high;
      this.#low = cursor.low;
    }
    return (cursor.high - this.#high) * LOW_UNIT + (cursor.low - this.#low);
  }
}
