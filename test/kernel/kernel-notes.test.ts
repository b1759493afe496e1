/**
 * What docs/kernel-notes.md says that kernels get wrong, shown in them: each image is what such a kernel itself may
 * leave. A kernel that does better makes its test fail, and then its note has to change.
 */
import { closeSync, ftruncateSync, openSync, rmSync, writeSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { encodeCacheFlags, decodeCacheFlags } from '../../src/engine/media/codecs.js';
import { structCrc } from '../../src/engine/media/crc32c.js';
import { MIB, SECTOR_BYTES } from '../../src/engine/media/geometry.js';
import {
  KEY_BYTES,
  KeyField,
  KSET_HEADER_BYTES,
  KSET_MAGIC_HIGH,
  KSET_MAGIC_LOW,
  KsetField,
} from '../../src/engine/media/kset.js';
import { summarise } from '../../src/engine/inspect/summary.js';
import { KERNELS } from '../../src/fsck/consequences.js';
import { judgeCache, refuseKernel } from '../../src/fsck/gate.js';
import { nothingLost } from '../../src/fsck/repair/losses.js';
import { loadBases, shapeOf, type Base } from '../support/damage/bases.js';
import {
  changeCacheInfo,
  changeKset,
  deviceOffset,
  ksetAt,
  ksetsOf,
  writeGeneration,
  writeKset,
  writeTail,
} from '../support/damage/edit.js';
import { repairOverlay, UndoInMemory } from '../support/damage/oracle.js';
import type { Overlay } from '../support/damage/overlay.js';
import {
  describeWithKernel,
  KERNEL_TEST_TIMEOUT_MS,
  makeImageFolder,
  printed,
  runGuest,
  statusLines,
} from '../support/kernel.js';

const BLOCK_BYTES = 4096;
/** What is read: the range of one key, at the end of the logical device. */
const RANGE_BYTES = 63 * MIB;
const FREE_SEGMENTS = [20, 21] as const;
/** Longer than the test: what is dirty at attach stays dirty. */
const DELAY_MS = 900_000;
/** Keeps write-back in the first kset until the payload of the second one is damaged. */
const STOP_DELAY_MS = 6000;

const close = (): void => undefined;

let base: Base;
beforeAll(async () => {
  base = (await loadBases()).get('dirty-crc')!;
});

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const PAYLOAD = new Uint8Array(BLOCK_BYTES).fill(0x5a);

function setFlags(image: Overlay, change: Partial<ReturnType<typeof decodeCacheFlags>>): void {
  changeCacheInfo(image, (info) => ({
    ...info,
    flags: encodeCacheFlags({ ...decodeCacheFlags(info.flags), ...change }),
  }));
}

interface KeyOf {
  readonly segment: number;
  readonly generation: number;
}

function putKey(view: DataView, index: number, { segment, generation }: KeyOf): void {
  const at = KSET_HEADER_BYTES + index * KEY_BYTES;
  view.setBigUint64(at + KeyField.off, BigInt(RANGE_BYTES), true);
  view.setUint32(at + KeyField.length, BLOCK_BYTES, true);
  view.setUint32(at + KeyField.flags, 0, true);
  view.setUint32(at + KeyField.segment, segment, true);
  view.setUint32(at + KeyField.segmentOffset, 0, true);
  view.setBigUint64(at + KeyField.generation, BigInt(generation), true);
}

/** A kset with these keys, all for the one range. */
function ksetOf(...keys: KeyOf[]): Uint8Array {
  const bytes = new Uint8Array(KSET_HEADER_BYTES + keys.length * KEY_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(KsetField.keyCount, keys.length, true);
  view.setUint32(KsetField.magic, KSET_MAGIC_LOW, true);
  view.setUint32(KsetField.magic + 4, KSET_MAGIC_HIGH, true);
  keys.forEach((key, index) => putKey(view, index, key));
  view.setUint32(0, structCrc(bytes, 0, bytes.length), true);
  return bytes;
}

/**
 * GC was stopped in the first kset, after it had freed a segment and before it moved key_tail; by then the segment was
 * in use again, with dirty data in it.
 */
function freedAndUsedAgain(): Overlay {
  const image = base.device.clone();
  setFlags(image, { dataCrc: false, gcPercent: 0 });
  const { places, end } = ksetsOf(image);
  const [segment] = FREE_SEGMENTS;
  changeKset(image, places[0], (view) => putKey(view, 0, { segment, generation: 0 }));
  writeGeneration(image, segment, 1);
  image.write(deviceOffset({ segment, offsetBytes: 0 }), PAYLOAD);
  writeKset(image, end, ksetOf({ segment, generation: 1 }));
  writeTail(image, 'DIRTY_TAIL', places[1]);
  return image;
}

/**
 * GC was stopped in the first kset, after it had freed the segment that is the first to be used at the next attach, and
 * before it moved key_tail.
 */
function freed(): Overlay {
  const image = base.device.clone();
  setFlags(image, { dataCrc: false });
  const { places } = ksetsOf(image);
  const used = new Set([0]);
  for (const place of places) {
    const kset = ksetAt(image, place);
    for (let index = 0; index < kset.keyCount; index++) used.add(kset.keySegment(index));
  }
  let segment = 0;
  while (used.has(segment)) segment++;
  writeGeneration(image, segment, 1);
  changeKset(image, places[0], (view) => {
    for (const index of [0, 1]) putKey(view, index, { segment, generation: 0 });
  });
  writeTail(image, 'DIRTY_TAIL', places[1]);
  return image;
}

/** GC was stopped in a kset with two versions of a range, after it had freed the segment of the newer one. */
function newerFreed(): Overlay {
  const image = base.device.clone();
  setFlags(image, { dataCrc: false });
  const { end } = ksetsOf(image);
  const [older, newer] = FREE_SEGMENTS;
  image.write(deviceOffset({ segment: older, offsetBytes: 0 }), PAYLOAD);
  writeGeneration(image, newer, 1);
  const after = writeKset(image, end, ksetOf({ segment: older, generation: 0 }, { segment: newer, generation: 0 }));
  writeTail(image, 'KEY_TAIL', end);
  writeTail(image, 'DIRTY_TAIL', after);
  return image;
}

/** As `pcache fsck -y` leaves it. */
async function repaired(image: Overlay): Promise<Overlay> {
  const result = await repairOverlay(image, shapeOf('dirty-crc'), new UndoInMemory(), { dropCorrupt: false });
  expect(result.after.findings).toEqual([]);
  expect(nothingLost(result.losses)).toBe(true);
  return image;
}

/** Images one after another in a file. @returns size of each */
function writeImages(path: string, images: readonly (Overlay | undefined)[]): number {
  const sizeBytes = 512 * MIB;
  const fd = openSync(path, 'w', 0o600);
  const piece = new Uint8Array(64 * 1024);
  images.forEach((image, n) => {
    for (let at = 0; image !== undefined && at < sizeBytes; at += piece.length) {
      image.read(at, piece, 0, piece.length);
      if (piece.some((byte) => byte !== 0)) writeSync(fd, piece, 0, piece.length, n * sizeBytes + at);
    }
  });
  ftruncateSync(fd, images.length * sizeBytes);
  closeSync(fd);
  return sizeBytes;
}

function backingBytes(): Uint8Array {
  const bytes = new Uint8Array(base.backing.sizeBytes);
  base.backing.read(0, bytes, 0, bytes.length);
  return bytes;
}

const readOf = (device: string): string =>
  `dd if=/dev/mapper/${device} bs=${BLOCK_BYTES} skip=${RANGE_BYTES / BLOCK_BYTES} count=1 iflag=direct 2>/dev/null | sha256sum`;

/** hold N: attaches cache N as pcN, and what is dirty in it stays dirty. put N: writes what `PAYLOAD` is to the range. */
const FUNCTIONS = `
hold() {
  dmsetup create slow$1 --table "0 $sectors delay $BACKING 0 0 $BACKING 0 ${DELAY_MS}"
  dmsetup create pc$1 --table "0 $sectors pcache /dev/mapper/cache$1 /dev/mapper/slow$1 4 cache_mode writeback data_crc false"
}
put() {
  head -c ${BLOCK_BYTES} /dev/zero | tr '\\0' Z |
    dd of=/dev/mapper/pc$1 bs=${BLOCK_BYTES} seek=${RANGE_BYTES / BLOCK_BYTES} iflag=fullblock oflag=direct conv=notrunc 2>/dev/null
}
`;
/** Of those that are held, as the images are numbered. */
const HELD = { reused: 1, reusedRepaired: 3, freed: 4, freedRepaired: 5 } as const;

describeWithKernel('what kernels get wrong', (kernel) => {
  it('is what docs/kernel-notes.md says', { timeout: KERNEL_TEST_TIMEOUT_MS }, async () => {
    const folder = makeImageFolder();
    try {
      const paths = { cache: join(folder, 'cache'), backing: join(folder, 'backing') };
      const mended = [await repaired(freedAndUsedAgain()), await repaired(freed())] as const;
      const images = [newerFreed(), freedAndUsedAgain(), undefined, mended[0], freed(), mended[1]];
      const bytes = backingBytes();
      const fd = openSync(paths.backing, 'w', 0o600);
      writeSync(fd, bytes);
      closeSync(fd);
      const sectors = writeImages(paths.cache, images) / SECTOR_BYTES;
      // Of the first two blocks that are written: each processor has a data head of its own.
      const payloadAt = [1, 2].map((segment) => deviceOffset({ segment, offsetBytes: 0 }));
      const guest = await runGuest({
        kernel,
        ...paths,
        seconds: 400,
        script: `
          ${FUNCTIONS}
          for n in 0 1 2 3 4 5; do
            dmsetup create cache$n --table "0 ${sectors} linear /dev/pmem0 $((n * ${sectors}))"
          done
          CACHE=/dev/mapper/cache0; attach false; echo "older: $(${readOf('pc')})"; detach
          write() { dd if=/dev/urandom of=$1 bs=$2 seek=$3 count=1 conv=fsync,notrunc 2>/dev/null; }
          CACHE=/dev/mapper/cache2; attach true ${STOP_DELAY_MS}
          write /dev/mapper/pc ${BLOCK_BYTES} 0
          write /dev/mapper/pc ${BLOCK_BYTES} 9
          for at in ${payloadAt.join(' ')}; do dd if=/dev/urandom of=/dev/mapper/cache2 bs=4096 oflag=seek_bytes seek=$at count=2 conv=fsync,notrunc 2>/dev/null; done
          sleep 14; echo "stopped: $(dmsetup status pc)"
          write /dev/mapper/pc ${BLOCK_BYTES} 18
          sleep 8; echo "stopped: $(dmsetup status pc)"; detach
          for n in ${Object.values(HELD).join(' ')}; do hold $n; done
          for n in ${HELD.freed} ${HELD.freedRepaired}; do put $n; dmsetup message pc$n 0 gc_percent 0; done
          sleep 10
          ${Object.entries(HELD)
            .map(([name, n]) => `dmsetup status pc${n}; echo "${name}: $(${readOf(`pc${n}`)})"`)
            .join('\n')}`,
      });
      const onBacking = sha256(bytes.subarray(RANGE_BYTES, RANGE_BYTES + BLOCK_BYTES));
      const inCache = sha256(PAYLOAD);
      const read = (name: string): string => printed(guest, name)[0].split(' ')[0];
      // An older version shows where the newer one, which is on the backing device, was freed.
      expect(read('older'), guest.output).toBe(inCache);
      // Dirty data is freed by a reference that was not counted when the stale key was replayed.
      expect(read('reused'), guest.output).toBe(onBacking);
      // The same where the segment was free, and is used again after the attach.
      expect(read('freed'), guest.output).toBe(onBacking);
      // Nothing is lost of either once it is repaired.
      expect([read('reusedRepaired'), read('freedRepaired')], guest.output).toEqual([inCache, inCache]);
      // The segment of a stale key alone is not used, to the kernel.
      expect(statusLines(guest)[0]).toBe(summarise({ pmem: newerFreed(), backing: undefined, close }).status);
      // Nothing says that write-back stopped, but that dirty_tail stays where it is.
      const [before, after] = printed(guest, 'stopped').map((line) => line.split(' '));
      expect(after.at(-3), guest.output).not.toBe(before.at(-3));
      expect(after.at(-2), guest.output).toBe(before.at(-2));
      expect(after.at(-2), guest.output).not.toBe(after.at(-3));
      expect(guest.output).not.toContain('writeback error');
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

it('the predicted status leaves out a segment of stale keys alone', () => {
  const { status } = summarise({ pmem: newerFreed(), backing: undefined, close });
  expect(status).toBe('0 31 31 2 70 1182 0:42480 0:42480 0:42376');
});

it('a check tells of the older version, and keeps every kernel from it', () => {
  const verdict = judgeCache(newerFreed(), shapeOf('dirty-crc'));
  expect(verdict.losses.map(({ code }) => code)).toContain('OLD_DATA_SHOWS');
});

it.each([
  ['in use again', freedAndUsedAgain, /which holds the payload of 1 current key, is at 1$/],
  ['free', freed, /which is free, is at 1; 2 stale keys in all refer to it$/],
] as const)(
  'a check tells of stale keys whose segment is %s, and keeps every kernel from it',
  (_what, make, detail) => {
    const verdict = judgeCache(make(), shapeOf('dirty-crc'));
    const [finding, ...others] = verdict.check.findings;
    expect(finding).toMatchObject({ code: 'KEY_STALE_UNCOUNTED', severity: 'error', where: 'kset 0:0 key 0' });
    expect(finding.detail).toMatch(detail);
    expect(others).toEqual([]);
    // Our engine counts them: it opens the cache, and loses nothing.
    expect(verdict.losses).toEqual([]);
    for (const kernel of KERNELS) {
      expect(verdict.kernels[kernel].effect).toBe('misreads');
      expect(() => refuseKernel('x', verdict, kernel)).toThrow(/would read old or foreign data: KEY_STALE_UNCOUNTED/);
    }
  },
);
