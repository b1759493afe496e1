/**
 * A cache device that was cut, or copied in part: what is missing with its end, what to do about it, and that doing it
 * gives back every byte where nothing was missing.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { badMedia, loadCache } from '../../src/engine/log/recovery.js';
import { MIB } from '../../src/engine/media/geometry.js';
import { checkCache } from '../../src/fsck/check.js';
import { judgeCache, lossText } from '../../src/fsck/gate.js';
import { nothingLost } from '../../src/fsck/repair/losses.js';
import { requireFollowable } from '../../src/rescue/followable.js';
import { loadBases, shapeOf, type Base } from '../support/damage/bases.js';
import type { BaseName } from '../support/damage/damagers.js';
import {
  changeCacheInfo,
  changeKey,
  ksetsOf,
  writeLast,
  writeSegmentInfo,
  writeSuperblock,
  writeTail,
} from '../support/damage/edit.js';
import { makeSubject, repairOverlay, unexpected, UndoInMemory } from '../support/damage/oracle.js';
import type { Overlay } from '../support/damage/overlay.js';

let bases: Map<BaseName, Base>;
beforeAll(async () => {
  bases = await loadBases();
});

const WHOLE_BYTES = 512 * MIB;
/** A tenth of the device, with three segments. */
const CUT_BYTES = WHOLE_BYTES - 52 * MIB;
const EXTEND = `"truncate -s ${WHOLE_BYTES} `;

function cut(name: BaseName, damage: (image: Overlay) => void = () => undefined): Overlay {
  const image = bases.get(name)!.device.clone();
  damage(image);
  return image.clone(CUT_BYTES);
}

const firstDetail = (image: Overlay, name: BaseName): string =>
  checkCache(image, { ...shapeOf(name), data: true }).findings[0].detail;

describe('a device that was cut', () => {
  it.each(['dirty-crc', 'gc-wrap', 'hopping'] as const)(
    'reads as before once it is extended and repaired, as its finding says: %s',
    async (name) => {
      const image = cut(name);
      expect(firstDetail(image, name)).toBe(
        `it has ${CUT_BYTES} bytes; nothing that the log names is missing: for an image, ${EXTEND}${image.path}" and then "pcache fsck --repair ${image.path}" restores every byte`,
      );
      const { device, backing } = bases.get(name)!;
      const subject = makeSubject(name, device, backing, shapeOf(name));
      const extended = image.clone(WHOLE_BYTES);
      const policy = { dropCorrupt: false, acceptLoss: false };
      const { after, losses } = await repairOverlay(extended, shapeOf(name), new UndoInMemory(), policy);
      expect([after.findings, nothingLost(losses)]).toEqual([[], true]);
      expect(unexpected(subject, extended, [])).toBe('');
    },
  );

  it.each([
    [
      'the payload of 1 key is missing',
      (image: Overlay) => changeKey(image, ksetsOf(image).places[0], 0, 'segment', 29),
    ],
    ['the end of the log is missing', (image: Overlay) => writeLast(image, ksetsOf(image).end, 29)],
    ['the log is missing', (image: Overlay) => writeTail(image, 'KEY_TAIL', { segment: 29, offsetBytes: 0 })],
  ])('says that %s with its end', (missing, damage) => {
    const detail = firstDetail(cut('dirty-crc', damage), 'dirty-crc');
    expect(detail).toContain(`; ${missing}: for an image, ${EXTEND}`);
    expect(detail).toMatch(/ and then "pcache fsck --repair --drop-corrupt .*" keeps the rest$/);
  });

  it('is refused with the size to extend it to by whatever opens it', () => {
    const image = cut('dirty-crc');
    const { losses } = judgeCache(image, shapeOf('dirty-crc'));
    expect(lossText(image.path, losses)).toContain(EXTEND);
    const follow = { ...shapeOf('dirty-crc'), dataCrc: true, acceptLoss: true };
    expect(() => requireFollowable(image, follow)).toThrow(EXTEND);
    const loaded = loadCache(image, { ...shapeOf('dirty-crc'), checkPayload: false });
    expect('problems' in loaded && badMedia(image.path, loaded.problems).message).toContain(
      `room for 28; extend a cut image with ${EXTEND.trimEnd()}"; run "pcache fsck"`,
    );
  });

  it('is not taken for one where only the superblock counts too many segments', () => {
    const image = bases.get('dirty-crc')!.device.clone();
    writeSuperblock(image, 40);
    expect(firstDetail(image, 'dirty-crc')).toBe('it says 40 segments, the device has room for 31');
    const follow = { ...shapeOf('dirty-crc'), dataCrc: true, acceptLoss: true };
    expect(() => requireFollowable(image, follow)).toThrow(/; run "pcache fsck --repair .*" first$/);
  });
});

describe('a larger device that was cut, but has more than 512 MiB left', () => {
  it('is not to be repaired before it is extended', () => {
    const image = bases.get('dirty-crc')!.device.clone();
    // As of a cache of 40 segments, of which 31 are there.
    writeSuperblock(image, 40);
    changeCacheInfo(image, (info) => ({ ...info, segmentCount: 40 }));
    writeSegmentInfo(image, 30, 31);
    const bytes = 20_480 + 40 * 16 * MIB;
    const [first] = checkCache(image, { ...shapeOf('dirty-crc'), data: false }).findings;
    expect(first.code).toBe('SUPERBLOCK_SEGMENTS_BEYOND_DEVICE');
    expect(first.detail).toContain(`nothing that the log names is missing: for an image, "truncate -s ${bytes} `);
    const follow = { ...shapeOf('dirty-crc'), dataCrc: true, acceptLoss: true };
    expect(() => requireFollowable(image, follow)).toThrow(/; extend the image with zeroes to the size/);
  });
});
