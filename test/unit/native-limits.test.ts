/**
 * Every call of the native helper that takes a size or an offset, at the limits of 31, 32, 50 and 53 bits: it does what
 * is asked or throws one of its codes; the process stays alive.
 */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { constants } from 'node:buffer';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { indexAid, nativeAddon, type TransferBatch } from '../../src/engine/device/native.js';
import { ExtentIndex } from '../../src/engine/index/extent-index.js';
import { SUBTREE_BYTES } from '../../src/engine/media/geometry.js';

const addon = nativeAddon();
const directory = mkdtempSync(join(tmpdir(), 'pcache-limits-'));
const MAP_BYTES = 64 * 1024;
const fd = openSync(join(directory, 'map'), 'w+');
ftruncateSync(fd, MAP_BYTES);
const { handle } = addon.map(fd, MAP_BYTES, true, true);
const bytes = new Uint8Array(4096);

afterAll(() => {
  addon.unmap(handle);
  closeSync(fd);
  rmSync(directory, { recursive: true });
});

const AROUND = [2 ** 31, 2 ** 32, 2 ** 50, 2 ** 53].flatMap((limit) => [limit - 1, limit, limit + 1]);
const LIMITS = [...AROUND, 1e300, Infinity, -Infinity, NaN, -1, 0.5];

/** What a call threw, by its code. */
function outcome(call: () => unknown): string {
  try {
    call();
    return 'done';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

describe.each(LIMITS)('with %d for a size or an offset', (limit) => {
  const refused = ['OUT_OF_RANGE', 'INVALID', 'CLOSED'];

  test('calls on a mapping are refused before they touch memory', () => {
    const calls: Record<string, () => unknown> = {
      'read offset': () => addon.read(handle, limit, bytes, 0, 512),
      'read target': () => addon.read(handle, 0, bytes, limit, 512),
      'read length': () => addon.read(handle, 0, bytes, 0, limit),
      'write offset': () => addon.write(handle, limit, bytes, 0, 512),
      'write source': () => addon.write(handle, 0, bytes, limit, 512),
      'write length': () => addon.write(handle, 0, bytes, 0, limit),
      'zero offset': () => addon.zero(handle, limit, 512),
      'zero length': () => addon.zero(handle, 0, limit),
      'flush offset': () => addon.flush(handle, limit, 512),
      'flush length': () => addon.flush(handle, 0, limit),
      'crcRange offset': () => addon.crcRange(handle, limit, 512, 0),
      'crcRange length': () => addon.crcRange(handle, 0, limit, 0),
      'touchAhead offset': () => addon.touchAhead(handle, limit, 512, () => {}),
      'touchAhead length': () => addon.touchAhead(handle, 0, limit, () => {}),
      'sendNow start': () => addon.sendNow(fd, bytes, limit, limit),
      'sendNow end': () => addon.sendNow(fd, bytes, 0, limit),
      'crcBytes start': () => addon.crcBytes(0, bytes, limit, limit),
      'crcBytes end': () => addon.crcBytes(0, bytes, 0, limit),
      'beginCrcs offset': () =>
        addon.beginCrcs(handle, Float64Array.of(limit), Uint32Array.of(512), new Uint32Array(1), 1, 0, 1),
      'beginCrcs count': () =>
        addon.beginCrcs(handle, new Float64Array(1), new Uint32Array(1), new Uint32Array(1), limit, 0, 1),
      'findHints count': () =>
        addon.findHints(
          new Int32Array(6),
          new Int32Array(256),
          new Int32Array(1),
          new Int32Array(1),
          new Uint16Array(1),
          limit,
          new Int32Array(1),
        ),
      'limitCopies count': () => addon.limitCopies(handle, 0, limit, 0, 1, new Uint8Array(1)),
    };
    for (const [name, call] of Object.entries(calls)) {
      expect([name, refused.includes(outcome(call))]).toEqual([name, true]);
    }
  });

  test('a mapping of that size is made by the system or refused', () => {
    const got = outcome(() => addon.unmap(addon.map(fd, limit, false, true).handle));
    expect(['done', 'ERRNO', 'OUT_OF_RANGE']).toContain(got);
  });

  test('memory of that size is given or refused', () => {
    const got = outcome(() => expect(addon.allocateHuge(limit).byteLength).toBe(Math.floor(limit)));
    if (limit >= 1 && limit <= 2 ** 32) expect(['done', 'ERRNO']).toContain(got);
    else expect(got).toBe('OUT_OF_RANGE');
  });

  test('a list of that capacity is registered with columns as long, or refused', () => {
    const list = {
      capacity: limit,
      call: new Uint32Array(2),
      pmemOffsetBytes: new Float64Array(1),
      arenaOffsetBytes: new Uint32Array(1),
      lengthBytes: new Uint32Array(1),
      words: new Int32Array(8),
      withCrc: false,
    };
    // What is no whole number of 32 bits wraps around as in JavaScript, to 0 or 1, for which there are columns.
    const wraps = limit >>> 0 <= 1;
    const expected = wraps ? 'done' : 'INVALID';
    expect(outcome(() => addon.unregisterList(addon.registerList(handle, list).handle))).toBe(expected);
    expect(outcome(() => addon.unregisterPieces(addon.registerPieces(handle, list).handle))).toBe(expected);
  });

  test('a transfer moves what there is or says why not', async () => {
    for (const [offset, length, memoryOffset] of [
      [limit, 512, 0],
      [0, limit, 0],
      [0, 512, limit],
    ]) {
      const batch: TransferBatch = {
        isWrite: new Uint8Array(1),
        offsetBytes: Float64Array.of(offset),
        lengthBytes: Float64Array.of(length),
        bytesOffset: Float64Array.of(memoryOffset),
        memory: [bytes],
        movedBytes: new Float64Array(1),
        errno: new Int32Array(1),
      };
      const got = await new Promise<string>((resolve) => {
        const thrown = outcome(() => addon.transfer(fd, batch, 1, () => resolve('done')));
        if (thrown !== 'done') resolve(thrown);
      });
      // Beyond the end of the file there is nothing to read.
      if (got === 'done') expect(offset > MAP_BYTES || limit === 0.5).toBe(true);
      else expect(got).toBe('INVALID');
      if (got === 'done') expect(batch.movedBytes[0]).toBe(limit === 0.5 && length === 512 ? 512 : 0);
    }
  });
});

test('the largest memory that is taken over is not larger than Node allows', () => {
  expect(constants.MAX_LENGTH).toBeGreaterThanOrEqual(2 ** 32);
});

describe('the index of a backing device of 2^53 bytes', () => {
  test('takes memory by what is touched, not by where', () => {
    const before = process.memoryUsage().rss;
    const index = new ExtentIndex(2 ** 53, new Int32Array(1), indexAid());
    const subtrees = 2 ** 53 / SUBTREE_BYTES;
    const step = Math.floor(subtrees / 10_000);
    let count = 0;
    for (let subtree = 0; subtree < subtrees; subtree += step, count++) index.insert(subtree, 8, 8, 0, 0, 0, 0);
    index.insert(subtrees - 1, 8184, 8, 0, 0, 0, 0);
    index.check();
    expect(index.entryCount).toBe(count + 1);
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 2 ** 20);
    const found = new Int32Array(3);
    index.lookAhead(Int32Array.of(0, step, subtrees - 1), Uint16Array.of(8, 8, 8184), 3, found);
    expect([...found]).toEqual([1, 1, 1]);
    let visited = 0;
    for (let at = index.nextUsedSubtree(0); at >= 0; at = index.nextUsedSubtree(at + 1)) visited++;
    expect(visited).toBe(count + 1);
    for (let steps = 0; !index.sweep(512); steps++) expect(steps).toBeLessThan((count + 2) * 128);
  });
});
