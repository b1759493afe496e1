/** Moving a cache, cut off at every store and barrier: what a loss of power leaves on the new device. */
import { describe, expect, it } from 'vitest';
import { planFormat } from '../../src/engine/create/create-cache.js';
import { bestCrc32c } from '../../src/engine/device/native.js';
import { loadCacheOrThrow } from '../../src/engine/log/recovery.js';
import { CACHE_MODES, decodeSuperblock, SUPERBLOCK_BYTES } from '../../src/engine/media/codecs.js';
import { SUPERBLOCK_OFFSET_BYTES } from '../../src/engine/media/geometry.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { checkCache } from '../../src/fsck/check.js';
import { moveSteps, planMove, refuseTooMuch, segmentsNeeded, type MoveSource } from '../../src/rescue/move-cache.js';
import { crashStatesOf } from '../support/crash-states.js';
import { unexpected, type Subject } from '../support/damage/oracle.js';
import { Overlay } from '../support/damage/overlay.js';
import { FlatBase, liveSmall } from '../support/damage/small-life.js';
import { makeDevice } from '../support/sim-device.js';

const SEEDS = [1, 2, 3];
const STATES = { beforeStore: 2, beforeBarrier: 60 };
const MODELS = ['dax', 'page-cache'] as const;

const sourceOf = ({ device, shape }: Subject, dirtyOnly = false): MoveSource => {
  const crc = bestCrc32c();
  const cache = loadCacheOrThrow(device, { ...shape, checkPayload: true, crc });
  return { pmem: device, cache, dirtyOnly, crc };
};

/** A device with what an earlier cache left on it: old ksets everywhere, and metadata without a superblock. @param segments default: as many as are needed */
function target(
  source: MoveSource,
  model: (typeof MODELS)[number],
  segments = segmentsNeeded(planMove(source, source.cache.metadata.geometry)),
): SimPmem {
  const { segmentBytes } = source.cache.metadata.geometry;
  const earlier = { dataCrc: false, gcPercent: 50, logStartBytes: 0, seq: 255, generation: 3, aged: true };
  const pmem = makeDevice({ ...earlier, segmentBytes, segments, model });
  pmem.zero(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES);
  pmem.persist();
  return pmem;
}

function move(source: MoveSource, pmem: SimPmem): void {
  const { geometry, flags } = source.cache.metadata;
  const { dataCrc, gcPercent, modeNumber } = flags;
  const format = planFormat(pmem.sizeBytes, { dataCrc, gcPercent, mode: CACHE_MODES[modeNumber], geometry });
  const plan = planMove(source, geometry);
  refuseTooMuch(source, plan, { path: pmem.path, format });
  for (const done of moveSteps(source, plan, pmem, format, []))
    expect(done).toBeLessThanOrEqual(2 * (plan.cleanBytes + plan.dirtyBytes));
}

/** The device as an overlay of which everything was written, so that all of it is compared. */
function overlayOf(bytes: Uint8Array): Overlay {
  const overlay = new Overlay(new FlatBase(new Uint8Array(bytes.length)));
  overlay.write(0, bytes, 0, bytes.length);
  return overlay;
}

/** '' when a cache on the device is sound and reads as that of the subject. */
function judge(bytes: Uint8Array, subject: Subject): string {
  const { findings } = checkCache(overlayOf(bytes), { ...subject.shape, data: true });
  return findings.map(({ code }) => code).join() || unexpected(subject, overlayOf(bytes), []);
}

/** No kernel attaches a device whose superblock is missing or torn. */
function hasSuperblock(bytes: Uint8Array): boolean {
  const at = SUPERBLOCK_OFFSET_BYTES;
  const { magicOk, crcOk } = decodeSuperblock(bytes.subarray(at, at + SUPERBLOCK_BYTES));
  return magicOk && crcOk;
}

describe.each(SEEDS)('a move of the cache of seed %i', { timeout: 60_000 }, (seed) => {
  const subject = liveSmall(seed);

  it('reads the same on a device of just enough segments, and keeps the settings', () => {
    const source = sourceOf(subject);
    const pmem = target(source, 'dax');
    move(source, pmem);
    expect(judge(pmem.bytes, subject)).toBe('');
    const { metadata } = loadCacheOrThrow(pmem, { ...subject.shape, checkPayload: true });
    expect(metadata.flags).toEqual(source.cache.metadata.flags);
  });

  it('leaves out what the backing device holds with --dirty-only, and reads the same', () => {
    const source = sourceOf(subject, true);
    const pmem = target(source, 'dax');
    move(source, pmem);
    expect(judge(pmem.bytes, subject)).toBe('');
    const moved = loadCacheOrThrow(pmem, { ...subject.shape, checkPayload: true });
    expect(moved.dirtyKsetCount).toBe(moved.ksetCount);
  });

  it.each(MODELS)('leaves no cache or the whole one at every point of a crash (%s)', (model) => {
    const source = sourceOf(subject);
    const pmem = target(source, model);
    const states = [...crashStatesOf(pmem, STATES, (device) => move(source, device)), pmem.bytes.slice()];
    expect(states.length).toBeGreaterThan(30);
    const whole = states.filter(hasSuperblock);
    expect(whole.length).toBeGreaterThan(0);
    expect(whole.length).toBeLessThan(states.length);
    for (const bytes of whole) expect(judge(bytes, subject)).toBe('');
  });

  it('refuses a device that is too small, and says what would fit', () => {
    const source = sourceOf(subject);
    const needed = segmentsNeeded(planMove(source, subject.shape.geometry));
    const { device } = subject;
    const before = Buffer.from(device.bytes(0, device.sizeBytes));
    const small = target(source, 'dax', needed - 1);
    expect(() => move(source, small)).toThrow(
      new RegExp(`has ${needed - 1} segments, and what is in .* takes ${needed} `),
    );
    expect(before.equals(device.bytes(0, device.sizeBytes))).toBe(true);
  });
});
