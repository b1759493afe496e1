/** The overlay that write-back makes of a kset, against a model that holds every sector by itself. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KsetOverlay } from '../../src/engine/background/kset-overlay.js';
import { KSET_KEYS_MAX } from '../../src/engine/media/kset.js';

const SECTORS = 200;
const key = fc.record({
  start: fc.nat(SECTORS - 1),
  length: fc.integer({ min: 1, max: 40 }),
  clean: fc.boolean(),
});

describe('KsetOverlay', () => {
  it('holds the newest version of every sector, in order and without overlaps', () => {
    const overlay = new KsetOverlay(); // one for all, as write-back has it
    fc.assert(
      fc.property(fc.array(key, { maxLength: KSET_KEYS_MAX }), (keys) => {
        overlay.clear();
        const model: { key: number; pmem: number; clean: boolean }[] = [];
        keys.forEach(({ start, length, clean }, n) => {
          overlay.insert(start, length, 1000 * n, n, clean);
          for (let i = 0; i < length; i++) model[start + i] = { key: n, pmem: 1000 * n + i, clean };
        });
        const found: typeof model = [];
        let end = 0;
        for (let n = 0; n < overlay.count; n++) {
          const at = overlay.at[n];
          expect(overlay.startBytes[at]).toBeGreaterThanOrEqual(end);
          end = overlay.endBytes[at];
          expect(end).toBeGreaterThan(overlay.startBytes[at]);
          for (let sector = overlay.startBytes[at]; sector < end; sector++) {
            const pmem = overlay.pmemOffsetBytes[at] + sector - overlay.startBytes[at];
            found[sector] = { key: overlay.key[at], pmem, clean: overlay.clean[at] === 1 };
          }
        }
        expect(found).toEqual(model);
      }),
      { numRuns: 300 },
    );
  });
});
