/** The cache device: mapped and by plain reads, what opening refuses, batches of copies. */
import { execFileSync } from 'node:child_process';
import {
  mkdtempSync,
  openSync,
  closeSync,
  ftruncateSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { nativeAddon, setNativeEnabled } from '../../src/engine/device/native.js';
import { openPmem, openPmemReader } from '../../src/engine/device/open.js';
import {
  PIECE_WORDS,
  PieceWord,
  type Arena,
  type CopyList,
  type PieceList,
  type Pmem,
} from '../../src/engine/device/pmem.js';
import { ExtentIndex } from '../../src/engine/index/extent-index.js';
import { PcacheError } from '../../src/engine/errors.js';
import { CRC_SEED, crc32cRaw } from '../../src/engine/media/crc32c.js';
import { MIB } from '../../src/engine/media/geometry.js';

const directory = mkdtempSync(join(tmpdir(), 'pcache-device-'));
const path = join(directory, 'cache.pmem');
const SIZE_BYTES = 100_000;
const TMPFS_MAGIC = 0x01021994;

function pattern(length: number, salt = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 131 + (i >> 8) * 17 + salt * 29) & 0xff);
}

function errorOf(call: () => unknown): PcacheError {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(PcacheError);
    const pcacheError = error as PcacheError;
    expect(pcacheError.message).not.toContain('\n');
    return pcacheError;
  }
  return expect.fail('nothing was thrown');
}

beforeEach(() => writeFileSync(path, pattern(SIZE_BYTES)));
afterEach(() => setNativeEnabled(true));
afterAll(() => rmSync(directory, { recursive: true }));

describe.each([
  ['mapped', true],
  ['by plain reads', false],
])('a reader, %s', (_, native) => {
  test.each(['/dev/shm', directory])('gives no memory to the holes of a file in %s', (where) => {
    const sparse = join(where, `pcache-sparse-${process.pid}`);
    const sizeBytes = 8 * MIB;
    writeFileSync(sparse, '');
    truncateSync(sparse, sizeBytes);
    const reader = openPmemReader(sparse, { native });
    const target = new Uint8Array(sizeBytes).fill(1);
    reader.read(0, target, 0, sizeBytes);
    reader.close();
    const { blocks } = statSync(sparse);
    rmSync(sparse);
    expect(target.every((byte) => byte === 0)).toBe(true);
    expect(blocks).toBe(0);
  });

  test('reads bytes and takes their CRC', () => {
    const reader = openPmemReader(path, { native });
    expect(reader.sizeBytes).toBe(SIZE_BYTES);
    const target = new Uint8Array(5000);
    reader.read(12_345, target, 1000, 4000);
    expect(Buffer.compare(target.subarray(1000), pattern(SIZE_BYTES).subarray(12_345, 16_345))).toBe(0);
    expect(target.subarray(0, 1000).every((byte) => byte === 0)).toBe(true);
    expect(reader.crc32c(777, 90_000, 5)).toBe(crc32cRaw(5, pattern(SIZE_BYTES), 777, 90_777));
    expect(reader.crc32c(SIZE_BYTES, 0, 5)).toBe(5);
    reader.close();
  });

  test('takes the CRC of a range longer than its buffer', () => {
    const bytes = pattern(3_000_001);
    writeFileSync(path, bytes);
    const reader = openPmemReader(path, { native });
    expect(reader.crc32c(1, 3_000_000, CRC_SEED)).toBe(crc32cRaw(CRC_SEED, bytes, 1));
    reader.close();
  });

  test.each([
    [SIZE_BYTES, 1, 0],
    [-1, 1, 0],
    [0, SIZE_BYTES + 1, 0],
    [0.5, 1, 0],
    [NaN, 1, 0],
    [0, 10, 200_000],
    [0, 10, 199_991],
    [0, -1, 0],
  ])('refuses offset %s, length %s, target offset %s', (offset, length, targetOffset) => {
    const reader = openPmemReader(path, { native });
    const target = new Uint8Array(200_000);
    expect(errorOf(() => reader.read(offset, target, targetOffset, length))).toMatchObject({ code: 'OUT_OF_RANGE' });
    if (targetOffset === 0) expect(errorOf(() => reader.crc32c(offset, length, 0)).code).toBe('OUT_OF_RANGE');
    reader.close();
  });

  test('fails with TRUNCATED when the file shrinks under it', () => {
    const reader = openPmemReader(path, { native });
    truncateSync(path, 8192);
    const error = errorOf(() => reader.read(50_000, new Uint8Array(10), 0, 10));
    expect(error.code).toBe('TRUNCATED');
    expect(error.message).toContain(path);
    expect(errorOf(() => reader.crc32c(0, SIZE_BYTES, 0)).code).toBe('TRUNCATED');
    reader.close();
  });

  test('fails with CLOSED after its close, which may be repeated', () => {
    const reader = openPmemReader(path, { native });
    reader.close();
    reader.close();
    expect(errorOf(() => reader.read(0, new Uint8Array(1), 0, 1)).code).toBe('CLOSED');
    expect(errorOf(() => reader.crc32c(0, 1, 0)).code).toBe('CLOSED');
  });

  test('leaves no descriptor open when it is refused', () => {
    writeFileSync(path, '');
    const before = openSync('/dev/null', 'r');
    errorOf(() => openPmemReader(path, { native }));
    const after = openSync('/dev/null', 'r');
    expect(after).toBe(before + 1);
    closeSync(before);
    closeSync(after);
  });
});

describe('opening a device', () => {
  const openers: [string, (path: string) => unknown][] = [
    ['openPmem', (at) => openPmem(at)],
    ['openPmemReader', (at) => openPmemReader(at)],
    ['openPmemReader without the helper', (at) => openPmemReader(at, { native: false })],
  ];

  describe.each(openers)('%s', (_, open) => {
    test.each([
      ['a missing file', () => join(directory, 'missing'), 'NOT_FOUND', 'no such file'],
      ['a directory', () => directory, 'NOT_A_DEVICE', 'is a directory'],
      ['a character device', () => '/dev/null', 'NOT_A_DEVICE', 'character device'],
    ])('refuses %s, naming it', (_what, where, code, words) => {
      const error = errorOf(() => open(where()));
      expect(error.code).toBe(code);
      expect(error.message).toContain(`${where()}: `);
      expect(error.message).toContain(words);
    });

    test('refuses an empty file and names the remedy', () => {
      writeFileSync(path, '');
      const error = errorOf(() => open(path));
      expect(error.code).toBe('TOO_SMALL');
      expect(error.message).toContain('truncate -s');
    });

    test('refuses a FIFO without waiting for a writer', () => {
      const fifo = join(directory, `fifo-${Math.random()}`);
      execFileSync('mkfifo', [fifo]);
      expect(errorOf(() => open(fifo))).toMatchObject({ code: 'NOT_A_DEVICE' });
    });

    test('refuses a file without permission', () => {
      const closed = join(directory, `closed-${Math.random()}`);
      writeFileSync(closed, 'x', { mode: 0 });
      // Root may read everything, so a test run as root becomes nobody for a moment.
      const root = process.geteuid?.() === 0;
      if (root) {
        execFileSync('chmod', ['755', directory]);
        process.seteuid?.(65_534);
      }
      try {
        expect(errorOf(() => open(closed))).toMatchObject({ code: 'NO_ACCESS' });
      } finally {
        if (root) process.seteuid?.(0);
      }
    });
  });

  test('for writing needs the helper, and says how to build it or switch it on', () => {
    setNativeEnabled(false);
    expect(errorOf(() => openPmem(path))).toMatchObject({ code: 'NATIVE_MISSING' });
    const reader = openPmemReader(path);
    expect(reader.constructor.name).toBe('FileReader');
    reader.close();
  });
});

describe('a writable mapping', () => {
  let pmem: Pmem;
  beforeEach(() => {
    pmem = openPmem(path);
  });
  afterEach(() => pmem.close());

  test('stores written and zeroed ranges in the file', () => {
    const expected = Buffer.from(pattern(SIZE_BYTES));
    const source = pattern(10_000, 9);
    pmem.write(4000, source, 17, 9000);
    expected.set(source.subarray(17, 9017), 4000);
    pmem.fence();
    pmem.zero(60_001, 5003);
    expected.fill(0, 60_001, 65_004);
    pmem.persist();
    expect(Buffer.compare(readFileSync(path), expected)).toBe(0);
  });

  test.each([
    [directory, false],
    [directory, true],
    ['/dev/shm', false],
  ])('finds out how durable a file in %s is (ephemeral: %s)', (where, ephemeral) => {
    const memory = statfsSync(where).type === TMPFS_MAGIC;
    const other = join(where, `pcache-durability-${process.pid}`);
    writeFileSync(other, new Uint8Array(4096));
    const opened = openPmem(other, { ephemeral });
    // A filesystem with DAX may say 'dax' here; none may call a disk volatile, or a memory disk durable.
    if (ephemeral || memory) expect(opened.durability).toBe('volatile');
    else expect(['page-cache', 'dax']).toContain(opened.durability);
    opened.persist();
    opened.close();
    rmSync(other);
  });

  test('reaches beyond 4 GiB', () => {
    const large = join(directory, 'large');
    const sizeBytes = 3 * 2 ** 40;
    const fd = openSync(large, 'w+');
    ftruncateSync(fd, sizeBytes);
    const opened = openPmem(large);
    expect(opened.sizeBytes).toBe(sizeBytes);
    const offsetBytes = sizeBytes - 12_345;
    opened.write(offsetBytes, pattern(500), 0, 500);
    const target = new Uint8Array(500);
    opened.read(offsetBytes, target, 0, 500);
    expect(target).toEqual(pattern(500));
    readSync(fd, target.fill(0), 0, 500, offsetBytes);
    expect(target).toEqual(pattern(500));
    opened.close();
    closeSync(fd);
    rmSync(large);
  });

  test('fails with TRUNCATED when the file shrinks under it', () => {
    truncateSync(path, 8192);
    expect(errorOf(() => pmem.write(50_000, pattern(10), 0, 10))).toMatchObject({ code: 'TRUNCATED' });
    expect(errorOf(() => pmem.zero(50_000, 10))).toMatchObject({ code: 'TRUNCATED' });
    pmem.write(0, pattern(10), 0, 10);
  });

  test('fails with CLOSED after its close', () => {
    const list = pmem.createCopyList(1);
    const pieces = pmem.createPieceList(1, false);
    const arena = pmem.registerArena(new Uint8Array(512));
    pmem.close();
    for (const call of [
      () => pmem.write(0, pattern(1), 0, 1),
      () => pmem.zero(0, 1),
      () => pmem.persist(),
      () => pmem.runReads(list, 0, arena),
      () => pmem.writePieces(pieces, 0, 0, arena),
    ]) {
      expect(errorOf(call)).toMatchObject({ code: 'CLOSED' });
    }
  });
});

describe('copies of payload', () => {
  const ARENA_BYTES = 64 * 1024;
  let pmem: Pmem;
  let list: CopyList;
  let arena: Arena;

  beforeEach(() => {
    pmem = openPmem(path);
    list = pmem.createCopyList(8);
    arena = pmem.registerArena(pattern(ARENA_BYTES, 3));
  });
  afterEach(() => pmem.close());

  function set(i: number, pmemOffset: number, arenaOffset: number, length: number): void {
    list.pmemOffsetBytes[i] = pmemOffset;
    list.arenaOffsetBytes[i] = arenaOffset;
    list.lengthBytes[i] = length;
  }

  function setPiece({ words }: PieceList, i: number, sectorsBeyond: number, arenaOffset: number, length: number): void {
    words.set([arenaOffset, length, sectorsBeyond], i * PIECE_WORDS);
  }

  function write(
    pmemOffset: number,
    arenaOffset: number,
    length: number,
    pieces = pmem.createPieceList(1, false),
  ): void {
    setPiece(pieces, 0, 0, arenaOffset, length);
    pmem.writePieces(pieces, 1, pmemOffset, arena);
  }

  test('a read sees the write before it', () => {
    const [first, second] = [arena.memory.slice(0, 4096), arena.memory.slice(4096, 8192)];
    write(8192, 0, 4096);
    set(0, 8192, 20_000, 4096);
    set(1, 4096, 40_000, 4096);
    pmem.runReads(list, 2, arena);
    write(8192, 4096, 4096);
    set(0, 8192, 30_000, 4096);
    pmem.runReads(list, 1, arena);
    expect(Buffer.compare(arena.memory.subarray(20_000, 24_096), first)).toBe(0);
    expect(Buffer.compare(arena.memory.subarray(30_000, 34_096), second)).toBe(0);
    expect(Buffer.compare(arena.memory.subarray(40_000, 44_096), pattern(SIZE_BYTES).subarray(4096, 8192))).toBe(0);
    expect(Buffer.compare(readFileSync(path).subarray(8192, 12_288), second)).toBe(0);
  });

  test('a copy gives the CRC of its bytes, at any length', () => {
    const pieces = pmem.createPieceList(1, true);
    for (const [i, length] of [0, 24, 512, 4096, 4097, 12_800, 50_000].entries()) {
      pieces.words[PieceWord.crc] = 0xdead;
      write(1000 + i, 3 * i, length, pieces);
      const crc = pieces.words[PieceWord.crc] >>> 0;
      expect(crc).toBe(crc32cRaw(CRC_SEED, arena.memory, 3 * i, 3 * i + length));
      expect(pmem.crc32c(1000 + i, length, CRC_SEED)).toBe(crc);
    }
  });

  test('many pieces are each copied to their offset, with their CRCs', () => {
    for (const count of [1, 2, 7, 64, 65, 130]) {
      const pieces = pmem.createPieceList(130, true);
      for (let i = 0; i < count; i++) setPiece(pieces, i, (i * 77) % 131, 128 * i, 512);
      const expected = readFileSync(path);
      for (let i = 0; i < count; i++) {
        expected.set(arena.memory.subarray(128 * i, 128 * i + 512), 4096 + ((i * 77) % 131) * 512);
      }
      pmem.writePieces(pieces, count, 4096, arena);
      expect(Buffer.compare(readFileSync(path), expected)).toBe(0);
      for (let i = 0; i < count; i++) {
        const crc = crc32cRaw(CRC_SEED, arena.memory, 128 * i, 128 * i + 512);
        expect(pieces.words[i * PIECE_WORDS + PieceWord.crc] >>> 0).toBe(crc);
      }
    }
  });

  test('the index is searched for pieces while they are copied', () => {
    const index = new ExtentIndex(64 * 2 ** 20, new Int32Array(4));
    for (let sector = 8; sector < 8000; sector += 16) index.insert(3, sector, 8, 0, 0, 0, 0);
    const searches: [subtree: number, sector: number, place: number][] = [
      [3, 0, 0],
      [3, 8, 1],
      [3, 4007, 250],
      [3, 8191, 500],
    ];
    for (const subtree of [-1, 0, 15, 16, 2 ** 31 - 1]) searches.push([subtree, 4007, 0]);
    for (const withCrc of [false, true]) {
      for (const copies of [1, 12]) {
        const wanted = Array.from({ length: copies }, () => searches).flat();
        const pieces = pmem.createPieceList(wanted.length, withCrc);
        pmem.searchIn!(pieces, index);
        for (const [i, [subtree, sector]] of wanted.entries()) {
          setPiece(pieces, i, i, 512, 512);
          pieces.words[i * PIECE_WORDS + PieceWord.subtree] = subtree;
          pieces.words[i * PIECE_WORDS + PieceWord.sector] = sector;
        }
        pmem.writePieces(pieces, wanted.length, 4096, arena);
        const places = wanted.map((_, i) => pieces.words[i * PIECE_WORDS + PieceWord.hint]);
        expect(places).toEqual(wanted.map(([, , place]) => place));
      }
    }
  });

  test('a piece out of bounds is not copied, and those before it are', () => {
    for (const [sectorsBeyond, arenaOffset, length] of [
      [200, 0, 512],
      [-1, 0, 512],
      [1, ARENA_BYTES - 511, 512],
      [1, 0, -512],
    ]) {
      const pieces = pmem.createPieceList(3, false);
      setPiece(pieces, 0, 0, 8192, 512);
      setPiece(pieces, 1, sectorsBeyond, arenaOffset, length);
      setPiece(pieces, 2, 2, 0, 512);
      const expected = readFileSync(path);
      expected.set(arena.memory.subarray(8192, 8704), 4096);
      expect(errorOf(() => pmem.writePieces(pieces, 3, 4096, arena))).toMatchObject({ code: 'OUT_OF_RANGE' });
      expect(Buffer.compare(readFileSync(path), expected)).toBe(0);
    }
    const pieces = pmem.createPieceList(1, false);
    for (const offset of [0.5, -512, NaN, 2 ** 60, Infinity]) {
      expect(errorOf(() => pmem.writePieces(pieces, 1, offset, arena))).toMatchObject({ code: 'OUT_OF_RANGE' });
    }
    expect(errorOf(() => pmem.writePieces(pieces, 2, 4096, arena))).toMatchObject({ code: 'OUT_OF_RANGE' });
  });

  test('only the given number of entries is copied', () => {
    const before = arena.memory.slice(4096, 4608);
    set(0, 0, 0, 512);
    set(1, 4096, 4096, 512);
    pmem.runReads(list, 1, arena);
    expect(Buffer.compare(arena.memory.subarray(4096, 4608), before)).toBe(0);
    expect(Buffer.compare(arena.memory.subarray(0, 512), pattern(SIZE_BYTES).subarray(0, 512))).toBe(0);
  });

  test.each([
    ['beyond the device', SIZE_BYTES - 511, 0, 512],
    ['beyond the arena', 0, ARENA_BYTES - 511, 512],
    ['longer than both', 0, 0, 0xffffffff],
    ['at a fraction', 0.5, 0, 1],
    ['at a negative offset', -512, 0, 512],
    ['at no number', NaN, 0, 512],
  ])('a copy %s is not done, and reads before it are', (_, pmemOffset, arenaOffset, length) => {
    const before = arena.memory.slice();
    for (const withCrc of [false, true]) {
      const pieces = pmem.createPieceList(1, withCrc);
      expect(errorOf(() => write(pmemOffset, arenaOffset, length, pieces))).toMatchObject({ code: 'OUT_OF_RANGE' });
    }
    expect(Buffer.compare(readFileSync(path), pattern(SIZE_BYTES))).toBe(0);
    set(0, 4096, 0, 512);
    set(1, pmemOffset, arenaOffset, length);
    set(2, 8192, 1024, 512);
    expect(errorOf(() => pmem.runReads(list, 3, arena))).toMatchObject({ code: 'OUT_OF_RANGE' });
    before.set(pattern(SIZE_BYTES).subarray(4096, 4608), 0);
    expect(Buffer.compare(arena.memory, before)).toBe(0);
  });

  test('more entries than the list has room for are refused', () => {
    expect(errorOf(() => pmem.runReads(list, 9, arena))).toMatchObject({ code: 'OUT_OF_RANGE' });
    expect(errorOf(() => pmem.runReads(list, -1, arena))).toMatchObject({ code: 'OUT_OF_RANGE' });
  });

  test('an arena is refused once it is unregistered', () => {
    pmem.unregisterArena(arena);
    expect(errorOf(() => pmem.runReads(list, 0, arena))).toMatchObject({ code: 'CLOSED' });
    expect(errorOf(() => write(0, 0, 512))).toMatchObject({ code: 'CLOSED' });
    expect(errorOf(() => pmem.unregisterArena(arena))).toMatchObject({ code: 'CLOSED' });
  });

  test('closing the device unregisters its arenas', () => {
    pmem.close();
    expect(() => nativeAddon().unregisterArena(arena.id)).toThrow('not open');
  });

  test('an arena whose memory was detached is refused', () => {
    structuredClone(arena.memory.buffer, { transfer: [arena.memory.buffer as ArrayBuffer] });
    expect(() => pmem.runReads(list, 0, arena)).toThrow('detached');
    expect(() => write(0, 0, 0)).toThrow('detached');
  });

  test('a copy that meets the end of a truncated file is an error', () => {
    truncateSync(path, 8192);
    set(0, 0, 0, 512);
    set(1, 50_000, 512, 512);
    expect(errorOf(() => pmem.runReads(list, 2, arena))).toMatchObject({ code: 'TRUNCATED' });
    expect(Buffer.compare(readFileSync(path).subarray(0, 512), arena.memory.subarray(0, 512))).toBe(0);
    expect(errorOf(() => write(50_000, 0, 512))).toMatchObject({ code: 'TRUNCATED' });
  });

  test('registered memory lives exactly as long as its registration', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    const addon = nativeAddon();
    let watched: WeakRef<Uint8Array> | undefined;
    const id = ((): number => {
      const memory = new Uint8Array(1 << 20);
      watched = new WeakRef(memory);
      return addon.registerArena(memory);
    })();
    await turn();
    collect();
    expect(watched?.deref()).toBeDefined();
    addon.unregisterArena(id);
    await turn();
    collect();
    expect(watched?.deref()).toBeUndefined();
  });
});
