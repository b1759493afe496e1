/** The extent index against the plainest model there is: one slot per sector. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { indexAid } from '../../src/engine/device/native.js';
import { NO_HINT } from '../../src/engine/device/pmem.js';
import { ENTRY_CLEAN, ENTRY_EMPTY } from '../../src/engine/index/entry-table.js';
import { ExtentIndex } from '../../src/engine/index/extent-index.js';

const SUBTREE_SECTORS = 8192;
const SUBTREES = 3;

interface Insert {
  readonly kind: 'insert' | 'placeholder' | 'age' | 'sweep';
  readonly subtree: number;
  readonly start: number;
  readonly sectors: number;
  readonly segment: number;
  /** Where the insertion is told to look first. */
  readonly hint: number;
}

/** What the model knows of a sector: '' is a hole. */
type Model = string[][];

function describeIndex(index: ExtentIndex): Model {
  const model: Model = Array.from({ length: SUBTREES }, () => new Array<string>(SUBTREE_SECTORS).fill(''));
  for (let subtree = 0; subtree < SUBTREES; subtree++) {
    for (index.seek(subtree, 0); index.valid; index.advance()) {
      if (index.isStale) continue;
      for (let sector = index.start; sector < index.end; sector++) {
        model[subtree][sector] = index.isEmpty
          ? 'empty'
          : `${index.segment}+${index.offsetSectors + sector - index.start}/${index.flags}`;
      }
    }
  }
  return model;
}

const operation = (dense: boolean): fc.Arbitrary<Insert> =>
  fc.record({
    kind: fc.constantFrom('insert', 'insert', 'insert', 'insert', 'placeholder', 'age', 'sweep'),
    subtree: fc.nat(SUBTREES - 1),
    start: fc.nat(dense ? 200 : SUBTREE_SECTORS - 1),
    sectors: fc.integer({ min: 1, max: dense ? 24 : 4000 }),
    segment: fc.constantFrom(0, 1, 2, 131_071, 131_072, 2 ** 20 - 1),
    hint: fc.integer({ min: -2, max: 12 }), // right or wrong, it may not matter
  });

function run(operations: Insert[]): void {
  const generations = new Int32Array(2 ** 20);
  const index = new ExtentIndex(SUBTREES * SUBTREE_SECTORS * 512, generations);
  const model: Model = Array.from({ length: SUBTREES }, () => new Array<string>(SUBTREE_SECTORS).fill(''));
  let serial = 0;
  for (const { kind, subtree, start, segment, hint, ...rest } of operations) {
    const sectors = Math.min(rest.sectors, SUBTREE_SECTORS - start);
    const row = model[subtree];
    if (kind === 'insert') {
      const offset = serial++ % 20_000;
      const hitsPlaceholder = row.map((value, sector) => value === 'empty' && sector >= start + sectors);
      index.insert(subtree, start, sectors, segment, offset, generations[segment], ENTRY_CLEAN, hint);
      // A placeholder that the extent reaches into loses everything from there on.
      if (row[start + sectors - 1] === 'empty' && row[start + sectors] === 'empty') {
        for (let s = start + sectors; hitsPlaceholder[s] && row[s] === 'empty' && !breaks.has(key(subtree, s)); s++)
          row[s] = '';
      }
      for (let s = start; s < start + sectors; s++) {
        row[s] = `${segment}+${offset + s - start}/${ENTRY_CLEAN}`;
        breaks.delete(key(subtree, s));
      }
    } else if (kind === 'placeholder') {
      let end = start;
      while (end < start + sectors && row[end] === '') end++;
      if (end === start) continue;
      dropStale(index, subtree, start, end);
      index.seek(subtree, start);
      index.insertPlaceholder(start, end, 7, serial++);
      row.fill('empty', start, end);
      breaks.add(key(subtree, start));
    } else if (kind === 'age') {
      generations[segment] = (generations[segment] + 1) | 0;
      for (const r of model) r.forEach((value, s) => value.startsWith(`${segment}+`) && (r[s] = ''));
    } else {
      index.sweep(SUBTREES);
    }
    index.check();
  }
  expect(describeIndex(index)).toEqual(model);
  breaks.clear();
}

/** Where placeholders start, to tell neighbours apart. */
const breaks = new Set<string>();
const key = (subtree: number, sector: number) => `${subtree}:${sector}`;

/** As a read does before it leaves a placeholder. */
function dropStale(index: ExtentIndex, subtree: number, start: number, end: number): void {
  index.seek(subtree, start);
  while (index.valid && index.start < end && index.isStale) index.remove();
}

describe('the extent index', () => {
  it.each([true, false])('agrees with one slot per sector (dense: %s)', (dense) => {
    fc.assert(
      fc.property(fc.array(operation(dense), { maxLength: 120 }), (operations) => {
        breaks.clear();
        run(operations);
      }),
      { numRuns: dense ? 300 : 60 },
    );
  });

  it('finds every one of thousands of random single sectors, and the holes between', () => {
    const generations = new Int32Array(1);
    const index = new ExtentIndex(SUBTREE_SECTORS * 512, generations);
    const present = new Set<number>();
    for (let n = 0, x = 12345; n < 6000; n++) {
      x = (Math.imul(x, 1103515245) + 12345) >>> 0;
      const sector = (x >>> 8) % SUBTREE_SECTORS;
      present.add(sector);
      index.insert(0, sector, 1, 0, sector, 0, 0);
    }
    index.check();
    expect(index.entryCount).toBe(present.size);
    for (let sector = 0; sector < SUBTREE_SECTORS; sector++) {
      index.seek(0, sector);
      const covered = index.valid && index.start <= sector;
      expect(covered).toBe(present.has(sector));
      if (covered) expect(index.offsetSectors).toBe(sector);
    }
  });

  it.each([indexAid(), undefined])('looks ahead for many sectors at once, and skips those that do not exist', (aid) => {
    const index = new ExtentIndex(SUBTREES * SUBTREE_SECTORS * 512, new Int32Array(1), aid);
    for (let sector = 3; sector < 8000; sector += 1 + (sector % 7)) index.insert(1, sector, 1, 0, 0, 0, 0);
    index.insert(2, 4000, 100, 0, 0, 0, 0);
    const subtree = Int32Array.from({ length: 200 }, (_, i) => (i % 5) - 1); // some before and behind all there are
    const sector = Uint16Array.from({ length: 200 }, (_, i) => (i * 41) % SUBTREE_SECTORS);
    const hints = new Int32Array(200).fill(99);
    index.lookAhead(subtree, sector, 200, hints);
    for (let i = 0; i < 200; i++) {
      if (aid === undefined || subtree[i] < 0 || subtree[i] >= SUBTREES) {
        expect(hints[i]).toBe(aid ? 0 : NO_HINT);
        continue;
      }
      let place = 0;
      for (index.seek(subtree[i], 0); index.valid && index.start <= sector[i]; index.advance()) place++;
      expect(hints[i]).toBe(place);
    }
  });

  it('keeps a placeholder only up to the write that overtakes it', () => {
    const index = new ExtentIndex(SUBTREE_SECTORS * 512, new Int32Array(4));
    index.seek(0, 100);
    index.insertPlaceholder(100, 200, 3, 9);
    index.insert(0, 150, 10, 1, 0, 0, 0);
    index.seek(0, 100);
    expect([index.start, index.end, index.isPlaceholderOf(3, 9)]).toEqual([100, 150, true]);
    index.advance();
    expect([index.start, index.end, index.flags & ENTRY_EMPTY]).toEqual([150, 160, 0]);
    index.advance();
    expect(index.valid).toBe(false);
    index.insert(0, 90, 20, 1, 50, 0, 0);
    index.seek(0, 110);
    expect(index.start).toBe(150); // the placeholder's start is gone, and with it the placeholder
  });

  it('stays within 48 bytes a key for a million random 4 KiB keys over 4 GiB and over 1 TiB', () => {
    for (const bytes of [4 * 2 ** 30, 2 ** 40]) {
      const index = new ExtentIndex(bytes, new Int32Array(1));
      let x = 88172645463325252n;
      for (let n = 0; n < 1_000_000; n++) {
        x = BigInt.asUintN(64, x ^ (x << 13n));
        x ^= x >> 7n;
        x = BigInt.asUintN(64, x ^ (x << 17n));
        const page = Number(x >> 20n) % (bytes / 4096);
        index.insert(Math.floor(page / 1024), (page % 1024) * 8, 8, 0, 0, 0, 0);
      }
      expect(index.memoryBytes / index.entryCount).toBeLessThan(48);
    }
  });
});
