/**
 * A cache that our engine left dirty, written back by `pcache writeback`, in the kernel: it finds nothing dirty,
 * and reads what was there before; and the backing device has it all without the cache.
 */
import { afterEach, expect, it } from 'vitest';
import { SUBTREE_BYTES } from '../../src/engine/media/geometry.js';
import { runCli } from '../support/cli.js';
import { hashOf } from '../support/cli-images.js';
import { describeWithKernel, KERNEL_TEST_TIMEOUT_MS, printed, statusLines } from '../support/kernel.js';
import { expectSound, format, Images, logicalDevice, predictedStatus, runEngine } from './host.js';
import { runTogether } from './shared-machine.js';
import { expectStatus } from './status.js';

const DEVICE_SECTORS = (12 * SUBTREE_BYTES) / 512 - 9;
const REQUESTS = 4000;

const made: Images[] = [];
afterEach(() => made.splice(0).forEach((images) => images.remove()));

interface WrittenBack {
  readonly images: Images;
  readonly dataCrc: boolean;
  readonly sha256: string;
  readonly predicted: string;
}

/** A cache that a killed engine left dirty, written back. */
async function writtenBack(dataCrc: boolean): Promise<WrittenBack> {
  const images = new Images(DEVICE_SECTORS);
  made.push(images);
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
    holdWritebackAfter: REQUESTS * 0.4,
    ending: 'kill',
    killAt: REQUESTS * 0.8,
  });
  const { sha256 } = await logicalDevice(images);
  const { status, stdout } = await runCli(['writeback', images.cache, images.backing, '--json']);
  expect(status, stdout).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ complete: true, failedRanges: 0 });
  expect((JSON.parse(stdout) as { writtenBytes: number }).writtenBytes).toBeGreaterThan(0);
  expect(await hashOf(images.backing)).toBe(sha256);
  await expectSound(images);

  const predicted = await predictedStatus(images);
  const [keyHead, dirtyTail] = predicted.split(' ').slice(6);
  expect(dirtyTail).toBe(keyHead);
  return { images, dataCrc, sha256, predicted };
}

describeWithKernel('a cache that pcache writeback wrote back', (kernel) => {
  it(
    'is not dirty in the kernel, and reads as before, with data_crc and without',
    { timeout: KERNEL_TEST_TIMEOUT_MS },
    async () => {
      const caches = [await writtenBack(true), await writtenBack(false)];
      const script = (dataCrc: boolean): string => `attach ${dataCrc}; hash_device; detach`;
      const guests = await runTogether(
        kernel,
        caches.map(({ images, dataCrc }) => ({ images, script: script(dataCrc) })),
      );
      for (const [n, { images, sha256, predicted }] of caches.entries()) {
        expectStatus(statusLines(guests[n])[0], predicted, true);
        expect(printed(guests[n], 'sha256')).toEqual([`${sha256}  -`]);
        // The kernel wrote nothing back either.
        expect(await hashOf(images.backing)).toBe(sha256);
      }
    },
  );
});
