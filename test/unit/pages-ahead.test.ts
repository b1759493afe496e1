/** Memory that is prepared before segments are used: which segments, in which order, and when no more. */
import { describe, expect, it } from 'vitest';
import { PagesAhead, SEGMENTS_AHEAD } from '../../src/engine/space/pages-ahead.js';
import { SegmentTable } from '../../src/engine/space/segment-table.js';
import type { SegmentChain } from '../../src/engine/media/metadata.js';
import { KERNEL_GEOMETRY } from '../../src/engine/media/geometry.js';

const SEGMENTS = 40;

function make() {
  const chain = {
    length: SEGMENTS,
    dataOffsetBytes: Float64Array.from({ length: SEGMENTS }, (_, n) => n * 2 ** 24),
    generation: new Float64Array(SEGMENTS),
  } as unknown as SegmentChain;
  const table = new SegmentTable(KERNEL_GEOMETRY, chain);
  /** Segments that are being prepared or were, and the answer to the last of them. */
  const asked: number[] = [];
  let answer: ((isTouched: boolean) => void) | undefined;
  const pmem: ConstructorParameters<typeof PagesAhead>[0] = {
    touchAhead: (offset, length, done) => {
      expect([answer, length]).toEqual([undefined, KERNEL_GEOMETRY.segmentDataBytes]);
      asked.push(offset / 2 ** 24);
      answer = (isTouched) => {
        answer = undefined;
        done(isTouched);
      };
    },
  };
  const ahead = new PagesAhead(pmem, table);
  table.onTaken = () => ahead.look();
  return {
    table,
    asked,
    pmem,
    ahead,
    end: (isTouched = true) => answer?.(isTouched),
    isBusy: () => answer !== undefined,
  };
}

describe('pages ahead', () => {
  it('are prepared one segment after the other, in the order in which they will be taken, and only so many', () => {
    const { table, asked, ahead, end, isBusy } = make();
    for (const used of [0, 3, 4]) table.markUsed(used);
    ahead.look();
    while (isBusy()) end();
    const free = Array.from({ length: SEGMENTS }, (_, n) => n).filter((n) => ![0, 3, 4].includes(n));
    expect(asked).toEqual(free.slice(0, SEGMENTS_AHEAD));
    for (let n = 0; n < 5; n++) {
      expect(table.takeForData(1)).toBe(free[n]);
      while (isBusy()) end();
      expect(asked).toEqual(free.slice(0, SEGMENTS_AHEAD + 1 + n));
    }
  });

  it('are prepared once for each segment', () => {
    const { table, asked, ahead, end, isBusy } = make();
    ahead.look();
    for (let n = 0; n < 3 * SEGMENTS; n++) {
      while (isBusy()) end();
      const segment = table.takeForLog();
      table.freeLogSegment(segment);
      // The one that was just freed would be taken again: hold it, as the log does.
      table.markInLog(segment);
      if (table.freeCount === 0) for (let used = 0; used < SEGMENTS; used++) table.freeLogSegment(used);
    }
    expect([...asked].sort((a, b) => a - b)).toEqual(Array.from({ length: SEGMENTS }, (_, n) => n));
  });

  it('are left alone after the first failure, and when the device is closed', () => {
    const failing = make();
    failing.ahead.look();
    failing.end(false);
    failing.table.takeForData(1);
    expect(failing.asked.length).toBe(1);
    const closed = make();
    closed.ahead.look();
    closed.pmem.touchAhead = undefined;
    closed.end();
    expect(closed.asked.length).toBe(1);
  });
});
