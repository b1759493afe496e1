/** What `attach --device` refuses before anything is changed. */
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeDevices } from '../nbd/attached.js';
import { runCli } from '../support/cli.js';

const folder = mkdtempSync(join(tmpdir(), 'pcache-device-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let devices: string[];
beforeAll(async () => {
  const { cache, backing } = await makeDevices(folder);
  devices = [cache, backing];
});

/** The beginning of a cache, which an attach that goes further changes. */
function metadataOf(path: string): Buffer {
  const bytes = Buffer.alloc(4 << 20);
  const fd = openSync(path, 'r');
  readSync(fd, bytes);
  closeSync(fd);
  return bytes;
}

const attach = (...flags: string[]) => runCli(['attach', ...devices, ...flags]);

describe('attach --device', () => {
  it('refuses a device that is neither a ublk nor an nbd device', async () => {
    expect(await attach('--device', '/dev/sda')).toMatchObject({
      status: 16,
      stderr: expect.stringContaining(
        'pcache: --device /dev/sda: is not a device that can be made; give auto, ublk, nbd, /dev/ublkbN or /dev/nbdN\n',
      ) as string,
    });
  });

  it('refuses --kernel beside it', async () => {
    const { status, stderr } = await attach('--device', 'auto', '--kernel', 'pc');
    expect(status).toBe(16);
    expect(stderr).toContain('--device cannot be used with --kernel');
  });

  it('takes over only ublk devices', async () => {
    const { status, stderr } = await attach('--device', '/dev/nbd0', '--recover');
    expect(status).toBe(16);
    expect(stderr).toContain('--recover takes over a device that exists; give it as --device /dev/ublkbN\n');
  });

  const hasNbd = /^ *\d+ nbd$/m.test(readFileSync('/proc/devices', 'utf8'));
  const hasUblk = existsSync('/dev/ublk-control');
  const title = 'names the kernel modules to load where the drivers are missing, and leaves the cache as it was';
  const reason = hasNbd || hasUblk ? ' (skipped: this kernel has a driver)' : '';
  it.skipIf(hasNbd || hasUblk)(`${title}${reason}`, async () => {
    const before = metadataOf(devices[0]);
    const load = 'load it with: modprobe';
    for (const [device, message] of [
      [
        'auto',
        'this kernel has neither the ublk nor the nbd driver, and --device needs one; ' +
          'load one with: modprobe ublk_drv (CONFIG_BLK_DEV_UBLK), or modprobe nbd (CONFIG_BLK_DEV_NBD)',
      ],
      [
        '/dev/ublkb0',
        `this kernel has no ublk driver, which /dev/ublkbN needs; ${load} ublk_drv ` +
          '(module ublk_drv, CONFIG_BLK_DEV_UBLK, Linux 6.0 or later), or give --device auto or /dev/nbdN',
      ],
      [
        '/dev/nbd0',
        `this kernel has no nbd driver, which /dev/nbdN needs; ${load} nbd (module nbd, CONFIG_BLK_DEV_NBD)`,
      ],
    ]) {
      expect(await attach('--device', device)).toMatchObject({ status: 8, stderr: `pcache: ${message}\n` });
    }
    expect(metadataOf(devices[0]).equals(before)).toBe(true);
  });
});

describe('status, drain and detach of a block device', () => {
  it.each([
    [
      ['status'],
      16,
      "which cache? give its block device (/dev/ublkbN, /dev/nbdN, or a NAME of the kernel's target), or --socket PATH",
    ],
    [['drain', '/dev/ublkb0', '--socket', 'x'], 16, 'which cache? give its block device'],
    [
      ['detach', '/dev/sda'],
      16,
      '/dev/sda: is not a device of "pcache attach --device"; give /dev/ublkbN, /dev/nbdN, --socket PATH',
    ],
    [
      ['detach', '/dev/ublkb4711'],
      8,
      '/dev/ublkb4711: no cache is served at /run/pcache/ublkb4711; if it was attached',
    ],
  ])('%j is refused with one line', async (args, status, message) => {
    const result = await runCli(args);
    expect(result.status).toBe(status);
    expect(result.stderr).toContain(`pcache: ${message}`);
  });
});
