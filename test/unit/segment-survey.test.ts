/** What a survey says of each segment, beside what the running cache knows by other ways. */
import { describe, expect, it } from 'vitest';
import { SegmentUse } from '../../src/engine/segment-survey.js';
import { Random } from '../../src/engine/sim/random.js';
import { SmallCache } from '../support/small-cache.js';

const count = (use: Uint8Array, wanted: number) => use.filter((value) => value === wanted).length;

describe('a survey of the segments', () => {
  it('follows a cache from empty over dirty and clean to collected', () => {
    const small = new SmallCache({ segments: 12, gcPercent: 60 });
    const { cache } = small;
    const survey = cache.makeSurvey();
    survey.take();
    expect(count(survey.use, SegmentUse.log)).toBe(1);
    expect(count(survey.use, SegmentUse.free)).toBe(11);

    // These segments hold 8 KiB of data each, 16 sectors.
    for (let n = 0; n < 6; n++) small.write(n * 8, 8, n + 1);
    cache.holdWriteback = true;
    cache.requestClose();
    small.step();
    survey.take();
    expect(survey.dirtyBytes).toBe(6 * 8 * 512);
    expect({ keys: survey.dirtyKeys, bytes: survey.dirtyBytes }).toEqual(cache.dirtyInLog());
    expect(survey.ksets).toBeGreaterThan(0);
    expect(count(survey.use, SegmentUse.dirty)).toBe(3);
    expect(count(survey.use, SegmentUse.clean)).toBe(0);
    expect(count(survey.use, SegmentUse.free)).toBe(12 - cache.segmentsUsed);

    cache.holdWriteback = false;
    small.drain();
    survey.take();
    expect(survey.dirtyBytes).toBe(0);
    expect(count(survey.use, SegmentUse.dirty)).toBe(0);
    expect(count(survey.use, SegmentUse.clean)).toBe(3);

    // More than 60 % of the cache: its oldest segments are freed, under new generations.
    const before = survey.use.slice().map((_, segment) => survey.generationLow(segment));
    for (let n = 0; n < 40; n++) {
      small.write(n * 8, 8, 100 + n);
      small.drain();
    }
    survey.take();
    expect(cache.stats.segmentsFreed).toBeGreaterThan(0);
    expect(before.some((generation, segment) => survey.generationLow(segment) !== generation)).toBe(true);
    expect(count(survey.use, SegmentUse.free)).toBe(12 - cache.segmentsUsed);
    expect(count(survey.use, SegmentUse.log)).toBeGreaterThan(0);
  });

  it('counts what comes from read misses as clean, and payload of open ksets as dirty', () => {
    const small = new SmallCache();
    small.cache.holdWriteback = true; // the keys stay behind dirty_tail
    small.readIds(0, 8);
    small.cache.requestClose();
    small.settle();
    const survey = small.cache.makeSurvey();
    survey.take();
    expect(survey.dirtyBytes).toBe(0);
    expect(count(survey.use, SegmentUse.clean)).toBe(1);
    small.write(64, 8, 1);
    survey.take();
    expect(small.cache.hasOpenKeys).toBe(true);
    expect({ keys: survey.dirtyKeys, bytes: survey.dirtyBytes }).toEqual({ keys: 1, bytes: 8 * 512 });
    expect(count(survey.use, SegmentUse.dirty)).toBe(1);
  });

  it('finds the same by following the log as by looking at it for the first time', () => {
    const random = new Random(7);
    const small = new SmallCache({ segments: 24, gcPercent: 40 });
    const { cache } = small;
    const surveys = [1, 3, 50].map((every) => ({ every, survey: cache.makeSurvey() }));
    let followed = 0;
    for (let n = 1; n <= 600; n++) {
      cache.holdWriteback = n % 100 < 60; // dirty piles up, then goes
      if (cache.segmentsUsed > 18) cache.holdWriteback = false;
      if (random.below(4) === 0) small.readIds(random.below(500) * 8, 8);
      else small.write(random.below(500) * 8, 8, n);
      if (random.below(3) === 0) cache.requestClose();
      small.settle();
      for (const { every, survey } of surveys) {
        if (n % every !== 0) continue;
        survey.take();
        const first = cache.makeSurvey();
        const allKsets = first.ksets;
        first.take();
        expect(survey.dirtyKeys).toBe(first.dirtyKeys);
        expect(survey.dirtyBytes).toBe(first.dirtyBytes);
        expect(survey.use).toEqual(first.use);
        if (survey.ksets < allKsets) followed++;
      }
    }
    expect(cache.stats.segmentsFreed).toBeGreaterThan(20);
    expect(followed).toBeGreaterThan(100);
  });
});
