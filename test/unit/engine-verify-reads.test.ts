/** `verifyReads`: what is read from the cache is checked against the CRC of the payload it is part of. */
import { describe, expect, it } from 'vitest';
import { PayloadCrcs } from '../../src/engine/space/payload-crcs.js';
import { Op, RequestGroup, RequestState } from '../../src/engine/request/request-group.js';
import { Random } from '../../src/engine/sim/random.js';
import { SmallCache, type SmallShape } from '../support/small-cache.js';

const CHECKED: Partial<SmallShape> = { dataCrc: true, verifyReads: true };

/** Flips a bit of the payload that the index has for a sector of subtree 0, `sectorsOn` further on. */
function damage(small: SmallCache, sector: number, sectorsOn = 0): void {
  const { index, segments } = small.cache.parts;
  index.seek(0, sector);
  const at = segments.dataOffsetBytes[index.segment] + (index.offsetSectors + sector - index.start + sectorsOn) * 512;
  small.pmem.bytes[at + 77] ^= 4;
}

/** Reads; the backing device answers what it is asked. */
function answered(small: SmallCache, sector: number, sectors: number) {
  const read = small.read(sector, sectors);
  while (read.isPending && small.backing.underWay > 0) small.backing.finish(0);
  return read;
}

describe('verifyReads', () => {
  it('accepts good data: written, filled, partly overwritten, and of several keys', () => {
    const small = new SmallCache(CHECKED);
    small.write(10, 8, 1);
    small.write(12, 2, 2);
    expect(small.readIds(8, 14)).toEqual([0, 0, 1, 1, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0]);
    expect(small.readIds(8, 14)).toEqual([0, 0, 1, 1, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0]);
    expect(small.cache.stats.readPayloadErrors).toBe(0);
  });

  it('fails a read of damaged data and names its range, and fails no other read', () => {
    const small = new SmallCache(CHECKED);
    small.write(10, 8, 1);
    small.write(30, 8, 2);
    damage(small, 12);
    const read = answered(small, 11, 4);
    expect(read.errorCode).toBe('BAD_MEDIA');
    expect(read.group.errors[0]?.message).toMatch(/cached data of bytes 5632–7679 does not match its CRC/);
    expect(small.readIds(30, 8)).toEqual(new Array(8).fill(2));
    expect(small.cache.stats.readPayloadErrors).toBe(1);
  });

  it('checks the whole payload of a key that another write has cut', () => {
    const small = new SmallCache(CHECKED);
    small.write(10, 8, 1);
    small.write(10, 4, 2);
    damage(small, 14, 3);
    expect(answered(small, 14, 1).errorCode).toBe('BAD_MEDIA');
    expect(small.readIds(10, 4)).toEqual([2, 2, 2, 2]);
  });

  it('checks data that the same group has just written', () => {
    const small = new SmallCache(CHECKED);
    const arena = small.pmem.registerArena(new Uint8Array(2 * 4096));
    const group = new RequestGroup(2, arena);
    group.add(Op.write, 0, 4096, 0);
    group.add(Op.read, 0, 4096, 4096);
    expect(small.cache.submit(group)).toBe(0);
    expect([...group.state]).toEqual([RequestState.done, RequestState.done]);
  });

  it('checks after the copy, so that data damaged just before it is not handed out', () => {
    const small = new SmallCache(CHECKED);
    small.write(10, 4, 1);
    const runReads = small.pmem.runReads.bind(small.pmem);
    small.pmem.runReads = (...args) => {
      damage(small, 10);
      runReads(...args);
    };
    expect(answered(small, 10, 4).errorCode).toBe('BAD_MEDIA');
  });

  it('fails a read that also has a miss only when the whole read has ended', () => {
    const small = new SmallCache(CHECKED);
    small.write(10, 4, 1);
    damage(small, 10);
    const read = small.read(10, 8);
    expect(read.isPending).toBe(true);
    small.backing.finish(0);
    expect(read.isPending).toBe(true);
    small.backing.finish(0);
    expect(read.errorCode).toBe('BAD_MEDIA');
  });

  it('without it a read returns damaged data', () => {
    const small = new SmallCache({ dataCrc: true });
    small.write(10, 4, 1);
    damage(small, 10);
    expect(small.read(10, 4).isDone).toBe(true);
  });

  it('checks payload of an earlier life', () => {
    const small = new SmallCache(CHECKED);
    small.write(10, 8, 1);
    small.write(12, 2, 2);
    small.flush();
    small.open();
    expect(small.readIds(10, 8)).toEqual([1, 1, 2, 2, 1, 1, 1, 1]);
    damage(small, 17);
    expect(answered(small, 16, 1).errorCode).toBe('BAD_MEDIA');
    expect(small.readIds(12, 2)).toEqual([2, 2]);
  });

  it('works through many lives of each segment', () => {
    const small = new SmallCache({ ...CHECKED, gcPercent: 10 });
    for (let id = 1; id <= 300; id++) {
      const sectors = 1 + (id % 7);
      small.writeFua((id * 5) % 40, sectors, id);
      small.settle();
      const first = (id * 5) % 40;
      expect(small.readIds(first, sectors)).toEqual(new Array(sectors).fill(id));
      expect(small.readIds(first + sectors - 1, 1)).toEqual([id]);
    }
    expect(small.cache.stats.segmentsFreed).toBeGreaterThan(20);
  });

  it('is refused for a cache without data_crc', () => {
    expect(() => new SmallCache({ verifyReads: true })).toThrow(/reads cannot be verified/);
  });
});

describe('a read of damaged data that the backing device has', () => {
  it('is answered from there, and the cached copy is put right', () => {
    const small = new SmallCache(CHECKED);
    small.write(10, 8, 1);
    small.drain();
    damage(small, 12);
    const read = answered(small, 11, 4);
    expect(read.ids).toEqual([1, 1, 1, 1]);
    expect(small.cache.stats).toMatchObject({ readPayloadsMended: 1, readPayloadErrors: 0 });
    const { backingReads } = small.cache.stats;
    expect(small.readIds(10, 8)).toEqual(new Array(8).fill(1));
    expect(small.cache.stats.backingReads).toBe(backingReads);
    small.load(); // which checks the CRC of every payload
  });

  it('is answered when it came into the cache by a read', () => {
    const small = new SmallCache(CHECKED);
    small.readIds(10, 8);
    damage(small, 12);
    expect(answered(small, 10, 8).ids).toEqual(new Array(8).fill(0));
    expect(small.cache.stats.readPayloadsMended).toBe(1);
  });

  it('is answered when a newer write covers a part of its payload', () => {
    const small = new SmallCache(CHECKED);
    small.write(10, 8, 1);
    small.drain();
    small.write(10, 4, 2);
    small.drain();
    damage(small, 15);
    expect(answered(small, 10, 8).ids).toEqual([2, 2, 2, 2, 1, 1, 1, 1]);
    expect(small.cache.stats.readPayloadsMended).toBe(1);
    small.load();
  });

  it('is not answered with the older version of dirty data', () => {
    const small = new SmallCache(CHECKED);
    small.write(10, 8, 1);
    small.drain();
    small.write(10, 8, 2);
    damage(small, 12);
    expect(answered(small, 10, 8).errorCode).toBe('BAD_MEDIA');
    expect(small.cache.stats).toMatchObject({ readPayloadsMended: 0, readPayloadErrors: 1 });
  });

  it('fails when the backing device cannot be read', () => {
    const small = new SmallCache(CHECKED);
    small.write(10, 8, 1);
    small.drain();
    damage(small, 12);
    const read = small.read(10, 8);
    small.backing.finishWithError(0, new Random(1), 'IO');
    expect(read.errorCode).toBe('BAD_MEDIA');
  });

  it('leaves a segment alone that was taken for other data meanwhile', () => {
    const small = new SmallCache({ ...CHECKED, gcPercent: 10 });
    small.write(10, 8, 1);
    small.drain();
    damage(small, 12);
    const at = small.cache.locate(10 * 512);
    const read = small.read(10, 8);
    const freed = small.cache.stats.segmentsFreed;
    for (let n = 0; small.cache.stats.segmentsFreed < freed + 8; n++) {
      small.writeFua(100 + 8 * (n % 50), 8, n + 2);
      small.step();
      while (small.backing.underWay > 1) {
        small.backing.finish(1);
        small.step();
      }
    }
    const other = small.pmem.bytes.slice(at, at + 8 * 512);
    small.backing.finish(0);
    expect(read.ids).toEqual(new Array(8).fill(1));
    expect(small.pmem.bytes.slice(at, at + 8 * 512)).toEqual(other);
    small.settle();
    small.load();
  });

  it('waits for others when many are read at once, and is answered', () => {
    const small = new SmallCache({ ...CHECKED, segments: 20 });
    for (let n = 0; n < 20; n++) small.write(10 * n, 8, n + 1);
    small.drain();
    for (let n = 0; n < 20; n++) damage(small, 10 * n);
    const reads = Array.from({ length: 20 }, (_, n) => small.read(10 * n, 8));
    expect(small.backing.underWay).toBe(4);
    while (small.backing.underWay > 0) small.backing.finish(small.backing.underWay - 1);
    reads.forEach((read, n) => expect(read.ids).toEqual(new Array(8).fill(n + 1)));
    expect(small.cache.hasPendingParts).toBe(false);
  });
});

describe('PayloadCrcs', () => {
  it('finds many payloads that were added in any order', () => {
    const crcs = new PayloadCrcs();
    for (let n = 0; n < 500; n++) crcs.add(3, ((n * 37) % 500) * 8, 8, n);
    for (let n = 0; n < 500; n++) {
      crcs.find(3, ((n * 37) % 500) * 8 + 7);
      expect([crcs.startSector, crcs.sectors, crcs.crc]).toEqual([((n * 37) % 500) * 8, 8, n]);
    }
  });

  it('asserts on payload that was never added', () => {
    const crcs = new PayloadCrcs();
    crcs.add(1, 8, 8, 1);
    expect(() => crcs.find(0, 8)).toThrow(/no CRC/);
    expect(() => crcs.find(1, 7)).toThrow(/no CRC/);
    expect(() => crcs.find(1, 16)).toThrow(/no CRC/);
    crcs.clear(1);
    crcs.clear(0);
    expect(() => crcs.find(1, 8)).toThrow(/no CRC/);
  });
});
