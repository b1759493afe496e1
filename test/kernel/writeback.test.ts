/**
 * A cache that our engine left dirty, written back by `pcache writeback`, in the kernel: it finds nothing dirty,
 * and reads what was there before; and the backing device has it all without the cache.
 */
import { afterEach, describe, expect, it } from 'vitest';
import { SUBTREE_BYTES } from '../../src/engine/media/geometry.js';
import { runCli } from '../support/cli.js';
import { hashOf } from '../support/cli-images.js';
import { describeWithKernel, KERNEL_TEST_TIMEOUT_MS, printed, runGuest, statusLines } from '../support/kernel.js';
import { expectSound, format, Images, logicalDevice, predictedStatus, runEngine } from './host.js';
import { expectStatus } from './status.js';

const DEVICE_SECTORS = (12 * SUBTREE_BYTES) / 512 - 9;
const REQUESTS = 4000;

let images: Images;
afterEach(() => images.remove());

describeWithKernel('a cache written back without the kernel, in the kernel', (kernel) => {
  describe.each([true, false])('data_crc %s', (dataCrc) => {
    it('is not dirty, and reads as before', { timeout: KERNEL_TEST_TIMEOUT_MS }, async () => {
      images = new Images(DEVICE_SECTORS);
      await format(images, '--size', '512MiB', ...(dataCrc ? ['--data-crc'] : []));
      await runEngine(images, images.initialIds, {
        slots: 4,
        workload: {
          kind: 'mixed',
          seed: 23,
          count: REQUESTS,
          deviceSectors: DEVICE_SECTORS,
          threads: 1,
          firstId: 1_000_000,
        },
        ending: 'kill',
        killAt: REQUESTS * 0.8,
      });
      const before = await logicalDevice(images);
      const { status, stdout } = await runCli(['writeback', images.cache, images.backing, '--json']);
      expect(status, stdout).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ complete: true, failedRanges: 0 });
      expect((JSON.parse(stdout) as { writtenBytes: number }).writtenBytes).toBeGreaterThan(0);
      expect(await hashOf(images.backing)).toBe(before.sha256);
      await expectSound(images);

      const predicted = await predictedStatus(images);
      const [keyHead, dirtyTail] = predicted.split(' ').slice(6);
      expect(dirtyTail).toBe(keyHead);
      const guest = await runGuest({ kernel, ...images, script: `attach ${dataCrc}; hash_device; detach` });
      expectStatus(statusLines(guest)[0], predicted, true);
      expect(printed(guest, 'sha256')).toEqual([`${before.sha256}  -`]);
      // The kernel wrote nothing back either.
      expect(await hashOf(images.backing)).toBe(before.sha256);
    });
  });
});
