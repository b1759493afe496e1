/** Which sizes a curve has: those of caches when the user names none, and those of the LRU reference. Pure. */
import { KERNEL_GEOMETRY, MIN_DEVICE_BYTES, MAX_SEGMENTS, segmentCountFor } from '../engine/media/geometry.js';
import { LRU_BLOCK_BYTES } from './lru-curve.js';

/** The LRU curve reaches so many doublings down from the footprint, with so many sizes in each. */
const LRU_OCTAVES = 12;
const LRU_PER_OCTAVE = 4;

/** The other policies are simulated at the footprint and so many halvings of it. */
const POLICY_HALVINGS = 6;

/** What is beyond this of a device is not used. */
const MAX_CACHE_BYTES = MAX_SEGMENTS * KERNEL_GEOMETRY.segmentBytes;

/** What a cache device of that size has for payload and log, bytes. */
export function dataBytesOf(cacheBytes: number): number {
  return segmentCountFor(KERNEL_GEOMETRY, cacheBytes) * KERNEL_GEOMETRY.segmentDataBytes;
}

/**
 * Sizes for `--curve`: doubling from the smallest that there is until the trace's footprint fits, and one more.
 * @param footprintBytes all blocks of the trace; where that is not known, how far it reaches
 */
export function chooseSizes(footprintBytes: number): number[] {
  const sizes = [MIN_DEVICE_BYTES];
  let last = MIN_DEVICE_BYTES;
  while (dataBytesOf(last) < footprintBytes && last < MAX_CACHE_BYTES) sizes.push((last *= 2));
  return last < MAX_CACHE_BYTES ? [...sizes, 2 * last] : sizes;
}

/**
 * Sizes of the LRU curve: the data areas of the caches, and steps from far below the footprint up to where it fits.
 * @param footprintBytes undefined when not known
 * @returns rising multiples of 4 KiB
 */
export function lruSizes(cacheSizes: readonly number[], footprintBytes: number | undefined): number[] {
  const ofCaches = cacheSizes.map(dataBytesOf);
  const top = topOf(ofCaches, footprintBytes);
  const sizes = new Set(ofCaches);
  for (let step = 0; step <= LRU_OCTAVES * LRU_PER_OCTAVE; step++) {
    const blocks = Math.round(top / 2 ** (step / LRU_PER_OCTAVE) / LRU_BLOCK_BYTES);
    if (blocks > 0) sizes.add(blocks * LRU_BLOCK_BYTES);
  }
  return [...sizes].sort((a, b) => a - b);
}

/** Sizes of the other policies, all among `lruSizes`: the data areas of the caches, and some from the footprint down. */
export function policySizes(cacheSizes: readonly number[], footprintBytes: number | undefined): number[] {
  const ofCaches = cacheSizes.map(dataBytesOf);
  const top = topOf(ofCaches, footprintBytes);
  const halves = Array.from({ length: POLICY_HALVINGS + 1 }, (_, i) => top / 2 ** i);
  const sizes = new Set([...ofCaches, ...halves.filter((bytes) => bytes >= LRU_BLOCK_BYTES)]);
  return [...sizes].sort((a, b) => a - b);
}

/** The power of two at or above the footprint. */
function topOf(dataBytes: readonly number[], footprintBytes: number | undefined): number {
  return 2 ** Math.ceil(Math.log2(Math.max(footprintBytes ?? Math.max(...dataBytes), LRU_BLOCK_BYTES)));
}
