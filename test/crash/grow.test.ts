/** Growing a cache, cut off at every store and barrier: what a loss of power leaves of it. */
import { describe, expect, it } from 'vitest';
import { growSteps, isFullyGrown, planGrowth } from '../../src/engine/create/grow-cache.js';
import { SUPERBLOCK_BYTES } from '../../src/engine/media/codecs.js';
import { SUPERBLOCK_OFFSET_BYTES } from '../../src/engine/media/geometry.js';
import { KSET_HEADER_BYTES } from '../../src/engine/media/kset.js';
import { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { checkCache } from '../../src/fsck/check.js';
import { verdictOf } from '../../src/fsck/gate.js';
import { crashStatesOf } from '../support/crash-states.js';
import { repairOverlay, unexpected, UndoInMemory, type Subject } from '../support/damage/oracle.js';
import { Overlay } from '../support/damage/overlay.js';
import { liveSmall } from '../support/damage/small-life.js';

const SEEDS = [1, 2, 3];
const STATES = { beforeStore: 4, beforeBarrier: 100 };
const ADDED_SEGMENTS = 3;
/** A repair takes long. */
const REPAIRED_ONE_IN = 5;

const overlayOf = (bytes: Uint8Array): Overlay => new Overlay(new SimPmem(bytes, { model: 'dax' }));

/** The device with room for more segments, which hold what an earlier use left there. */
function enlarged({ device, shape }: Subject): SimPmem {
  const bytes = new Uint8Array(device.sizeBytes + ADDED_SEGMENTS * shape.geometry.segmentBytes).fill(0xa5);
  bytes.set(device.bytes(0, device.sizeBytes), 0);
  // Ksets of an earlier and larger cache, whose keys name segments of this one.
  const kset = device.bytes(device.sizeBytes - shape.geometry.segmentBytes, shape.geometry.segmentBytes);
  bytes.set(kset.subarray(4096 * 3 + KSET_HEADER_BYTES), device.sizeBytes + 4096 * 3 + KSET_HEADER_BYTES);
  return new SimPmem(bytes, { model: 'dax' });
}

function grow(pmem: SimPmem, { shape }: Subject): void {
  const plan = planGrowth(pmem, shape.geometry);
  for (const done of growSteps(pmem, plan)) expect(done).toBeLessThanOrEqual(ADDED_SEGMENTS);
}

/** What a loss of power may leave of a growth, its end included. */
function crashStates(subject: Subject): Uint8Array[] {
  const pmem = enlarged(subject);
  const states = crashStatesOf(pmem, STATES, (device) => grow(device, subject));
  return [...states, pmem.bytes.slice()];
}

const codesOf = (bytes: Uint8Array, { shape }: Subject): string[] =>
  checkCache(overlayOf(bytes), { ...shape, data: true }).findings.map(({ code }) => code);

describe.each(SEEDS)('a growth of the cache of seed %i', { timeout: 60_000 }, (seed) => {
  const subject = liveSmall(seed);
  const segments = planGrowth(enlarged(subject), subject.shape.geometry).segmentsBefore;

  it('uses all of the device, reads the same, and is clean', () => {
    const pmem = enlarged(subject);
    expect(codesOf(pmem.bytes, subject)).toEqual(['SUPERBLOCK_SEGMENTS_FEWER']);
    grow(pmem, subject);
    expect(codesOf(pmem.bytes, subject)).toEqual([]);
    expect(unexpected(subject, overlayOf(pmem.bytes), [])).toBe('');
    const plan = planGrowth(pmem, subject.shape.geometry);
    expect([plan.segmentsBefore, isFullyGrown(plan)]).toEqual([segments + ADDED_SEGMENTS, true]);
  });

  it('loses nothing at any point of a crash, shows no finding but its own, and can be run again', async () => {
    const seen = new Set<string>();
    const states = crashStates(subject);
    expect(states.length).toBeGreaterThan(20);
    for (const [n, bytes] of states.entries()) {
      const codes = codesOf(bytes, subject);
      for (const code of codes.length === 0 ? [''] : codes) seen.add(code);
      const again = new SimPmem(bytes.slice(), { model: 'dax' });
      grow(again, subject);
      expect(codesOf(again.bytes, subject)).toEqual([]);
      expect(unexpected(subject, overlayOf(again.bytes), [])).toBe('');
      if (n % REPAIRED_ONE_IN !== 0 || codes.length === 0) continue;
      const device = overlayOf(bytes);
      const { after } = await repairOverlay(device, subject.shape, new UndoInMemory(), { dropCorrupt: false });
      expect([after.clean, unexpected(subject, device, [])]).toEqual([true, '']);
    }
    expect([...seen].sort()).toEqual([
      '',
      'CACHE_INFO_COPY_LOST',
      'CACHE_INFO_SEGMENTS_EXCEED_SUPERBLOCK',
      'CHAIN_LAST_HAS_NEXT',
      'SEGMENT_INFO_COPY_LOST',
      'SUPERBLOCK_SEGMENTS_FEWER',
    ]);
  });

  it('leaves a cache that every kernel attaches as it was, refuses, or attaches grown', () => {
    for (const bytes of crashStates(subject)) {
      const { kernels } = verdictOf(checkCache(overlayOf(bytes), { ...subject.shape, data: false }));
      for (const { effect } of Object.values(kernels)) expect(['attaches', 'refuses']).toContain(effect);
    }
  });

  it('never tears the superblock, and counts new segments there after cache_info does', () => {
    const states = crashStates(subject);
    const superblocks = new Set(
      states.map((bytes) =>
        Buffer.from(bytes.subarray(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_BYTES)).toString(
          'hex',
        ),
      ),
    );
    expect(superblocks.size).toBe(2);
    for (const bytes of crashStates(subject))
      expect(codesOf(bytes, subject)).not.toContain('CACHE_INFO_SEGMENTS_FEWER');
  });
});
