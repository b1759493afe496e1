/** Numbers for people and from people. */
import { describe, expect, it } from 'vitest';
import { PcacheError } from '../../src/engine/errors.js';
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatPercent,
  parseRange,
  parseSize,
  sparkline,
} from '../../src/output/units.js';

function messageOf(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    expect(error).toBeInstanceOf(PcacheError);
    expect((error as PcacheError).code).toBe('USAGE');
    expect((error as PcacheError).message).not.toContain('\n');
    return (error as PcacheError).message;
  }
  throw new Error('nothing was thrown');
}

describe('formatBytes', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [1024 ** 2 - 1, '1.0 MiB'],
    [536870912, '512 MiB'],
    [2 ** 44, '16 TiB'],
    [-2048, '-2 KiB'],
  ])('%i is %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it('adds the bytes that a unit rounds away, when asked', () => {
    expect(formatBytes(2 ** 20 + 1, { exact: true })).toBe('1.0 MiB (1048577 bytes)');
    expect(formatBytes(1536, { exact: true })).toBe('1.5 KiB');
    expect(formatBytes(1000, { exact: true })).toBe('1000 B');
  });
});

describe('parseSize', () => {
  it.each([
    ['0', 0],
    ['4096', 4096],
    ['4k', 4096],
    ['4K', 4096],
    ['512M', 536870912],
    ['1GiB', 2 ** 30],
    ['1.5G', 1.5 * 2 ** 30],
    ['0.5KiB', 512],
    ['2TiB', 2 ** 41],
    ['10kB', 10_000],
    ['1MB', 1_000_000],
    ['3 GB', 3_000_000_000],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
  ])('%s is %i bytes', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each(['', 'x', '-1', '1e9', '0x10', '1KiBB', '1,5G', '1 2', '1.', '.5K', 'NaN', 'Infinity', '4q'])(
    'refuses %j and says what is accepted',
    (text) => {
      expect(messageOf(() => parseSize(text))).toMatch(/is not a size; give a number of bytes, or one with K, M, G, T/);
    },
  );

  it.each(['0.5', '1.0001K', '0.3KiB'])('refuses %s, which is not whole bytes', (text) => {
    expect(messageOf(() => parseSize(text))).toContain('is not a whole number of bytes');
  });

  it.each(['9007199254740992', '8192T', '99999999999999999999T'])('refuses %s, which is beyond 2^53 - 1', (text) => {
    expect(messageOf(() => parseSize(text))).toContain('is too large');
  });

  it('does not round where a double would', () => {
    expect(parseSize('4194303.9990234375G')).toBe(4194303.9990234375 * 2 ** 30);
    expect(messageOf(() => parseSize('0.00000000001T'))).toContain('whole number');
  });
});

describe('parseRange', () => {
  it.each([
    ['1M', 2 ** 20, Infinity],
    ['0-64K', 0, 65536],
    ['1M+4K', 2 ** 20, 2 ** 20 + 4096],
    [' 512 - 1k ', 512, 1024],
  ])('reads %j', (text, startBytes, endBytes) => {
    expect(parseRange(text)).toEqual({ startBytes, endBytes });
  });

  it.each(['', '-', '-5', '1-', '1+', '1-2-3', '1+2+3', 'disk.img'])('refuses %j', (text) => {
    expect(messageOf(() => parseRange(text))).toContain('is not a range; give OFFSET');
  });

  it.each(['4K-4K', '8K-4K', '4K+0'])('refuses %s, which is empty', (text) => {
    expect(messageOf(() => parseRange(text))).toContain('is an empty range');
  });

  it('refuses an end beyond 2^53 - 1', () => {
    expect(messageOf(() => parseRange('9007199254740991+1'))).toContain('too large');
  });
});

describe('formatDuration', () => {
  it.each([
    [0, '0 ns'],
    [870, '870 ns'],
    [12_345, '12.3 µs'],
    [999_960, '1.00 ms'],
    [4_560_000, '4.56 ms'],
    [7_890_000_000, '7.89 s'],
    [59_999_000_000, '1m 00s'],
    [185e9, '3m 05s'],
    [7_620e9, '2h 07m'],
    [3_599.7e9, '1h 00m'],
  ])('%i ns is %s', (ns, text) => {
    expect(formatDuration(ns)).toBe(text);
  });
});

it('formatCount groups digits', () => {
  expect(formatCount(1234567)).toBe('1,234,567');
  expect(formatCount(12)).toBe('12');
});

it('formatPercent knows a whole of nothing', () => {
  expect(formatPercent(1, 8)).toBe('12.5%');
  expect(formatPercent(0, 0)).toBe('-');
});

describe('sparkline', () => {
  it('scales from zero to the largest', () => {
    expect(sparkline([0, 1, 2, 3, 4, 5, 6, 7])).toBe('▁▂▃▄▅▆▇█');
    expect(sparkline([5, 5])).toBe('██');
  });
  it('draws nothing, zeroes and gaps', () => {
    expect(sparkline([])).toBe('');
    expect(sparkline([0, 0])).toBe('▁▁');
    expect(sparkline([1, NaN, 1])).toBe('█ █');
  });
});
