/** What `pcache format`, `grow` and `move` make, held against the kernel: what it makes of a blank device, and whether it takes ours. */
import { afterEach, expect, it } from 'vitest';
import { decodeCacheInfo, decodeGeneration, decodePosition, decodeSegmentInfo } from '../../src/engine/media/codecs.js';
import { KERNEL_GEOMETRY, MIB, segmentCountFor, SUBTREE_BYTES } from '../../src/engine/media/geometry.js';
import { describeWithKernel, KERNEL_TEST_TIMEOUT_MS, printed, runGuest, statusLines } from '../support/kernel.js';
import {
  expectSound,
  format,
  grow,
  Images,
  logicalDevice,
  metadataOf,
  moveCache,
  predictedStatus,
  runEngine,
} from './host.js';
import { afterAll, bytesOfIds, differences } from './ledger.js';
import { encodeRequests, requestsOf, type Workload } from './requests.js';
import { runTogether } from './shared-machine.js';
import { expectStatus } from './status.js';
import { runCli } from '../support/cli.js';

const BLOCK_BYTES = 4096;
const SEGMENTS_512M = 31;
/** Not a whole number of subtrees, or of blocks. */
const DEVICE_SECTORS = (10 * SUBTREE_BYTES) / 512 - 7;

const made: Images[] = [];
afterEach(() => made.splice(0).forEach((images) => images.remove()));

function newImages(): Images {
  const images = new Images(DEVICE_SECTORS);
  made.push(images);
  return images;
}

/** Byte offsets, in what `metadataOf` gives, of the headers whose `version` and `reserved` the kernel leaves as they were. */
function uninitialised(segments: number): number[] {
  const offsets = [0, 16, 32, 48].map((at) => 4 * BLOCK_BYTES + at);
  for (let s = 0; s < segments; s++) {
    for (const at of [0, 16]) offsets.push((5 + 4 * s + 2) * BLOCK_BYTES + at);
  }
  return offsets;
}

/** The metadata with those bytes, and so the CRC over them, blanked. */
function masked(metadata: Buffer, segments: number): Buffer {
  const copy = Buffer.from(metadata);
  for (const offset of uninitialised(segments)) {
    copy.fill(0, offset, offset + 4);
    copy.fill(0, offset + 5, offset + 8);
  }
  return copy;
}

/** Blocks of 4 KiB that differ, by number. */
function differingBlocks(a: Buffer, b: Buffer): number[] {
  expect(a.length).toBe(b.length);
  const blocks = Array.from({ length: a.length / BLOCK_BYTES }, (_, n) => n);
  return blocks.filter(
    (n) =>
      !a.subarray(n * BLOCK_BYTES, (n + 1) * BLOCK_BYTES).equals(b.subarray(n * BLOCK_BYTES, (n + 1) * BLOCK_BYTES)),
  );
}

/** Every dual structure that the kernel wrote must decode, so that the masked bytes are not beyond suspicion. */
function expectDecodable(metadata: Buffer, segments: number): void {
  const at = (block: number, offset = 0) => metadata.subarray(block * BLOCK_BYTES + offset);
  expect(decodePosition(at(4))).toMatchObject({ crcOk: true, seq: 1, segment: 0, offsetBytes: 0 });
  expect(decodePosition(at(4, 32))).toMatchObject({ crcOk: true, seq: 1, segment: 0, offsetBytes: 0 });
  for (let s = 0; s < segments; s++) {
    expect(decodeGeneration(at(5 + 4 * s + 2, 16))).toMatchObject({ crcOk: true, seq: 1, generation: 0 });
    expect(decodeSegmentInfo(at(5 + 4 * s + 1))).toMatchObject({ crcOk: true, seq: 1 });
  }
}

describeWithKernel('a blank device that the kernel formats', (kernel) => {
  it('gets the bytes that pcache format writes', { timeout: KERNEL_TEST_TIMEOUT_MS }, async () => {
    const images = newImages();
    images.blankCache(512 * MIB);
    const guest = await runGuest({
      kernel,
      ...images,
      script: `
        for crc in true false; do
          dd if=/dev/zero of=/dev/pmem0 bs=4096 count=5 2>/dev/null
          attach $crc; detach
          /tmp/x/replay metadata /dev/pmem0 ${SEGMENTS_512M} /tmp/x/kernel-$crc
        done`,
    });
    const lines = statusLines(guest);
    for (const [n, crc] of ['true', 'false'].entries()) {
      const kernel = guest.files.get(`kernel-${crc}`)!;
      expectDecodable(kernel, SEGMENTS_512M);
      images.blankCache(512 * MIB);
      await format(images, ...(crc === 'true' ? ['--data-crc'] : []));
      const ours = metadataOf(images.cache, SEGMENTS_512M);
      expect(differingBlocks(masked(kernel, SEGMENTS_512M), masked(ours, SEGMENTS_512M))).toEqual([]);
      expect(await predictedStatus(images)).toBe(lines[n]);
    }
  });
});

interface Case {
  readonly name: string;
  readonly sizeBytes: number;
  readonly dataCrc: boolean;
  readonly gcPercent?: number;
}

const CASES: readonly Case[] = [
  { name: '512 MiB', sizeBytes: 512 * MIB, dataCrc: false },
  { name: '512 MiB with data_crc', sizeBytes: 512 * MIB, dataCrc: true },
  { name: '602 MiB with data_crc and gc_percent 33', sizeBytes: 602 * MIB, dataCrc: true, gcPercent: 33 },
];

const WORKLOAD: Workload = {
  kind: 'mixed',
  seed: 7,
  count: 2000,
  deviceSectors: DEVICE_SECTORS,
  threads: 2,
  firstId: 1,
};

interface Formatted {
  readonly images: Images;
  readonly predicted: string;
  readonly segments: number;
  readonly metadata: Buffer;
}

async function formatCase({ sizeBytes, dataCrc, gcPercent }: Case): Promise<Formatted> {
  const own = newImages();
  const flags = [
    ...(dataCrc ? ['--data-crc'] : []),
    ...(gcPercent === undefined ? [] : ['--gc-percent', String(gcPercent)]),
  ];
  await format(own, '--size', String(sizeBytes), '--backing', own.backing, ...flags);
  const segments = segmentCountFor(KERNEL_GEOMETRY, sizeBytes);
  return { images: own, predicted: await predictedStatus(own), segments, metadata: metadataOf(own.cache, segments) };
}

describeWithKernel('a cache that pcache format made', (kernel) => {
  const names = CASES.map(({ name }) => name).join('; ');
  it(
    `attaches, changes by its cache_info only, takes writes, and is sound afterwards (${names})`,
    { timeout: KERNEL_TEST_TIMEOUT_MS },
    async () => {
      const formatted: Formatted[] = [];
      for (const one of CASES) formatted.push(await formatCase(one));
      const guests = await runTogether(
        kernel,
        formatted.map(({ images: own, segments }, n) => ({
          images: own,
          files: { list: encodeRequests([...requestsOf(WORKLOAD)]), versions: bytesOfIds(own.initialIds) },
          script: `
          attach ${CASES[n].dataCrc}; detach
          /tmp/x/replay metadata $CACHE ${segments} "$X"attached
          attach ${CASES[n].dataCrc}
          /tmp/x/replay run /dev/mapper/pc "$X"list "$X"versions "$X"acks 0
          hash_device
          sync -d /dev/mapper/pc
          status
          detach`,
        })),
      );
      for (const [n, { images: own, predicted, segments, metadata }] of formatted.entries()) {
        const { name, gcPercent } = CASES[n];
        const [line, again, last] = statusLines(guests[n]);
        expect([line, again], name).toEqual([predicted, predicted]);
        expect(predicted).toMatch(new RegExp(`^0 ${segments} ${segments} 1 ${gcPercent ?? 70} [0-9a-f]+ 0:0 0:0 0:0$`));
        expectOnlyAttached(metadata, guests[n].files.get('attached')!, segments);
        await expectRecordLeft(own, metadata);
        expect(printed(guests[n], 'replay'), name).toEqual(['2000 requests, 0 wrong sectors']);

        await expectSound(own);
        const logical = await logicalDevice(own);
        expect(printed(guests[n], 'sha256'), name).toEqual([`${logical.sha256}  -`]);
        expect(differences(logical.ids, afterAll(own.initialIds, requestsOf(WORKLOAD)))).toEqual([]);
        expectStatus(last, await predictedStatus(own), false);
      }
    },
  );
});

interface Changed {
  readonly how: string;
  readonly images: Images;
  /** Contents of the logical device, and of it as `pcache cat` gives it. */
  readonly ids: Int32Array;
  readonly sha256: string;
  readonly predicted: string;
}

const SHAPE = { deviceSectors: DEVICE_SECTORS, threads: 2 };
const OURS: Workload = { kind: 'mixed', seed: 8, count: 2000, firstId: 1, ...SHAPE };
const THEIRS: Workload = { kind: 'mixed', seed: 9, count: 1000, firstId: 2001, ...SHAPE };

/** A cache of 512 MiB with dirty data in it that a command then changed. */
async function changedCache(how: string, change: (images: Images) => Promise<void>): Promise<Changed> {
  const images = newImages();
  await format(images, '--size', String(512 * MIB), '--data-crc');
  await runEngine(images, images.initialIds, { slots: 2, workload: OURS, ending: 'close' });
  const ids = afterAll(images.initialIds, requestsOf(OURS));
  await change(images);
  const { sha256, ids: seen } = await logicalDevice(images);
  expect(differences(seen, ids), how).toEqual([]);
  return { how, images, ids, sha256, predicted: await predictedStatus(images) };
}

describeWithKernel('a cache with dirty data that pcache grow made larger, or pcache move moved', (kernel) => {
  it('attaches, reads the same, and takes writes', { timeout: KERNEL_TEST_TIMEOUT_MS }, async () => {
    const changed = [
      await changedCache('grow', (images) => grow(images, '--size', String(602 * MIB))),
      await changedCache('move', (images) => moveCache(images, 538 * MIB)),
    ];
    expect(changed.map(({ predicted }) => predicted.slice(0, 8))).toEqual(['0 37 37 ', '0 33 33 ']);
    const guests = await runTogether(
      kernel,
      changed.map(({ images, ids }) => ({
        images,
        files: { list: encodeRequests([...requestsOf(THEIRS)]), versions: bytesOfIds(ids) },
        script: `
        attach true
        hash_device
        /tmp/x/replay run /dev/mapper/pc "$X"list "$X"versions "$X"acks 0
        sync -d /dev/mapper/pc
        detach`,
      })),
    );
    for (const [n, { how, images, ids, sha256, predicted }] of changed.entries()) {
      expectStatus(statusLines(guests[n])[0], predicted, false);
      expect(printed(guests[n], 'sha256'), how).toEqual([`${sha256}  -`]);
      expect(printed(guests[n], 'replay'), how).toEqual(['1000 requests, 0 wrong sectors']);
      await expectSound(images);
      expect(differences((await logicalDevice(images)).ids, afterAll(ids, requestsOf(THEIRS))), how).toEqual([]);
    }
  });
});

/** No kernel writes before the superblock; what it wrote back makes the digests in the record void. */
async function expectRecordLeft(images: Images, formatted: Buffer): Promise<void> {
  const [before, after] = [formatted, metadataOf(images.cache, 0)].map((bytes) => bytes.subarray(0, BLOCK_BYTES));
  expect(before.some((byte) => byte !== 0)).toBe(true);
  expect(after.equals(before)).toBe(true);
  const { stdout } = await runCli(['info', images.cache, '--json']);
  expect(JSON.parse(stdout)).toMatchObject({ backingRecord: { isCurrent: false } });
  const taken = await runCli(['attach', images.cache, images.backing, '--read-only', '--exec', 'true']);
  expect([taken.status, taken.stderr]).toEqual([0, expect.stringContaining('serving')]);
}

/** An attach that writes nothing changes one thing: the other copy of cache_info has the next sequence number. */
function expectOnlyAttached(formatted: Buffer, attached: Buffer, segments: number): void {
  expect(differingBlocks(formatted, attached)).toEqual([2]);
  const first = decodeCacheInfo(formatted.subarray(3 * BLOCK_BYTES));
  const second = decodeCacheInfo(attached.subarray(2 * BLOCK_BYTES));
  expect(first).toMatchObject({ crcOk: true, seq: 1, segmentCount: segments });
  const { firstSegmentId, segmentCount, flags } = first;
  expect(second).toMatchObject({ crcOk: true, seq: 2, firstSegmentId, segmentCount, flags });
}
