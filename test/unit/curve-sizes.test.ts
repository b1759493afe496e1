/** Which sizes a curve has. */
import { describe, expect, it } from 'vitest';
import { chooseSizes, dataBytesOf, lruSizes } from '../../src/curve/sizes.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const DATA_512 = 31 * 16_764_928;

it('what a size has for data is that of its segments', () => {
  expect(dataBytesOf(512 * MIB)).toBe(DATA_512);
  expect(dataBytesOf(512 * MIB + 20_479)).toBe(DATA_512);
  expect(dataBytesOf(GIB)).toBe(63 * 16_764_928);
});

describe('sizes for a footprint', () => {
  it.each([
    [0, [512 * MIB, GIB]],
    [DATA_512, [512 * MIB, GIB]],
    [DATA_512 + 1, [512 * MIB, GIB, 2 * GIB]],
    [3 * GIB, [512 * MIB, GIB, 2 * GIB, 4 * GIB, 8 * GIB]],
  ])('%i bytes: doubling until it fits, and one more', (footprint, sizes) => {
    expect(chooseSizes(footprint)).toEqual(sizes);
  });

  it('end where caches do, however much there is', () => {
    expect(chooseSizes(2 ** 53).at(-1)).toBe(2 ** 44);
    expect(chooseSizes(2 ** 43).slice(-2)).toEqual([2 ** 43, 2 ** 44]);
  });
});

describe('sizes of the LRU curve', () => {
  it.each([1, 4096, 5 * MIB, 170 * MIB, 3 * GIB, undefined])('for %s bytes rise in whole blocks', (footprint) => {
    const caches = [512 * MIB, 4 * GIB];
    const sizes = lruSizes(caches, footprint);
    expect(sizes.every((size, i) => size % 4096 === 0 && size >= 4096 && (i === 0 || size > sizes[i - 1]))).toBe(true);
    expect(sizes).toEqual(expect.arrayContaining(caches.map(dataBytesOf)));
    expect(Math.max(...sizes)).toBeGreaterThanOrEqual(footprint ?? dataBytesOf(4 * GIB));
  });

  it('reach twelve doublings down from where the trace fits', () => {
    expect(lruSizes([512 * MIB], 170 * MIB)).toEqual(expect.arrayContaining([64 * 1024, MIB, 128 * MIB, 256 * MIB]));
    expect(lruSizes([512 * MIB], 170 * MIB)[0]).toBe(64 * 1024);
  });
});
