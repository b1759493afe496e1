/** `pcache wipe` from outside: what it refuses, what it leaves, and that nothing is found of the cache afterwards. */
import { execFileSync } from 'node:child_process';
import { openSync, closeSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openDeviceFile } from '../../src/engine/device/device-file.js';
import type { CacheSummary } from '../../src/engine/inspect/summary.js';
import { runCli, type CliResult } from '../support/cli.js';
import { hashOf, temporaryFolder, writableImage } from '../support/cli-images.js';
import type { WipeJson } from '../../src/output/wipe-report.js';

const folder = temporaryFolder('wipe');
const wipe = (...args: string[]): Promise<CliResult> => runCli(['wipe', ...args]);

const copyOf = (image: string): ReturnType<typeof writableImage> => writableImage(folder, image);

describe('wipe of a cache that a kernel made', () => {
  it('leaves nothing that fsck, info or format recognise', { timeout: 120_000 }, async () => {
    const { cache } = await copyOf('gc-wrap');
    const { status } = await wipe(cache, '--force');
    expect(status).toBe(0);
    for (const command of [
      ['fsck', cache],
      ['info', cache],
      ['fsck', cache, '--repair', '--relink', '--accept-loss'],
    ]) {
      const { status: refused, stderr } = await runCli(command);
      expect([refused, stderr]).toEqual([8, expect.stringContaining('not a pcache device')]);
    }
    expect((await runCli(['format', cache])).status).toBe(0);
    const check = await runCli(['fsck', cache]);
    expect([check.status, check.stdout]).toEqual([0, expect.stringContaining(`${cache}: clean, `)]);
  });
});

describe('wipe', { timeout: 60_000 }, () => {
  it('refuses a cache with dirty data, changes nothing, and takes it after a write-back', async () => {
    const { cache, backing } = await copyOf('dirty-crc');
    const before = await hashOf(cache);
    const refused = await wipe(cache);
    expect([refused.status, refused.stdout]).toEqual([4, '']);
    expect(refused.stderr).toMatch(/760 keys \(\d+ bytes\) not written back; run "pcache writeback .* or give --force/);
    expect(await hashOf(cache)).toBe(before);
    expect((await runCli(['writeback', cache, backing])).status).toBe(0);
    const { status, stdout, stderr } = await wipe(cache);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/: wiped: 31 segments, \d+ ksets erased; payload stays on the device\n$/);
  });

  it('names what is given up with --force, and changes nothing with --dry-run', async () => {
    const { cache } = await copyOf('dirty-crc');
    const before = await hashOf(cache);
    const { status, stdout, stderr } = await wipe(cache, '--force', '--dry-run', '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout) as WipeJson).toMatchObject({
      dryRun: true,
      segments: 31,
      dirtyKeys: 760,
      isCounted: true,
    });
    expect(stderr).toMatch(/given up: 760 keys not written back/);
    expect(await hashOf(cache)).toBe(before);
  });

  it.each(['dirty-crc', 'crash'])('counts what %s has not written back as info does', async (image) => {
    const { cache } = await copyOf(image);
    const given = JSON.parse((await wipe(cache, '--force', '--dry-run', '--json')).stdout) as WipeJson;
    const { content } = JSON.parse((await runCli(['info', cache, '--json'])).stdout) as CacheSummary;
    expect(given.dirtyBytes).toBe(content?.dirtyBytes);
  });

  it('refuses a cache whose damage may hide dirty data', async () => {
    const { cache } = await copyOf('dirty-crc');
    const fd = openSync(cache, 'r+');
    writeSync(fd, Buffer.alloc(64), 0, 64, 16 * 1024);
    closeSync(fd);
    const { status, stderr } = await wipe(cache);
    expect([status, stderr]).toEqual([4, expect.stringMatching(/may be hidden: (KEY|DIRTY)_TAIL_LOST/)]);
  });

  it('refuses a device in use, and one that holds no cache', async () => {
    const { cache } = await copyOf('fresh');
    const held = openDeviceFile(cache, { writable: true });
    const busy = await wipe(cache, '--force');
    closeSync(held.fd);
    expect([busy.status, busy.stderr]).toEqual([8, expect.stringMatching(/in use/)]);
    const blank = `${folder}/blank`;
    execFileSync('truncate', ['-s', '512M', blank]);
    const foreign = await wipe(blank, '--force');
    expect([foreign.status, foreign.stderr]).toEqual([8, expect.stringContaining('not a pcache device')]);
  });
});
