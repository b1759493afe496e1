/** `pcache info` from outside. */
import { spawn } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import type { CacheSummary } from '../../src/engine/inspect/summary.js';
import { runCli } from '../support/cli.js';
import { damagedCopy, temporaryFolder } from '../support/cli-images.js';
import { findClient } from '../support/clients.js';
import { describeImages, unpackImage } from '../support/images.js';

const folder = temporaryFolder('info');

describeImages('info on', (image) => {
  it('agrees with what the kernel says', async () => {
    const { cachePath, backingPath } = await unpackImage(image);
    const { status, stdout, stderr } = await runCli(['info', cachePath, backingPath, '--json']);
    expect([status, stderr]).toEqual([0, '']);
    const summary = JSON.parse(stdout) as CacheSummary;
    const expected = image.statusLine.split(' ').slice(3);
    const ours = summary.status!.split(' ');
    // dirty_tail moves on as soon as the kernel has attached the cache.
    ours[7] = expected[7];
    expect(ours).toEqual(expected);
    expect(summary.segments).toHaveLength(31);
    expect(summary.problems).toEqual([]);
    const sectors = image.statusLine.split(' ')[1];
    expect(summary.table).toBe(
      `0 ${sectors} pcache ${cachePath} ${backingPath} 4 cache_mode writeback data_crc ${image.dataCrc}`,
    );
  });
});

describe('info', () => {
  it('shows people what it is and holds', async () => {
    const { cachePath } = await unpackImage('gc-wrap');
    const { status, stdout } = await runCli(['info', cachePath]);
    expect(status).toBe(0);
    expect(stdout).toContain('log:            55 ksets, 6,713 keys (0 stale), 263.5 KiB (269840 bytes)\n');
    expect(stdout).toMatch(/\n {12}copy 1 {2}seq 114 {2}0:544112 +in effect: newer\n/);
    expect(stdout).toContain('\n  0 31 31 5 20 502 0:813952 0:566952 0:544112\n');
    expect(stdout).toContain(
      `\n  0 <sectors> pcache ${cachePath} <backing_dev> 4 cache_mode writeback data_crc false\n`,
    );
  });

  it('says how durable a mapping is, where it maps', async () => {
    const { cachePath } = await unpackImage('fresh');
    const durability = async (native: string): Promise<unknown> => {
      const { stdout } = await runCli(['info', cachePath, '--json'], { env: { PCACHE_NATIVE: native } });
      return (JSON.parse(stdout) as CacheSummary).durability;
    };
    expect(['page-cache', 'volatile', 'dax']).toContain(await durability('on'));
    expect(await durability('off')).toBeNull();
  });

  it('shows what it can of a damaged cache, and exits 4', async () => {
    const path = await damagedCopy(folder, 'dirty-crc', (image) => image.zero(8192, 8192));
    const { status, stdout, stderr } = await runCli(['info', path]);
    expect([status, stderr]).toEqual([4, '']);
    expect(stdout).toContain('superblock:     valid, 31 segments');
    expect(stdout).toContain('CACHE_INFO_LOST neither copy of cache_info has a good CRC');
    const json = await runCli(['info', path, '--json']);
    expect(json.status).toBe(4);
    const summary = JSON.parse(json.stdout) as CacheSummary;
    expect(summary).toMatchObject({ status: null, content: null });
    expect(summary.problems[0].code).toBe('CACHE_INFO_LOST');
  });

  const flock = findClient('flock');
  it.skipIf(flock === undefined)(
    `goes on when the device is in use, where others refuse${flock ? '' : ' (skipped: flock is not installed)'}`,
    async () => {
      const { cachePath } = await unpackImage('fresh');
      const busy = spawn(flock!, ['-x', cachePath, '-c', 'echo held; cat'], { stdio: ['pipe', 'pipe', 'ignore'] });
      await new Promise((resolve) => busy.stdout.once('data', resolve));
      try {
        const info = await runCli(['info', cachePath]);
        expect(info.status).toBe(0);
        expect(info.stderr).toMatch(/in use by .*; it may change while it is read\n$/);
        const fsck = await runCli(['fsck', cachePath]);
        expect([fsck.status, fsck.stdout]).toEqual([8, '']);
        expect(fsck.stderr).toMatch(/in use by /);
      } finally {
        busy.stdin.end();
        await new Promise((resolve) => busy.on('close', resolve));
      }
    },
  );
});
