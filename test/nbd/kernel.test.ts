/**
 * `attach --kernel` without a block device, and a real kernel whose disk is what `attach` serves, with an ext4 filesystem
 * and programs at work on it.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { runCli } from '../support/cli.js';
import { findClient } from '../support/clients.js';
import { dealtTo, describeWithKernel, KERNEL_TEST_TIMEOUT_MS, makeImageFolder, runGuest } from '../support/kernel.js';
import { attach, BACKING_BYTES, makeDevices, sparseFile, type Attached } from './attached.js';

const folder = makeImageFolder();
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('attach --kernel', () => {
  it('takes no files, no odd names and no options of the server', async () => {
    const { cache, backing } = await makeDevices(folder);
    const refused = async (...args: string[]) => {
      const { status, stdout, stderr } = await runCli(['attach', cache, backing, ...args]);
      expect(stdout).toBe('');
      return [status, stderr];
    };
    expect(await refused('--kernel', 'pc')).toEqual([
      8,
      expect.stringContaining('not a block device, which the kernel needs'),
    ]);
    expect(await refused('--kernel', 'a b')).toEqual([
      16,
      expect.stringContaining("'a b' is not a device-mapper name"),
    ]);
    expect(await refused('--kernel', 'pc', '--drain')).toEqual([
      16,
      expect.stringContaining('--drain cannot be used with --kernel'),
    ]);
  });
});

describeWithKernel('a kernel whose disk is served', (kernel) => {
  let attached: Attached | undefined;
  afterEach(async () => {
    await attached?.stop('SIGKILL');
    attached = undefined;
  });

  it.each(dealtTo(kernel, [['--data-crc'], ['--gc-percent=5']]))(
    'makes an ext4 filesystem, works on it, and e2fsck finds it sound (%s)',
    { timeout: KERNEL_TEST_TIMEOUT_MS },
    async (flag) => {
      const served = mkdtempSync(join(folder, 'served-'));
      const { cache, backing } = await makeDevices(served, [flag]);
      attached = await attach(served, [cache, backing, '--drain']);
      const result = await runGuest({
        kernel,
        cache: sparseFile(join(served, 'pmem'), 512 << 20), // the machine wants one
        backing: attached.uri,
        script: `
          mkfs.ext4 -q /dev/vda
          mkdir -p /tmp/m && mount /dev/vda /tmp/m
          tar cf - -C /usr share/common-licenses share/perl5 lib/git-core/mergetools 2>/dev/null | tar xf - -C /tmp/m || true
          for n in 1 2 3; do cp -r /tmp/m/share "/tmp/m/copy$n"; sync; done
          rm -r /tmp/m/copy2; fallocate -l 20M /tmp/m/hole
          (cd /tmp/m && find . -type f -exec sha256sum {} + | sort -k2) >/tmp/x/before
          umount /tmp/m; mount /dev/vda /tmp/m
          (cd /tmp/m && find . -type f -exec sha256sum {} + | sort -k2) >/tmp/x/after
          umount /tmp/m`,
        seconds: 600,
      });
      const before = result.files.get('before')!.toString();
      expect(before.split('\n').length).toBeGreaterThan(50);
      expect(result.files.get('after')!.toString()).toBe(before);
      const ended = await attached.result();
      expect(ended).toMatchObject({ failedRequests: 0, dirty: { dirtyKeys: 0 } });
      expect(ended.writeBytes).toBeGreaterThan(BACKING_BYTES / 64);
      // Everything was written back, so the backing device alone is the disk.
      const e2fsck = findClient('e2fsck');
      expect(e2fsck).toBeDefined();
      expect(() => execFileSync(e2fsck!, ['-f', '-n', backing], { stdio: 'pipe' })).not.toThrow();
      expect((await runCli(['fsck', cache, backing])).status).toBe(0);
    },
  );
});
