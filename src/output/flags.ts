/** Kinds of flags that several commands share. */
import { Args, Flags } from '@oclif/core';
import type { LruChoice } from '../curve/curve.js';
import { DEFAULT_SAMPLING } from '../curve/lru-sampled.js';
import { POLICY_NAMES, type PolicyName } from '../curve/policies.js';
import { PcacheError } from '../engine/errors.js';
import { CACHE_MODES, type CacheMode } from '../engine/media/codecs.js';
import { MIN_DEVICE_BYTES } from '../engine/media/geometry.js';
import { formatBytes, parseRange, parseSize, type ByteRange } from './units.js';

/** A number of bytes, as `parseSize` accepts it. */
export const sizeFlag = Flags.custom<number>({ parse: (text) => Promise.resolve(parseSize(text)), helpValue: 'SIZE' });

/** The block device of an attached cache, where a command takes that or --socket. */
export const attachedDeviceArgument = Args.string({
  name: 'DEVICE',
  description: "block device of the cache: /dev/ublkbN, /dev/nbdN, or the NAME of a device of the kernel's target",
});

/** A range of bytes, as `parseRange` accepts it. */
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

/** Speed of a replay: 1 is real time, Infinity is as fast as possible. */
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

/** Sizes of cache devices in ascending order: `512MiB,1GiB,2GiB`. */
export const cacheSizesFlag = Flags.custom<number[]>({
  helpValue: 'SIZE,SIZE,…',
  parse: (text) => {
    const refuse = (message: string) => Promise.reject(new PcacheError('USAGE', message));
    const sizes = text.split(',').map(parseSize);
    for (const [i, size] of sizes.entries()) {
      if (size < MIN_DEVICE_BYTES) {
        return refuse(
          `${formatBytes(size, { exact: true })} is too small; a cache needs at least ${formatBytes(MIN_DEVICE_BYTES)}`,
        );
      }
      if (i > 0 && size <= sizes[i - 1]) {
        return refuse(
          `${formatBytes(size)} follows ${formatBytes(sizes[i - 1])}; list each size once, in ascending order`,
        );
      }
    }
    return Promise.resolve(sizes);
  },
});

/** Several sizes in ascending order, each as `parseSize` accepts it. */
export const sizesFlag = Flags.custom<number[]>({
  helpValue: 'SIZE,SIZE,…',
  parse: (text) => {
    const sizes = text.split(',').map(parseSize);
    if (sizes.every((size, i) => i === 0 || size > sizes[i - 1])) return Promise.resolve(sizes);
    return Promise.reject(new PcacheError('USAGE', `'${text}': list each size once, in ascending order`));
  },
});

const LRU_ACCEPTED = 'give auto, exact, sampled, none, or the share of blocks to sample, such as 1%';

/** Method for the LRU curve. */
export const lruFlag = Flags.custom<LruChoice>({
  helpValue: 'auto|exact|sampled|N%|none',
  parse: (text) => {
    if (text === 'auto' || text === 'none') return Promise.resolve(text);
    if (text === 'exact') return Promise.resolve({ kind: 'exact' });
    if (text === 'sampled') return Promise.resolve(DEFAULT_SAMPLING);
    const percent = /^(\d+(?:\.\d+)?)%$/.exec(text);
    const rate = percent ? Number(percent[1]) / 100 : 0;
    if (!(rate > 0 && rate <= 1)) {
      return Promise.reject(new PcacheError('USAGE', `'${text}' is not a method for the LRU curve; ${LRU_ACCEPTED}`));
    }
    return Promise.resolve({ kind: 'fixed-rate', rate });
  },
});

/** Policies to compare with, each once. */
export const policiesFlag = Flags.custom<PolicyName[]>({
  helpValue: 'NAME,NAME,…',
  parse: (text) => {
    const names = text.split(',');
    const unknown = names.find((name) => !(POLICY_NAMES as readonly string[]).includes(name));
    if (unknown !== undefined) {
      return Promise.reject(new PcacheError('USAGE', `'${unknown}' is not a policy; give ${POLICY_NAMES.join(', ')}`));
    }
    return Promise.resolve([...new Set(names)] as PolicyName[]);
  },
});
