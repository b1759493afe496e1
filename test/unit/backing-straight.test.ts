/** Write-back straight out of the mapping: what arrives, in how many pieces, and what comes of failures. */
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BackingFile } from '../../src/engine/device/backing-file.js';
import type { PmemRanges } from '../../src/engine/device/backing.js';
import { openPmem } from '../../src/engine/device/open.js';
import type { Pmem } from '../../src/engine/device/pmem.js';
import { SimPmem } from '../../src/engine/sim/sim-pmem.js';

const PMEM_BYTES = 64 * 1024;
const BACKING_BYTES = 128 * 1024;

let directory: string;
let pmemPath: string;
let backingPath: string;
let pmem: Pmem;
let backing: BackingFile;
const payload = Uint8Array.from({ length: PMEM_BYTES }, (_, i) => (i * 31 + (i >> 8)) & 0xff);

beforeEach(() => {
  directory = mkdtempSync('/dev/shm/pcache-straight-');
  pmemPath = join(directory, 'pmem');
  backingPath = join(directory, 'backing');
  writeFileSync(pmemPath, payload);
  writeFileSync(backingPath, new Uint8Array(BACKING_BYTES));
  pmem = openPmem(pmemPath);
  backing = open('r+');
});

afterEach(() => {
  pmem.close();
  backing.close();
  rmSync(directory, { recursive: true });
});

function open(flags: string, readOnly = false): BackingFile {
  return new BackingFile('the backing device', openSync(backingPath, flags), BACKING_BYTES, readOnly);
}

type Triple = readonly [pmemOffsetBytes: number, offsetBytes: number, lengthBytes: number];

function columns(triples: readonly Triple[]): PmemRanges {
  const column = (n: 0 | 1 | 2) => Float64Array.from(triples, (triple) => triple[n]);
  return { pmemOffsetBytes: column(0), offsetBytes: column(1), lengthBytes: column(2) };
}

function write(...triples: Triple[]): Promise<Error | null> {
  return new Promise((resolve) => backing.writerFrom(pmem)!(columns(triples), triples.length, resolve));
}

describe('write-back straight out of the mapping', () => {
  test('writes every range to its offset, adjoining or not, and nothing else', async () => {
    const triples: Triple[] = [];
    // More that adjoin than one call of the system takes, from the end of the mapping to its beginning.
    for (let n = 0; n < 100; n++) triples.push([PMEM_BYTES - 512 * (n + 1), 4096 + 512 * n, 512]);
    triples.push([0, 100_864, 1536], [4096, 120_832, 10_240]);
    expect(await write(...triples)).toBeNull();
    const expected = new Uint8Array(BACKING_BYTES);
    for (const [from, to, length] of triples) expected.set(payload.subarray(from, from + length), to);
    expect(readFileSync(backingPath).equals(expected)).toBe(true);
  });

  test('lets the last of several overlapping ranges win', async () => {
    expect(await write([0, 0, 1024], [8192, 512, 512], [20_480, 0, 512])).toBeNull();
    const [first, second] = [payload.subarray(20_480, 20_992), payload.subarray(8192, 8704)];
    expect(
      readFileSync(backingPath)
        .subarray(0, 1024)
        .equals(Buffer.concat([first, second])),
    ).toBe(true);
  });

  test('completes while another thread asks for its turns', async () => {
    const triples = Array.from({ length: 128 }, (_, n): Triple => [512 * n, 512 * ((n * 5) % 128), 512]);
    backing.giveWay(); // to nobody
    let isOver = false;
    const written = write(...triples).finally(() => (isOver = true));
    while (!isOver) {
      backing.giveWay();
      await new Promise(setImmediate);
    }
    expect(await written).toBeNull();
    const expected = new Uint8Array(BACKING_BYTES);
    for (const [from, to, length] of triples) expected.set(payload.subarray(from, from + length), to);
    expect(readFileSync(backingPath).equals(expected)).toBe(true);
  });

  test('is not available for a device that is not mapped', () => {
    expect(backing.writerFrom(new SimPmem(new Uint8Array(4096), { model: 'dax' }))).toBeUndefined();
  });

  test('refuses a range beyond the backing device, names it and writes nothing', async () => {
    expect(await write([0, 0, 512], [512, BACKING_BYTES - 512, 1024])).toMatchObject({
      code: 'OUT_OF_RANGE',
      message: expect.stringContaining('the backing device') as string,
    });
    expect(readFileSync(backingPath).every((byte) => byte === 0)).toBe(true);
  });

  test('refuses a range beyond the cache device and names it', async () => {
    expect(await write([PMEM_BYTES - 512, 0, 1024])).toMatchObject({
      code: 'OUT_OF_RANGE',
      message: expect.stringContaining(pmemPath) as string,
    });
  });

  test('fails on a backing device that is closed or open for reading only', async () => {
    backing.close();
    expect(await write([0, 0, 512])).toMatchObject({ code: 'CLOSED' });
    backing = open('r', true);
    expect(await write([0, 0, 512])).toMatchObject({ code: 'NO_ACCESS' });
  });

  test('names the device and the range when the system refuses a write', async () => {
    backing = open('r'); // the descriptor does not take what the object says it does
    const error = await write([0, 1024, 512]);
    expect(error?.message).toContain('the backing device');
    expect(error?.message).toContain('1024 to 1536');
    expect(readFileSync(backingPath).every((byte) => byte === 0)).toBe(true);
  });

  test('blames a cache device that has shrunk, after writing the ranges before it', async () => {
    const fd = openSync(pmemPath, 'r+');
    ftruncateSync(fd, 16 * 1024);
    closeSync(fd);
    const error = await write([0, 0, 512], [32 * 1024, 8192, 4096]);
    expect(error).toMatchObject({ code: 'TRUNCATED', message: expect.stringContaining(pmemPath) as string });
    expect(readFileSync(backingPath).subarray(0, 512).equals(payload.subarray(0, 512))).toBe(true);
  });

  test('keeps the memory while a write is in progress, even if it is unmapped meanwhile', async () => {
    const ended = write([0, 0, 32 * 1024], [32 * 1024, 64 * 1024, 32 * 1024]);
    pmem.close();
    expect(await ended).toBeNull();
    expect(
      readFileSync(backingPath)
        .subarray(0, 32 * 1024)
        .equals(payload.subarray(0, 32 * 1024)),
    ).toBe(true);
  });
});
