/** What `pcache bench scale` goes through: along one axis one quantity grows and the others stay as they are. */
import { PcacheError } from '../engine/errors.js';
import { planFormat } from '../engine/create/create-cache.js';
import { GIB, KERNEL_GEOMETRY, MIN_DEVICE_BYTES, segmentCountFor, SUBTREE_BYTES } from '../engine/media/geometry.js';
import { KEY_BYTES, KSET_HEADER_BYTES, KSET_KEYS_MAX } from '../engine/media/kset.js';

export const SCALE_AXES = ['cache', 'backing', 'keys'] as const;
export type ScaleAxis = (typeof SCALE_AXES)[number];

/** Of requests and keys. */
export const SCALE_BLOCK_BYTES = 4096;
const TIB = 1024 * GIB;
const CACHE_MAX_BYTES = 16 * TIB;
/** What the blocks are scattered over is counted in 2^36 of them at most. */
const BACKING_MAX_BYTES = 128 * TIB;

export interface ScaleStep {
  readonly cacheBytes: number;
  readonly backingBytes: number;
  readonly keys: number;
}

/** How much is done in a step. */
export interface ScaleEffort {
  readonly requestsPerRound: number;
  readonly warmUpRounds: number;
  readonly rounds: number;
  /** Reads go to so many of the keys at most: their payload is resident. */
  readonly readTargetsMax: number;
}

export const FULL_EFFORT: ScaleEffort = {
  requestsPerRound: 32_768,
  warmUpRounds: 2,
  rounds: 9,
  readTargetsMax: 2 ** 18,
};
export const QUICK_EFFORT: ScaleEffort = {
  requestsPerRound: 2048,
  warmUpRounds: 1,
  rounds: 3,
  readTargetsMax: 2 ** 12,
};
/** Writes go to so many of the keys at most. */
export const WRITE_TARGETS_MAX = 2 ** 20;

const FULL_SIZES: Record<ScaleAxis, readonly number[]> = {
  cache: [GIB, 4 * GIB, 16 * GIB, 64 * GIB],
  backing: [4 * GIB, 64 * GIB, TIB, 16 * TIB],
  keys: [10_000, 100_000, 1_000_000, 10_000_000, 50_000_000],
};
const QUICK_SIZES: Record<ScaleAxis, readonly number[]> = {
  cache: [GIB, 64 * GIB],
  backing: [4 * GIB, 16 * TIB],
  keys: [1000, 100_000],
};
const FULL_KEYS: Record<ScaleAxis, number> = { cache: 65_536, backing: 1_000_000, keys: 0 };
const QUICK_KEYS = 10_000;

/** What an axis is gone along for: bytes, or keys. */
export interface AxisSizes {
  readonly axis: ScaleAxis;
  readonly sizes: readonly number[];
}

/**
 * The axes that the user wants, all when undefined, with the usual sizes or with his.
 * @throws PcacheError USAGE for sizes that make no cache
 */
export function scaleAxes(
  axes: readonly ScaleAxis[] = SCALE_AXES,
  sizes: readonly number[] | undefined,
  quick: boolean,
): AxisSizes[] {
  if (sizes === undefined)
    return [...new Set(axes)].map((axis) => ({ axis, sizes: (quick ? QUICK_SIZES : FULL_SIZES)[axis] }));
  if (axes.length !== 1) throw new PcacheError('USAGE', '--sizes needs exactly one --axis');
  for (const size of sizes) refuseImpossible(scaleStep(axes[0], size, quick));
  return [{ axis: axes[0], sizes }];
}

function refuseImpossible({ cacheBytes, backingBytes, keys }: ScaleStep): void {
  planFormat(cacheBytes, { dataCrc: false, gcPercent: 0 });
  const blocks = Math.floor(backingBytes / SCALE_BLOCK_BYTES);
  if (keys === 0 || keys > blocks) {
    throw new PcacheError(
      'USAGE',
      `${keys} keys of ${SCALE_BLOCK_BYTES} bytes: a backing device of ${backingBytes} bytes holds 1 to ${blocks}`,
    );
  }
  if (backingBytes > BACKING_MAX_BYTES || cacheBytes > CACHE_MAX_BYTES) {
    throw new PcacheError(
      'USAGE',
      `a cache of ${cacheBytes} bytes with a backing device of ${backingBytes}: at most 16 TiB and 128 TiB are supported`,
    );
  }
}

/** The step of an axis at one of its sizes: bytes, or keys. */
export function scaleStep(axis: ScaleAxis, size: number, quick: boolean): ScaleStep {
  const keys = quick ? QUICK_KEYS : FULL_KEYS[axis];
  switch (axis) {
    case 'cache':
      return { cacheBytes: size, backingBytes: TIB, keys };
    case 'backing':
      return { cacheBytes: cacheFor(keys), backingBytes: size, keys };
    case 'keys':
      return { cacheBytes: cacheFor(size), backingBytes: TIB, keys: size };
  }
}

/** A cache that so many keys fill to four fifths, and room for what the rounds write. */
function cacheFor(keys: number): number {
  return Math.max(MIN_DEVICE_BYTES, Math.ceil((keys * SCALE_BLOCK_BYTES * 1.25) / GIB + 3) * GIB);
}

/** A cache of up to this size is resident as a whole, and collected between the rounds. */
const WHOLE_MAX_BYTES = 2 * GIB;

export function isWhole(step: ScaleStep): boolean {
  return step.cacheBytes <= WHOLE_MAX_BYTES;
}

/** What the rounds write, bytes. */
export function writtenBytes(effort: ScaleEffort): number {
  return (effort.warmUpRounds + effort.rounds) * effort.requestsPerRound * SCALE_BLOCK_BYTES;
}

const LOG_BYTES_PER_KEY = KEY_BYTES + KSET_HEADER_BYTES / KSET_KEYS_MAX;
/** Pages that formatting touches in a segment. */
const SEGMENT_HEAD_BYTES = 4 * 4096;
/** The index, the memory that it outgrew, and those of earlier loads that nobody has collected yet. */
const INDEX_BYTES_PER_KEY = 3 * 32;
const INDEX_BYTES_PER_SUBTREE = 3 * 8;
/** Node.js with all that is loaded, and small things. */
const BASE_BYTES = 256 * 2 ** 20;

/** Memory that a step takes, bytes: about, and rather too much than too little. */
export function memoryNeeded(step: ScaleStep, effort: ScaleEffort): number {
  const fixed =
    BASE_BYTES +
    step.keys * (LOG_BYTES_PER_KEY + INDEX_BYTES_PER_KEY) +
    (step.backingBytes / SUBTREE_BYTES) * INDEX_BYTES_PER_SUBTREE;
  if (isWhole(step)) return fixed + step.cacheBytes;
  const heads = segmentCountFor(KERNEL_GEOMETRY, step.cacheBytes) * SEGMENT_HEAD_BYTES;
  return fixed + heads + readTargets(step, effort) * SCALE_BLOCK_BYTES + writtenBytes(effort);
}

/** How many of a step's keys reads go to. */
export function readTargets(step: ScaleStep, effort: ScaleEffort): number {
  return Math.min(step.keys, effort.readTargetsMax);
}
