/**
 * With a real kernel: `attach --kernel` before its target, and a kernel whose disk is what `attach` serves, with an
 * ext4 filesystem and programs at work on it.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { runCli } from '../support/cli.js';
import { damagedCopy } from '../support/cli-images.js';
import { findClient } from '../support/clients.js';
import { unpackImage } from '../support/images.js';
import {
  describeWithKernel,
  KERNEL_TEST_TIMEOUT_MS,
  makeImageFolder,
  printed,
  runGuest,
  statusLines,
} from '../support/kernel.js';
import { attach, BACKING_BYTES, makeDevices, sparseFile, type Attached } from './attached.js';

const folder = makeImageFolder();
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The program as the guest starts it, which has this machine's files at $HOST; the bundle opens few of them. */
const PCACHE = `$HOST${process.execPath} $HOST${fileURLToPath(new URL('../../bundle/pcache.cjs', import.meta.url))}`;

function copyOf(path: string, name: string): string {
  const copy = join(folder, name);
  execFileSync('cp', ['--sparse=always', '--no-preserve=all', path, copy]);
  chmodSync(copy, 0o644);
  return copy;
}

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

describeWithKernel('attach --kernel in a virtual machine', (kernel) => {
  it('prints what attaches the cache, and runs it', { timeout: KERNEL_TEST_TIMEOUT_MS }, async () => {
    const { cachePath, backingPath } = await unpackImage('fresh');
    const result = await runGuest({
      kernel,
      cache: copyOf(cachePath, 'cache'),
      backing: copyOf(backingPath, 'backing'),
      script: `
        echo "printed: $(${PCACHE} attach /dev/pmem0 /dev/vda --kernel pc | head -n 1)"
        ${PCACHE} attach /dev/pmem0 /dev/vda --kernel pc --data-crc 2>&1 || echo "refused: $?"
        ${PCACHE} attach /dev/pmem0 /dev/vda --kernel pc --run
        status
        detach`,
      seconds: 400,
    });
    const table = `0 131072 pcache /dev/pmem0 /dev/vda 4 cache_mode writeback data_crc false`;
    expect(printed(result, 'printed')).toEqual([`dmsetup create pc --table '${table}'`]);
    expect(printed(result, 'refused')).toEqual(['16']);
    const [status] = statusLines(result);
    expect(result.output).toContain(`0 131072 pcache ${status.split(' ').slice(0, 3).join(' ')}`);
  });

  it('refuses what the kernel refuses', { timeout: KERNEL_TEST_TIMEOUT_MS }, async () => {
    const { backingPath } = await unpackImage('dirty-crc');
    const damaged = await damagedCopy(folder, 'dirty-crc', (image) => image.write(4096, Buffer.alloc(4, 0x55)));
    const result = await runGuest({
      kernel,
      cache: damaged,
      backing: copyOf(backingPath, 'backing'),
      script: `
        ${PCACHE} attach /dev/pmem0 /dev/vda --kernel pc --run 2>&1 || echo "refused: $?"
        attach true >/dev/null 2>&1 || echo "kernel: $?"`,
      seconds: 400,
    });
    expect(result.output).toContain('SUPERBLOCK_BAD_CRC');
    expect(printed(result, 'refused')).toEqual(['4']);
    expect(printed(result, 'kernel')).toEqual(['1']);
  });
});

describeWithKernel('a kernel whose disk is served', (kernel) => {
  let attached: Attached | undefined;
  afterEach(async () => {
    await attached?.stop('SIGKILL');
    attached = undefined;
  });

  it.each([['--data-crc'], ['--gc-percent=5']])(
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
