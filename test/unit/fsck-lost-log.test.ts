/**
 * Lost logs and lost payload: accidents after which nothing broken is left to see. A check must not call them clean, and
 * a repair must say what may be gone.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import {
  decodeCacheFlags,
  decodeCacheInfo,
  encodeCacheInfo,
  encodeGeneration,
  encodeSegmentInfo,
  type CacheInfo,
} from '../../src/engine/media/codecs.js';
import { readDual } from '../../src/engine/media/dual.js';
import {
  CACHE_INFO_COPIES,
  generationCopies,
  MIB,
  segmentInfoCopies,
  segmentOffsetBytes,
} from '../../src/engine/media/geometry.js';
import { checkCache } from '../../src/fsck/check.js';
import { lostRanges } from '../../src/fsck/repair/losses.js';
import type { RepairResult } from '../../src/fsck/repair/repair.js';
import { loadBases, shapeOf, type Base } from '../support/damage/bases.js';
import type { BaseName } from '../support/damage/damagers.js';
import { deviceOffset, GEOMETRY, ksetAt, ksetsOf } from '../support/damage/edit.js';
import {
  codesOf,
  makeSubject,
  repairOverlay,
  unexpected,
  UndoInMemory,
  type RepairPolicy,
  type Subject,
} from '../support/damage/oracle.js';
import { Overlay } from '../support/damage/overlay.js';
import { unpackImage } from '../support/images.js';
import { describeLong } from '../support/long.js';
import { SparseImage } from '../support/sparse-image.js';

let bases: Map<BaseName, Base>;
beforeAll(async () => {
  bases = await loadBases();
});

interface Repaired {
  readonly subject: Subject;
  readonly device: Overlay;
  readonly result: RepairResult;
}

async function repair(name: BaseName, damage: (image: Overlay) => void, policy: RepairPolicy): Promise<Repaired> {
  const { device, backing } = bases.get(name)!;
  const subject = makeSubject(name, device, backing, shapeOf(name));
  const damaged = device.clone();
  damage(damaged);
  const result = await repairOverlay(damaged, shapeOf(name), new UndoInMemory(), policy);
  return { subject, device: damaged, result };
}

const infoOf = (device: Overlay) => readDual<CacheInfo>(device, CACHE_INFO_COPIES, 24, decodeCacheInfo).value!;

describe('the first mebibyte zeroed', () => {
  const wipe = (image: Overlay): void => image.zero(0, MIB);

  it('is reported as a lost log, with what no key names', () => {
    const device = bases.get('dirty-crc')!.device.clone();
    wipe(device);
    const { findings } = checkCache(device, { ...shapeOf('dirty-crc'), data: true });
    const lost = findings.find(({ code }) => code === 'LOG_LOST');
    expect(lost?.detail).toMatch(/about \d+ bytes of payload in \d+ segments? are named by no key/);
  });

  it('is not repaired without consent to the loss, and the loss is listed all the same', async () => {
    const { result } = await repair('dirty-crc', wipe, { dropCorrupt: true, acceptLoss: false });
    expect(result.after.clean).toBe(false);
    expect(result.declined.map(({ consent }) => consent)).toContain('accept-loss');
    expect(result.losses.possible.length).toBeGreaterThan(0);
    expect(result.losses.complete).toBe(false);
  });

  it('never ends in a cache without data_crc unless the user says that it had none', async () => {
    const untold = await repair('dirty-crc', wipe, { dropCorrupt: true });
    expect(codesOf(untold.result.after)).toContain('CACHE_INFO_LOST');
    expect(untold.result.declined.map(({ consent }) => consent)).toEqual(['data-crc']);
    const told = await repair('dirty-crc', wipe, { dropCorrupt: true, dataCrc: true });
    expect(told.result.after.clean, codesOf(told.result.after).join()).toBe(true);
    expect(decodeCacheFlags(infoOf(told.device).flags).dataCrc).toBe(true);
    expect(told.result.losses.complete).toBe(false);
    // What was given up is no evidence of a lost log any more.
    const again = checkCache(told.device, { ...shapeOf('dirty-crc'), data: true });
    expect(again.findings).toEqual([]);
  });

  it('leaves the ksets behind it: the log that hopped is found from what leads to it', async () => {
    const beginning = (image: Overlay): void => image.zero(0, deviceOffset(ksetsOf(image).places[3]));
    const { subject, result } = await repair('hopping', beginning, { dropCorrupt: true });
    expect(result.after.clean, codesOf(result.after).join()).toBe(true);
    // Of nine ksets and the LAST one, three went with the beginning.
    expect(result.after.examined.ksets).toBe(ksetsOf(subject.device).places.length - 3);
    expect(result.losses.complete).toBe(false);
  });
});

describe('ksets whose header is zeroes', () => {
  it('are not taken for the end of the log when good ones of the same cache follow', async () => {
    const { subject, device, result } = await repair(
      'dirty-crc',
      (image) => image.zero(deviceOffset(ksetsOf(image).places[4]), 24),
      { dropCorrupt: false },
    );
    expect(codesOf(result.before)).toEqual(['LOG_CUT_SHORT']);
    expect(result.after.clean).toBe(true);
    expect(result.after.examined.keys).toBe(1054);
    expect(unexpected(subject, device, lostRanges(result.losses))).toBe('');
  });

  it.each([16, 24])('are seen at the end of the log by their keys, with %d bytes zeroed', async (lengthBytes) => {
    const { subject, device, result } = await repair(
      'dirty-crc',
      (image) => image.zero(deviceOffset(ksetsOf(image).places.at(-1)!), lengthBytes),
      { dropCorrupt: false },
    );
    expect(codesOf(result.before)).toEqual(['LOG_END_TORN']);
    expect(result.after.clean).toBe(true);
    expect(unexpected(subject, device, lostRanges(result.losses))).toBe('');
    expect(result.losses.possible.length).toBeGreaterThan(0);
  });
});

describe('a segment that is zeroed', () => {
  it('of payload without CRCs: what its keys are for may be lost', async () => {
    const { device } = bases.get('gc-wrap')!;
    const kset = ksetAt(device, ksetsOf(device).places.at(-1)!);
    const segment = kset.keySegment(0);
    const {
      subject,
      device: repaired,
      result,
    } = await repair(
      'gc-wrap',
      (image) => image.write(segmentOffsetBytes(GEOMETRY, segment), new Uint8Array(16 * MIB)),
      { dropCorrupt: true },
    );
    expect(codesOf(result.before)).toContain('SEGMENT_INFO_LOST');
    expect(result.after.clean, codesOf(result.after).join()).toBe(true);
    expect(unexpected(subject, repaired, [])).not.toBe('');
    expect(unexpected(subject, repaired, lostRanges(result.losses))).toBe('');
  });

  it('of the log: is a lost log, and not an empty one', async () => {
    const wipe = (image: Overlay): void => image.write(segmentOffsetBytes(GEOMETRY, 0), new Uint8Array(16 * MIB));
    const refused = await repair('dirty-crc', wipe, { dropCorrupt: true, acceptLoss: false });
    expect(codesOf(refused.result.before)).toContain('LOG_LOST');
    expect(refused.result.after.clean).toBe(false);
    const { result } = await repair('dirty-crc', wipe, { dropCorrupt: true });
    expect(result.after.clean, codesOf(result.after).join()).toBe(true);
    expect(result.losses.complete).toBe(false);
  });
});

describe('a cache of Linux 6.18', () => {
  /** As Linux 6.18.0 to 6.18.3 leave it: format §5. */
  function as618(image: Overlay, attaches: number, generations: 'alternating' | 'over the newest' | 'gaps'): void {
    const { segmentCount, flags } = infoOf(image);
    image.zero(8192, 8192);
    image.write(8192, encodeCacheInfo({ firstSegmentId: 0, segmentCount, flags }, attaches));
    for (let id = 0; id < segmentCount; id++) {
      const infos = segmentInfoCopies(GEOMETRY, id);
      const last = id === segmentCount - 1;
      image.zero(infos[0], 16);
      image.zero(infos[1], 16);
      image.write(infos[0], encodeSegmentInfo(undefined, 1));
      if (!last) image.write(infos[1], encodeSegmentInfo(id + 1, 2));
      const copies = generationCopies(GEOMETRY, id);
      const before = image.bytes(copies[0], 32);
      const view = new DataView(before.buffer);
      const generation = Math.max(Number(view.getBigUint64(8, true)), Number(view.getBigUint64(24, true)));
      image.zero(copies[0], 32);
      if (generations === 'alternating') {
        for (let n = Math.max(0, generation - 1); n <= generation; n++) {
          image.write(copies[n % 2], encodeGeneration(n, n + 1));
        }
      } else {
        image.write(
          copies[generations === 'gaps' && generation > 0 ? 1 : 0],
          encodeGeneration(generation, generation + 1),
        );
        if (generations === 'gaps' && generation > 0) image.write(copies[0], encodeGeneration(0, 1));
      }
    }
  }

  it.each(['alternating', 'over the newest', 'gaps'] as const)('is clean, with its generations %s', (generations) => {
    for (const name of ['dirty-crc', 'gc-wrap'] as const) {
      for (const attaches of [5, 200]) {
        const device = bases.get(name)!.device.clone();
        as618(device, attaches, generations);
        const { findings } = checkCache(device, { ...shapeOf(name), data: true });
        expect([name, attaches, findings]).toEqual([name, attaches, []]);
      }
    }
  });

  it('gets settings back from the copy that lies 24 bytes behind the first', async () => {
    const { device, result } = await repair(
      'fresh',
      (image) => {
        const { segmentCount, flags } = infoOf(image);
        as618(image, 1, 'alternating');
        const stray = (flags & ~(0x7f << 6)) | (20 << 6) | 1;
        image.zero(8192, 24);
        image.write(8192 + 24, encodeCacheInfo({ firstSegmentId: 0, segmentCount, flags: stray }, 2));
      },
      { dropCorrupt: false },
    );
    expect(codesOf(result.before)).toContain('CACHE_INFO_LOST');
    expect(result.after.clean, codesOf(result.after).join()).toBe(true);
    expect(decodeCacheFlags(infoOf(device).flags)).toMatchObject({ dataCrc: true, gcPercent: 20, modeNumber: 0 });
  });

  it('gets settings back from a cache_info whose write was cut off', async () => {
    const { subject, device, result } = await repair(
      'gc-wrap',
      (image) => {
        as618(image, 3, 'alternating');
        const torn = image.bytes(8192, 24);
        torn.set([1, 2, 3, 4, 9]);
        image.write(8192, torn);
      },
      { dropCorrupt: false },
    );
    expect(result.after.clean, codesOf(result.after).join()).toBe(true);
    const flags = decodeCacheFlags(infoOf(device).flags);
    expect(flags).toEqual(decodeCacheFlags(infoOf(subject.device).flags));
    expect(unexpected(subject, device, [])).toBe('');
  });
});

// Ksets that only name payload of this segment lose every key: the log must not lose those between two of them.
describeLong('a segment of payload zeroed, with ksets of which no key is left', () => {
  it('costs what is listed, and nothing else', { timeout: 120_000 }, async () => {
    const { cachePath, backingPath } = await unpackImage('crash');
    const device = new Overlay(SparseImage.fromFile(cachePath));
    const backing = SparseImage.fromFile(backingPath);
    const shape = { geometry: GEOMETRY, backingBytes: backing.sizeBytes };
    const subject = makeSubject('crash', device, backing, shape);
    const damaged = device.clone();
    damaged.zero(segmentOffsetBytes(GEOMETRY, 6), GEOMETRY.segmentBytes);
    const { after, losses } = await repairOverlay(damaged, shape, new UndoInMemory(), { dropCorrupt: true });
    expect([after.clean, losses.complete]).toEqual([true, true]);
    expect(unexpected(subject, damaged, lostRanges(losses))).toBe('');
  });
});
