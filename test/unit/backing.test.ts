/** The backing device over a file: transfers, its edges, and what opening it refuses. */
import type * as Fs from 'node:fs';
import { mkdtempSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { setNativeEnabled } from '../../src/engine/device/native.js';
import { BackingFile, openBacking } from '../../src/engine/device/backing-file.js';
import { PcacheError } from '../../src/engine/errors.js';

/** The system moves fewer bytes than asked for when it likes; here no more than this many at once. */
const shortened = vi.hoisted(() => ({ most: Infinity }));

vi.mock('node:fs', async (importOriginal) => {
  const fs = await importOriginal<typeof Fs>();
  const shorten = <R>(call: (fd: number, bytes: Uint8Array, at: number, length: number, ...rest: never[]) => R) =>
    ((fd: number, bytes: Uint8Array, at: number, length: number, ...rest: never[]) =>
      call(fd, bytes, at, Math.min(length, shortened.most), ...rest)) as typeof call;
  return {
    ...fs,
    read: shorten(fs.read as never),
    write: shorten(fs.write as never),
    readSync: shorten(fs.readSync as never),
  };
});

const directory = mkdtempSync(join(tmpdir(), 'pcache-backing-'));
const path = join(directory, 'backing');
const SIZE_BYTES = 512 * 300;
const content = Buffer.from(Uint8Array.from({ length: SIZE_BYTES }, (_, i) => (i * 7 + (i >> 9)) & 0xff));

let backing: BackingFile;

/** Runs a call, checking that `done` comes later and once. */
function outcome(call: (done: (error: Error | null) => void) => void): Promise<PcacheError | null> {
  return new Promise((resolve, reject) => {
    let returned = false;
    let calls = 0;
    call((error) => {
      calls++;
      if (!returned || calls > 1)
        reject(new Error(returned ? 'done was called twice' : 'done came before the call returned'));
      setImmediate(() => resolve(error as PcacheError | null));
    });
    returned = true;
  });
}

function refusal(open: () => unknown): PcacheError {
  try {
    open();
  } catch (error) {
    return error as PcacheError;
  }
  return expect.fail('nothing was thrown');
}

afterAll(() => rmSync(directory, { recursive: true }));

describe.each([
  ['with the native helper', true],
  ['without the native helper', false],
])('%s', (_name, native) => {
  beforeEach(() => {
    setNativeEnabled(native);
    writeFileSync(path, content);
    backing = openBacking(path, { readOnly: false });
  });
  afterEach(() => {
    backing.close();
    setNativeEnabled(true);
  });

  test('reads a range into the middle of a buffer', async () => {
    expect(backing.sizeBytes).toBe(SIZE_BYTES);
    const target = new Uint8Array(2000);
    expect(await outcome((done) => backing.read(1024, target, 100, 1536, done))).toBeNull();
    expect(Buffer.compare(target.subarray(100, 1636), content.subarray(1024, 2560))).toBe(0);
    expect(target[99] + target[1636]).toBe(0);
  });

  test('writes a range, and flushes', async () => {
    const source = new Uint8Array(2000).fill(0xcc);
    expect(await outcome((done) => backing.write(512, source, 3, 1024, done))).toBeNull();
    expect(await outcome((done) => backing.flush(done))).toBeNull();
    const expected = Buffer.from(content).fill(0xcc, 512, 1536);
    expect(Buffer.compare(readFileSync(path), expected)).toBe(0);
  });

  test('runs many transfers at once', async () => {
    const targets = Array.from({ length: 300 }, () => new Uint8Array(512));
    const outcomes = await Promise.all(
      targets.map((target, i) => outcome((done) => backing.read(i * 512, target, 0, 512, done))),
    );
    expect(outcomes.every((error) => error === null)).toBe(true);
    for (const [i, target] of targets.entries())
      expect(Buffer.compare(target, content.subarray(i * 512, (i + 1) * 512))).toBe(0);
  });

  test('reads synchronously', () => {
    const target = new Uint8Array(1000);
    backing.readSync(SIZE_BYTES - 512, target, 10, 512);
    expect(Buffer.compare(target.subarray(10, 522), content.subarray(SIZE_BYTES - 512))).toBe(0);
  });

  test('an empty transfer succeeds', async () => {
    expect(await outcome((done) => backing.read(SIZE_BYTES, new Uint8Array(0), 0, 0, done))).toBeNull();
  });

  test.each([
    [SIZE_BYTES, 0, 512],
    [SIZE_BYTES - 511, 0, 512],
    [-512, 0, 512],
    [0, 1, 1024],
    [0, -1, 512],
    [0, 0, -512],
    [NaN, 0, 512],
    [0.5, 0, 512],
  ])('offset %s, buffer offset %s, length %s is out of range', async (offset, bufferOffset, length) => {
    const bytes = new Uint8Array(1024);
    const expected = { code: 'OUT_OF_RANGE' };
    expect(await outcome((done) => backing.read(offset, bytes, bufferOffset, length, done))).toMatchObject(expected);
    expect(await outcome((done) => backing.write(offset, bytes, bufferOffset, length, done))).toMatchObject(expected);
    expect(refusal(() => backing.readSync(offset, bytes, bufferOffset, length))).toMatchObject(expected);
    expect(Buffer.compare(readFileSync(path), content)).toBe(0);
  });

  test('an end of file inside the size is an error that names the place, not a short read', async () => {
    truncateSync(path, 1536);
    const bytes = new Uint8Array(2048);
    for (const error of [
      await outcome((done) => backing.read(1024, bytes, 0, 1024, done)),
      refusal(() => backing.readSync(1024, bytes, 0, 1024)),
    ]) {
      expect(error).toBeInstanceOf(PcacheError);
      expect(error?.code).toBe('TRUNCATED');
      expect(error?.message).toContain(`${path}: ends at byte 1536 while reading bytes 1024 to 2048`);
    }
  });

  test('a failing transfer names the device and the range', async () => {
    const fd = openSync(path, 'r');
    const misopened = new BackingFile(path, fd, SIZE_BYTES, false);
    const error = await outcome((done) => misopened.write(512, new Uint8Array(1024), 0, 1024, done));
    expect(error).toBeInstanceOf(PcacheError);
    expect(error).toMatchObject({ code: 'IO' });
    expect(error?.message).toContain(`${path}: EBADF while writing bytes 512 to 1536`);
    misopened.close();
  });

  test('does not write when it is open for reading', async () => {
    backing.close();
    backing = openBacking(path, { readOnly: true });
    const error = await outcome((done) => backing.write(0, new Uint8Array(512), 0, 512, done));
    expect(error).toMatchObject({ code: 'NO_ACCESS' });
    expect(error?.message).toContain(path);
    expect(Buffer.compare(readFileSync(path), content)).toBe(0);
  });

  test.each([1, 100, 511])('transfers cut short after %s bytes are continued', async (most) => {
    shortened.most = most;
    try {
      const target = new Uint8Array(3000);
      expect(await outcome((done) => backing.read(1024, target, 7, 2048, done))).toBeNull();
      expect(Buffer.compare(target.subarray(7, 2055), content.subarray(1024, 3072))).toBe(0);
      expect(await outcome((done) => backing.write(4096, target, 7, 2048, done))).toBeNull();
      backing.readSync(4096, target, 0, 2048);
      expect(Buffer.compare(target.subarray(0, 2048), content.subarray(1024, 3072))).toBe(0);
    } finally {
      shortened.most = Infinity;
    }
    const expected = Buffer.from(content);
    content.copy(expected, 4096, 1024, 3072);
    expect(Buffer.compare(readFileSync(path), expected)).toBe(0);
  });

  test('fails with CLOSED after its close', async () => {
    backing.close();
    const bytes = new Uint8Array(512);
    for (const call of [
      (done: (error: Error | null) => void) => backing.read(0, bytes, 0, 512, done),
      (done: (error: Error | null) => void) => backing.write(0, bytes, 0, 512, done),
      (done: (error: Error | null) => void) => backing.flush(done),
    ]) {
      expect(await outcome(call)).toMatchObject({ code: 'CLOSED' });
    }
    expect(refusal(() => backing.readSync(0, bytes, 0, 512))).toMatchObject({ code: 'CLOSED' });
  });

  describe('opening', () => {
    beforeEach(() => backing.close());

    test('refuses a size that is not a multiple of 512 and names the remedy', () => {
      truncateSync(path, 1000);
      const error = refusal(() => openBacking(path, { readOnly: true }));
      expect(error.code).toBe('MISALIGNED');
      expect(error.message).toContain(`truncate -s %512 ${path}`);
      // The refused file is not left locked.
      truncateSync(path, 1024);
      openBacking(path, { readOnly: false }).close();
    });

    test.each([
      ['a missing file', join(directory, 'missing'), 'NOT_FOUND'],
      ['a directory', directory, 'NOT_A_DEVICE'],
      ['a character device', '/dev/null', 'NOT_A_DEVICE'],
    ])('%s is refused', (_, where, code) => {
      expect(refusal(() => openBacking(where, { readOnly: false }))).toMatchObject({ code });
    });
  });
});
