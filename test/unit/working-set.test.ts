/** The working set of a trace by hour, minute or second. */
import { describe, expect, it } from 'vitest';
import { WorkingSetCounter } from '../../src/curve/working-set.js';
import { TraceOp, type TraceBatch } from '../../src/trace/index.js';

const HOUR_NS = 3600e9;

/** @param rows time in ns, kind, offset and length in bytes */
function batchOf(rows: readonly (readonly [number, number, number, number])[]): TraceBatch {
  return {
    count: rows.length,
    timeNs: Float64Array.from(rows, ([timeNs]) => timeNs),
    op: Uint8Array.from(rows, ([, op]) => op),
    flags: new Uint8Array(rows.length),
    offsetBytes: Float64Array.from(rows, ([, , offset]) => offset),
    lengthBytes: Float64Array.from(rows, ([, , , length]) => length),
  };
}

const { read, write, flush, discard } = TraceOp;

describe('the working set', () => {
  it('counts each block once an hour; hours without requests are 0 and not part of the median', () => {
    const counter = new WorkingSetCounter(4.5 * HOUR_NS, 5 * 4096, 2 ** 40);
    const rows = batchOf([
      [0, read, 0, 8192],
      [1, write, 4096, 512],
      [1.2 * HOUR_NS, read, 0, 4096],
      [1.3 * HOUR_NS, read, 4095, 2],
      [1.4 * HOUR_NS, write, 2 ** 40, 8192],
      [1.5 * HOUR_NS, flush, 0, 0],
      [1.6 * HOUR_NS, discard, 2 ** 30, 2 ** 20],
      [3.1 * HOUR_NS, read, 0, 1],
      [4.5 * HOUR_NS, flush, 0, 0],
    ]);
    expect(counter.count(rows, Infinity)).toBe(8);
    expect(counter.result()).toEqual({
      intervalNs: HOUR_NS,
      byIntervalBytes: [2 * 4096, 4 * 4096, 0, 4096, 0],
      medianBytes: 2 * 4096,
      maxBytes: 4 * 4096,
      rate: 1,
    });
  });

  it.each([
    [0, 1e9],
    [59e9, 1e9],
    [60e9, 60e9],
    [HOUR_NS, HOUR_NS],
    [9999 * HOUR_NS, HOUR_NS],
    [10_001 * HOUR_NS, 24 * HOUR_NS],
  ])('of a trace of %d ns is counted in intervals of %d ns', (durationNs, intervalNs) => {
    expect(new WorkingSetCounter(durationNs, 4096, 4096).result().intervalNs).toBe(intervalNs);
  });

  it('ends at the limit of requests', () => {
    const counter = new WorkingSetCounter(3 * HOUR_NS, undefined, 4096);
    const row = [0, read, 0, 4096] as const;
    expect(counter.count(batchOf([row, [HOUR_NS, read, 0, 4096], [2 * HOUR_NS, read, 0, 4096]]), 2)).toBe(2);
    expect(counter.result().byIntervalBytes).toEqual([4096, 4096]);
  });

  it('of very many blocks is estimated from a sample of them, within 5 %', () => {
    const unique = 2 ** 28;
    const counter = new WorkingSetCounter(HOUR_NS, unique * 4096, unique * 4096);
    const bytes = 2 ** 20 * 4096;
    counter.count(batchOf([[0, read, 3 * bytes, bytes]]), Infinity);
    const { rate, maxBytes } = counter.result();
    expect(rate).toBe(2 ** 22 / unique);
    expect(Math.abs(maxBytes / bytes - 1)).toBeLessThan(0.05);
  });
});
