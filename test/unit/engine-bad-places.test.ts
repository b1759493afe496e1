/** A running cache whose medium goes bad in places: what lies there is reported, and nothing else suffers. */
import { openSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MappedReader } from '../../src/engine/device/mapped.js';
import type { NativeAddon } from '../../src/engine/device/native.js';
import { PcacheError } from '../../src/engine/errors.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { SmallCache } from '../support/small-cache.js';

const SECTOR_BYTES = 512;

/** From now on no access to that byte of the device succeeds. */
function goBad(pmem: SimPmem, byte: number): void {
  const check = (offset: number, length: number): void => {
    if (offset <= byte && byte < offset + length) throw new PcacheError('IO', `${pmem.path}: bad place at ${byte}`);
  };
  const read = pmem.read.bind(pmem);
  const crc32c = pmem.crc32c.bind(pmem);
  const runReads = pmem.runReads.bind(pmem);
  pmem.read = (offset, target, at, length) => {
    check(offset, length);
    read(offset, target, at, length);
  };
  pmem.crc32c = (offset, length, seed) => {
    check(offset, length);
    return crc32c(offset, length, seed);
  };
  pmem.runReads = (list, count, arena) => {
    for (let i = 0; i < count; i++) check(list.pmemOffsetBytes[i], list.lengthBytes[i]);
    runReads(list, count, arena);
  };
}

/** Where the payload of the key that begins at a sector lies on the device. */
function payloadAt(small: SmallCache, sector: number): number {
  const { index, segments } = small.load();
  index.seek(0, sector);
  return segments.dataOffsetBytes[index.segment] + index.offsetSectors * SECTOR_BYTES;
}

/** Three writes, the second of which the medium cannot read any more. */
function partlyBad(dataCrc: boolean): SmallCache {
  const small = new SmallCache({ dataCrc });
  small.cache.holdWriteback = true;
  for (const [n, sector] of [10, 14, 30].entries()) small.writeFua(sector, 4, n + 1);
  goBad(small.pmem, payloadAt(small, 14));
  return small;
}

/** As `settle`, with answers of the backing device that come later: a write straight from the cache device that fails. */
async function settleAll(small: SmallCache): Promise<void> {
  for (let turn = 0; turn < 4; turn++) {
    small.settle();
    await new Promise(setImmediate);
  }
}

describe.each([false, true])('payload that the medium cannot read (data_crc %s)', (dataCrc) => {
  it('fails the reads that need it, and no other read or write', () => {
    const small = partlyBad(dataCrc);
    const group = small.group(
      { sector: 10, sectors: 4 },
      { sector: 14, sectors: 4 },
      { sector: 30, sectors: 4 },
      { sector: 12, sectors: 4 },
    );
    small.settle();
    expect(group.errors.map((error) => error?.code)).toEqual([undefined, 'IO', undefined, 'IO']);
    expect(group.errors[1]?.message).toMatch(/bad place/);
    expect(small.readIds(10, 4)).toEqual([1, 1, 1, 1]);
    expect(small.writeFua(14, 4, 9).isDone).toBe(true);
    expect(small.readIds(10, 8)).toEqual([1, 1, 1, 1, 9, 9, 9, 9]);
  });

  it('is not written back and holds dirty_tail, and everything else is written', async () => {
    const small = partlyBad(dataCrc);
    const { dirtyTail } = small.cache.status();
    small.cache.holdWriteback = false;
    await settleAll(small);
    expect(small.cache.corruptRanges).toEqual([{ offsetBytes: 14 * SECTOR_BYTES, lengthBytes: 4 * SECTOR_BYTES }]);
    expect(small.durableIds(10, 8)).toEqual([1, 1, 1, 1, 0, 0, 0, 0]);
    expect(small.durableIds(30, 4)).toEqual([3, 3, 3, 3]);
    const { writebackError, dirtyTail: after, keyHead } = small.cache.status();
    expect(writebackError?.message).toMatch(/bytes 7168–9215 does not match its CRC or cannot be read/);
    expect(after.offsetBytes).toBeGreaterThanOrEqual(dirtyTail.offsetBytes);
    expect(after.offsetBytes).toBeLessThan(keyHead.offsetBytes);
    small.writeFua(40, 4, 4);
    await settleAll(small);
    expect(small.durableIds(40, 4)).toEqual([4, 4, 4, 4]);
  });

  it('does not make the rest, which is written once more without it, count twice as written back', async () => {
    const small = partlyBad(dataCrc);
    small.cache.holdWriteback = false;
    await settleAll(small);
    // Without CRCs nothing reads the payload before the system is asked to write it, and then it counts.
    const writes = dataCrc ? 2 : 3;
    expect(small.cache.stats.writebackBytes).toBe(writes * 4 * SECTOR_BYTES);
  });
});

it('a mapping with MAP_SYNC is durable as a DAX file, and on a character device as device DAX', () => {
  const addon = { map: () => ({ handle: 1, durability: 'dax' }), unmap: () => undefined } as unknown as NativeAddon;
  const durabilityOf = (path: string): string => {
    const reader = new MappedReader(addon, { path, fd: openSync(path, 'r'), sizeBytes: 4096 });
    reader.close();
    return reader.durability;
  };
  expect([durabilityOf('/proc/self/exe'), durabilityOf('/dev/zero')]).toEqual(['dax', 'device-dax']);
});
