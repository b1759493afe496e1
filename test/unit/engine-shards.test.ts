/** A cache in several threads: what it leaves on its devices after random work, and after a kill. */
import { describe, expect, it } from 'vitest';
import { describeLong, RUNS_LONG_TESTS } from '../support/long.js';
import { ShardsRun, type ShardsOptions } from '../support/shards-run.js';

/** Sectors whose ids differ; the first few. */
function differences(found: Int32Array, isRight: (id: number, sector: number) => boolean): string[] {
  const wrong: string[] = [];
  found.forEach((id, sector) => {
    if (!isRight(id, sector) && wrong.length < 10) wrong.push(`sector ${sector}: ${id}`);
  });
  return wrong;
}

async function isRightAndWhole(options: ShardsOptions): Promise<void> {
  const run = new ShardsRun(options);
  try {
    const report = await run.finish();
    expect(report).toMatchObject({ wrong: [], failed: [] });
    expect(report.requests).toBeGreaterThan(options.groups);
    expect(report.segmentsFreed).toBeGreaterThan(20);
    expect(report.writebackKsets).toBeGreaterThan(100);
    expect(report.flushes).toBeGreaterThan(0);
    if (options.punches) expect(report.holeBytes).toBeGreaterThan(100 * 1024);
    if (options.ending === 'drain') expect(report.dirtyKeys).toBe(0);
    expect(run.check()).toMatchObject({ clean: true, findings: [] });
    const ids = run.writtenIds;
    const { cache, backing } = await run.readBack();
    expect(differences(cache, (id, sector) => id === ids[sector])).toEqual([]);
    expect(differences(backing, (id, sector) => id === ids[sector])).toEqual([]);
    expect(run.check()).toMatchObject({ clean: true });
  } finally {
    run.remove();
  }
}

describe('a cache in several threads', { timeout: 120_000 }, () => {
  const TITLE = '%s: every read returns what was written, and fsck finds the cache clean';
  it.each<[string, ShardsOptions]>([
    ['four threads in a very small cache', { jobs: 4, groups: 400, seed: 2, segments: 14 }],
    [
      'two threads with data_crc that make holes, drained at the end',
      { jobs: 2, groups: 400, seed: 3, dataCrc: true, punches: true, ending: 'drain' },
    ],
  ])(TITLE, (_, options) => isRightAndWhole(options));

  describeLong('in more shapes', () => {
    it.each<[string, ShardsOptions]>([
      ['two threads in a small cache', { jobs: 2, groups: 600, seed: 1 }],
      ['three threads that mostly read', { jobs: 3, groups: 400, seed: 4, reads: 80, gcPercent: 70 }],
      ['two threads that flush often', { jobs: 2, groups: 200, seed: 5, flushes: 20 }],
      ['one thread', { jobs: 1, groups: 400, seed: 6 }],
      ['four threads that make holes and flush often', { jobs: 4, groups: 200, seed: 7, punches: true, flushes: 10 }],
    ])(TITLE, (_, options) => isRightAndWhole(options));
  });

  it.each(RUNS_LONG_TESTS ? [1, 2] : [1])('after a kill, what was FUA or flushed is there (seed %i)', async (seed) => {
    const run = new ShardsRun({ jobs: 2 + (seed % 2), groups: 0, seed, flushes: 5 });
    try {
      await run.kill({ durableSectors: 1500, afterMs: 200 * seed });
      const floor = run.durableIds;
      expect(floor.filter((id) => id > 0).length).toBeGreaterThanOrEqual(1500);
      expect(run.check().findings.filter(({ severity }) => severity !== 'note')).toEqual([]);
      const { cache, backing } = await run.readBack();
      expect(differences(cache, (id, sector) => id >= floor[sector])).toEqual([]);
      expect(differences(backing, (id, sector) => id === cache[sector])).toEqual([]);
    } finally {
      run.remove();
    }
  });
});
