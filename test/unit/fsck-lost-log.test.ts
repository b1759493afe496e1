/**
 * Lost logs and lost payload: accidents after which nothing broken is left to see. A check must not call them clean, and
 * a repair must say what may be gone.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { decodeCacheFlags, decodeCacheInfo, type CacheInfo } from '../../src/engine/media/codecs.js';
import { readDual } from '../../src/engine/media/dual.js';
import {
  CACHE_CTRL_OFFSET_BYTES,
  CACHE_INFO_COPIES,
  MIB,
  segmentOffsetBytes,
} from '../../src/engine/media/geometry.js';
import { checkCache } from '../../src/fsck/check.js';
import { lostRanges } from '../../src/fsck/repair/losses.js';
import type { RepairResult } from '../../src/fsck/repair/repair.js';
import { loadBases, shapeOf, type Base } from '../support/damage/bases.js';
import type { BaseName } from '../support/damage/damagers.js';
import { deviceOffset, GEOMETRY, ksetAt, ksetImage, ksetsOf, writeKset } from '../support/damage/edit.js';
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

async function loadImage(name: string) {
  const { cachePath, backingPath } = await unpackImage(name);
  return { device: new Overlay(SparseImage.fromFile(cachePath)), backing: SparseImage.fromFile(backingPath) };
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

  it.each([
    [16, 0],
    [24, 0],
    [64, 1],
    [144, 3],
  ])('are seen by keys that are not the newest, with %d bytes and %d keys zeroed', (lengthBytes, keys) => {
    const { device } = bases.get('dirty-crc')!;
    const image = device.clone();
    // Ksets of two slots: the last one has its payload before that of the one before it.
    const [older, newer] = ksetsOf(image)
      .places.slice(-2)
      .map((place) => ksetImage(image, place));
    const at = ksetsOf(image).places.at(-2)!;
    const end = writeKset(image, at, newer);
    writeKset(image, end, older);
    expect(codesOf(checkCache(image, { ...shapeOf('dirty-crc'), data: false }))).toEqual([]);
    image.zero(deviceOffset(end), lengthBytes);
    expect(checkCache(image, { ...shapeOf('dirty-crc'), data: false }).findings).toMatchObject([
      { code: 'LOG_END_TORN', detail: expect.stringContaining(`but ${ksetAt(device, at).keyCount} keys`) as string },
    ]);
    expect(keys).toBeLessThan(ksetAt(device, at).keyCount);
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

// Ksets that only name payload of this segment lose every key: the log must not lose those between two of them.
describeLong('a segment of payload zeroed, with ksets of which no key is left', () => {
  it('costs what is listed, and nothing else', { timeout: 120_000 }, async () => {
    const { device, backing } = await loadImage('crash');
    const shape = { geometry: GEOMETRY, backingBytes: backing.sizeBytes };
    const subject = makeSubject('crash', device, backing, shape);
    const damaged = device.clone();
    damaged.zero(segmentOffsetBytes(GEOMETRY, 6), GEOMETRY.segmentBytes);
    const { after, losses } = await repairOverlay(damaged, shape, new UndoInMemory(), { dropCorrupt: true });
    expect([after.clean, losses.complete]).toEqual([true, true]);
    expect(unexpected(subject, damaged, lostRanges(losses))).toBe('');
  });
});

describe('a log whose two tails are lost', () => {
  it('is not given a dirty_tail alone, after which its beginning would be taken for written back', async () => {
    const careful: RepairPolicy = { dropCorrupt: false, withoutLoss: true };
    const { device, result } = await repair('gc-wrap', (image) => image.zero(CACHE_CTRL_OFFSET_BYTES, 64), careful);
    expect(result.made).toEqual([]);
    expect(result.declined.map(({ codes }) => codes)).toContainEqual(['KEY_TAIL_LOST', 'DIRTY_TAIL_LOST']);
    const full = await repairOverlay(device, shapeOf('gc-wrap'), new UndoInMemory(), { dropCorrupt: false });
    expect([full.after.clean, full.losses.complete, full.losses.possible.length > 0]).toEqual([true, false, true]);
  });
});
