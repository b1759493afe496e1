/** A cache in several threads: what it leaves on its devices after random work, and after a kill. */
import { describe, expect, it } from 'vitest';
import { ShardsRun, type ShardsOptions } from '../support/shards-run.js';

/** Sectors whose ids differ; the first few. */
function differences(found: Int32Array, isRight: (id: number, sector: number) => boolean): string[] {
  const wrong: string[] = [];
  found.forEach((id, sector) => {
    if (!isRight(id, sector) && wrong.length < 10) wrong.push(`sector ${sector}: ${id}`);
  });
  return wrong;
}

describe('a cache in several threads', { timeout: 120_000 }, () => {
  it.each<[string, ShardsOptions]>([
    ['two, in a small cache', { jobs: 2, groups: 600, seed: 1 }],
    ['four, in a smaller one', { jobs: 4, groups: 400, seed: 2, segments: 14 }],
    ['two with CRCs, drained at the end', { jobs: 2, groups: 400, seed: 3, dataCrc: true, ending: 'drain' }],
    ['three that mostly read', { jobs: 3, groups: 400, seed: 4, reads: 80, gcPercent: 70 }],
    ['two that flush a lot', { jobs: 2, groups: 200, seed: 5, flushes: 20 }],
    ['one', { jobs: 1, groups: 400, seed: 6 }],
  ])('%s: every read is right, and what is left is whole', async (_, options) => {
    const run = new ShardsRun(options);
    try {
      const report = await run.finish();
      expect(report).toMatchObject({ wrong: [], failed: [] });
      expect(report.requests).toBeGreaterThan(options.groups);
      expect(report.segmentsFreed).toBeGreaterThan(20);
      expect(report.writebackKsets).toBeGreaterThan(100);
      expect(report.flushes).toBeGreaterThan(0);
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
  });

  it.each([1, 2])('killed: what was FUA or flushed is there (seed %i)', async (seed) => {
    const run = new ShardsRun({ jobs: 2 + (seed % 2), groups: 0, seed, flushes: 5 });
    try {
      await run.kill(200 * seed);
      const floor = run.durableIds;
      expect(floor.filter((id) => id > 0).length).toBeGreaterThan(1000);
      expect(run.check().findings.filter(({ severity }) => severity !== 'note')).toEqual([]);
      const { cache, backing } = await run.readBack();
      expect(differences(cache, (id, sector) => id >= floor[sector])).toEqual([]);
      expect(differences(backing, (id, sector) => id === cache[sector])).toEqual([]);
    } finally {
      run.remove();
    }
  });
});
