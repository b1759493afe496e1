/** How a curve is shown: the table, the notes, the chart. */
import { describe, expect, it } from 'vitest';
import type { LruCurve, LruPoint, Share } from '../../src/curve/lru-curve.js';
import type { CurvePoint, CurveResult } from '../../src/curve/result.js';
import { renderCurve } from '../../src/output/curve-report.js';
import { drawChart } from '../../src/output/line-chart.js';
import { sizingAnswers } from '../../src/curve/sizing.js';

const MIB = 2 ** 20;
const exactly = (ratio: number): Share => ({ ratio, error: 0 });

function point(cacheBytes: number, hitRatio: number | null, more: Partial<CurvePoint> = {}): CurvePoint {
  return {
    cacheBytes,
    segments: 31,
    dataBytes: cacheBytes - MIB,
    hitRatioByRequests: hitRatio,
    hitRatioByBytes: hitRatio,
    missRatioByRequests: hitRatio === null ? null : 1 - hitRatio,
    missRatioByBytes: hitRatio === null ? null : 1 - hitRatio,
    readHits: 1,
    readHitBytes: hitRatio === null ? 0 : 4096 * hitRatio,
    backingWriteBytes: 3 * MIB,
    writeAmplification: 0.75,
    dirtyPeakBytes: 2 * MIB,
    gcSegmentsFreed: 7,
    segmentsPeak: 20,
    waitedForRoom: 1234,
    holdsAll: false,
    latency: null,
    backingBusy: null,
    elapsedNs: 1e9,
    ...more,
  };
}

function lruPoint(cacheBytes: number, reads: Share | null, all = reads): LruPoint {
  return { cacheBytes, reads: { byRequests: reads, byBytes: reads }, all: { byRequests: all, byBytes: all } };
}

const LRU: LruCurve = {
  method: 'exact',
  blockBytes: 4096,
  uniqueBlocks: 1000,
  references: 5000,
  reads: 10,
  writes: 5,
  sampling: null,
  points: [
    lruPoint(256 * MIB, exactly(0.25)),
    lruPoint(300 * MIB, exactly(0.3)),
    lruPoint(511 * MIB, exactly(0.5)),
    lruPoint(1023 * MIB, exactly(0.6)),
    lruPoint(1024 * MIB, exactly(0.6)),
  ],
};

function result(more: Partial<CurveResult> = {}): CurveResult {
  return {
    trace: {
      name: 'x.blktrace',
      format: 'blktrace stream',
      action: 'queue',
      durationNs: 1e9,
      endBytes: MIB,
      uniqueBytes: 4096,
      counts: {},
      loops: 1,
    },
    cache: { mode: 'writeback', dataCrc: false, gcPercent: 70 },
    requests: { total: 15, reads: 10, readBytes: 1, writes: 5, writeBytes: 1, flushes: 0, discardsSkipped: 0 },
    threads: 2,
    elapsedNs: 1e9,
    curve: [point(512 * MIB, 0.4), point(1024 * MIB, 0.55)],
    lru: LRU,
    policies: [],
    answers: { nearlyBest: null, coldMissRatioByBytes: null, workingSet: null },
    withoutCache: null,
    interrupted: false,
    ...more,
  };
}

const shown = (more: Partial<CurveResult> = {}) => renderCurve(result(more), (title) => title, 80);
/** Cells of the line that begins with `start`. */
const cells = (text: string, start: string) =>
  text
    .split('\n')
    .map((line) => line.trim())
    .find((line) => line.startsWith(start))
    ?.split(/ {2,}/);

describe('the table of a curve', () => {
  it('has LRU of the data area beside each size', () => {
    expect(cells(shown(), '512 MiB')).toEqual([
      '512 MiB',
      '511 MiB',
      '40.0%',
      '50.0%',
      '40.0%',
      '50.0%',
      '3 MiB',
      '75.0%',
      '2 MiB',
      '7 segments',
      '1,234',
    ]);
    expect(cells(shown(), '1 GiB')?.slice(0, 6)).toEqual(['1 GiB', '1023 MiB', '55.0%', '60.0%', '55.0%', '60.0%']);
  });

  it('has no column for an LRU that was not made, and none by requests for one that was sampled', () => {
    expect(cells(shown({ lru: null }), '512 MiB')?.slice(0, 5)).toEqual([
      '512 MiB',
      '511 MiB',
      '40.0%',
      '40.0%',
      '3 MiB',
    ]);
    const points = LRU.points.map(({ cacheBytes }) => ({
      ...lruPoint(cacheBytes, { ratio: 0.5, error: 0.0123 }),
    }));
    const sampling = { kind: 'fixed-rate', samples: 8, rate: 0.000123, sampledBlocks: 77 } as const;
    const text = shown({ lru: { ...LRU, method: 'sampled', sampling, points } });
    expect(cells(text, '512 MiB')?.slice(2, 5)).toEqual(['40.0%', '40.0%', '50.0% ± 1.2']);
    expect(cells(text, '256 MiB')).toEqual(['256 MiB', '50.0% ± 1.2', '50.0% ± 1.2']);
    expect(text).toContain('77 blocks, 0.012% of all');
  });

  it('shows the LRU curve where sizes double', () => {
    const text = shown();
    expect(cells(text, '256 MiB')).toEqual(['256 MiB', '25.0%', '25.0%', '25.0%', '25.0%']);
    expect(text).not.toContain('300 MiB');
  });

  it('says what is missing after an interrupt, and shows what there is', () => {
    const text = shown({ interrupted: true, curve: [], requests: null, lru: null });
    expect(text).toContain('unfinished sizes are missing');
    expect(text).not.toContain('dm-pcache');
  });
});

describe('expected latency', () => {
  const summary = (count: number, p50Ns: number) => ({
    count,
    meanNs: 1,
    p50Ns,
    p90Ns: 1,
    p99Ns: 10 * p50Ns,
    p999Ns: 1,
    p9999Ns: 1,
    maxNs: 1,
  });

  it('is shown by size, and without the cache, where there is a model', () => {
    expect(shown()).not.toContain('Expected latency');
    expect(shown()).toContain('is infinitely fast');
    const latency = {
      readHit: summary(3, 1000),
      readMiss: summary(0, 0),
      write: summary(2, 3000),
      flush: summary(1, 4000),
    };
    const model = {
      pmem: { readNs: 1, writeNs: 1, readBytesPerSecond: 1, writeBytesPerSecond: 1 },
      backing: { readNs: 1, writeNs: 1, flushNs: 1, seekNs: 0, shortSeekNs: 0, bytesPerSecond: 1, depth: 1 },
    };
    const alone = { read: summary(3, 5000), write: summary(2, 6000), flush: summary(1, 7000) };
    const text = shown({
      curve: [point(512 * MIB, 0.4, { latency, backingBusy: 0.5 })],
      withoutCache: { model, latency: alone, backingBusy: 1.25 },
    });
    const table = text.slice(text.indexOf('Expected latency'));
    expect(cells(table, '512 MiB')?.slice(1).join(' ')).toBe(
      '1.00 µs 10.0 µs - - 3.00 µs 30.0 µs 4.00 µs 40.0 µs 50.0%',
    );
    expect(cells(table, 'no cache')?.slice(1).join(' ')).toBe('5.00 µs 50.0 µs 6.00 µs 60.0 µs 7.00 µs 70.0 µs 125.0%');
    expect(text).not.toContain('is infinitely fast');
  });
});

describe('what a curve says beside its numbers', () => {
  it('which size holds the whole trace', () => {
    const holding = point(1024 * MIB, 0.55, { holdsAll: true });
    expect(shown()).not.toContain('holds the whole trace');
    expect(shown({ curve: [point(512 * MIB, 0.4), holding] })).toContain(
      '1 GiB holds the whole trace; larger caches gain nothing.',
    );
    expect(shown({ curve: [holding] })).toContain('The smallest size already holds the whole trace');
    expect(shown({ curve: [holding] })).toContain('The LRU curve below shows smaller sizes');
    expect(shown({ curve: [holding], lru: null })).not.toContain('LRU');
  });

  it('that there was nothing to hit, or that nothing hit', () => {
    const requests = { ...result().requests!, reads: 0 };
    const without = shown({
      requests,
      curve: [point(512 * MIB, null)],
      lru: { ...LRU, points: [lruPoint(MIB, null)] },
    });
    expect(without).toContain('has no reads');
    expect(without).toContain(' - ');
    expect(shown({ curve: [point(512 * MIB, 0)] })).toContain('No read hit the cache at any of these sizes');
  });
});

describe('the chart', () => {
  it('puts each size in its column and each share in its row', () => {
    const chart = drawChart(
      [
        {
          mark: '·',
          joined: true,
          points: [
            { sizeBytes: 1024, ratio: 0 },
            { sizeBytes: 2 ** 20, ratio: 0.2 },
          ],
        },
        {
          mark: '●',
          joined: false,
          points: [
            { sizeBytes: 32 * 1024, ratio: 0.1 },
            { sizeBytes: 512 * 1024, ratio: 0.1 },
          ],
        },
      ],
      80,
    );
    const lines = chart.split('\n');
    expect(lines).toHaveLength(12);
    expect(lines[0]).toBe(`     20% ┤${' '.repeat(60)}····`);
    expect(lines[4]).toBe(`     10% ┤${' '.repeat(28)}····●···${' '.repeat(21)}●`);
    expect(lines[8]).toBe('      0% ┤····');
    expect(lines[10]).toMatch(/^ {10}1 KiB +32 KiB +1 MiB$/);
  });

  it('draws nothing where nothing hits, and one size alone', () => {
    expect(drawChart([], 80)).toBe('');
    expect(drawChart([{ mark: '●', joined: false, points: [{ sizeBytes: 4096, ratio: 0 }] }], 80)).toBe('');
    expect(drawChart([{ mark: '●', joined: false, points: [{ sizeBytes: 4096, ratio: 0.003 }] }], 80)).toContain('●');
  });
});

describe('what a curve says to somebody who chooses a size', () => {
  const points = [
    { ...point(512 * MIB, 0.4), hitRatioByBytes: 0.4, backingWriteBytes: 900, writeAmplification: 0.9 },
    { ...point(1024 * MIB, 0.55), hitRatioByBytes: 0.56, backingWriteBytes: 700, writeAmplification: 0.7 },
    { ...point(2048 * MIB, 0.57), hitRatioByBytes: 0.57, backingWriteBytes: 600, writeAmplification: 0.6 },
  ];
  const reads = { byRequests: null, byBytes: { ratio: 0.75, error: 0 } };
  const lru = { ...LRU, uniqueBlocks: 10, points: [{ cacheBytes: 10 * LRU.blockBytes, reads, all: reads }] };

  const workingSet = {
    intervalNs: 3600e9,
    byIntervalBytes: [0, 4096, 8192],
    medianBytes: 4096,
    maxBytes: 8192,
    rate: 1,
  };

  it('is the smallest size within two points of the best, its cost, and the cold misses', () => {
    expect(sizingAnswers(points, lru, workingSet)).toEqual({
      nearlyBest: {
        cacheBytes: 1024 * MIB,
        hitRatioByBytes: 0.56,
        backingWriteBytes: 700,
        writeAmplification: 0.7,
        bestHitRatioByBytes: 0.57,
      },
      coldMissRatioByBytes: 0.25,
      workingSet,
    });
  });

  it('is nothing without reads, and no cold misses where LRU does not reach to the footprint', () => {
    const none = points.map((one) => ({ ...one, hitRatioByBytes: null }));
    expect(sizingAnswers(none, { ...lru, uniqueBlocks: 11 }, null)).toEqual({
      nearlyBest: null,
      coldMissRatioByBytes: null,
      workingSet: null,
    });
  });

  it('is shown with the summary', () => {
    const shown = renderCurve(result({ answers: sizingAnswers(points, lru, workingSet) }), (title) => title, 80);
    expect(shown).toContain('1 GiB, the smallest within 2 points: 56.0% of bytes read hit (best 57.0%)');
    expect(shown).toContain('writes back 700 B, 70.0% of the writes');
    expect(shown).toContain('25.0% of bytes read; no size of cache hits them');
    expect(shown).toContain('by hour: median 4 KiB, at most 8 KiB (in hour 3 of 3)');
  });
});
