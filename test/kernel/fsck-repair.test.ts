/**
 * Repaired caches, attached in the real kernel: it takes them, and reads what `pcache cat` reads. Many caches share
 * one machine: all come from one kernel-made image, so only what differs is written to the device between them.
 *
 * Each is read wherever the undamaged cache held something; the first on each machine, as a whole. (A read of what is
 * not cached fills the cache, which takes an emulated machine longer than all the rest.)
 *
 * `PCACHE_KERNEL_REPAIRS` says how many, `PCACHE_KERNEL_REPAIRS_SEED` where to begin; a few without it.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, rmSync, writeFileSync, chmodSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { LogicalReader } from '../../src/engine/inspect/logical-reader.js';
import {
  DATA_OFFSET_IN_SEGMENT_BYTES,
  KERNEL_GEOMETRY,
  MIB,
  segmentDataOffsetBytes,
  segmentOffsetBytes,
  SEGMENTS_OFFSET_BYTES,
} from '../../src/engine/media/geometry.js';
import { loadCacheOrThrow } from '../../src/engine/recovery.js';
import { Random } from '../../src/engine/sim/random.js';
import { mergeRanges, totalBytes, type ByteRange } from '../../src/fsck/repair/ranges.js';
import { makeSubject, repairOverlay, UndoInMemory, type Subject } from '../support/damage/oracle.js';
import { Overlay, PAGE_BYTES } from '../support/damage/overlay.js';
import { damageByChance } from '../support/damage/random-damage.js';
import { findClient } from '../support/clients.js';
import { unpackImage } from '../support/images.js';
import { describeWithKernel, KERNEL_TEST_TIMEOUT_MS, makeImageFolder, runGuest } from '../support/kernel.js';
import { SparseImage } from '../support/sparse-image.js';

const BASE = 'dirty-crc';
const SEGMENTS = 31;
const BACKING_BYTES = 64 * MIB;
const IMAGES = Number(process.env['PCACHE_KERNEL_REPAIRS'] ?? 6);
const FIRST_SEED = Number(process.env['PCACHE_KERNEL_REPAIRS_SEED'] ?? 1);
const IMAGES_PER_MACHINE = 25;
/** What the kernel may write of the log while it reads the whole device. */
const LOG_BYTES = 256 * 1024;
const READ_BYTES = MIB;
/** For a busy machine: of an idle one it takes a tenth. */
const BOOT_SECONDS = 400;
const SECONDS_PER_IMAGE = 60;

interface Repaired {
  readonly device: Overlay;
  /** What is read of it. */
  readonly ranges: readonly ByteRange[];
  readonly sha256: string;
}

/** Ranges of the logical device as `pcache cat` reads them. */
function logicalSha256(device: Overlay, backing: SparseImage, ranges: readonly ByteRange[]): string {
  const cache = loadCacheOrThrow(device, {
    geometry: KERNEL_GEOMETRY,
    backingBytes: BACKING_BYTES,
    checkPayload: true,
  });
  const reader = new LogicalReader(device, cache, {
    path: 'backing',
    sizeBytes: BACKING_BYTES,
    readSync: (...args) => backing.read(...args),
  });
  const hash = createHash('sha256');
  const bytes = new Uint8Array(READ_BYTES);
  for (const { offsetBytes, lengthBytes } of ranges) {
    for (let done = 0; done < lengthBytes; done += READ_BYTES) {
      const length = Math.min(READ_BYTES, lengthBytes - done);
      reader.read(offsetBytes + done, bytes, 0, length);
      hash.update(bytes.subarray(0, length));
    }
  }
  return hash.digest('hex');
}

/** Damages and repairs until so many images had something to repair, and all of it could be. */
async function repairMany(
  subject: Subject,
  backing: SparseImage,
  firstSeed: number,
  count: number,
): Promise<Repaired[]> {
  const repaired: Repaired[] = [];
  const held = mergeRanges(subject.keys);
  expect(totalBytes(held)).toBeGreaterThan(MIB);
  for (let seed = firstSeed; repaired.length < count; seed++) {
    const random = new Random(seed);
    const device = subject.device.clone();
    for (let n = random.between(1, 4); n > 0; n--) damageByChance(subject, device, random);
    const { made, after } = await repairOverlay(device, subject.shape, new UndoInMemory(), { dropCorrupt: true });
    if (made.length === 0 || !after.clean) continue;
    const ranges = repaired.length === 0 ? [{ offsetBytes: 0, lengthBytes: BACKING_BYTES }] : held;
    repaired.push({ device, ranges, sha256: logicalSha256(device, backing, ranges) });
  }
  return repaired;
}

/** Pages that must be written for the device to hold `device`, whatever was attached on it before. */
function pagesOf(device: Overlay, before: Overlay | undefined): Set<number> {
  const pages = new Set<number>();
  const add = (offsetBytes: number, lengthBytes: number): void => {
    for (let at = offsetBytes; at < offsetBytes + lengthBytes; at += PAGE_BYTES) pages.add(at);
  };
  add(0, SEGMENTS_OFFSET_BYTES);
  for (let id = 0; id < SEGMENTS; id++) add(segmentOffsetBytes(KERNEL_GEOMETRY, id), DATA_OFFSET_IN_SEGMENT_BYTES);
  add(segmentDataOffsetBytes(KERNEL_GEOMETRY, 0), LOG_BYTES);
  for (const at of [...device.touchedPages, ...(before?.touchedPages ?? [])]) pages.add(at);
  return pages;
}

/** The pages as one file: the number of each, in eight bytes, and its bytes. */
function patch(device: Overlay, before: Overlay | undefined): Buffer {
  const pages = [...pagesOf(device, before)].sort((a, b) => a - b);
  return Buffer.concat(
    pages.flatMap((at) => {
      const number = Buffer.alloc(8);
      number.writeBigUInt64LE(BigInt(at / PAGE_BYTES));
      return [number, device.bytes(at, PAGE_BYTES)];
    }),
  );
}

/** Puts such a file on the device, and clears the other one, where something may have been written back. */
const APPLY = `
use strict; use warnings;
open(my $in, '<:raw', $ARGV[0]) or die "$ARGV[0]: $!";
open(my $out, '+<:raw', '/dev/pmem0') or die "pmem0: $!";
while (read($in, my $number, 8)) {
  read($in, my $page, ${PAGE_BYTES}) == ${PAGE_BYTES} or die 'short';
  sysseek($out, unpack('Q<', $number) * ${PAGE_BYTES}, 0) or die "seek: $!";
  syswrite($out, $page) == ${PAGE_BYTES} or die "write: $!";
}
open(my $backing, '+<:raw', '/dev/vda') or die "vda: $!";
for (1 .. ${BACKING_BYTES / READ_BYTES}) {
  syswrite($backing, "\\0" x ${READ_BYTES}) == ${READ_BYTES} or die "write: $!";
}
`;

/** Saves ranges of the attached device, given as lines of offset and length. */
const READ = `
use strict; use warnings;
open(my $device, '<:raw', '/dev/mapper/pc') or die "pc: $!";
open(my $ranges, '<', $ARGV[0]) or die "$ARGV[0]: $!";
open(my $out, '>:raw', $ARGV[1]) or die "$ARGV[1]: $!";
while (<$ranges>) {
  my ($at, $left) = split;
  sysseek($device, $at, 0) or die "seek: $!";
  while ($left > 0) {
    my $got = sysread($device, my $bytes, $left < ${READ_BYTES} ? $left : ${READ_BYTES});
    die "read: $!" unless $got;
    print $out $bytes or die "$ARGV[1]: $!";
    $left -= $got;
  }
}
close($out) or die "$ARGV[1]: $!";
`;

/**
 * What the programs of each image are made of. The guest has them in memory: it reads the other machine's files anew,
 * page by page, each time it starts one, which takes an emulated machine longer than all the rest.
 */
function programFiles(): string[] {
  const run = (program: string, ...args: string[]): string => execFileSync(program, args, { encoding: 'utf8' });
  const programs = ['dmsetup', 'perl', 'sync'].map((name) => findClient(name) ?? name);
  const libraries = programs.flatMap((path) => [...run('ldd', path).matchAll(/ => (\/\S+)/g)].map(([, file]) => file));
  const modules = run('perl', '-Mstrict', '-Mwarnings', '-e', 'print join "\n", values %INC').split('\n');
  return [...new Set([...programs, ...libraries, ...modules])];
}

async function attachMany(paths: { cache: string; backing: string }, images: readonly Repaired[]): Promise<string[]> {
  const files: Record<string, Uint8Array> = {
    'apply.pl': Buffer.from(APPLY),
    'read.pl': Buffer.from(READ),
  };
  const steps = images.map(({ device, ranges }, n) => {
    const lines = ranges.map(({ offsetBytes, lengthBytes }) => `${offsetBytes} ${lengthBytes}\n`);
    files[`ranges-${n}`] = Buffer.from(lines.join(''));
    files[`image-${n}`] = patch(device, images[n - 1]?.device);
    return `perl /tmp/x/apply.pl /tmp/x/image-${n}
sync
attach true; perl /tmp/x/read.pl /tmp/x/ranges-${n} /tmp/x/read-${n}; detach`;
  });
  const guest = await runGuest({
    ...paths,
    files,
    script: [
      `mkdir /run/programs; cp -L ${programFiles().join(' ')} /run/programs`,
      'export PATH="/run/programs:$PATH" LD_LIBRARY_PATH=/run/programs PERL5LIB=/run/programs',
      ...steps,
    ].join('\n'),
    seconds: BOOT_SECONDS + SECONDS_PER_IMAGE * images.length,
  });
  return images.map((_, n) => {
    const bytes = guest.files.get(`read-${n}`);
    return bytes === undefined ? 'not read' : createHash('sha256').update(bytes).digest('hex');
  });
}

describeWithKernel('repaired caches', () => {
  it(
    `attach, and read as we say (${IMAGES} of them)`,
    { timeout: KERNEL_TEST_TIMEOUT_MS + IMAGES * SECONDS_PER_IMAGE * 1000 },
    async () => {
      const folder = makeImageFolder();
      try {
        const { cachePath, backingPath } = await unpackImage(BASE);
        const backing = SparseImage.fromFile(backingPath);
        // It is blank between the images too.
        expect(backing.bytes(0, BACKING_BYTES).every((byte) => byte === 0)).toBe(true);
        const device = new Overlay(SparseImage.fromFile(cachePath));
        const shape = { geometry: KERNEL_GEOMETRY, backingBytes: BACKING_BYTES };
        const subject = makeSubject(BASE, device, backing, shape);
        for (let done = 0; done < IMAGES; done += IMAGES_PER_MACHINE) {
          const paths = { cache: join(folder, 'cache'), backing: join(folder, 'backing') };
          copyFileSync(cachePath, paths.cache);
          chmodSync(paths.cache, 0o600);
          writeFileSync(paths.backing, new Uint8Array(BACKING_BYTES));
          const count = Math.min(IMAGES_PER_MACHINE, IMAGES - done);
          const images = await repairMany(subject, backing, FIRST_SEED + 1000 * done, count);
          expect(await attachMany(paths, images)).toEqual(images.map(({ sha256 }) => sha256));
        }
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    },
  );
});
