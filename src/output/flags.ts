/** Flag kinds that several commands share. */
import { Flags } from '@oclif/core';
import { parseRange, parseSize, type ByteRange } from './units.js';

/** A number of bytes, as `parseSize` takes it. */
export const sizeFlag = Flags.custom<number>({ parse: (text) => Promise.resolve(parseSize(text)), helpValue: 'SIZE' });

/** A range of bytes, as `parseRange` takes it. */
export const rangeFlag = Flags.custom<ByteRange>({
  parse: (text) => Promise.resolve(parseRange(text)),
  helpValue: 'RANGE',
});
