/** Flags of the benchmarks that make requests of one pattern. */
import { Flags } from '@oclif/core';
import { PATTERNS } from '../bench/pattern.js';
import { sizeFlag } from './flags.js';

export const REQUEST_FLAGS = {
  'pattern': Flags.string({ description: 'access pattern', options: PATTERNS, default: 'randwrite' }),
  'bs': sizeFlag({ description: 'request size', default: 4096, defaultHelp: () => Promise.resolve('4KiB') }),
  'depth': Flags.integer({
    description: 'number of requests in a group',
    default: 32,
    min: 1,
    max: 1024,
    helpValue: 'N',
  }),
  'data-crc': Flags.boolean({ description: 'create the temporary cache with data_crc', default: false }),
  'fua': Flags.integer({ description: 'make every Nth write FUA', default: 0, min: 0, helpValue: 'N' }),
  'cache-size': sizeFlag({
    description: 'size of the temporary cache',
    default: 2 ** 31,
    defaultHelp: () => Promise.resolve('2GiB'),
  }),
  'span': sizeFlag({
    description: 'size of the range over which requests are scattered',
    default: 2 ** 32,
    defaultHelp: () => Promise.resolve('4GiB'),
  }),
};
