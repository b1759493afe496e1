/** Write-back and GC: what goes to the backing device, what is passed, what stops them. */
import { describe, expect, it } from 'vitest';
import { SECTOR_BYTES } from '../../src/engine/media/geometry.js';
import { ksetBytes } from '../../src/engine/media/kset.js';
import { Random } from '../../src/engine/sim/random.js';
import { SmallCache } from '../support/small-cache.js';

describe('write-back', () => {
  it('does not write CLEAN keys, nor flush for them', () => {
    const small = new SmallCache();
    expect(small.readIds(10, 8)).toEqual(new Array(8).fill(0));
    small.drain();
    expect(small.cache.stats.fills).toBe(1);
    expect(small.cache.stats.writebackKsets).toBe(1);
    expect(small.backing.writes).toBe(0);
    expect(small.backing.flushes).toBe(0);
  });

  it('writes only the newest version of the data of a kset, and adjoining data in one write', () => {
    const small = new SmallCache();
    small.write(10, 6, 1);
    small.write(12, 2, 2);
    small.write(16, 2, 3);
    small.flush();
    small.step();
    expect(small.backing.underWay).toBe(1);
    small.settle();
    expect(small.backing.writes).toBe(1);
    expect(small.durableIds(10, 8)).toEqual([1, 1, 2, 2, 1, 1, 3, 3]);
  });

  it('leaves out the CLEAN middle of a dirty range that came before it was overwritten', () => {
    const small = new SmallCache();
    small.readIds(12, 2);
    small.write(10, 2, 1);
    small.write(14, 2, 2);
    small.drain();
    expect(small.backing.writes).toBe(2);
    expect(small.durableIds(10, 6)).toEqual([1, 1, 0, 0, 2, 2]);
    expect(small.backing.durableVersion(12)).toBeUndefined();
  });

  it('advances dirty_tail only when the flush has ended', () => {
    const small = new SmallCache();
    small.writeFua(10, 1, 1);
    small.step();
    small.backing.finish(0);
    small.step();
    expect(small.backing.kindOf(0)).toBe('flush');
    expect(small.cache.isClean).toBe(false);
    small.backing.finish(0);
    expect(small.cache.isClean).toBe(true);
  });

  it('flushes once for many ksets and advances dirty_tail past all of them', () => {
    const small = new SmallCache();
    small.cache.holdWriteback = true;
    for (let id = 1; id <= 10; id++) small.writeFua(10, 2, id);
    small.cache.holdWriteback = false;
    small.settle();
    expect(small.backing.flushes).toBe(1);
    expect(small.cache.isClean).toBe(true);
    expect(small.durableIds(10, 2)).toEqual([10, 10]);
  });

  it('writes a few ksets together, the newest version only, in order of offset', () => {
    const small = new SmallCache();
    small.cache.holdWriteback = true;
    small.writeFua(14, 2, 1);
    small.writeFua(10, 3, 2);
    small.writeFua(12, 3, 3);
    small.cache.holdWriteback = false;
    small.settle();
    expect(small.backing.writes).toBe(1);
    expect(small.durableIds(10, 6)).toEqual([2, 2, 3, 3, 3, 1]);
    expect(small.cache.stats).toMatchObject({ writebackKsets: 3, writebackKeys: 3 });
  });

  /** Ksets of one sector each, in no order of offset; their number has no divisor in common with 7. */
  function interleaved(small: SmallCache, ksets: number, id: number): void {
    for (let n = 0; n < ksets; n++) small.writeFua((7 * n) % ksets, 1, id);
  }

  it('gathers all ksets up to the next flush, a few in each step, and writes them in order of offset', () => {
    const small = new SmallCache();
    small.cache.holdWriteback = true;
    interleaved(small, 40, 7);
    small.cache.holdWriteback = false;
    for (let n = 0; n < 4; n++) {
      expect(small.cache.step()).toBe(true);
      expect(small.backing.underWay).toBe(0);
    }
    small.settle();
    expect(small.backing.writes).toBe(1);
    expect(small.backing.flushes).toBe(1);
    expect(small.durableIds(0, 40)).toEqual(new Array<number>(40).fill(7));
  });

  it('that is put on hold while it gathers ksets writes none of them, and all of them afterwards', () => {
    const small = new SmallCache();
    small.cache.holdWriteback = true;
    interleaved(small, 20, 7);
    small.cache.holdWriteback = false;
    small.cache.step();
    small.cache.holdWriteback = true;
    small.settle();
    expect(small.backing.writes).toBe(0);
    small.cache.holdWriteback = false;
    small.settle();
    expect(small.durableIds(0, 20)).toEqual(new Array<number>(20).fill(7));
    expect(small.cache.stats.writebackKsets).toBe(20);
    expect(small.cache.isClean).toBe(true);
  });

  it('flushes nothing while it gathers ksets, because a flush that fails takes write-back to earlier ones', () => {
    const small = new SmallCache();
    small.writeFua(100, 1, 1);
    small.step();
    small.cache.holdWriteback = true;
    interleaved(small, 20, 7);
    small.cache.holdWriteback = false;
    small.backing.finish(0);
    small.cache.step(); // gathers
    small.cache.writebackPart.flushes.request();
    small.step();
    expect(small.backing.kindOf(0)).toBe('write');
    small.backing.finish(0);
    small.step();
    expect(small.backing.kindOf(0)).toBe('flush');
    small.backing.finishWithError(0, new Random(1));
    small.clock.advance(100);
    small.settle();
    expect(small.cache.stats.writebackKsets).toBe(42);
    expect(small.durableIds(100, 1)).toEqual([1]);
    expect(small.cache.isClean).toBe(true);
  });

  it('writes a few ksets together with data_crc, too', () => {
    const small = new SmallCache({ dataCrc: true });
    small.cache.holdWriteback = true;
    small.writeFua(12, 2, 1);
    small.writeFua(10, 3, 2);
    small.cache.holdWriteback = false;
    small.settle();
    expect(small.backing.writes).toBe(1);
    expect(small.durableIds(10, 4)).toEqual([2, 2, 2, 1]);
  });

  it('begins no more ksets than are allowed to stay unflushed', () => {
    const small = new SmallCache();
    small.cache.holdWriteback = true;
    for (let id = 1; id <= 70; id++) small.writeFua(id, 1, id);
    small.cache.holdWriteback = false;
    small.step();
    small.backing.finish(0);
    expect(small.cache.stats.writebackKsets).toBe(64);
    small.step();
    expect(small.backing.kindOf(0)).toBe('flush');
  });

  it('goes on with the next kset in order, so that newer data is written later', () => {
    const small = new SmallCache();
    small.writeFua(10, 1, 1);
    small.writeFua(10, 1, 2);
    small.step();
    expect(small.backing.underWay).toBe(1); // not both at once
    small.settle();
    expect(small.durableIds(10, 1)).toEqual([2]);
  });

  it('that is put on hold flushes what it has written and begins nothing', () => {
    const small = new SmallCache();
    small.writeFua(10, 1, 1);
    small.step();
    small.writeFua(11, 1, 2);
    small.cache.holdWriteback = true;
    small.settle();
    expect(small.backing.writes).toBe(1);
    expect(small.backing.flushes).toBe(1);
    expect(small.durableIds(10, 2)).toEqual([1, 0]);
    expect(small.cache.isClean).toBe(false);
  });
});

describe('payload that does not match its CRC', () => {
  /** Flips a bit of the payload that the log has for a sector of subtree 0. */
  function damage(small: SmallCache, sector: number): void {
    const { index, segments } = small.load();
    index.seek(0, sector);
    small.pmem.bytes[segments.dataOffsetBytes[index.segment] + index.offsetSectors * 512 + 100] ^= 1;
  }

  /** The kset after `good` others holds sectors 20 to 23, and those are corrupt. */
  function corrupted(good = 1): SmallCache {
    const small = new SmallCache({ dataCrc: true, gcPercent: 0 });
    small.cache.holdWriteback = true;
    for (let n = 0; n < good; n++) small.writeFua(10, 4, 1);
    small.writeFua(20, 4, 2);
    damage(small, 20);
    return small;
  }

  it('keeps the cache from being opened, and is named with its range', () => {
    const small = corrupted();
    expect(() => small.open()).toThrow(/payload of bytes 10240–12287 .* does not match its CRC/);
  });

  it('is not written back and holds dirty_tail, and everything else is written', () => {
    const small = corrupted();
    small.writeFua(30, 4, 3);
    const { keyHead } = small.cache.status();
    small.cache.holdWriteback = false;
    small.settle();
    const { writebackError, dirtyTail, stats } = small.cache.status();
    expect(writebackError?.code).toBe('BAD_MEDIA');
    expect(writebackError?.message).toMatch(/bytes 10240–12287 does not match its CRC/);
    expect(small.cache.corruptRanges).toEqual([{ offsetBytes: 10_240, lengthBytes: 2048 }]);
    expect(stats.writebackCorruptKeys).toBe(1);
    expect(small.durableIds(10, 4)).toEqual([1, 1, 1, 1]);
    expect(small.durableIds(20, 4)).toEqual([0, 0, 0, 0]);
    expect(small.durableIds(30, 4)).toEqual([3, 3, 3, 3]);
    expect(small.backing.flushes).toBe(1);
    // The kset of the first write is done with; that of the second is not, and never will be.
    expect(dirtyTail).toEqual({ segment: 0, offsetBytes: ksetBytes(1) });
    expect(keyHead).toEqual({ segment: 0, offsetBytes: 3 * ksetBytes(1) });
    expect(small.cache.isClean).toBe(false);
    expect(small.cache.isWritebackHopeless).toBe(true);
    expect(small.readIds(10, 4)).toEqual([1, 1, 1, 1]);
    // What comes later is written back as well.
    small.writeFua(40, 4, 4);
    expect(small.cache.isWritebackHopeless).toBe(false);
    small.settle();
    expect(small.durableIds(40, 4)).toEqual([4, 4, 4, 4]);
    expect(small.cache.status().dirtyTail).toEqual(dirtyTail);
  });

  it('is not written back when it goes bad while its kset is being written', () => {
    const small = new SmallCache({ dataCrc: true });
    small.cache.holdWriteback = true;
    // More than goes out at once: four buffers of a segment's 16 sectors.
    for (let n = 0; n < 5; n++) small.write(30 * n, 24, 1 + n);
    small.flush();
    small.cache.holdWriteback = false;
    small.step();
    expect(small.backing.underWay).toBe(5);
    damage(small, 90);
    small.settle();
    // A key of 8 sectors up to the segment's end, and the rest of that write behind it.
    expect(small.cache.corruptRanges).toEqual([{ offsetBytes: 90 * 512, lengthBytes: 8 * 512 }]);
    expect(small.durableIds(60, 24)).toEqual(new Array<number>(24).fill(3));
    expect(small.durableIds(90, 24)).toEqual([...new Array<number>(8).fill(0), ...new Array<number>(16).fill(4)]);
  });

  it('is not written where a good key adjoins it', () => {
    const small = new SmallCache({ dataCrc: true });
    small.cache.holdWriteback = true;
    small.write(20, 4, 1);
    small.write(24, 4, 2);
    small.write(28, 4, 3);
    small.flush();
    damage(small, 24);
    small.cache.holdWriteback = false;
    small.settle();
    expect(small.durableIds(20, 12)).toEqual([1, 1, 1, 1, 0, 0, 0, 0, 3, 3, 3, 3]);
    expect(small.cache.corruptRanges).toEqual([{ offsetBytes: 24 * 512, lengthBytes: 2048 }]);
  });

  it('is not replaced by an older version of the same kset', () => {
    const small = new SmallCache({ dataCrc: true });
    small.cache.holdWriteback = true;
    small.write(20, 4, 1);
    small.write(20, 4, 2);
    small.flush();
    damage(small, 20);
    small.cache.holdWriteback = false;
    small.settle();
    expect(small.cache.corruptRanges).toHaveLength(1);
    expect(small.durableIds(20, 4)).toEqual([0, 0, 0, 0]);
  });

  it('holds up only its own kset of those that were written together', () => {
    const small = new SmallCache({ dataCrc: true, gcPercent: 0 });
    small.cache.holdWriteback = true;
    small.writeFua(20, 4, 1);
    small.writeFua(18, 4, 2);
    damage(small, 18);
    small.writeFua(21, 4, 3);
    small.cache.holdWriteback = false;
    small.settle();
    expect(small.cache.corruptRanges).toEqual([{ offsetBytes: 18 * 512, lengthBytes: 2048 }]);
    expect(small.durableIds(18, 8)).toEqual([0, 0, 1, 3, 3, 3, 3, 0]);
    expect(small.cache.status().dirtyTail).toEqual({ segment: 0, offsetBytes: ksetBytes(1) });
  });

  it('that a later kset covers whole holds up nothing', () => {
    const small = new SmallCache({ dataCrc: true, gcPercent: 0 });
    small.cache.holdWriteback = true;
    small.writeFua(20, 4, 1);
    damage(small, 20);
    small.writeFua(20, 4, 2);
    small.cache.holdWriteback = false;
    small.settle();
    expect(small.cache.corruptRanges).toEqual([]);
    expect(small.durableIds(20, 4)).toEqual([2, 2, 2, 2]);
    expect(small.cache.isClean).toBe(true);
  });

  it('is counted once, however often a flush fails behind it', () => {
    const small = corrupted();
    small.cache.holdWriteback = false;
    small.step();
    while (small.backing.kindOf(0) === 'write') {
      small.backing.finish(0);
      small.step();
    }
    expect(small.backing.kindOf(0)).toBe('flush');
    small.backing.finishWithError(0, new Random(1));
    expect(small.cache.status().dirtyTail).toEqual({ segment: 0, offsetBytes: 0 });
    small.clock.advance(100);
    small.settle();
    expect(small.cache.corruptRanges).toHaveLength(1);
    expect(small.cache.status().dirtyTail).toEqual({ segment: 0, offsetBytes: ksetBytes(1) });
  });

  it('lets dirty_tail reach its kset only when everything before it is durable', () => {
    const small = corrupted(3);
    small.cache.holdWriteback = false;
    for (let calls = 0; small.backing.underWay === 0 || small.backing.kindOf(0) === 'write'; calls++) {
      expect(calls).toBeLessThan(10);
      if (small.backing.underWay > 0) small.backing.finish(0);
      small.step();
    }
    small.backing.finishWithError(0, new Random(1)); // the flush: everything has to be written again
    small.cache.writebackCycleMs = 0; // kset by kset now
    small.clock.advance(100);
    small.step();
    small.cache.holdWriteback = true;
    small.settle();
    expect(small.backing.flushes).toBe(2);
    expect(small.cache.status().dirtyTail).toEqual({ segment: 0, offsetBytes: ksetBytes(1) });
  });

  it('makes a full cache fail writes with the reason', () => {
    const small = corrupted();
    small.cache.holdWriteback = false;
    small.settle();
    const requests = Array.from({ length: 400 }, (_, n) => small.writeFua(100 + n, 1, 5));
    small.settle();
    const last = requests.at(-1)!;
    expect(last.errorCode).toBe('CACHE_FULL');
    expect(last.group.errors[0]?.message).toMatch(/bytes 10240–12287 does not match its CRC/);
  });

  it('is counted by GC and does not stop it, because the data is on the backing device', () => {
    const small = new SmallCache({ dataCrc: true, gcPercent: 90 });
    small.writeFua(10, 4, 1);
    small.drain();
    const { index, segments } = small.load();
    index.seek(0, 10);
    small.pmem.bytes[segments.dataOffsetBytes[index.segment] + index.offsetSectors * 512] ^= 1;
    small.cache.setGcPercent(0);
    small.settle();
    expect(small.cache.stats.gcPayloadErrors).toBe(1);
    expect(small.cache.status().keyTail).toEqual(small.cache.status().keyHead);
  });
});

describe('the log', () => {
  it('closes a kset one second after its first key, and not before', () => {
    const small = new SmallCache();
    small.clock.advance(500);
    small.write(10, 1, 1);
    small.clock.advance(600);
    small.write(11, 1, 2);
    expect(small.cache.nextDeadlineMs).toBe(1500);
    small.clock.advance(399);
    small.step();
    expect(small.load().keyCount).toBe(0);
    small.clock.advance(1);
    small.step();
    expect(small.load().keyCount).toBe(2);
    expect(small.cache.hasOpenKeys).toBe(false);
  });

  it('stops write-back for good when it changed under it', () => {
    const small = new SmallCache();
    small.cache.holdWriteback = true;
    small.writeFua(10, 1, 1);
    small.pmem.bytes[small.load().segments.dataOffsetBytes[0] + 30] ^= 1;
    small.cache.holdWriteback = false;
    small.settle();
    expect(small.cache.writebackError?.code).toBe('BAD_MEDIA');
    expect(small.cache.nextDeadlineMs).toBe(Infinity);
  });
});

describe('a miss', () => {
  it('that finds room for a part only is cached as far as there is room', () => {
    const small = new SmallCache();
    small.write(100, 28, 1); // of the segment's 32 sectors
    small.drain();
    expect(small.readIds(10, 8)).toEqual(new Array(8).fill(0));
    expect([small.cache.stats.fills, small.cache.stats.fillBytes]).toEqual([1, 4 * SECTOR_BYTES]);
    expect(small.placeholders()).toBe(0);
    expect([13, 14].map((sector) => small.cache.locate(sector * SECTOR_BYTES) >= 0)).toEqual([true, false]);
    expect(small.readIds(10, 8)).toEqual(new Array(8).fill(0));
    expect(small.cache.stats.fills).toBe(2);
  });
});

describe('a miss that a write overtakes', () => {
  it.each([
    ['its start', 10, 4],
    ['its middle', 14, 2],
    ['its end', 16, 2],
    ['all of it', 10, 8],
  ])('at %s keeps the write and leaves no placeholder', (_where, sector, sectors) => {
    const small = new SmallCache();
    const read = small.read(10, 8);
    small.write(sector, sectors, 5);
    expect(small.read(10, 8).isPending).toBe(sectors < 8); // reads around the placeholder
    while (small.backing.underWay > 0) small.backing.finish(small.backing.underWay - 1);
    expect(read.isDone).toBe(true);
    expect(small.placeholders()).toBe(0);
    const expected = Array.from({ length: 8 }, (_, n) => (10 + n >= sector && 10 + n < sector + sectors ? 5 : 0));
    expect(small.readIds(10, 8)).toEqual(expected);
    small.drain();
    expect(small.durableIds(10, 8)).toEqual(expected);
  });

  it('and another miss of the same range after it fill only their own parts', () => {
    const small = new SmallCache({ gcPercent: 0 });
    const slow = small.read(10, 4); // call 0
    small.writeFua(10, 4, 1);
    small.step(); // write-back: call 1
    while (small.backing.underWay > 1) {
      small.backing.finish(1);
      small.step();
    }
    small.step(); // GC frees the segment only when its head has left it
    small.cache.parts.heads[0].close();
    small.step();
    const fresh = small.read(10, 4);
    expect(fresh.isPending).toBe(true);
    small.backing.finish(0); // the slow one, with what is on the device by now
    expect(slow.isDone).toBe(true);
    expect(small.placeholders()).toBe(1);
    small.backing.finish(0);
    expect(fresh.ids).toEqual([1, 1, 1, 1]);
    expect(small.placeholders()).toBe(0);
    expect(small.readIds(10, 4)).toEqual([1, 1, 1, 1]);
  });
});
