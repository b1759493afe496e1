/** What the contents of a sector say of the write that made them. */
import { expect, it } from 'vitest';
import { glanceAtStamp, NOT_A_STAMP, readStamp, stamp, ZEROES } from '../support/stamps.js';

const WORDS = 128;

it.each([0, 1, 12_345])('sector %i is told to hold a version, zeroes, or neither, by a glance as well', (sector) => {
  const words = new Int32Array(WORDS);
  const both = () => [readStamp(words, 0, sector), glanceAtStamp(words, 0, sector, 3)];
  expect(both()).toEqual([ZEROES, ZEROES]);
  stamp(words, 0, sector, 7);
  expect(both()).toEqual([7, 7]);
  words.fill(1);
  expect(both()).toEqual([NOT_A_STAMP, NOT_A_STAMP]);
});
