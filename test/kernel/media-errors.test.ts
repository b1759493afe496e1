/**
 * Caches on media that fail in places: /dev/pmem0 and a file on ext4 -o dax whose device has bad blocks, and a block
 * device behind dm-dust. One copy of cache_info, one copy of a segment's info and a block of dirty payload cannot be
 * read. Every command goes on past them, names them and loses nothing else; a repair writes the metadata over, which
 * clears what was bad.
 *
 * Linux gives out and maps whole pages, so a bad sector makes 4 KiB unreadable.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { liveEntries } from '../../src/engine/inspect/keys.js';
import { LogicalReader } from '../../src/engine/inspect/logical-reader.js';
import { loadCacheOrThrow } from '../../src/engine/log/recovery.js';
import { readMetadata } from '../../src/engine/media/metadata.js';
import {
  CACHE_INFO_COPIES,
  KERNEL_GEOMETRY,
  MIB,
  SECTOR_BYTES,
  segmentInfoCopies,
} from '../../src/engine/media/geometry.js';
import { mergeRanges, type ByteRange } from '../../src/fsck/repair/ranges.js';
import { unpackImage } from '../support/images.js';
import {
  describeWithKernel,
  KERNEL_TEST_TIMEOUT_MS,
  makeImageFolder,
  printed,
  runGuest,
  type GuestResult,
} from '../support/kernel.js';
import { SparseImage } from '../support/sparse-image.js';
import { diskWithPrograms, pcacheFunctions, sparseFile } from './guest-pcache.js';

const ALL = process.env['PCACHE_KERNEL_DAX'] === 'all';
const PAGE_BYTES = 4096;
const BACKING_BYTES = 64 * MIB;
const SECONDS = 900;

const folder = makeImageFolder();
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Kind = 'block' | 'file' | 'dust';

interface Way {
  /** Bash commands that make $cache, the image, and `bad BYTE`, which makes the page of a byte unreadable. */
  readonly make: string;
  /** Bash commands that print the sectors that are still bad. */
  readonly left?: string;
}

const sysfs = (disk: string): string => `/sys/block/${disk}/badblocks`;
const IMAGE = '/dev/pmem2';

const WAYS: Readonly<Record<Kind, Way>> = {
  block: {
    make: `cache=${IMAGE}; bad() { echo "$(($1 / 512)) 1" >${sysfs('pmem2')}; }`,
    left: `cat ${sysfs('pmem2')}`,
  },
  file: {
    make: `
      mkfs.ext4 -qF /dev/pmem0; mkdir -p /tmp/m; mount -o dax /dev/pmem0 /tmp/m; cache=/tmp/m/cache
      fallocate -l 512M $cache; dd if=${IMAGE} of=$cache bs=1M conv=sparse,notrunc,fsync status=none
      filefrag -v -b4096 $cache | sed 's/[.:]/ /g' >/run/extents
      bad() {
        local block
        block=$(awk -v at=$(($1 / 4096)) '$1 ~ /^[0-9]+$/ && $2 <= at && at <= $3 { print $4 + at - $2 }' /run/extents)
        echo "$((block * 8 + $1 % 4096 / 512)) 1" >${sysfs('pmem0')}
      }`,
    left: `cat ${sysfs('pmem0')}`,
  },
  dust: {
    make: `
      dmsetup create dust --table "0 $(blockdev --getsz ${IMAGE}) dust ${IMAGE} 0 512"; cache=/dev/mapper/dust
      bad() { dmsetup message dust 0 addbadblock $(($1 / 512)); dmsetup message dust 0 enable; }`,
  },
};

let image: SparseImage;
let paths: { cachePath: string; backingPath: string };
/** Bytes of the cache device that go bad. */
let badInfo: number;
let badSegmentInfo: number;
let badPayload: number;
/** The ranges of the logical device that cannot be read, and those of the keys that they belong to. */
let unreadable: ByteRange[];
let unreadableKeys: ByteRange[];
let logical: Uint8Array;

beforeAll(async () => {
  paths = await unpackImage('dirty-crc');
  image = SparseImage.fromFile(paths.cachePath);
  const backing = SparseImage.fromFile(paths.backingPath);
  const metadata = readMetadata(image, KERNEL_GEOMETRY);
  badInfo = CACHE_INFO_COPIES[metadata.cacheInfo.winner === 1 ? 0 : 1];
  badSegmentInfo = segmentInfoCopies(KERNEL_GEOMETRY, 3)[1];
  const cache = loadCacheOrThrow(image, {
    geometry: KERNEL_GEOMETRY,
    backingBytes: BACKING_BYTES,
    checkPayload: false,
  });
  const entries = [...liveEntries(cache)].map((entry) => ({
    ...entry,
    at: cache.segments.dataOffsetBytes[entry.segment] + entry.segmentOffsetBytes,
  }));
  const { at } = entries[Math.floor(entries.length / 2)];
  badPayload = at - (at % SECTOR_BYTES);
  const page = at - (at % PAGE_BYTES);
  const touched = entries.filter((one) => one.at < page + PAGE_BYTES && page < one.at + one.lengthBytes);
  unreadable = mergeRanges(
    touched.map((one) => {
      const from = Math.max(one.at, page);
      const lengthBytes = Math.min(one.at + one.lengthBytes, page + PAGE_BYTES) - from;
      return { offsetBytes: one.offsetBytes + from - one.at, lengthBytes };
    }),
  );
  unreadableKeys = mergeRanges(touched.map(({ offsetBytes, lengthBytes }) => ({ offsetBytes, lengthBytes })));
  logical = new Uint8Array(BACKING_BYTES);
  new LogicalReader(image, cache, {
    path: 'backing',
    sizeBytes: BACKING_BYTES,
    readSync: (...args) => backing.read(...args),
  }).read(0, logical, 0, logical.length);
});

/** Whole pages around ranges: a block device reads those, and fails for a page that cannot be read in part. */
const pagesOf = (ranges: readonly ByteRange[]): ByteRange[] =>
  mergeRanges(
    ranges.map(({ offsetBytes, lengthBytes }) => {
      const start = offsetBytes - (offsetBytes % PAGE_BYTES);
      const end = Math.ceil((offsetBytes + lengthBytes) / PAGE_BYTES) * PAGE_BYTES;
      return { offsetBytes: start, lengthBytes: end - start };
    }),
  );

/** The ranges of the logical device outside of some. */
function outside(ranges: readonly ByteRange[]): ByteRange[] {
  const gaps: ByteRange[] = [];
  let end = 0;
  for (const { offsetBytes, lengthBytes } of [...ranges, { offsetBytes: BACKING_BYTES, lengthBytes: 0 }]) {
    if (offsetBytes > end) gaps.push({ offsetBytes: end, lengthBytes: offsetBytes - end });
    end = offsetBytes + lengthBytes;
  }
  return gaps;
}

const hashOf = (ranges: readonly ByteRange[]): string => {
  const hash = createHash('sha256');
  for (const { offsetBytes, lengthBytes } of ranges)
    hash.update(logical.subarray(offsetBytes, offsetBytes + lengthBytes));
  return hash.digest('hex');
};

/**
 * Bash commands that print a SHA-256 of ranges of a device or file.
 * @param flags "direct" for a block device: in its page cache a read that fails takes up to 128 KiB around it along
 */
const printHash = (name: string, path: string, ranges: readonly ByteRange[], flags = 'fullblock'): string => {
  const parts = ranges.map(
    ({ offsetBytes, lengthBytes }) =>
      `dd if=${path} bs=64k iflag=skip_bytes,count_bytes,${flags} skip=${offsetBytes} count=${lengthBytes} status=none`,
  );
  return `echo "${name}: $({ ${parts.join('; ')}; } | sha256sum | cut -d' ' -f1)"`;
};

/** Runs pcache, keeps what it says and prints its exit status. */
const run = (name: string, words: string, output = `/tmp/x/${name}`): string =>
  `status=0; pcache ${words} >${output} 2>/tmp/x/${name}-errors || status=$?; echo "${name}: $status"`;

const BACKING = '/dev/mapper/backing0';
const rangeText = ({ offsetBytes, lengthBytes }: ByteRange): string => `${offsetBytes}+${lengthBytes}`;

/** All that only looks, and attach, which writes next to nothing. */
const lookAround = (kind: Kind): string => `
  ${run(`${kind}-map`, `map $cache ${BACKING} ${rangeText(unreadable[0])}`)}
  begin 0 $cache --accept-loss; serving 0
  ${printHash(`${kind}-served`, '/dev/nbd0', outside(pagesOf(unreadable)), 'direct')}
  dd if=/dev/nbd0 of=/dev/null bs=512 skip=${unreadable[0].offsetBytes / SECTOR_BYTES} count=1 iflag=direct status=none ||
    echo "${kind}-bad: fails"
  kill \${pid[0]}; wait \${pid[0]} || true`;

/** The kernel itself, with the payload that is still bad. */
const kernelAttach = (kind: Kind): string => `
  CACHE=$cache BACKING=${BACKING} sectors=$(blockdev --getsz ${BACKING})
  if attach true >/tmp/x/${kind}-kernel 2>&1; then detach; echo "${kind}-kernel: attaches"; else echo "${kind}-kernel: refuses"; fi`;

const life = (kind: Kind): string => `
  ${WAYS[kind].make}
  for at in ${badInfo} ${badSegmentInfo} ${badPayload}; do bad $at; done
  ${run(`${kind}-fsck`, `fsck $cache ${BACKING}`)}
  ${kind === 'block' ? lookAround(kind) : ''}
  ${run(`${kind}-cat`, `cat $cache ${BACKING}`, '/run/logical')}
  ${printHash(`${kind}-read`, '/run/logical', outside(unreadable))}
  ${run(`${kind}-repair`, `fsck -y $cache ${BACKING} --undo /run/undo-${kind}`)}
  echo "${kind}-left: $(${WAYS[kind].left ?? ':'})"
  ${run(`${kind}-again`, `fsck $cache ${BACKING}`)}
  ${kind === 'block' ? kernelAttach(kind) : ''}
  ${kind === 'block' ? `${run(`${kind}-writeback`, `writeback $cache ${BACKING} --accept-loss --list-failed`)}\n${printHash(`${kind}-backing`, BACKING, outside(unreadableKeys))}` : ''}`;

function expectSaid(guest: GuestResult, name: string, status: number, ...says: RegExp[]): void {
  const text = ['', '-errors'].map((part) => guest.files.get(`${name}${part}`)?.toString() ?? '').join('\n');
  expect(printed(guest, name), `${name}:\n${text}\n${guest.output}`).toEqual([String(status)]);
  for (const one of says) expect(text, name).toMatch(one);
}

function expectLife(guest: GuestResult, kind: Kind): void {
  const [{ offsetBytes, lengthBytes }] = unreadable;
  const range = new RegExp(`bytes ${offsetBytes} to ${offsetBytes + lengthBytes}`);
  const payload = /PAYLOAD_UNREADABLE error kset \d+:\d+ key \d+: bytes \d+ to \d+, at \d+:\d+/;
  const metadata = [badInfo, badSegmentInfo].map(
    (at) => new RegExp(`METADATA_UNREADABLE error device: bytes ${at} to `),
  );
  expectSaid(guest, `${kind}-fsck`, 4, payload, ...metadata, /CACHE_INFO_COPY_LOST/, /SEGMENT_INFO_COPY_LOST/);
  expectSaid(guest, `${kind}-cat`, 4, range);
  expect(printed(guest, `${kind}-read`)).toEqual([hashOf(outside(unreadable))]);
  expectSaid(guest, `${kind}-repair`, 4, payload);
  expectSaid(guest, `${kind}-again`, 4, payload);
  expect(guest.files.get(`${kind}-again`)!.toString()).not.toMatch(/METADATA_UNREADABLE|COPY_LOST/);
  if (kind === 'block') expect(printed(guest, 'block-left')).toEqual([`${badPayload / SECTOR_BYTES} 1`]);
  if (kind === 'block') expect(printed(guest, 'block-kernel'), guest.output).toEqual(['refuses']);
  if (kind === 'file') expect(printed(guest, 'file-left')).toEqual([expect.stringMatching(/^\d+ 1$/)]);
  if (kind !== 'block') return;
  expectSaid(guest, `${kind}-map`, 0, /unreadable/);
  expect(printed(guest, `${kind}-served`), guest.output).toEqual([hashOf(outside(pagesOf(unreadable)))]);
  expect(printed(guest, `${kind}-bad`)).toEqual(['fails']);
  expectSaid(guest, `${kind}-writeback`, 4, /unreadable/);
  expect(printed(guest, `${kind}-backing`), 'backing').toEqual([hashOf(outside(unreadableKeys))]);
}

describeWithKernel('a cache on a medium that cannot be read in places', (kernel) => {
  const hasDust = kernel.version.startsWith('7.3');
  if (!ALL) {
    it.skip('is read, served and written back past them (skipped: needs PCACHE_KERNEL_DAX=all)', () => undefined);
    return;
  }
  const kinds: readonly Kind[] = hasDust ? ['block', 'file', 'dust'] : ['block', 'file'];
  it.each(kinds)(
    'is read, served and written back past them, and a repair writes its metadata over (%s)',
    { timeout: 2 * KERNEL_TEST_TIMEOUT_MS },
    async (kind) => {
      const machine = {
        kernel,
        cache: join(folder, 'cache'),
        backing: join(folder, 'disk'),
        memory: sparseFile(join(folder, 'memory'), 2048 * MIB),
        seconds: SECONDS,
      };
      rmSync(machine.cache, { force: true });
      execFileSync('cp', ['--sparse=always', '--no-preserve=mode', paths.cachePath, machine.cache]);
      diskWithPrograms(machine.backing, BACKING_BYTES);
      const disk = openSync(machine.backing, 'r+');
      writeSync(disk, readFileSync(paths.backingPath), 0, BACKING_BYTES, 0);
      closeSync(disk);
      const guest = await runGuest({ ...machine, script: `${pcacheFunctions(BACKING_BYTES)}${life(kind)}` });
      if (process.env['PCACHE_KERNEL_SHOW'])
        for (const [name, bytes] of guest.files) if (bytes.length < 10_000) console.log(name, bytes.toString());
      expectLife(guest, kind);
    },
  );
});
