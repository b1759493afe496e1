/** What an offline write-back that is refused advises: a repair that it names is one after which it is not refused. */
import { beforeAll, expect, it } from 'vitest';
import { requireFollowable } from '../../src/rescue/followable.js';
import { loadBases, shapeOf, type Base } from '../support/damage/bases.js';
import { DAMAGERS, type BaseName, type Damager } from '../support/damage/damagers.js';
import { repairOverlay, UndoInMemory } from '../support/damage/oracle.js';
import type { Overlay } from '../support/damage/overlay.js';

let bases: Map<BaseName, Base>;
beforeAll(async () => {
  bases = await loadBases();
});

/** Why a write-back would be refused although losses are accepted; undefined if it would not be. */
function refusalOf(image: Overlay, { base, backingBytes }: Damager): string | undefined {
  const dataCrc = base === 'dirty-crc' || base === 'hopping';
  try {
    requireFollowable(image, { ...shapeOf(base, backingBytes), dataCrc, acceptLoss: true });
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

const TITLES = DAMAGERS.map((one) => [[one.code, one.variant, 'on', one.base].filter(Boolean).join(' '), one] as const);
/** A medium that fails is no image. */
const CASES = TITLES.filter(([, { code }]) => !/_UNREADABLE$/.test(code));
/** Of all cases one in so many. */
const STEP = 3;

it.each(CASES.filter((_, n) => n % STEP === 0))(
  '%s: a repair that a refused write-back advises ends the refusal',
  async (_title, damager) => {
    const own = bases.get(damager.base)!.device.clone();
    const image = (damager.damage(own) ?? own) as Overlay;
    const refusal = refusalOf(image, damager);
    const advice = /; run "pcache fsck --repair( --drop-corrupt)? \S+" first$/.exec(refusal ?? '');
    if (advice === null) {
      expect(refusal ?? '').not.toMatch(/; run "pcache fsck/);
      return;
    }
    const policy = { dropCorrupt: advice[1] !== undefined, acceptLoss: false };
    await repairOverlay(image, shapeOf(damager.base, damager.backingBytes), new UndoInMemory(), policy);
    expect(refusalOf(image, damager)).toBeUndefined();
  },
);
