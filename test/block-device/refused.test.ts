/** What `attach --device` refuses before anything is changed. */
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
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
  it('refuses a device that is not an nbd device', async () => {
    expect(await attach('--device', '/dev/sda')).toMatchObject({
      status: 16,
      stderr: expect.stringContaining(
        'pcache: --device /dev/sda: is not a device that can be made; give auto or /dev/nbdN\n',
      ) as string,
    });
  });

  it('refuses --kernel beside it', async () => {
    const { status, stderr } = await attach('--device', 'auto', '--kernel', 'pc');
    expect(status).toBe(16);
    expect(stderr).toContain('--device cannot be used with --kernel');
  });

  const hasDriver = /^ *\d+ nbd$/m.test(readFileSync('/proc/devices', 'utf8'));
  const title = 'names the kernel module to load where the driver is missing, and leaves the cache as it was';
  it.skipIf(hasDriver)(hasDriver ? `${title} (skipped: this kernel has the driver)` : title, async () => {
    const before = metadataOf(devices[0]);
    const { status, stderr } = await attach('--device', 'auto');
    expect(status).toBe(8);
    expect(stderr).toBe(
      'pcache: this kernel has no nbd driver, which --device needs; ' +
        'load it with: modprobe nbd (module nbd, CONFIG_BLK_DEV_NBD)\n',
    );
    expect(metadataOf(devices[0]).equals(before)).toBe(true);
  });
});
