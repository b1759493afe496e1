/**
 * Numbers as people's tools write them: `4096`, `4096.0`, `1e3`, `0x1000`, `-413`. Plain digits are read without making
 * a string; everything else takes the slow way.
 */
import type { Cursor } from './cursor.js';

/** Digits behind the decimal point that count: a femtosecond of a second. */
const FRACTION_DIGITS_MAX = 15;
/** Digits in the low part of a number that is kept in two, as in `cursor.ts`. */
const LOW_UNIT = 1e9;
/** Times beyond 10^24 are not times, and their differences are not exact. */
const HIGH_MAX = 1e15;
export const TIME_DIGITS_MAX = 24;

const DECIMAL = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,3}))?$/;
const HEXADECIMAL = /^0[xX][0-9a-fA-F]{1,16}$/;

/** Why a field is not the number that is wanted; all are below 0. */
export const NotANumber = { text: -1, negative: -2, fraction: -3 } as const;

const REASONS = new Map<number, string>([
  [NotANumber.text, 'is not a number'],
  [NotANumber.negative, 'is negative'],
  [NotANumber.fraction, 'is not a whole number'],
]);

export function whyNot(value: number): string {
  return REASONS.get(value) ?? 'is not a number';
}

interface Decimal {
  readonly negative: boolean;
  /** Digits before and behind the point, the exponent applied. */
  readonly whole: string;
  readonly fraction: string;
}

function decimalOf(text: string): Decimal | undefined {
  const match = DECIMAL.exec(text);
  if (match === null) return undefined;
  const [, sign, whole, fraction = '', exponent = '0'] = match;
  if (whole === '' && fraction === '') return undefined;
  const digits = whole + fraction;
  const point = whole.length + Number(exponent);
  const negative = sign === '-';
  if (point <= 0) return { negative, whole: '0', fraction: '0'.repeat(-point) + digits };
  return { negative, whole: digits.slice(0, point).padEnd(point, '0'), fraction: digits.slice(point) };
}

/** A whole number from 0 on that `text` says, rounded from 2^53 on; or a `NotANumber`. */
export function wholeNumber(text: string): number {
  if (HEXADECIMAL.test(text)) return Number(text);
  const decimal = decimalOf(text);
  if (decimal === undefined) return NotANumber.text;
  if (/[1-9]/.test(decimal.fraction)) return NotANumber.fraction;
  const value = Number(decimal.whole);
  if (decimal.negative && value > 0) return NotANumber.negative;
  return value;
}

/**
 * Times as differences to the first one met, ns: exact where the times themselves exceed what a double holds, and to
 * the last digit behind a decimal point.
 */
export class Clock {
  private high = Number.NaN;
  private low = 0;
  private fraction = 0;

  /** @param unitNs nanoseconds in the unit that the times count in */
  constructor(private readonly unitNs: number) {}

  /** What the cursor's `longDigits` found. */
  since(cursor: Cursor): number {
    return this.difference(cursor.high, cursor.low, 0);
  }

  /** What `text` says; undefined when it is not a number. */
  sinceText(text: string): number | undefined {
    if (HEXADECIMAL.test(text)) {
      const value = BigInt(text);
      return this.difference(Number(value / 1_000_000_000n), Number(value % 1_000_000_000n), 0);
    }
    const decimal = decimalOf(text);
    if (decimal === undefined) return undefined;
    const sign = decimal.negative ? -1 : 1;
    const low = decimal.whole.slice(-9);
    const high = decimal.whole.slice(0, -9);
    if (Number(high) > HIGH_MAX) return undefined;
    const fraction = Number(`0.${decimal.fraction.slice(0, FRACTION_DIGITS_MAX) || '0'}`);
    return this.difference(sign * Number(high), sign * Number(low), sign * fraction);
  }

  private difference(high: number, low: number, fraction: number): number {
    if (Number.isNaN(this.high)) {
      this.high = high;
      this.low = low;
      this.fraction = fraction;
    }
    const whole = ((high - this.high) * LOW_UNIT + (low - this.low)) * this.unitNs;
    return whole + Math.round(fraction * this.unitNs) - Math.round(this.fraction * this.unitNs);
  }
}
