/** What dmsetup and the block layer say of a cache of the kernel's target, as it is read. */
import { closeSync, mkdtempSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { DirectReader } from '../../src/engine/device/direct-reader.js';
import { findKernelDevice, kernelNameOf, parseState, parseTable } from '../../src/kernel/device-mapper.js';
import { DirtyLogReader } from '../../src/kernel/dirty-log.js';
import { drainKernelDevice } from '../../src/kernel/kernel-drain.js';
import { KernelStatusReporter, parseBlockStat } from '../../src/kernel/kernel-status.js';
import { temporaryFolder } from '../support/cli-images.js';
import { FakeDmsetup } from '../support/fake-dmsetup.js';
import { unpackImage } from '../support/images.js';

const temporaryRoot = temporaryFolder('kernel-device');
afterEach(() => void vi.unstubAllEnvs());

describe('the name of a device of the kernel target', () => {
  it.each([
    ['pc', 'pc'],
    ['/dev/mapper/pc', 'pc'],
    ['/dev/mapper/', undefined],
    ['/dev/ublkb0', undefined],
    ['/dev/dm-99999', undefined],
    ['./pc', undefined],
  ])('is taken from %s as %s', (device, name) => {
    expect(kernelNameOf(device, '/dev')).toBe(name);
  });
});

describe('a table', () => {
  it.each(['crc', 'data_crc'])('has data_crc by the word %s', (word) => {
    expect(parseTable('pc', `0 131072 pcache 259:0 254:0 4 cache_mode writeback ${word} true\n`)).toEqual({
      sizeBytes: 64 << 20,
      cache: '259:0',
      backing: '254:0',
      mode: 'writeback',
      dataCrc: true,
    });
  });

  it('without options is one of writeback without data_crc', () => {
    expect(parseTable('pc', '0 8 pcache 259:0 254:0')).toMatchObject({ mode: 'writeback', dataCrc: false });
  });

  it('that is not understood is shown', () => {
    expect(() => parseTable('pc', '8 8 pcache 259:0')).toThrow("pc: its table is '8 8 pcache 259:0', which is not");
  });
});

describe('a status line', () => {
  it('gives counts and positions', () => {
    expect(parseState('pc', '0 131072 pcache 0 31 30 6 90 1682 1:25872 0:5168 0:24\n')).toEqual({
      line: '0 31 30 6 90 1682 1:25872 0:5168 0:24',
      segments: 30,
      segmentsUsed: 6,
      gcPercent: 90,
      keyHead: { segment: 1, offsetBytes: 25872 },
      dirtyTail: { segment: 0, offsetBytes: 5168 },
      keyTail: { segment: 0, offsetBytes: 24 },
    });
  });

  it.each(['', '0 131072 pcache Error', '0 131072 pcache 0 31 31 6 90 1682 0:25872 0:5168'])(
    'that is not understood is shown: "%s"',
    (text) => {
      expect(() => parseState('pc', text)).toThrow(`pc: its status is '${text}', which is not understood`);
    },
  );
});

describe('the counters of the block layer', () => {
  it('are read with and without those of flushes', () => {
    const text = '      10        0      80        3       20        1      400        7        2       10       10';
    const counters = {
      readRequests: 10,
      readBytes: 40_960,
      readMs: 3,
      writeRequests: 20,
      writeBytes: 204_800,
      writeMs: 7,
      flushRequests: 0,
      flushMs: 0,
      inFlight: 2,
    };
    expect(parseBlockStat(text)).toEqual(counters);
    expect(parseBlockStat(`${text} 0 0 0 0 5 9\n`)).toEqual({ ...counters, flushRequests: 5, flushMs: 9 });
    expect(parseBlockStat('1 2 3')).toBeUndefined();
  });
});

describe('write-back that stands still', () => {
  it('ends a drain with an error once nothing has moved for 15 seconds', async () => {
    const images = await unpackImage('dirty-crc');
    const folder = mkdtempSync(join(temporaryRoot, 'dev-'));
    const fake = new FakeDmsetup(folder, { ...images, state: '0 31 31 2 70 1183 0:42376 0:0 0:0' });
    for (const [name, value] of Object.entries(fake.environment)) vi.stubEnv(name, value);
    const device = await findKernelDevice('pc', folder);
    const log = DirtyLogReader.open(images.cachePath, false);
    // Each look at the clock is 4 seconds after the one before.
    let nowMs = 0;
    const clock = (): number => (nowMs += 4000);
    const drained = drainKernelDevice(new KernelStatusReporter(device, log, clock), {
      timeoutMs: Infinity,
      stop: new AbortController().signal,
      onProgress: () => undefined,
      leaveStuckThreads: () => undefined,
    });
    await expect(drained).rejects.toThrow(
      /^pc: write-back stands still: dirty_tail stays at 0:0 for 16 s with \d{4,} bytes dirty, and nothing is written to/,
    );
    log.close();
  });
});

describe('a device read past its page cache', () => {
  it('gives any range, whatever its offset and length', (context) => {
    const path = join(temporaryRoot, 'device');
    const bytes = Buffer.from(Array.from({ length: 3 * 4096 * 100 + 512 }, (_, i) => (i * 131 + (i >> 8)) & 0xff));
    writeFileSync(path, bytes);
    let reader: DirectReader;
    const fd = openSync(path, 'r');
    try {
      reader = new DirectReader(path, fd, bytes.length);
    } catch {
      closeSync(fd);
      context.skip('the filesystem of the temporary folder takes no direct reads');
    }
    for (const [offset, length] of [
      [0, 512],
      [1, 1],
      [4095, 2],
      [5000, 1_000_000],
      [0, bytes.length],
      [bytes.length - 3, 3],
    ]) {
      const target = new Uint8Array(length + 2);
      reader!.read(offset, target, 1, length);
      expect(Buffer.compare(target.subarray(1, -1), bytes.subarray(offset, offset + length)), `${offset}`).toBe(0);
      expect([target[0], target[length + 1]]).toEqual([0, 0]);
    }
    expect(() => reader.read(bytes.length - 1, new Uint8Array(2), 0, 2)).toThrow('reading beyond its');
    reader!.close();
  });
});
