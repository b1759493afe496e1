/** Caches as Linux 6.18.0 to 6.18.3 leaves them (format §5.1): recognised, clean, and brought to the later layout. */
import { beforeAll, describe, expect, it } from 'vitest';
import { summarise, type CacheSummary } from '../../src/engine/inspect/summary.js';
import { checkCache } from '../../src/fsck/check.js';
import { infoText } from '../../src/output/info-report.js';
import { makeStyle } from '../../src/output/terminal.js';
import { loadBases, shapeOf, type Base } from '../support/damage/bases.js';
import type { BaseName } from '../support/damage/damagers.js';
import { as618, CASES_618 } from '../support/damage/linux-618.js';
import { codesOf, makeSubject, repairOverlay, unexpected, UndoInMemory } from '../support/damage/oracle.js';
import type { Overlay } from '../support/damage/overlay.js';

const BASES = ['dirty-crc', 'gc-wrap'] as const;
const WRITTEN_BY = 'Linux 6.18.0–6.18.3';

let bases: Map<BaseName, Base>;
beforeAll(async () => {
  bases = await loadBases();
});

const infoOf = (pmem: Overlay): CacheSummary => summarise({ pmem, backing: undefined, close: () => undefined });
const gcPercentOf = (summary: CacheSummary) => (summary.cacheInfo.winner === -1 ? undefined : summary.gcPercent);

describe.each(BASES)('a cache of Linux 6.18, made of %s,', (name) => {
  describe.each(CASES_618)('when $title', ({ shape, finding, gcPercent, stray }) => {
    it('is recognised, checked and brought to the layout of later kernels without a loss', async () => {
      const { device, backing } = bases.get(name)!;
      const subject = makeSubject(name, device, backing, shapeOf(name));
      const image = device.clone();
      as618(image, { ...shape, gcPercent: 70 });
      const before = infoOf(image);
      expect(before.writtenBy).toBe(finding === undefined ? null : WRITTEN_BY);
      expect(before.strayCacheInfo?.gcPercent).toBe(stray);
      expect(gcPercentOf(before)).toBe(gcPercent[0]);
      const check = checkCache(image, { ...shapeOf(name), data: true });
      expect(codesOf(check)).toEqual(finding === undefined ? [] : [finding]);
      expect(check.clean).toBe(finding !== 'CACHE_INFO_LOST');

      const result = await repairOverlay(image, shapeOf(name), new UndoInMemory(), { dropCorrupt: false });
      expect([codesOf(result.after), result.losses.complete]).toEqual([[], true]);
      const after = infoOf(image);
      expect(after.cacheInfo.copies.map(({ crcOk }) => crcOk)).toEqual([true, true]);
      expect([after.gcPercent, after.mode, after.dataCrc]).toEqual([gcPercent[1], 'writeback', name === 'dirty-crc']);
      expect(after.writtenBy).toBeNull();
      if (finding !== undefined) expect(after.strayCacheInfo).toBeNull();
      expect(unexpected(subject, image, [])).toBe('');
    });
  });
});

it('info names the kernels that wrote the cache, and shows the gc_percent that no kernel reads', () => {
  const image = bases.get('dirty-crc')!.device.clone();
  as618(image, { attaches: 1, writes: [{ to: 'stray', gcPercent: 20, seq: 2 }] });
  const text = infoText(infoOf(image), makeStyle(false));
  expect(text).toContain(`written by ${WRITTEN_BY}`);
  expect(text).toMatch(/stray copy +seq 2 .*gc_percent 20.* at byte 8216, where no kernel reads it/);
});
