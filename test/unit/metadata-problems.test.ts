/** What keeps a cache from being loaded: every code of a media problem, by the damage that the check is tested with. */
import { beforeAll, describe, expect, it } from 'vitest';
import { KERNEL_GEOMETRY, MIB } from '../../src/engine/media/geometry.js';
import { KeyField, KSET_HEADER_BYTES } from '../../src/engine/media/kset.js';
import type { ProblemCode } from '../../src/engine/media/problem.js';
import { loadCache } from '../../src/engine/log/recovery.js';
import { DAMAGERS, makeHopping, type Damager } from '../support/damage/damagers.js';
import { changeKset, ksetsOf } from '../support/damage/edit.js';
import { unpackImage } from '../support/images.js';
import { SparseImage } from '../support/sparse-image.js';

/** Codes a load stops on; a payload that does not match is one only where payload is looked at. */
const STOPS: ReadonlySet<string> = new Set<ProblemCode>([
  'SUPERBLOCK_ZERO_MAGIC',
  'SUPERBLOCK_BAD_MAGIC',
  'SUPERBLOCK_BAD_CRC',
  'SUPERBLOCK_BIG_ENDIAN',
  'SUPERBLOCK_SEGMENTS_ZERO',
  'SUPERBLOCK_SEGMENTS_BEYOND_DEVICE',
  'CACHE_INFO_LOST',
  'CACHE_INFO_NOT_INITIALISED',
  'CACHE_INFO_SEGMENTS_EXCEED_SUPERBLOCK',
  'CACHE_INFO_SEGMENTS_ZERO',
  'CHAIN_ENDS_EARLY',
  'CHAIN_LEAVES_DEVICE',
  'CHAIN_CYCLE',
  'SEGMENT_INFO_LOST',
  'KEY_TAIL_LOST',
  'DIRTY_TAIL_LOST',
  'KEY_TAIL_OUT_OF_RANGE',
  'DIRTY_TAIL_OUT_OF_RANGE',
  'DIRTY_TAIL_NOT_IN_LOG',
  'KSET_TOO_LONG',
  'LAST_OUT_OF_RANGE',
  'LOG_LOOPS',
  'KEY_OUT_OF_BOUNDS',
  'PAYLOAD_CRC_CURRENT',
]);

let bases: Map<string, SparseImage>;
beforeAll(async () => {
  bases = new Map();
  for (const name of ['fresh', 'dirty-crc', 'gc-wrap']) {
    bases.set(name, SparseImage.fromFile((await unpackImage(name)).cachePath));
  }
  const hopping = bases.get('dirty-crc')!.clone();
  makeHopping(hopping);
  bases.set('hopping', hopping);
});

/** Codes of what keeps the damaged image from being loaded. */
function problemsAfter(damager: Damager): string[] {
  const image = bases.get(damager.base)!.clone();
  const pmem = damager.damage(image) ?? image;
  const result = loadCache(pmem, { geometry: KERNEL_GEOMETRY, backingBytes: 96 * MIB, checkPayload: true });
  return 'cache' in result ? [] : result.problems.map((problem) => problem.code);
}

describe('a load stops on', () => {
  const cases = DAMAGERS.filter((damager) => STOPS.has(damager.code));

  it.each(cases.map((one) => [`${one.code} ${one.variant ?? ''}`, one] as const))('%s', (_title, damager) => {
    expect(problemsAfter(damager)).toContain(damager.code);
  });

  it('every one of them, by a damager', () => {
    expect([...STOPS].filter((code) => !cases.some((damager) => damager.code === code))).toEqual([]);
  });
});

describe('a load goes on in spite of', () => {
  const cases = DAMAGERS.filter((damager) =>
    /_(COPY_LOST|SEQ_SUSPECT|UNKNOWN_FLAGS|FEWER)$|^LOG_(MAYBE|END)/.test(damager.code),
  );

  it.each(cases.map((one) => [`${one.code} ${one.variant ?? ''}`, one] as const))('%s', (_title, damager) => {
    expect(problemsAfter(damager)).toEqual([]);
  });
});

it('a key far beyond any device does not size the index when nobody says how large the device is', () => {
  const image = bases.get('dirty-crc')!.clone();
  const [place] = ksetsOf(image).places;
  changeKset(image, place, (view) => view.setUint32(KSET_HEADER_BYTES + KeyField.off + 4, 2 ** 20, true));
  const options = { geometry: KERNEL_GEOMETRY, backingBytes: Infinity, checkPayload: false };
  const result = loadCache(image, options);
  expect('problems' in result && result.problems.map(({ code }) => code)).toEqual(['KEY_OUT_OF_BOUNDS']);
});
