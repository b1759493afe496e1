/** What a replay records over time: nothing is lost when bins merge, and all of it is bounded. */
import { describe, expect, it } from 'vitest';
import { Op, RequestGroup, type SegmentSurvey } from '../../src/engine/index.js';
import { AddressHeat } from '../../src/replay/address-heat.js';
import { LatencyRecorder, latencyHistogram } from '../../src/replay/latency.js';
import { LatencyHistory } from '../../src/replay/latency-history.js';
import { SegmentHistory } from '../../src/replay/segment-history.js';
import { TimelineRecorder, type ReplayTimeline } from '../../src/replay/timeline-recorder.js';
import { SmallCache } from '../support/small-cache.js';

const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);
const numbersOf = (lines: readonly string[]) => lines.map((line) => line.split(' ').map(Number));
const MS = 1e6;

/** What was so just before each request, by other means than the recorder's. */
interface Moment {
  readonly nowNs: number;
  readonly segmentsUsed: number;
}

/** Makes `requests` of 4 KiB round and round, one each `stepNs`, with background work between them. */
function record(
  requests: number,
  stepNs: (n: number) => number,
  segments = 24,
): [ReplayTimeline, SmallCache, Moment[]] {
  const moments: Moment[] = [];
  const small = new SmallCache({ segments, gcPercent: 50 });
  const recorder = new TimelineRecorder(small.cache);
  let nowNs = 0;
  for (let n = 0; n < requests; n++) {
    nowNs += stepNs(n);
    const group = new RequestGroup(1, small.pmem.registerArena(new Uint8Array(4096)));
    group.add(n % 4 === 3 ? Op.read : Op.write, ((n * 7) % 64) * 4096, 4096, 0);
    moments.push({ nowNs, segmentsUsed: small.cache.segmentsUsed });
    recorder.submits(nowNs, group, nowNs);
    small.cache.submit(group);
    small.settle();
    if (n % 5 === 4) small.drain();
  }
  return [recorder.finish(nowNs + 1), small, moments];
}

function checkShape(timeline: ReplayTimeline, segments: number): number {
  const bins = timeline.counts.reads.length;
  expect(bins).toBeLessThanOrEqual(128);
  for (const column of [...Object.values(timeline.counts), ...Object.values(timeline.levels)]) {
    expect(column).toHaveLength(bins);
  }
  expect(timeline.endNs).toBeGreaterThan((bins - 1) * timeline.binNs);
  expect(timeline.endNs).toBeLessThanOrEqual(bins * timeline.binNs);
  expect(timeline.segmentMap.rows).toHaveLength(segments);
  for (const row of timeline.segmentMap.rows) expect(row).toMatch(new RegExp(`^[.LcDX]{${bins}}$`));
  const { levels } = timeline;
  for (let n = 0; n < bins; n++) {
    const used = levels.logSegments[n]! + levels.cleanSegments[n]! + levels.dirtySegments[n]!;
    expect(used).toBe(levels.segmentsUsed[n]);
    expect(used + levels.freeSegments[n]!).toBe(segments);
    const letters = timeline.segmentMap.rows.map((row) => row[n]).join('');
    const shown = (letter: string) => letters.split(letter).length - 1;
    expect(shown('.')).toBeLessThanOrEqual(levels.freeSegments[n]!);
    expect(shown('L')).toBeLessThanOrEqual(levels.logSegments[n]!);
    expect(shown('c')).toBeLessThanOrEqual(levels.cleanSegments[n]!);
    expect(shown('D')).toBeLessThanOrEqual(levels.dirtySegments[n]!);
  }
  return bins;
}

describe('a timeline', () => {
  it.each([1, 40, 300])('of %i requests has everything that the engine counted', (requests) => {
    const [timeline, { cache }] = record(requests, () => 1.7 * MS);
    checkShape(timeline, 24);
    const names = ['reads', 'readHits', 'writes', 'writeBytes', 'writebackBytes', 'gcKeys', 'segmentsFreed'] as const;
    for (const name of names) expect(sum(timeline.counts[name])).toBe(cache.stats[name]);
    if (requests === 300) expect(cache.stats.segmentsFreed).toBeGreaterThan(10);
    const { reads, writes } = timeline.addresses;
    expect(sum(numbersOf(reads).flat())).toBe(cache.stats.reads);
    expect(sum(numbersOf(writes).flat())).toBe(cache.stats.writes);
  });

  it('puts things in their bin', () => {
    // Ten a millisecond for the first part, then one a millisecond.
    const [timeline, , moments] = record(200, (n) => (n < 150 ? 0.1 * MS : 1 * MS));
    const bins = checkShape(timeline, 24);
    expect(bins).toBeGreaterThan(64);
    expect(timeline.binNs).toBeGreaterThan(0.4 * MS);
    const { binNs, counts, levels, addresses } = timeline;
    const expected = new Array<number>(bins).fill(0);
    for (const { nowNs } of moments) expected[Math.floor(nowNs / binNs)]++;
    expect(counts.reads.map((reads, n) => reads + counts.writes[n])).toEqual(expected);
    for (let n = 0; n < bins - 1; n++) {
      const next = moments.find(({ nowNs }) => nowNs >= (n + 1) * binNs)!;
      expect(levels.segmentsUsed[n]).toBe(next.segmentsUsed);
    }
    expect(addresses.columnNs).toBe(binNs);
    const [reads, writes] = [numbersOf(addresses.reads), numbersOf(addresses.writes)];
    expect(reads[0].map((count, n) => count + writes[0][n])).toEqual(expected);
  });

  it('bridges a long pause: nothing is counted in it, and the levels stay', () => {
    const [timeline] = record(60, (n) => (n === 30 ? 500 * MS : 0.5 * MS));
    const bins = checkShape(timeline, 24);
    const requests = timeline.counts.reads.map((reads, n) => reads + timeline.counts.writes[n]);
    const quiet = requests.map((count, n) => (count === 0 ? n : -1)).filter((n) => n >= 0);
    expect(quiet.length).toBeGreaterThan(bins * 0.8);
    expect(new Set(quiet.slice(1).map((n) => timeline.levels.segmentsUsed[n])).size).toBe(1);
    expect(new Set(quiet.slice(1).map((n) => timeline.levels.dirtyBytes[n])).size).toBe(1);
  });

  it('shows what GC collected even when bins merge', () => {
    const [timeline, { cache }] = record(400, () => 1 * MS);
    checkShape(timeline, 24);
    const marks = sum(timeline.segmentMap.rows.map((row) => row.split('X').length - 1));
    expect(marks).toBeGreaterThan(20);
    expect(marks).toBeLessThanOrEqual(cache.stats.segmentsFreed);
    expect(timeline.dirtyPeakBytes).toBe(Math.max(...timeline.levels.dirtyBytes.map((bytes) => bytes ?? 0)));
    expect(timeline.dirtyPeakBytes).toBeGreaterThan(0);
  });

  it('groups segments when there are more than rows', () => {
    const [timeline] = record(60, () => 1 * MS, 300);
    expect(timeline.segmentMap.segmentsPerRow).toBe(3);
    expect(timeline.segmentMap.rows).toHaveLength(100);
  });
});

describe('latencies over time', () => {
  it('keep every request, their mean and the 99th percentile while bins merge', () => {
    const history = new LatencyHistory(4);
    for (let n = 0; n < 400; n++) history.record(n >> 7, 'write', n % 100 === 99 ? 50 : 1);
    history.record(2, 'readMiss', 2);
    history.mergePairs();
    const { write, readMiss, flush } = history.finish(2)!;
    expect(write.requests).toEqual([256, 144]);
    expect(write.meanNs).toEqual([Math.round((254 * 1e6 + 2 * 50e6) / 256), Math.round((142 * 1e6 + 2 * 50e6) / 144)]);
    expect(Math.abs(write.p99Ns[0]! - 1e6)).toBeLessThan(0.04e6);
    expect(Math.abs(write.p99Ns[1]! - 50e6)).toBeLessThan(2e6);
    expect(readMiss).toMatchObject({ requests: [0, 1], meanNs: [null, 2e6] });
    expect(flush).toEqual({ requests: [0, 0], meanNs: [null, null], p99Ns: [null, null] });
  });

  it('go by the time of arrival, and are null where none is known', () => {
    const small = new SmallCache({ segments: 24 });
    const recorder = new TimelineRecorder(small.cache);
    recorder.passes(1 * MS);
    recorder.ended(0.25 * MS, 'flush', 0.75);
    recorder.passes(100 * MS);
    recorder.ended(99 * MS, 'flush', 1);
    const { latency, binNs } = recorder.finish(100 * MS);
    const { requests } = latency!.flush;
    expect(requests[Math.floor((0.25 * MS) / binNs)]).toBe(1);
    expect(requests[Math.floor((99 * MS) / binNs)]).toBe(1);
    expect(sum(requests)).toBe(2);
    expect(new TimelineRecorder(small.cache).finish(MS).latency).toBeNull();
  });
});

describe('a history of segments', () => {
  const survey = (use: number[], generation: number[]) =>
    ({ use: Uint8Array.from(use), generationLow: (n: number) => generation[n] }) as unknown as SegmentSurvey;

  it('keeps the later state of two bins, unless something was collected in either', () => {
    const generation = [0, 0, 0, 0];
    const found = survey([0, 1, 2, 3], generation);
    const history = new SegmentHistory(found, 4);
    history.record(0);
    found.use.set([1, 2, 3, 0]);
    generation[1] = 1;
    history.record(1);
    expect(history.finish(4).rows).toEqual(['.L??', 'LX??', 'cD??', 'D.??']);
    generation[3] = 7;
    history.record(2);
    expect(history.finish(4).rows).toEqual(['.LL?', 'LXc?', 'cDD?', 'D.X?']);
    history.mergePairs();
    expect(history.finish(2).rows).toEqual(['LL', 'Xc', 'DD', '.X']);
    found.use.set([2, 2, 2, 2]);
    history.record(2);
    history.mergePairs();
    expect(history.finish(2).rows).toEqual(['Lc', 'Xc', 'Dc', 'Xc']);
  });

  it('shows of a row of several segments what most of them are', () => {
    const use = Array.from({ length: 512 }, (_, segment) => (segment % 4 === 3 ? 3 : segment < 256 ? 2 : 0));
    const history = new SegmentHistory(survey(use, new Array<number>(512).fill(0)), 2);
    history.record(0);
    const { segmentsPerRow, rows } = history.finish(1);
    expect(segmentsPerRow).toBe(4);
    expect(rows).toEqual([...new Array<string>(64).fill('c'), ...new Array<string>(64).fill('.')]);
  });
});

describe('an address map', () => {
  it('loses nothing while rows and columns grow', () => {
    const heat = new AddressHeat();
    const made: { timeNs: number; isWrite: boolean; offset: number }[] = [];
    for (let n = 0; n < 5000; n++) {
      const reachBytes = 10 ** Math.floor(6 + (n / 5000) * 6);
      made.push({ timeNs: n * n * 100, isWrite: n % 3 === 0, offset: (n * 977 * 4096) % reachBytes });
    }
    for (const { timeNs, isWrite, offset } of made) heat.count(timeNs, isWrite, offset);
    const map = heat.finish();
    expect(map.reads.length).toBeLessThanOrEqual(64);
    expect(map.reads.length).toBeGreaterThan(32);
    expect(map.columns).toBeLessThanOrEqual(128);
    for (const isWrite of [false, true]) {
      const expected = map.reads.map(() => new Array<number>(map.columns).fill(0));
      for (const one of made.filter((each) => each.isWrite === isWrite)) {
        expected[Math.floor(one.offset / map.rowBytes)][Math.floor(one.timeNs / map.columnNs)]++;
      }
      expect(numbersOf(isWrite ? map.writes : map.reads)).toEqual(expected);
    }
  });

  it('puts a request where and when it begins', () => {
    const heat = new AddressHeat();
    heat.count(0, true, 0);
    heat.count(100 * MS, false, 63 * 2 ** 30);
    const { rowBytes, columnNs, reads, writes } = heat.finish();
    expect(rowBytes).toBe(2 ** 30);
    expect(numbersOf(writes)[0][0]).toBe(1);
    expect(numbersOf(reads)[63][Math.floor((100 * MS) / columnNs)]).toBe(1);
  });
});

describe('the coarse histogram of latencies', () => {
  it('covers what was recorded, and nothing beside', () => {
    const [a, b] = [new LatencyRecorder(), new LatencyRecorder()];
    expect(latencyHistogram({ a, b })).toEqual({ edgesNs: [], counts: { a: [], b: [] } });
    for (let n = 0; n < 10; n++) a.recordMs(0.0015); // 1.5 µs: the bin from 1.33 to 1.78 µs
    b.recordMs(0.015);
    b.recordMs(1e6);
    const { edgesNs, counts } = latencyHistogram({ a, b });
    expect(edgesNs[0]).toBeCloseTo(1333.5, 1);
    expect(edgesNs.length).toBe(counts.a.length + 1);
    expect(counts.a[0]).toBe(10);
    expect(sum(counts.a)).toBe(10);
    expect(counts.b[8]).toBe(1);
    expect(counts.b.at(-1)).toBe(1); // more than the last edge
    expect(sum(counts.b)).toBe(2);
  });
});
