/**
 * `status`, `tune`, `drain` and `detach` for a cache of the kernel's target, with a program that plays dmsetup and an image
 * that plays the live cache device. test/kernel/live.test.ts has the same in real kernels.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { LogKeys } from '../../src/engine/inspect/keys.js';
import { KERNEL_GEOMETRY } from '../../src/engine/media/geometry.js';
import { KEY_FLAG_CLEAN } from '../../src/engine/media/kset.js';
import { readMetadata } from '../../src/engine/media/metadata.js';
import type { KernelStatus } from '../../src/kernel/kernel-status.js';
import { PCACHE, runCli, type CliOptions } from '../support/cli.js';
import { describeWithClient } from '../support/clients.js';
import { temporaryFolder, writableImage } from '../support/cli-images.js';
import { schemaErrors } from '../support/documents.js';
import { FakeDmsetup } from '../support/fake-dmsetup.js';
import { unpackImage } from '../support/images.js';
import { SparseImage } from '../support/sparse-image.js';

vi.setConfig({ testTimeout: 60_000 });

const folder = temporaryFolder('kernel-device');
/** Of the image "dirty-crc": all of its log is dirty. */
const KEY_HEAD = '0:42376';
/** The kset in the middle of its log. */
const MIDDLE = '0:20576';
const DIRTY = `0 31 31 2 70 1183 ${KEY_HEAD} 0:0 0:0`;
const CLEAN = `0 31 31 2 70 1183 ${KEY_HEAD} ${KEY_HEAD} 0:0`;

let images: { cachePath: string; backingPath: string };
let fake: FakeDmsetup;
beforeEach(async () => {
  images = await unpackImage('dirty-crc');
  fake = new FakeDmsetup(mkdtempSync(join(folder, 'dev-')), { ...images, state: DIRTY });
});

const pcache = (args: string[], options: CliOptions = {}) =>
  runCli(args, { ...options, env: { ...fake.environment, ...options.env } });

async function statusOf(...flags: string[]): Promise<KernelStatus> {
  const { status, stdout, stderr } = await pcache(['status', 'pc', '--json', ...flags]);
  expect([status, stderr]).toEqual([0, '']);
  expect(schemaErrors('status NAME', stdout)).toEqual([]);
  return JSON.parse(stdout) as KernelStatus;
}

describe('status of a cache of the kernel', () => {
  it('counts what is dirty between the tails, and takes the word crc and words that newer targets append', async () => {
    fake.setState(`${DIRTY} 11 22 33 44`);
    const status = await statusOf();
    expect(status).toMatchObject({
      name: 'pc',
      device: fake.device,
      path: images.cachePath,
      backing: images.backingPath,
      sizeBytes: 64 << 20,
      mode: 'writeback',
      dataCrc: true,
      line: `${DIRTY} 11 22 33 44`,
      segments: 31,
      segmentsUsed: 2,
      gcPercent: 70,
      keyHead: { segment: 0, offsetBytes: 42376 },
      dirtyTail: { segment: 0, offsetBytes: 0 },
      dirtyIsLowerBound: false,
      intervalMs: null,
      requests: null,
    });
    const image = SparseImage.fromFile(images.cachePath);
    const keys = new LogKeys(image, readMetadata(image, KERNEL_GEOMETRY), Infinity);
    let [dirtyKeys, dirtyBytes] = [0, 0];
    while (keys.next()) {
      if ((keys.row.flags & KEY_FLAG_CLEAN) !== 0) continue;
      dirtyKeys++;
      dirtyBytes += keys.row.lengthBytes;
    }
    expect(dirtyKeys).toBeGreaterThan(100);
    expect(status).toMatchObject({ dirtyKeys, dirtyBytes });
  });

  it('shows the words of a served cache, whether by NAME or by path', async () => {
    const byName = await pcache(['status', 'pc']);
    expect(byName.stdout).toMatch(/^Attached by the kernel\n {2}cache /);
    for (const word of ['segments in use', 'dirty', 'key_head', 'dirty_tail', 'key_tail', 'status']) {
      expect(byName.stdout).toContain(`  ${word}`);
    }
    expect((await pcache(['status', fake.device])).stdout).toBe(byName.stdout);
    fake.setState(CLEAN);
    expect((await pcache(['status', 'pc'])).stdout).toMatch(/ dirty +0 B {2}in 0 keys\n/);
  });

  it('has the metrics of a served cache', async () => {
    const { stdout } = await pcache(['status', 'pc', '--prometheus']);
    expect(stdout).toContain('\npcache_segments_used 2\n');
    expect(stdout).toMatch(/\npcache_dirty_bytes \d{4,}\n/);
  });

  it('reads the log again when it moves on under the walk, and says how much was written back', async () => {
    fake.setNextState(CLEAN);
    const child = pcache(['status', 'pc', '--watch', '--json'], {
      onStart: (started) => {
        let documents = 0;
        started.stdout?.on('data', (text: Buffer) => {
          documents += String(text).split('\n').length - 1;
          if (documents === 1) fake.setState(CLEAN);
          if (documents >= 2) started.kill('SIGINT');
        });
      },
    });
    const { status, stdout } = await child;
    expect(status).toBe(130);
    const [first, second] = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as KernelStatus);
    expect(first).toMatchObject({ dirtyBytes: 0, dirtyIsLowerBound: false, writtenBackBytes: null });
    expect(second).toMatchObject({ dirtyBytes: 0, writtenBackBytes: 0 });
    expect(second.intervalMs).toBeGreaterThan(900);
  });

  it('says that it is a lower bound when a kset of the log stays unreadable', async () => {
    fake.setState('0 31 31 2 70 1183 0:50000 0:0 0:0');
    const status = await statusOf();
    expect(status.dirtyIsLowerBound).toBe(true);
    expect(status.dirtyBytes).toBeGreaterThan(0);
    expect((await pcache(['status', 'pc'])).stdout).toMatch(/dirty +at least/);
  });
});

describe('tune of a cache of the kernel', () => {
  it('sends the message, and says what the kernel has then', async () => {
    const { status, stdout } = await pcache(['tune', 'pc', 'gc_percent=33']);
    expect([status, stdout]).toEqual([0, 'gc_percent: 33\n']);
    expect(fake.commands).toContain('message pc 0 gc_percent 33');
  });

  it('refuses what the kernel would refuse, and a setting that is missing, before it asks', async () => {
    for (const args of [['gc_percent=91'], ['mode=x'], []]) {
      const { status, stderr } = await pcache(['tune', 'pc', ...args]);
      expect(status).toBe(16);
      expect(stderr).toContain('give gc_percent=N with N from 0 to 90');
    }
    expect(fake.commands).toEqual(['']);
  });
});

describe('drain of a cache of the kernel', () => {
  it('ends when dirty_tail has passed what was written before, and sets nothing', async () => {
    fake.setNextState(CLEAN);
    const { status, stdout, stderr } = await pcache(['drain', 'pc']);
    expect([status, stdout, stderr]).toEqual([0, 'dirty: nothing\n', '']);
    expect(fake.commands.filter((line) => /^(message|suspend|resume)/.test(line))).toEqual([]);
  });

  it('reports what is dirty again at the end', async () => {
    // The log goes on behind what was written before.
    fake.setState(`0 31 31 2 70 1183 ${MIDDLE} 0:0 0:0`);
    fake.setNextState(`0 31 31 2 70 1183 ${KEY_HEAD} ${MIDDLE} 0:0`);
    const { status, stdout } = await pcache(['drain', 'pc', '--json']);
    expect(status).toBe(0);
    expect(schemaErrors('drain', stdout)).toEqual([]);
    expect((JSON.parse(stdout) as { dirtyBytes: number }).dirtyBytes).toBeGreaterThan(0);
  });

  it('gives up after --timeout with status 4 and says how much is dirty', async () => {
    const { status, stderr } = await pcache(['drain', 'pc', '--timeout', '1']);
    expect([status, stderr]).toEqual([
      4,
      expect.stringMatching(
        /^pcache: pc: after 1 s \d{4,} bytes are dirty; the kernel goes on writing back: drain again/,
      ),
    ]);
  });

  it('ends on Ctrl-C with status 130, and leaves gc_percent as it was', async () => {
    let isAsked = false;
    const { status, stderr } = await pcache(['drain', 'pc'], {
      onStart: (child) => {
        const timer = setInterval(() => {
          if (isAsked || fake.commands.filter((line) => line === 'status pc').length < 5) return;
          isAsked = true;
          clearInterval(timer);
          child.kill('SIGINT');
        }, 20);
      },
    });
    expect(status).toBe(130);
    expect(stderr).toMatch(/\npcache: pc: interrupted, \d{4,} bytes are dirty; the kernel goes on writing back\n$/);
    expect(fake.commands.filter((line) => line.startsWith('message'))).toEqual([]);
  });

  it('gives up waiting for a server too after --timeout', async () => {
    const socket = join(folder, 'silent.control');
    const server = createServer((client) => client.resume());
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    const { status, stderr } = await runCli(['drain', '--socket', join(folder, 'silent'), '--timeout', '1']);
    server.close();
    expect([status, stderr]).toEqual([
      4,
      `pcache: ${join(folder, 'silent')}: still dirty after 1 s; the server goes on writing back\n`,
    ]);
  });
});

describeWithClient('drain on a terminal', 'script', (script) => {
  it('shows how much is written back', async () => {
    const line = `stty cols 120; ${process.execPath} ${PCACHE} drain pc --timeout 2`;
    const env = { ...process.env, ...fake.environment };
    const { stdout } = await promisify(execFile)(script, ['-qec', line, '/dev/null'], { env }).catch(
      (error: { stdout: string }) => error,
    );
    expect(stdout).toMatch(/draining pc {2}0 B of \d+\.\d MiB {2}0\.0%/);
  });
});

describe('detach of a cache of the kernel', () => {
  it('refuses a dirty one with status 4, says how much, and removes nothing', async () => {
    const { status, stderr } = await pcache(['detach', 'pc']);
    expect([status, stderr]).toEqual([
      4,
      expect.stringMatching(/^pcache: pc: \d{4,} bytes are dirty; run "pcache drain pc" first, or give --drain \(/),
    ]);
    expect(fake.isRemoved).toBe(false);
  });

  it('refuses one that is open, before it drains', async () => {
    fake.write('open', '1');
    const { status, stderr } = await pcache(['detach', 'pc', '--drain']);
    expect([status, stderr]).toEqual([
      8,
      `pcache: ${fake.device}: in use by the kernel; end that use first (unmount it, close it)\n`,
    ]);
    expect(fake.isRemoved).toBe(false);
  });

  it('removes one that is clean, after --drain too', async () => {
    const { cache, backing } = await writableImage(folder, 'dirty-crc');
    expect((await runCli(['writeback', cache, backing, '--force-backing'])).status).toBe(0);
    for (const flags of [[], ['--drain']]) {
      const options = { cachePath: cache, backingPath: backing, state: flags.length === 0 ? CLEAN : DIRTY };
      fake = new FakeDmsetup(mkdtempSync(join(folder, 'dev-')), options);
      if (flags.length > 0) fake.setNextState(CLEAN);
      const { status, stdout, stderr } = await pcache(['detach', 'pc', ...flags, '--json']);
      expect([status, stderr]).toEqual([0, '']);
      expect(JSON.parse(stdout)).toEqual({ schemaVersion: 1, detached: true });
      expect(fake.commands.at(-1)).toBe('remove --retry pc');
      expect(fake.isRemoved).toBe(true);
    }
  });

  it('says so when somebody wrote to it at the last moment', async () => {
    // The status line says that nothing is dirty; the log that is left says otherwise.
    fake.setState(CLEAN);
    const { status, stderr } = await pcache(['detach', 'pc']);
    expect(fake.isRemoved).toBe(true);
    expect([status, stderr]).toEqual([
      4,
      expect.stringMatching(/^pcache: pc: was written to while it was detached: \d{4,} bytes are dirty in .*writeback/),
    ]);
  });

  it('refuses flags that are for the other kind of cache', async () => {
    expect(await pcache(['detach', 'pc', '--force'])).toMatchObject({ status: 16 });
    expect(await pcache(['detach', '/dev/ublkb0', '--drain'])).toMatchObject({ status: 16 });
  });
});

describe('a device that is not one of the kernel target', () => {
  const said = async (): Promise<unknown[]> => {
    const { status, stderr } = await pcache(['status', 'pc']);
    return [status, stderr.split('\n')[0]];
  };

  it.each([
    [
      'of another target',
      16,
      '0 131072 linear 8:16 0',
      'pcache: pc: is a device of target linear, not of pcache; "dmsetup ls --target pcache" lists those of the kernel\'s target',
    ],
    ['without a table', 16, '', 'pcache: pc: has no table, not of pcache; '],
    [
      'with several targets',
      16,
      '0 8 pcache a b\n8 8 linear 8:16 0',
      'pcache: pc: has several targets, not of pcache; ',
    ],
  ])('is refused: one %s', async (_what, status, table, message) => {
    fake.write('table', table);
    expect(await said()).toEqual([status, expect.stringContaining(message)]);
  });

  it.each([
    [
      'device-mapper: table ioctl on pc  failed: No such device or address\nCommand failed.',
      'no device-mapper device has',
    ],
    ['Device pc not found\nCommand failed.', 'pcache: pc: no device-mapper device has this name; "dmsetup ls'],
    ['Device pc not found\nCommand failed.', 'serves is given by its path, such as /dev/pcache/pc'],
    [
      '/dev/mapper/control: open failed: Permission denied\nFailure to communicate',
      'pc: dmsetup has no permission; run as root',
    ],
    ['/dev/mapper/control: open failed: No such file or directory', 'pc: this kernel has no device-mapper; '],
    ['something\nelse', 'pcache: pc: dmsetup table failed: something; else; see the kernel log (dmesg)'],
  ])('is told in one line with the remedy: %s', async (text, message) => {
    fake.write('fails', text);
    expect(await said()).toEqual([8, expect.stringContaining(message)]);
  });

  it('is told where dmsetup is not installed, or the device is suspended', async () => {
    fake.write('info', '1023:7:Suspended');
    expect(await said()).toEqual([8, 'pcache: pc: is suspended; let it go on first with: dmsetup resume pc']);
    const { status, stderr } = await pcache(['status', 'pc'], { env: { PATH: '/nowhere:/usr/bin' } });
    if (!stderr.includes('no device-mapper')) {
      expect([status, stderr]).toEqual([
        8,
        'pcache: dmsetup: not installed, or not in PATH; install the package dmsetup\n',
      ]);
    }
  });
});

describe('tab detach of a cache of the kernel', () => {
  const detach = async (options: string, fails?: string) => {
    const { cache, backing } = await writableImage(folder, 'dirty-crc');
    fake = new FakeDmsetup(mkdtempSync(join(folder, 'dev-')), { cachePath: cache, backingPath: backing, state: DIRTY });
    if (fails !== undefined) fake.write('fails', fails);
    const tab = join(mkdtempSync(join(folder, 'tab-')), 'tab');
    writeFileSync(tab, `pc ${cache} ${backing} ${options}\n`);
    const ended = await pcache(['tab', 'detach', 'pc', '--tab', tab]);
    const { stdout } = await pcache(['info', cache, backing, '--json']);
    return { ...ended, dirtyBytes: (JSON.parse(stdout) as { content: { dirtyBytes: number } }).content.dirtyBytes };
  };

  it('removes it from device-mapper, and shows what stays dirty', async () => {
    const { status, stdout, dirtyBytes } = await detach('kernel');
    expect(fake.commands).toEqual(['remove --retry pc']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^dirty: +\d.*B/m);
    expect(dirtyBytes).toBeGreaterThan(0);
  });

  it('with the option drain removes it first, and writes everything back', async () => {
    const { status, stderr, dirtyBytes } = await detach('kernel,drain');
    expect([status, stderr]).toEqual([0, '']);
    expect(fake.commands).toEqual(['remove --retry pc']);
    expect(dirtyBytes).toBe(0);
  });

  it('leaves one that is in use as it is, and writes nothing back', async () => {
    const { status, stdout, dirtyBytes } = await detach('kernel,drain', 'device-mapper: remove failed: busy');
    expect(status).toBe(8);
    expect(stdout).toBe('');
    expect(dirtyBytes).toBeGreaterThan(0);
  });
});
