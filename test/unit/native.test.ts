/** The native helper's own contract: every choice of instructions, handles, bounds, and memory faults. */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  nativeAddon,
  type CopyInstructions,
  type CrcMethod,
  type WriteBackInstruction,
} from '../../src/engine/device/native.js';
import { PIECE_WORDS, PieceWord } from '../../src/engine/device/pmem.js';
import { CRC_SEED, crc32cRaw } from '../../src/engine/media/crc32c.js';

const addon = nativeAddon();
const best = addon.features();
const addonPath = fileURLToPath(new URL('../../native/build/Release/pcache_native.node', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'pcache-native-'));
const MAP_BYTES = 64 * 1024;

const COPIES: CopyInstructions[] = ['portable', 'sse2', 'avx', 'avx512'];
const WRITE_BACKS: WriteBackInstruction[] =
  process.arch === 'arm64' ? ['none', 'dc-cvap', 'dc-cvadp'] : ['none', 'clflush', 'clflushopt', 'clwb'];
const CRCS: CrcMethod[] = ['table', 'hardware', 'vector'];
const usable = <T>(all: T[], highest: T): T[] => all.slice(0, all.indexOf(highest) + 1);

let fd: number;
let handle: number;

function pattern(length: number, salt = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 131 + (i >> 8) * 17 + salt * 29) & 0xff);
}

const thrownBy = (call: () => unknown): { code?: string; offsetBytes?: number } => {
  try {
    call();
  } catch (error) {
    return error as { code?: string };
  }
  return { code: 'nothing thrown' };
};

beforeEach(() => {
  const path = join(directory, 'map');
  writeFileSync(path, new Uint8Array(MAP_BYTES));
  fd = openSync(path, 'r+');
  handle = addon.map(fd, MAP_BYTES, true, false).handle;
});

afterEach(() => {
  addon.select(best.copy, best.writeBack, best.crc);
  addon.unmap(handle);
  closeSync(fd);
});

afterAll(() => rmSync(directory, { recursive: true }));

test('the features match the flags of the processor', () => {
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1].trim().split(' ');
  const names = { sse42: 'sse4_2', pclmul: 'pclmulqdq' } as Record<string, string>;
  if (flags === undefined) expect(best.copy).toBe('portable');
  else
    for (const [name, has] of Object.entries(best.cpu))
      expect([name, has]).toEqual([name, flags.includes(names[name] ?? name)]);
});

function crcRanges(...ranges: Parameters<typeof addon.beginCrcs>): void {
  addon.beginCrcs(...ranges);
  addon.endCrcs();
}

describe('a mapping whose pages another one shares', () => {
  const mapsOf = (name: string) =>
    readFileSync('/proc/self/maps', 'utf8')
      .split('\n')
      .filter((line) => line.endsWith(`/${name}`)).length;

  test('is one in the page tables, and lives as long as either', () => {
    const { region, handle: first } = addon.map(fd, MAP_BYTES, true, false);
    const before = mapsOf('map');
    const second = addon.map(fd, MAP_BYTES, true, false, region);
    expect(mapsOf('map')).toBe(before);
    addon.write(first, 4096, pattern(512), 0, 512);
    addon.unmap(first);
    const read = new Uint8Array(512);
    addon.read(second.handle, 4096, read, 0, 512);
    expect(read).toEqual(pattern(512));
    addon.unmap(second.handle);
    expect(mapsOf('map')).toBe(before - 1);
  });

  test('is made anew when those are gone, or are of another file or length', () => {
    const gone = addon.map(fd, MAP_BYTES, true, false);
    addon.unmap(gone.handle);
    const { region } = addon.map(fd, MAP_BYTES, true, false);
    const otherPath = join(directory, 'other');
    writeFileSync(otherPath, pattern(MAP_BYTES));
    const other = openSync(otherPath, 'r+');
    const anew = [
      addon.map(fd, MAP_BYTES, true, false, gone.region),
      addon.map(fd, MAP_BYTES / 2, true, false, region),
      addon.map(fd, MAP_BYTES, false, false, region),
      addon.map(other, MAP_BYTES, true, false, region),
    ];
    expect(new Set([region, gone.region, ...anew.map((mapped) => mapped.region)]).size).toBe(6);
    const read = new Uint8Array(512);
    addon.read(anew[3].handle, 0, read, 0, 512);
    expect(read).toEqual(pattern(MAP_BYTES).subarray(0, 512));
    for (const mapped of anew) addon.unmap(mapped.handle);
    closeSync(other);
  });
});

describe('CRCs that are under way', () => {
  const offsets = Float64Array.from({ length: 20_000 }, (_, n) => n % 512);
  const lengths = new Uint32Array(20_000).fill(4096);
  const crcs = new Uint32Array(20_000);

  test('end before their mapping is released', () => {
    const fd = openSync(join(directory, 'gone'), 'w+');
    ftruncateSync(fd, 16_384);
    const { handle } = addon.map(fd, 16_384, false, true);
    crcs.fill(7);
    addon.beginCrcs(handle, offsets, lengths, crcs, crcs.length, 0, 4);
    addon.unmap(handle);
    closeSync(fd);
    expect(thrownBy(() => addon.endCrcs()).code).toBe('CLOSED');
  });

  test('are ended in the order in which they were begun, up to eight of them', () => {
    const fd = openSync(join(directory, 'many'), 'w+');
    writeSync(fd, pattern(16_384));
    const { handle } = addon.map(fd, 16_384, false, true);
    const columns = Array.from({ length: 8 }, () => new Uint32Array(crcs.length).fill(7));
    for (const [n, column] of columns.entries()) {
      addon.beginCrcs(
        handle,
        offsets.map((offset) => offset + n),
        lengths,
        column,
        column.length,
        n,
        2,
      );
    }
    expect(thrownBy(() => addon.beginCrcs(handle, offsets, lengths, crcs, 1, 0, 1)).code).toBe('INVALID');
    for (const [n, column] of columns.entries()) {
      addon.endCrcs();
      for (const i of [0, 1, 511, 19_999]) {
        expect(column[i]).toBe(crc32cRaw(n, pattern(16_384), offsets[i] + n, offsets[i] + n + 4096));
      }
    }
    expect(thrownBy(() => addon.endCrcs()).code).toBe('CLOSED');
    addon.unmap(handle);
    closeSync(fd);
  });

  test('of another mapping go on when one is released', () => {
    const fds = ['one', 'other'].map((name) => openSync(join(directory, name), 'w+'));
    for (const fd of fds) ftruncateSync(fd, 16_384);
    const [one, other] = fds.map((fd) => addon.map(fd, 16_384, false, true).handle);
    const [lost, kept] = [new Uint32Array(crcs.length), new Uint32Array(crcs.length)];
    addon.beginCrcs(one, offsets, lengths, lost, lost.length, 0, 2);
    addon.beginCrcs(other, offsets, lengths, kept, kept.length, 0, 2);
    addon.unmap(one);
    addon.endCrcs();
    expect(new Set(kept)).toEqual(new Set([crc32cRaw(0, new Uint8Array(4096), 0, 4096)]));
    expect(thrownBy(() => addon.endCrcs()).code).toBe('CLOSED');
    addon.unmap(other);
    fds.forEach((fd) => closeSync(fd));
  });
});

describe.each(usable(CRCS, best.crc))('CRC-32C by %s', (method) => {
  beforeEach(() => expect(addon.select(best.copy, best.writeBack, method)).toBe(true));

  test('gives the published check value', () => {
    // The usual CRC-32C of "123456789" is e3069283; it inverts before and after.
    const digits = new TextEncoder().encode('123456789');
    expect(~addon.crcBytes(0xffffffff, digits, 0, 9) >>> 0).toBe(0xe3069283);
  });

  test('equals the table at every length to 1100 and every alignment to 16', () => {
    const bytes = pattern(1200);
    for (let length = 0; length <= 1100; length++) {
      const start = length % 17;
      const expected = crc32cRaw(length * 7919, bytes, start, start + length);
      if (addon.crcBytes(length * 7919, bytes, start, start + length) !== expected)
        expect.fail(`length ${length}, start ${start}`);
    }
  });

  test('equals the table for any bytes, seed and range', () => {
    const range = fc.tuple(fc.uint8Array({ maxLength: 9000, size: 'max' }), fc.nat(), fc.nat());
    fc.assert(
      fc.property(range, fc.integer({ min: 0, max: 0xffffffff }), ([bytes, a, b], seed) => {
        const [start, end] = [a % (bytes.length + 1), b % (bytes.length + 1)].sort((x, y) => x - y);
        expect(addon.crcBytes(seed, bytes, start, end)).toBe(crc32cRaw(seed, bytes, start, end));
      }),
    );
  });

  test('can be continued, and is the same over a mapping', () => {
    const bytes = pattern(40_000);
    addon.write(handle, 100, bytes, 0, bytes.length);
    const whole = crc32cRaw(5, bytes);
    expect(addon.crcBytes(addon.crcBytes(5, bytes, 0, 12_345), bytes, 12_345, bytes.length)).toBe(whole);
    expect(addon.crcRange(handle, 100, bytes.length, 5)).toBe(whole);
  });

  test.each([1, 2, 5, 64])('is right for many ranges by %i threads', (threads) => {
    const bytes = pattern(60_000);
    addon.write(handle, 0, bytes, 0, bytes.length);
    const count = 1000;
    const offsets = Float64Array.from({ length: count }, (_, n) => (n * 53) % 50_000);
    const lengths = Uint32Array.from({ length: count }, (_, n) => (n * 97) % 9000);
    const crcs = new Uint32Array(count + 1).fill(7);
    crcRanges(handle, offsets, lengths, crcs, count, 5, threads);
    for (let n = 0; n < count; n++) expect(crcs[n]).toBe(crc32cRaw(5, bytes, offsets[n], offsets[n] + lengths[n]));
    expect(crcs[count]).toBe(7);
  });
});

describe.each(usable(COPIES, best.copy))('copies by %s', (copy) => {
  const lengths = [0, 1, 7, 8, 15, 63, 64, 65, 127, 128, 129, 191, 192, 255, 256, 257, 320, 511, 512, 513, 4096, 4097];

  beforeEach(() => expect(addon.select(copy, best.writeBack, best.crc)).toBe(true));

  test('write, read and zero move exactly the bytes asked for, at every alignment', () => {
    const source = pattern(8192);
    const base = new Uint8Array(8192).fill(0xee);
    const image = new Uint8Array(8192);
    for (const length of lengths) {
      for (let offset = 0; offset <= 65; offset++) {
        const sourceOffset = (offset * 5) % 67;
        const expected = base.slice();
        expected.set(source.subarray(sourceOffset, sourceOffset + length), offset);
        addon.write(handle, 0, base, 0, base.length);
        addon.write(handle, offset, source, sourceOffset, length);
        addon.fence();
        image.fill(0xaa);
        addon.read(handle, 0, image, 0, image.length);
        if (Buffer.compare(image, expected) !== 0) expect.fail(`write: offset ${offset}, length ${length}`);

        addon.read(handle, offset, image, sourceOffset, length);
        const readBack = expected.slice();
        readBack.set(source.subarray(sourceOffset, sourceOffset + length), sourceOffset);
        if (Buffer.compare(image, readBack) !== 0) expect.fail(`read: offset ${offset}, length ${length}`);

        addon.zero(handle, offset, length);
        expected.fill(0, offset, offset + length);
        addon.read(handle, 0, image, 0, image.length);
        if (Buffer.compare(image, expected) !== 0) expect.fail(`zero: offset ${offset}, length ${length}`);
      }
    }
  });

  test('written bytes are in the file', () => {
    const source = pattern(9000);
    addon.write(handle, 4091, source, 0, source.length);
    addon.persist(handle);
    const file = readFileSync(join(directory, 'map'));
    expect(Buffer.compare(file.subarray(4091, 13_091), source)).toBe(0);
    expect(file.subarray(0, 4091).every((byte) => byte === 0)).toBe(true);
    expect(file.subarray(13_091).every((byte) => byte === 0)).toBe(true);
  });
});

describe.each(usable(COPIES, best.copy))('payload copied by %s', (copy) => {
  test.each(usable(CRCS, best.crc))('with its CRC by %s is copied whole, at every length and alignment', (method) => {
    expect(addon.select(copy, best.writeBack, method)).toBe(true);
    const memory = pattern(12_288);
    const arena = addon.registerArena(memory);
    const list = {
      capacity: 1,
      withCrc: true,
      words: new Int32Array(PIECE_WORDS),
      call: Uint32Array.of(1, arena),
      pmemOffsetBytes: new Float64Array(1),
    };
    const { handle: id, run } = addon.registerPieces(handle, list);
    const base = new Uint8Array(16_384).fill(0xee);
    const image = new Uint8Array(16_384);
    for (const length of [0, 1, 63, 64, 511, 512, 575, 576, 768, 1000, 1024, 1536, 4096, 4608, 5000, 8192]) {
      for (const offset of [0, 1, 16, 63, 64, 65]) {
        const from = (offset * 37) % 101;
        addon.write(handle, 0, base, 0, base.length);
        list.pmemOffsetBytes[0] = offset;
        list.words.set([from, length]);
        run();
        addon.read(handle, 0, image, 0, image.length);
        const expected = base.slice();
        expected.set(memory.subarray(from, from + length), offset);
        if (Buffer.compare(image, expected) !== 0) expect.fail(`offset ${offset}, length ${length}`);
        expect(list.words[PieceWord.crc] >>> 0).toBe(crc32cRaw(CRC_SEED, memory, from, from + length));
      }
    }
    addon.unregisterPieces(id);
    addon.unregisterArena(arena);
  });
});

test.each(usable(WRITE_BACKS, best.writeBack))('write-back by %s leaves the bytes as they are', (writeBack) => {
  expect(addon.select(best.copy, writeBack, best.crc)).toBe(true);
  const source = pattern(300);
  addon.write(handle, 33, source, 0, 300);
  addon.flush(handle, 1, 400);
  addon.flush(handle, MAP_BYTES - 1, 1);
  const target = new Uint8Array(300);
  addon.read(handle, 33, target, 0, 300);
  expect(target).toEqual(source);
});

test('instructions that the processor lacks cannot be selected', () => {
  expect(() => addon.select('mmx' as CopyInstructions, 'none', 'table')).toThrow('no such choice');
  for (const copy of COPIES.slice(COPIES.indexOf(best.copy) + 1))
    expect(addon.select(copy, 'none', 'table')).toBe(false);
});

describe('handles and bounds', () => {
  const bytes = new Uint8Array(100);

  test('a released mapping is refused, also when its slot is in use again', () => {
    const old = addon.map(fd, MAP_BYTES, true, false).handle;
    addon.unmap(old);
    const next = addon.map(fd, MAP_BYTES, true, false).handle;
    expect(next).not.toBe(old);
    for (const call of [
      () => addon.read(old, 0, bytes, 0, 1),
      () => addon.write(old, 0, bytes, 0, 1),
      () => addon.zero(old, 0, 1),
      () => addon.flush(old, 0, 1),
      () => addon.persist(old),
      () => addon.crcRange(old, 0, 1, 0),
      () => crcRanges(old, new Float64Array(1), new Uint32Array(1), new Uint32Array(1), 1, 0, 1),
      () => addon.unmap(old),
    ]) {
      expect(thrownBy(call).code).toBe('CLOSED');
    }
    addon.unmap(next);
  });

  test.each(['its list', 'its mapping', 'its arena'])(
    'running a list fails with CLOSED once %s is released',
    (gone) => {
      const { handle: map } = addon.map(fd, MAP_BYTES, true, false);
      const arena = addon.registerArena(new Uint8Array(512));
      const call = Uint32Array.of(1, arena);
      const lengths = Uint32Array.of(512);
      const common = { capacity: 1, call, pmemOffsetBytes: new Float64Array(1) };
      const pieces = addon.registerPieces(map, {
        ...common,
        withCrc: false,
        words: Int32Array.of(0, 512, 0, 0, 0, 0, 0, 0),
      });
      const reads = addon.registerList(map, { ...common, arenaOffsetBytes: new Uint32Array(1), lengthBytes: lengths });
      pieces.run();
      reads.run();
      if (gone === 'its list') {
        addon.unregisterPieces(pieces.handle);
        addon.unregisterList(reads.handle);
      } else if (gone === 'its mapping') addon.unmap(map);
      else addon.unregisterArena(arena);
      for (const { run } of [pieces, reads]) expect(thrownBy(run).code).toBe('CLOSED');
      if (gone !== 'its mapping') addon.unmap(map);
      if (gone !== 'its arena') addon.unregisterArena(arena);
    },
  );

  test.each([0, -1, 1.5, NaN, 2 ** 32, 2 ** 53, undefined as unknown as number])('%s is not a handle', (wrong) => {
    expect(thrownBy(() => addon.read(wrong, 0, bytes, 0, 1)).code).toBe('CLOSED');
  });

  test.each([
    [MAP_BYTES, 1],
    [MAP_BYTES - 1, 2],
    [0, MAP_BYTES + 1],
    [-1, 1],
    [0.5, 1],
    [NaN, 1],
    [0, NaN],
    [0, Infinity],
    [2 ** 44, 1],
    [2 ** 53 - 1, 2],
    [1, 2 ** 53 - 1],
    [2 ** 64, 1],
  ])('offset %s, length %s of the mapping is out of range', (offset, length) => {
    const large = new Uint8Array(MAP_BYTES * 2);
    expect(thrownBy(() => addon.read(handle, offset, large, 0, length)).code).toBe('OUT_OF_RANGE');
    expect(thrownBy(() => addon.write(handle, offset, large, 0, length)).code).toBe('OUT_OF_RANGE');
    expect(thrownBy(() => addon.zero(handle, offset, length)).code).toBe('OUT_OF_RANGE');
    expect(thrownBy(() => addon.flush(handle, offset, length)).code).toBe('OUT_OF_RANGE');
    expect(thrownBy(() => addon.crcRange(handle, offset, length, 0)).code).toBe('OUT_OF_RANGE');
  });

  test('a list of ranges is refused when one is out of range or columns are missing', () => {
    const crcs = new Uint32Array(2);
    const call = (offsets: ArrayLike<number>, count: number, threads: number, columns = crcs) =>
      thrownBy(() => crcRanges(handle, Float64Array.from(offsets), Uint32Array.of(1, 1), columns, count, 0, threads))
        .code;
    for (const wrong of [MAP_BYTES, -1, 0.5, NaN]) expect(call([0, wrong], 2, 1)).toBe('OUT_OF_RANGE');
    expect(call([0, 0], 2 ** 20 + 1, 1)).toBe('OUT_OF_RANGE');
    for (const threads of [0, 65, -1]) expect(call([0, 0], 2, threads)).toBe('OUT_OF_RANGE');
    expect(call([0, 0, 0], 3, 1)).toBe('INVALID');
    expect(call([0, 0], 2, 1, new Float64Array(2) as unknown as Uint32Array<ArrayBuffer>)).toBe('INVALID');
    expect([...crcs]).toEqual([0, 0]);
  });

  test.each([
    [99, 2],
    [101, 0],
    [-1, 1],
    [2 ** 53 - 1, 1],
  ])('offset %s, length %s of a 100-byte buffer is out of range', (offset, length) => {
    expect(thrownBy(() => addon.read(handle, 0, bytes, offset, length)).code).toBe('OUT_OF_RANGE');
    expect(thrownBy(() => addon.write(handle, 0, bytes, offset, length)).code).toBe('OUT_OF_RANGE');
    expect(thrownBy(() => addon.crcBytes(0, bytes, offset, offset + length)).code).toBe('OUT_OF_RANGE');
  });

  test('the last byte and an empty range at the end are in range', () => {
    addon.write(handle, MAP_BYTES - 1, Uint8Array.of(7), 0, 1);
    addon.read(handle, MAP_BYTES - 1, bytes, 99, 1);
    expect(bytes[99]).toBe(7);
    addon.zero(handle, MAP_BYTES, 0);
  });

  test('only byte arrays are accepted as buffers', () => {
    const wrongs: unknown[] = [new Float64Array(8), [1, 2], 'text', undefined, new DataView(new ArrayBuffer(8))];
    for (const wrong of wrongs) {
      expect(thrownBy(() => addon.write(handle, 0, wrong as Uint8Array, 0, 1)).code).toBe('INVALID');
      expect(thrownBy(() => addon.crcBytes(0, wrong as Uint8Array, 0, 1)).code).toBe('INVALID');
    }
  });

  test('a read-only mapping is read but not written', () => {
    const readOnly = addon.map(fd, MAP_BYTES, false, false).handle;
    addon.read(readOnly, 0, bytes, 0, 100);
    expect(thrownBy(() => addon.write(readOnly, 0, bytes, 0, 1)).code).toBe('READ_ONLY');
    expect(thrownBy(() => addon.zero(readOnly, 0, 1)).code).toBe('READ_ONLY');
    addon.unmap(readOnly);
  });

  test('a mapping that the system refuses fails with its errno', () => {
    expect(thrownBy(() => addon.map(9999, 4096, true, false))).toMatchObject({ code: 'ERRNO', errno: 9 });
    expect(thrownBy(() => addon.map(fd, 0, true, false)).code).toBe('OUT_OF_RANGE');
  });
});

describe('touching ahead', () => {
  const touched = (mapping: number, offset: number, length: number) =>
    new Promise<boolean>((resolve) => addon.touchAhead(mapping, offset, length, resolve));

  test.skipIf(!existsSync('/dev/shm'))('fills the holes of a file in memory and changes nothing', async () => {
    const folder = mkdtempSync('/dev/shm/pcache-touch-');
    try {
      const file = openSync(join(folder, 'file'), 'w+');
      ftruncateSync(file, 2 ** 20);
      const mapped = addon.map(file, 2 ** 20, true, false);
      expect(mapped.isInMemory).toBe(true);
      const bytes = pattern(1000);
      addon.write(mapped.handle, 70_000, bytes, 0, bytes.length);
      expect(await touched(mapped.handle, 5000, 2 ** 19 + 1)).toBe(true);
      expect(fstatSync(file).blocks * 512).toBe(127 * 4096); // whole pages
      const read = new Uint8Array(2 ** 20);
      addon.read(mapped.handle, 0, read, 0, read.length);
      const expected = new Uint8Array(2 ** 20);
      expected.set(bytes, 70_000);
      expect(Buffer.compare(read, expected)).toBe(0);
      addon.unmap(mapped.handle);
      closeSync(file);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('says so where a file has been cut, and is not disturbed by a mapping that is closed', async () => {
    ftruncateSync(fd, 4096);
    expect(await touched(handle, 0, MAP_BYTES)).toBe(false);
    const other = addon.map(fd, MAP_BYTES, true, false).handle;
    const answer = touched(other, 0, 4096);
    addon.unmap(other);
    expect(await answer).toBe(true);
    expect(thrownBy(() => addon.touchAhead(other, 0, 4096, () => {})).code).toBe('CLOSED');
  });
});

describe('memory faults', () => {
  test('an access past the end of a truncated file fails with the offset', () => {
    ftruncateSync(fd, 8192);
    const bytes = new Uint8Array(8192);
    const manyOffsets = new Float64Array(200).fill(8192);
    const manyLengths = new Uint32Array(200).fill(64);
    for (const call of [
      () => addon.read(handle, 4096, bytes, 0, 8192),
      () => addon.write(handle, 8192, bytes, 0, 100),
      () => addon.zero(handle, 8200, 10),
      () => addon.crcRange(handle, 0, MAP_BYTES, 0),
      () => crcRanges(handle, new Float64Array(2), Uint32Array.of(9, MAP_BYTES), new Uint32Array(2), 2, 0, 1),
      // Whichever of the threads it is.
      () => crcRanges(handle, manyOffsets, manyLengths, new Uint32Array(200), 200, 0, 2),
    ]) {
      const error = thrownBy(call);
      expect(error.code).toBe('FAULT');
      expect(error.offsetBytes).toBeGreaterThanOrEqual(8192);
      expect(error.offsetBytes).toBeLessThan(12_288);
    }
    addon.read(handle, 0, bytes, 0, 8192);
  });

  test('a fault elsewhere still ends the process', () => {
    const script = `
      const addon = require(${JSON.stringify(addonPath)});
      const fd = require('fs').openSync(${JSON.stringify(join(directory, 'map'))}, 'r');
      addon.map(fd, 4096, false, false);
      process.kill(process.pid, 'SIGBUS');
      setTimeout(() => console.log('still alive'), 1000);`;
    const child = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' });
    expect(child.stdout).toBe('');
    expect(child.signal).toBe('SIGBUS');
  });

  test('a worker has its own handles and faults', async () => {
    ftruncateSync(fd, 4096);
    const script = `
      const { parentPort, workerData } = require('node:worker_threads');
      const addon = require(workerData.addonPath);
      const code = (call) => { try { call(); } catch (error) { return error.code; } };
      const bytes = new Uint8Array(8);
      const foreign = code(() => addon.read(workerData.handle, 0, bytes, 0, 8));
      const own = addon.map(workerData.fd, 65536, true, false).handle;
      parentPort.postMessage([foreign, code(() => addon.read(own, 4096, bytes, 0, 8))]);`;
    const worker = new Worker(script, { eval: true, workerData: { addonPath, handle, fd } });
    const codes = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    expect(codes).toEqual(['CLOSED', 'FAULT']);
    await worker.terminate();
    expect(thrownBy(() => addon.read(handle, 4096, new Uint8Array(8), 0, 8)).code).toBe('FAULT');
  });
});
