import { describe, expect, it } from 'vitest';
import { LatencyRecorder } from '../../src/replay/latency.js';
import { Timeline } from '../../src/replay/timeline.js';

describe('timeline', () => {
  it('keeps a bounded, even selection of a run of any length', () => {
    for (const length of [0, 1, 63, 64, 65, 1000, 100_000]) {
      const timeline = new Timeline(64);
      for (let n = 0; n < length; n++) timeline.offer(n, n * 2);
      const samples = timeline.finish({ requests: length, value: length * 2 });
      expect(samples.length).toBeLessThanOrEqual(64);
      expect(samples.length).toBeGreaterThanOrEqual(Math.min(length, 32));
      expect(samples.at(-1)).toEqual({ requests: length, value: length * 2 });
      const gaps = samples.slice(1, -1).map((sample, n) => sample.requests - samples[n].requests);
      expect(new Set(gaps).size).toBeLessThanOrEqual(1);
      expect(samples.every(({ requests, value }) => value === requests * 2)).toBe(true);
    }
  });
});

describe('latency', () => {
  it('gives percentiles in nanoseconds, and zeroes of nothing', () => {
    const recorder = new LatencyRecorder();
    expect(recorder.summary()).toMatchObject({ count: 0, p50Ns: 0, maxNs: 0 });
    for (let us = 1; us <= 1000; us++) recorder.recordMs(us / 1000);
    const { count, p50Ns, p99Ns, p9999Ns, maxNs, meanNs } = recorder.summary();
    expect(count).toBe(1000);
    for (const [value, expected] of [
      [p50Ns, 500e3],
      [p99Ns, 990e3],
      [p9999Ns, 1e6],
      [maxNs, 1e6],
      [meanNs, 500.5e3],
    ]) {
      expect(Math.abs(value - expected)).toBeLessThan(expected * 0.002);
    }
  });
});
