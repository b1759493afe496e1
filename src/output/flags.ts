/** Flag kinds that several commands share. */
import { Flags } from '@oclif/core';
import { PcacheError } from '../engine/errors.js';
import { CACHE_MODES, type CacheMode } from '../engine/media/codecs.js';
import { parseRange, parseSize, type ByteRange } from './units.js';

/** A number of bytes, as `parseSize` takes it. */
export const sizeFlag = Flags.custom<number>({ parse: (text) => Promise.resolve(parseSize(text)), helpValue: 'SIZE' });

/** A range of bytes, as `parseRange` takes it. */
export const rangeFlag = Flags.custom<ByteRange>({
  parse: (text) => Promise.resolve(parseRange(text)),
  helpValue: 'RANGE',
});

/** A cache mode by its name. */
export const modeFlag = Flags.custom<CacheMode>({
  helpValue: CACHE_MODES.join('|'),
  parse: (text) => {
    const mode = CACHE_MODES.find((name) => name === text);
    if (mode) return Promise.resolve(mode);
    return Promise.reject(new PcacheError('USAGE', `'${text}' is not a cache mode; give ${CACHE_MODES.join(', ')}`));
  },
});

const SPEED_ACCEPTED = 'give max, realtime, or a factor such as 4x or 0.5x';

/** How fast a trace is replayed: 1 is real time, Infinity as fast as it goes. */
export const speedFlag = Flags.custom<number>({
  helpValue: 'max|realtime|Nx',
  parse: (text) => {
    if (text === 'max') return Promise.resolve(Infinity);
    if (text === 'realtime') return Promise.resolve(1);
    const factor = /^(\d+(?:\.\d+)?)x$/.exec(text);
    const speed = factor ? Number(factor[1]) : 0;
    if (!(speed > 0)) return Promise.reject(new PcacheError('USAGE', `'${text}' is not a speed; ${SPEED_ACCEPTED}`));
    return Promise.resolve(speed);
  },
});
