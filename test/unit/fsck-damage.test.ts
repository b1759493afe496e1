/**
 * The table of damages: each finding code has a damager; the check reports that code and nothing that does not
 * belong with it; the repair comes to what the table says; afterwards the cache opens, and reads as before but for
 * what was listed; and the undo takes it back, byte for byte.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { openCore } from '../../src/engine/core.js';
import { CATALOGUE, catalogueEntry, type FindingCode } from '../../src/fsck/catalogue.js';
import { checkCache } from '../../src/fsck/check.js';
import { SimClock } from '../../src/engine/sim/sim-clock.js';
import { DAMAGERS, type BaseName, type Damager } from '../support/damage/damagers.js';
import { BASE_NAMES, loadBases, shapeOf, type Base } from '../support/damage/bases.js';
import {
  codesOf,
  damagedKeys,
  listedRanges,
  makeSubject,
  repairOverlay,
  unexpected,
  UndoInMemory,
  type Subject,
} from '../support/damage/oracle.js';
import { describeLong } from '../support/long.js';
import type { Overlay } from '../support/damage/overlay.js';
import type { Shape } from '../support/damage/logical.js';

let bases: Map<BaseName, Base>;
const subjects = new Map<BaseName, Subject>();

beforeAll(async () => {
  bases = await loadBases();
  for (const name of BASE_NAMES) {
    const { device, backing } = bases.get(name)!;
    subjects.set(name, makeSubject(name, device, backing, shapeOf(name)));
  }
});

const title = (one: Damager): string => `${one.code}${one.variant ? ` (${one.variant})` : ''} on ${one.base}`;
const TABLE = DAMAGERS.map((damager) => [title(damager), damager] as const);
/** `npm test` repairs one damage of each code, `npm run test:all` every variant of it. */
const isVariant = ({ code }: Damager, n: number): boolean => DAMAGERS.findIndex((one) => one.code === code) < n;

function damagedImage(damager: Damager): Overlay {
  const image = bases.get(damager.base)!.device.clone();
  return (damager.damage(image) ?? image) as Overlay;
}

const cleanCodes = (codes: readonly string[]): boolean =>
  codes.every((code) => catalogueEntry(code as FindingCode).severity === 'note');

describe('an undamaged base has no finding', () => {
  it.each(BASE_NAMES)('%s', (name) => {
    const result = checkCache(bases.get(name)!.device, { ...shapeOf(name), data: true });
    expect(result.findings).toEqual([]);
    expect(result.clean).toBe(true);
  });
});

describe('each damage is reported as what it is', () => {
  it.each(TABLE)('%s', (_title, damager) => {
    const result = checkCache(damagedImage(damager), { ...shapeOf(damager.base, damager.backingBytes), data: true });
    const codes = codesOf(result);
    expect(codes).toEqual([damager.code, ...(damager.also ?? [])].sort());
    expect(result.clean).toBe(cleanCodes(codes));
  });
});

/** The engine itself opens it, which writes; on a copy. */
function openInEngine(device: Overlay, shape: Shape): void {
  const backing = {
    path: 'backing',
    sizeBytes: shape.backingBytes,
    read: () => undefined,
    write: () => undefined,
    flush: () => undefined,
    close: () => undefined,
  };
  openCore({ pmem: device.clone(), backing, clock: new SimClock(), geometry: shape.geometry });
}

async function repairsAndUndoes(damager: Damager): Promise<void> {
  const subject = subjects.get(damager.base)!;
  const shape = shapeOf(damager.base, damager.backingBytes);
  const device = damagedImage(damager);
  const damaged = device.clone();
  const known = damagedKeys(subject, damaged);

  const undo = new UndoInMemory();
  const first = await repairOverlay(device, shape, undo, { dropCorrupt: false });
  expect(first.after.clean, codesOf(first.after).join()).toBe(damager.repair === undefined);
  let made = first.made;
  if (damager.repair === 'drop-corrupt') {
    expect(first.declined.length).toBeGreaterThan(0);
    const second = await repairOverlay(device, shape, undo, { dropCorrupt: true });
    expect(second.after.clean, codesOf(second.after).join()).toBe(true);
    expect(listedRanges(second.made).length).toBeGreaterThan(0);
    made = [...made, ...second.made];
  }
  if (damager.repair === 'left') {
    expect(made).toEqual([]);
    return;
  }
  expect(made.length > 0).toBe(catalogueEntry(damager.code).repair !== undefined);
  // A device that fails to read is not for the engine; what is compared was judged by the check.
  if (damager.code !== 'PAYLOAD_UNREADABLE') openInEngine(device, shape);
  const more = made.some((fix) => fix.losses.some((loss) => loss.mayBeMore));
  const excused = [...listedRanges(made), ...(more ? known : [])];
  if (damager.backingBytes === undefined && damager.misstates !== true) {
    expect(unexpected(subject, device, excused)).toBe('');
  }

  undo.apply(device);
  expect(device.differences(damaged)).toEqual([]);
}

describe('each damage is repaired as far as it can be', () => {
  it.each(TABLE.filter(([, damager], n) => !isVariant(damager, n)))('%s', (_title, damager) =>
    repairsAndUndoes(damager),
  );

  describeLong('in every variant', () => {
    it.each(TABLE.filter(([, damager], n) => isVariant(damager, n)))('%s', (_title, damager) =>
      repairsAndUndoes(damager),
    );
  });
});

describe('the catalogue', () => {
  it('has a damager for every code', () => {
    const covered = new Set(DAMAGERS.map((damager) => damager.code));
    expect(Object.keys(CATALOGUE).filter((code) => !covered.has(code as FindingCode))).toEqual([]);
  });

  it('says of every code that is no note what a repair does, or why it does nothing', () => {
    for (const code of Object.keys(CATALOGUE) as FindingCode[]) {
      const { severity, repair, noRepair } = catalogueEntry(code);
      const left = DAMAGERS.filter((one) => one.code === code).every((one) => one.repair === 'left');
      if (severity === 'note') expect([code, noRepair]).toEqual([code, undefined]);
      else expect([code, repair !== undefined, noRepair !== undefined]).toEqual([code, !left, left]);
    }
  });

  it('has an error for everything the kernel refuses', () => {
    for (const code of Object.keys(CATALOGUE) as FindingCode[]) {
      if (catalogueEntry(code).kernelRefuses) expect([code, catalogueEntry(code).severity]).toEqual([code, 'error']);
    }
  });
});
