/** The oracle of `replay --verify`: every kind of wrong it must see, and every race it must allow. */
import { describe, expect, it } from 'vitest';
import { stampSector, readStamp, SECTOR_WORDS } from '../../src/replay/stamp.js';
import { Verifier } from '../../src/replay/verifier.js';

const SECTORS = 8;
const BYTES = SECTORS * 512;
const OFFSET = 4 * 2 ** 20 - 2048; // across a 4 MiB boundary

function written(verifier: Verifier): { payload: Uint32Array; versions: Uint32Array } {
  const payload = new Uint32Array(SECTORS * SECTOR_WORDS);
  const versions = new Uint32Array(SECTORS);
  verifier.beforeWrite(OFFSET, BYTES, payload, versions);
  return { payload, versions };
}

function read(verifier: Verifier, payload: Uint32Array, during: () => void = () => {}): number {
  const floors = new Uint32Array(SECTORS);
  verifier.beforeRead(OFFSET, BYTES, floors);
  during();
  verifier.readEnded(OFFSET, BYTES, payload, floors);
  return verifier.result().mismatchCount;
}

describe('stamps', () => {
  it('give their version back, and nothing when a word is changed or the sector is another', () => {
    const words = new Uint32Array(SECTOR_WORDS);
    for (const sector of [0, 1, 2 ** 31, 2 ** 33 + 5]) {
      stampSector(words, 0, sector, 77);
      expect(readStamp(words, 0, sector)).toBe(77);
      expect(readStamp(words, 0, sector + 1)).toBe(-1);
      for (const word of [0, 1, 2, 3, 64, 127]) {
        const kept = words[word];
        words[word] ^= 1 << 17;
        expect(readStamp(words, 0, sector)).toBe(-1);
        words[word] = kept;
      }
    }
  });
});

describe('verifier', () => {
  it('accepts what was acknowledged, and zeroes where nothing was written', () => {
    const verifier = new Verifier(true);
    expect(read(verifier, new Uint32Array(SECTORS * SECTOR_WORDS))).toBe(0);
    const { payload, versions } = written(verifier);
    verifier.writeEnded(OFFSET, BYTES, versions);
    expect(read(verifier, payload)).toBe(0);
    verifier.checkBacking(OFFSET, BYTES, payload);
    expect(verifier.result()).toMatchObject({
      mismatchCount: 0,
      sectorsWritten: SECTORS,
      backingSectorsChecked: SECTORS,
    });
  });

  it('sees an acknowledged write that is lost, and an old version', () => {
    const verifier = new Verifier(true);
    const first = written(verifier);
    verifier.writeEnded(OFFSET, BYTES, first.versions);
    expect(read(verifier, new Uint32Array(SECTORS * SECTOR_WORDS))).toBe(SECTORS);
    const second = written(verifier);
    verifier.writeEnded(OFFSET, BYTES, second.versions);
    expect(read(verifier, first.payload)).toBe(2 * SECTORS);
    expect(verifier.result().mismatches[SECTORS]).toMatchObject({
      expected: 'version 2',
      found: 'version 1',
      offsetBytes: OFFSET,
    });
  });

  it('allows either version while a write is under way, and both orders of ending', () => {
    const verifier = new Verifier(true);
    const first = written(verifier);
    verifier.writeEnded(OFFSET, BYTES, first.versions);
    let second = first;
    expect(read(verifier, first.payload, () => (second = written(verifier)))).toBe(0);
    expect(read(verifier, second.payload)).toBe(0);
    expect(read(verifier, first.payload, () => verifier.writeEnded(OFFSET, BYTES, second.versions))).toBe(0);
    expect(read(verifier, first.payload)).toBe(SECTORS);
  });

  it('sees a torn sector, one of another place, and one that was never written', () => {
    const verifier = new Verifier(true);
    const { payload, versions } = written(verifier);
    verifier.writeEnded(OFFSET, BYTES, versions);
    const torn = payload.slice();
    torn[SECTOR_WORDS - 1] = 0;
    expect(read(verifier, torn)).toBe(1);
    const swapped = payload.slice();
    swapped.copyWithin(0, SECTOR_WORDS, 2 * SECTOR_WORDS);
    expect(read(verifier, swapped)).toBe(2);
    expect(verifier.result().mismatches[1].found).toBe(`version 1 of byte ${OFFSET + 512}`);
    const elsewhere = new Uint32Array(SECTOR_WORDS).fill(3);
    const floors = new Uint32Array(1);
    verifier.beforeRead(0, 512, floors);
    verifier.readEnded(0, 512, elsewhere, floors);
    expect(verifier.result()).toMatchObject({ mismatchCount: 3 });
  });

  it('wants what it does not know of the user’s devices to stay the same', () => {
    const verifier = new Verifier(false);
    const original = new Uint32Array(SECTORS * SECTOR_WORDS).map((_, n) => n * 7);
    expect(read(verifier, original)).toBe(0);
    expect(read(verifier, original)).toBe(0);
    const changed = original.slice();
    changed[5 * SECTOR_WORDS]++;
    expect(read(verifier, changed)).toBe(1);
  });

  it('wants the newest version on the backing device, even of what was never acknowledged', () => {
    const verifier = new Verifier(true);
    const first = written(verifier);
    const second = written(verifier);
    verifier.checkBacking(OFFSET, BYTES, second.payload);
    expect(verifier.result().mismatchCount).toBe(0);
    verifier.checkBacking(OFFSET, BYTES, first.payload);
    expect(verifier.result().mismatchCount).toBe(SECTORS);
  });
});
