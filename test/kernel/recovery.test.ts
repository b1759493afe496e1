/**
 * Caches that our engine wrote, closed in order or killed, attached in the kernel: the same status, the same
 * bytes, and among them everything that was acknowledged as durable.
 */
import { afterEach, expect, it } from 'vitest';
import { SUBTREE_BYTES } from '../../src/engine/media/geometry.js';
import { describeWithKernel, KERNEL_TEST_TIMEOUT_MS, printed, statusLines } from '../support/kernel.js';
import {
  ENGINE_IN_FLIGHT,
  expectSound,
  format,
  Images,
  logicalDevice,
  predictedStatus,
  runEngine,
  type Logical,
} from './host.js';
import { afterAll, bytesOfIds, differences, judgeCrash } from './ledger.js';
import { firstRequests, type Workload } from './requests.js';
import { runTogether } from './shared-machine.js';
import { expectStatus } from './status.js';

const DEVICE_SECTORS = (12 * SUBTREE_BYTES) / 512 - 9;
const REQUESTS = 4000;
/** Of 31 segments; with `GC_EARLY` collection runs all the time, with `GC_LATE` it does not run at all. */
const GC_EARLY = 20;
const GC_LATE = 90;
const FIRST_MIXED_ID = 1_000_000;

interface Case {
  readonly name: string;
  readonly dataCrc: boolean;
  readonly killed: boolean;
  /** The log begins near the end of its segment, and segments have been freed and used again. */
  readonly wrapped: boolean;
  readonly slots: number;
}

const CASES: readonly Case[] = [
  { name: 'closed in order, data_crc', dataCrc: true, killed: false, wrapped: false, slots: 1 },
  { name: 'killed, no data_crc', dataCrc: false, killed: true, wrapped: false, slots: 4 },
  { name: 'closed in order, no data_crc, wrapped log', dataCrc: false, killed: false, wrapped: true, slots: 2 },
  { name: 'killed, data_crc, wrapped log', dataCrc: true, killed: true, wrapped: true, slots: 2 },
];

const made: Images[] = [];
afterEach(() => made.splice(0).forEach((images) => images.remove()));

/** Brings the log close to its segment's end. @returns what the device holds then */
async function wrap(images: Images, slots: number): Promise<Int32Array> {
  const fill: Workload = {
    kind: 'fill',
    seed: 5,
    count: 500_000,
    deviceSectors: DEVICE_SECTORS,
    threads: 1,
    firstId: 1,
  };
  const { acked, report } = await runEngine(images, images.initialIds, {
    slots,
    workload: fill,
    gcPercent: GC_EARLY,
    stopBeforeSegmentEnd: 32 * 1024,
    ending: 'close',
  });
  expect(acked).toBeLessThan(fill.count);
  expect(report!.segmentsFreed).toBeGreaterThan(0);
  return afterAll(images.initialIds, firstRequests(fill, acked));
}

interface Written {
  readonly images: Images;
  readonly logical: Logical;
  readonly predicted: string;
}

/** Writes a cache with our engine. @returns what the kernel must make of it */
async function writeCache({ dataCrc, killed, wrapped, slots }: Case): Promise<Written> {
  const images = new Images(DEVICE_SECTORS);
  made.push(images);
  await format(images, '--size', '512MiB', ...(dataCrc ? ['--data-crc'] : []));
  const base = wrapped ? await wrap(images, slots) : images.initialIds;
  const workload: Workload = {
    kind: 'mixed',
    seed: 11,
    count: REQUESTS,
    deviceSectors: DEVICE_SECTORS,
    threads: 1,
    firstId: FIRST_MIXED_ID,
  };
  const { acked } = await runEngine(images, base, {
    slots,
    workload,
    gcPercent: wrapped ? GC_LATE : 70,
    ...(killed ? { ending: 'kill', killAt: REQUESTS * 0.7 } : { ending: 'close' }),
  });

  await expectSound(images);
  const logical = await logicalDevice(images);
  const requests = firstRequests(workload, REQUESTS);
  if (killed) {
    const verdict = judgeCrash(base, requests, [acked], ENGINE_IN_FLIGHT, logical.ids);
    expect(verdict.wrong).toEqual([]);
    expect(verdict.durableSectors).toBeGreaterThan(1000);
  } else {
    expect(differences(logical.ids, afterAll(base, requests))).toEqual([]);
  }
  const predicted = await predictedStatus(images);
  if (wrapped) expect(predicted, 'the log is to have left its first segment').not.toMatch(/ 0:\d+ \d+:\d+ \d+:\d+$/);
  return { images, logical, predicted };
}

describeWithKernel('a cache that our engine wrote', (kernel) => {
  const names = CASES.map(({ name }) => name).join('; ');
  it(
    `has the status and the bytes in the kernel that we say (${names})`,
    { timeout: 2 * KERNEL_TEST_TIMEOUT_MS },
    async () => {
      const written: Written[] = [];
      for (const one of CASES) written.push(await writeCache(one));
      const guests = await runTogether(
        kernel,
        written.map(({ images, logical }, n) => ({
          images,
          files: { versions: bytesOfIds(logical.ids) },
          script: `
          attach_held ${CASES[n].dataCrc} 3000
          hash_device
          /tmp/x/replay check /dev/mapper/pc "$X"versions
          detach`,
        })),
      );
      for (const [n, { images, logical, predicted }] of written.entries()) {
        const { name } = CASES[n];
        expectStatus(statusLines(guests[n])[0], predicted, true);
        expect(printed(guests[n], 'replay'), name).toEqual([`${DEVICE_SECTORS} sectors checked, 0 wrong sectors`]);
        expect(printed(guests[n], 'sha256'), name).toEqual([`${logical.sha256}  -`]);

        await expectSound(images);
        expect((await logicalDevice(images)).sha256, name).toBe(logical.sha256);
      }
    },
  );
});
