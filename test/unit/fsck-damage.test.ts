/**
 * The check against damage of every kind: each finding code has a damager, and the check reports that code and
 * nothing that does not belong with it.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { CATALOGUE, catalogueEntry, type FindingCode } from '../../src/fsck/catalogue.js';
import { checkCache } from '../../src/fsck/check.js';
import { KERNEL_GEOMETRY, MIB } from '../../src/engine/media/geometry.js';
import { DAMAGERS, makeHopping, type BaseName } from '../support/damage/damagers.js';
import { unpackImage } from '../support/images.js';
import { SparseImage } from '../support/sparse-image.js';

const BACKING_BYTES: Record<BaseName, number> = {
  'fresh': 64 * MIB,
  'dirty-crc': 64 * MIB,
  'hopping': 64 * MIB,
  'gc-wrap': 96 * MIB,
};
const bases = new Map<BaseName, SparseImage>();

beforeAll(async () => {
  for (const name of ['fresh', 'dirty-crc', 'gc-wrap'] as const) {
    bases.set(name, SparseImage.fromFile((await unpackImage(name)).cachePath));
  }
  const hopping = bases.get('dirty-crc')!.clone();
  makeHopping(hopping);
  bases.set('hopping', hopping);
});

describe('an undamaged base has no finding', () => {
  it.each(Object.keys(BACKING_BYTES) as BaseName[])('%s', (name) => {
    const options = { geometry: KERNEL_GEOMETRY, backingBytes: BACKING_BYTES[name], data: true };
    const result = checkCache(bases.get(name)!, options);
    expect(result.findings).toEqual([]);
    expect(result.clean).toBe(true);
  });
});

describe('each damage is reported as what it is', () => {
  const title = (one: (typeof DAMAGERS)[number]): string =>
    `${one.code}${one.variant ? ` (${one.variant})` : ''} on ${one.base}`;
  it.each(DAMAGERS.map((damager) => [title(damager), damager] as const))('%s', (_title, damager) => {
    const image = bases.get(damager.base)!.clone();
    const reader = damager.damage(image) ?? image;
    const backingBytes = damager.backingBytes ?? BACKING_BYTES[damager.base];
    const result = checkCache(reader, { geometry: KERNEL_GEOMETRY, backingBytes, data: true });
    const codes = new Set<FindingCode>(result.findings.map((finding) => finding.code));
    expect([...codes].sort()).toEqual([damager.code, ...(damager.also ?? [])].sort());
    expect(result.clean).toBe([...codes].every((code) => catalogueEntry(code).severity === 'note'));
  });
});

describe('the catalogue', () => {
  it('has a damager for every code', () => {
    const covered = new Set(DAMAGERS.map((damager) => damager.code));
    expect(Object.keys(CATALOGUE).filter((code) => !covered.has(code as FindingCode))).toEqual([]);
  });

  it('has an error for everything the kernel refuses', () => {
    for (const code of Object.keys(CATALOGUE) as FindingCode[]) {
      if (catalogueEntry(code).kernelRefuses) expect([code, catalogueEntry(code).severity]).toEqual([code, 'error']);
    }
  });
});
