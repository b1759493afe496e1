/** `pcache grow` from outside: on caches that a kernel made, what it refuses, and that nothing is lost. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, statSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openDeviceFile } from '../../src/engine/device/device-file.js';
import { encodeCacheFlags, encodeCacheInfo } from '../../src/engine/media/codecs.js';
import { CACHE_INFO_COPIES } from '../../src/engine/media/geometry.js';
import { runCli, type CliResult } from '../support/cli.js';
import { hashOf, temporaryFolder, writableImage } from '../support/cli-images.js';
import type { GrowJson } from '../../src/output/grow-report.js';

const folder = temporaryFolder('grow');
const grow = (...args: string[]): Promise<CliResult> => runCli(['grow', ...args]);

const copyOf = (image: string): ReturnType<typeof writableImage> => writableImage(folder, image);

async function logicalHash(cache: string, backing: string): Promise<string> {
  const target = `${folder}/logical`;
  const { status, stderr } = await runCli(['cat', cache, backing], { stdoutTo: target });
  expect([status, stderr]).toEqual([0, '']);
  return hashOf(target);
}

function writeAt(path: string, offsetBytes: number, bytes: Uint8Array): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, bytes, 0, bytes.length, offsetBytes);
  closeSync(fd);
}

describe('grow of a cache that a kernel made', { timeout: 120_000 }, () => {
  it('reads the same, is clean, and uses the whole file', async () => {
    const { cache, backing } = await copyOf('gc-wrap');
    const before = await logicalHash(cache, backing);
    const { status, stdout, stderr } = await grow(cache, '--size', '600MiB');
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toBe(`${cache}: grown from 31 to 37 segments, 95.9 MiB more for data and log\n`);
    const check = await runCli(['fsck', cache, backing]);
    expect([check.status, check.stdout]).toEqual([0, expect.stringContaining(`${cache}: clean, `)]);
    expect(await logicalHash(cache, backing)).toBe(before);
    const again = await grow(cache);
    expect([again.status, again.stdout]).toEqual([
      0,
      `${cache}: uses all 37 segments of the device already; nothing was changed\n`,
    ]);
  });
});

describe('grow', { timeout: 60_000 }, () => {
  it('shows with --dry-run what it would do, and changes nothing', async () => {
    const { cache } = await copyOf('dirty-crc');
    const before = await hashOf(cache);
    const { status, stdout } = await grow(cache, '--size', '1GiB', '--dry-run', '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout) as GrowJson).toMatchObject({ dryRun: true, segmentsBefore: 31, segmentsAfter: 63 });
    expect(await hashOf(cache)).toBe(before);
  });

  it('refuses a cache with findings, and leaves the file at its size', async () => {
    const { cache } = await copyOf('dirty-crc');
    writeAt(cache, 16 * 1024, Buffer.alloc(64));
    const { status, stderr } = await grow(cache, '--size', '1GiB');
    expect([status, stderr]).toEqual([4, expect.stringMatching(/: KEY_TAIL_LOST .*; run "pcache fsck .*" first\n$/)]);
    expect(statSync(cache).size).toBe(512 * 1024 * 1024);
  });

  it('refuses a cache that counts fewer segments than the superblock, where the kernel may have put data', async () => {
    const { cache } = await copyOf('fresh');
    const flags = encodeCacheFlags({ dataCrc: true, initDone: true, modeNumber: 0, gcPercent: 70 });
    const info = { firstSegmentId: 0, segmentCount: 30, flags };
    for (const [copy, offset] of CACHE_INFO_COPIES.entries()) writeAt(cache, offset, encodeCacheInfo(info, 50 + copy));
    const { status, stderr } = await grow(cache, '--size', '1GiB');
    expect([status, stderr]).toEqual([4, expect.stringMatching(/: CACHE_INFO_SEGMENTS_FEWER /)]);
  });

  it('refuses to grow over a filesystem unless --force is given', async () => {
    const { cache } = await copyOf('fresh');
    const size = statSync(cache).size;
    execFileSync('truncate', ['-s', '600M', cache]);
    // The copy of a GPT header in the last sector.
    writeAt(cache, 600 * 1024 * 1024 - 512, Buffer.from('EFI PART\0\0\x01\0\\\0\0\0', 'latin1'));
    const refused = await grow(cache);
    expect([refused.status, refused.stderr]).toEqual([
      8,
      expect.stringMatching(/behind the 31 segments.*give --force/),
    ]);
    expect(size).toBe(512 * 1024 * 1024);
    const forced = await grow(cache, '--force', '--json');
    expect(forced.status).toBe(0);
    expect(JSON.parse(forced.stdout) as GrowJson).toMatchObject({ segmentsAfter: 37 });
  });

  it('refuses a device in use, one that holds no cache, and a size that is smaller', async () => {
    const { cache } = await copyOf('fresh');
    const held = openDeviceFile(cache, { writable: true });
    const busy = await grow(cache, '--size', '1GiB');
    closeSync(held.fd);
    expect([busy.status, busy.stderr]).toEqual([8, expect.stringMatching(/in use/)]);
    const smaller = await grow(cache, '--size', '256MiB');
    expect([smaller.status, smaller.stderr]).toEqual([16, expect.stringMatching(/cannot shrink to 268435456/)]);
    expect(statSync(cache).size).toBe(512 * 1024 * 1024);
    const blank = `${folder}/blank`;
    execFileSync('truncate', ['-s', '512M', blank]);
    const foreign = await grow(blank);
    expect([foreign.status, foreign.stderr]).toEqual([8, expect.stringContaining('not a pcache device')]);
  });
});
