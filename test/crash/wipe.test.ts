/** Wiping a cache, cut off at every store and barrier: what a loss of power leaves of it. */
import { describe, expect, it } from 'vitest';
import { formatDevice, planFormat } from '../../src/engine/create/create-cache.js';
import { describeExistingCache } from '../../src/engine/create/existing-cache.js';
import { wipeSteps, wipeTotals } from '../../src/engine/create/wipe-cache.js';
import { loadCache } from '../../src/engine/log/recovery.js';
import { decodeSuperblock, SUPERBLOCK_BYTES } from '../../src/engine/media/codecs.js';
import {
  CACHE_CTRL_OFFSET_BYTES,
  CACHE_INFO_OFFSET_BYTES,
  SEGMENTS_OFFSET_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
} from '../../src/engine/media/geometry.js';
import {
  KEY_BYTES,
  KSET_HEADER_BYTES,
  KSET_MAGIC_HIGH,
  KSET_MAGIC_LOW,
  KsetField,
} from '../../src/engine/media/kset.js';
import { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { checkCache } from '../../src/fsck/check.js';
import { verdictOf } from '../../src/fsck/gate.js';
import { nothingLost } from '../../src/fsck/repair/losses.js';
import { crashStatesOf } from '../support/crash-states.js';
import { repairOverlay, unexpected, UndoInMemory, type Subject } from '../support/damage/oracle.js';
import { Overlay } from '../support/damage/overlay.js';
import { liveSmall } from '../support/damage/small-life.js';

const SEEDS = [1, 2, 3];
const STATES = { beforeStore: 4, beforeBarrier: 4 };
/** A repair takes long. */
const REPAIRED_ONE_IN = 12;
const MAGIC = Buffer.alloc(8);
MAGIC.writeUInt32LE(KSET_MAGIC_LOW, 0);
MAGIC.writeUInt32LE(KSET_MAGIC_HIGH, 4);

const KEYS_BEHIND_MAGIC_BYTES = KSET_HEADER_BYTES - KsetField.magic;

const deviceOf = (subject: Subject): SimPmem =>
  new SimPmem(subject.device.bytes(0, subject.device.sizeBytes).slice(), { model: 'dax' });
const overlayOf = (bytes: Uint8Array): Overlay => new Overlay(new SimPmem(bytes, { model: 'dax' }));

function wipe(pmem: SimPmem, { shape }: Subject): number {
  const totals = wipeTotals(pmem, shape.geometry);
  for (const done of wipeSteps(pmem, shape.geometry, totals)) expect(done).toBeLessThanOrEqual(totals.segmentCount);
  return totals.ksets;
}

function crashStates(subject: Subject): Uint8Array[] {
  return crashStatesOf(deviceOf(subject), STATES, (pmem) => wipe(pmem, subject));
}

function hasSuperblock(bytes: Uint8Array): boolean {
  const { magicZero } = decodeSuperblock(
    bytes.subarray(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_BYTES),
  );
  return !magicZero;
}

/** Whether anything changed at `fromBytes` or behind it. */
function differsFrom(fromBytes: number, bytes: Uint8Array, before: Uint8Array): boolean {
  return Buffer.compare(bytes.subarray(fromBytes), before.subarray(fromBytes)) !== 0;
}

function isTraceless(pmem: SimPmem, { shape }: Subject): boolean {
  return Buffer.from(pmem.bytes.buffer).indexOf(MAGIC) < 0 && describeExistingCache(pmem, shape.geometry) === undefined;
}

/** `NOT_PCACHE` for a device without any trace, otherwise whether data may be lost or the cache cannot be used. */
function verdictOn(bytes: Uint8Array, { shape }: Subject): string {
  try {
    const { sound } = verdictOf(checkCache(overlayOf(bytes), { ...shape, data: true }));
    return sound ? 'sound' : 'unsound';
  } catch (error) {
    return (error as { code: string }).code;
  }
}

describe.each(SEEDS)('a wipe of the cache of seed %i', { timeout: 60_000 }, (seed) => {
  const subject = liveSmall(seed);

  it('leaves no trace, and a cache made on the device afterwards is clean', () => {
    const pmem = deviceOf(subject);
    expect(wipe(pmem, subject)).toBeGreaterThan(0);
    expect(isTraceless(pmem, subject)).toBe(true);
    expect(verdictOn(pmem.bytes, subject)).toBe('NOT_PCACHE');
    // Nor of its keys: behind a blank header they would look like those of a kset that is lost.
    const before = Buffer.from(deviceOf(subject).bytes.buffer);
    for (let at = before.indexOf(MAGIC); at >= 0; at = before.indexOf(MAGIC, at + 1)) {
      const firstKey = pmem.bytes.subarray(at + KEYS_BEHIND_MAGIC_BYTES, at + KEYS_BEHIND_MAGIC_BYTES + KEY_BYTES);
      expect(firstKey.every((byte) => byte === 0)).toBe(true);
    }
    const { geometry } = subject.shape;
    formatDevice(pmem, planFormat(pmem.sizeBytes, { dataCrc: subject.dataCrc, gcPercent: 70, geometry }));
    const check = checkCache(overlayOf(pmem.bytes), { ...subject.shape, data: true });
    expect([check.clean, check.findings]).toEqual([true, []]);
  });

  it('leaves the whole cache or none that opens, at every point of a crash, and can be run again', () => {
    const states = crashStates(subject);
    expect(states.length).toBeGreaterThan(20);
    let whole = 0;
    for (const bytes of states) {
      if (unexpected(subject, overlayOf(bytes), []) === '') {
        expect(hasSuperblock(bytes)).toBe(true);
        whole++;
        continue;
      }
      const loaded = loadCache(overlayOf(bytes), { ...subject.shape, checkPayload: true });
      expect('problems' in loaded).toBe(true);
      expect(verdictOn(bytes, subject)).not.toBe('sound');

      const again = new SimPmem(bytes.slice(), { model: 'dax' });
      wipe(again, subject);
      expect(isTraceless(again, subject)).toBe(true);
    }
    expect(whole).toBeGreaterThan(0);
    expect(whole).toBeLessThan(states.length / 2);
  });

  it('erases the superblock durably before anything else, and both tails before any segment', () => {
    const before = deviceOf(subject).bytes;
    const tails = Buffer.alloc(SEGMENTS_OFFSET_BYTES - CACHE_CTRL_OFFSET_BYTES);
    for (const bytes of crashStates(subject)) {
      if (differsFrom(CACHE_INFO_OFFSET_BYTES, bytes, before)) expect(hasSuperblock(bytes)).toBe(false);
      if (!differsFrom(SEGMENTS_OFFSET_BYTES, bytes, before)) continue;
      expect(tails.equals(bytes.subarray(CACHE_CTRL_OFFSET_BYTES, SEGMENTS_OFFSET_BYTES))).toBe(true);
    }
  });

  it('erases cache_info last, so that a wipe that was cut off is recognised', () => {
    const before = deviceOf(subject).bytes;
    const end = deviceOf(subject);
    wipe(end, subject);
    for (const bytes of crashStates(subject)) {
      if (!differsFrom(SEGMENTS_OFFSET_BYTES, bytes, end.bytes)) continue;
      const info = bytes.subarray(CACHE_INFO_OFFSET_BYTES, CACHE_CTRL_OFFSET_BYTES);
      expect(Buffer.compare(info, before.subarray(CACHE_INFO_OFFSET_BYTES, CACHE_CTRL_OFFSET_BYTES))).toBe(0);
    }
  });

  it('never lets a repair of what it left pass off an emptied cache as free of loss', async () => {
    const states = crashStates(subject);
    for (let n = seed; n < states.length; n += REPAIRED_ONE_IN) {
      const bytes = states[n];
      if (verdictOn(bytes, subject) === 'NOT_PCACHE') continue;
      const device = overlayOf(bytes);
      const repaired = await repairOverlay(device, subject.shape, new UndoInMemory(), {
        dropCorrupt: true,
        dataCrc: subject.dataCrc,
      });
      if (unexpected(subject, device, []) === '' || !repaired.after.clean) continue;
      expect(nothingLost(repaired.losses)).toBe(false);
    }
  });
});
