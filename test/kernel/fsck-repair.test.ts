/**
 * Repaired caches, attached in the real kernel: it takes them, and reads what `pcache cat` reads. Many caches share
 * one machine, but no two the same medium: each is a slice of both devices. (What the kernel writes to one, it would
 * leave to the next: it fills in misses, wherever that cache holds nothing.)
 *
 * Each is read wherever the undamaged cache held something; the first, as a whole. (A read of what is not cached fills
 * the cache, which takes an emulated machine longer than all the rest.)
 *
 * `PCACHE_KERNEL_REPAIRS` says how many, `PCACHE_KERNEL_REPAIRS_SEED` where to begin; a few without it.
 */
import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { LogicalReader } from '../../src/engine/inspect/logical-reader.js';
import { KERNEL_GEOMETRY, MIB, SECTOR_BYTES } from '../../src/engine/media/geometry.js';
import { loadCacheOrThrow } from '../../src/engine/log/recovery.js';
import { Random } from '../../src/engine/sim/random.js';
import { mergeRanges, totalBytes, type ByteRange } from '../../src/fsck/repair/ranges.js';
import { makeHopping } from '../support/damage/damagers.js';
import { makeSubject, repairOverlay, UndoInMemory, type Subject } from '../support/damage/oracle.js';
import { Overlay, type OverlayBase } from '../support/damage/overlay.js';
import { damageByChance } from '../support/damage/random-damage.js';
import { unpackImage } from '../support/images.js';
import {
  describeWithKernel,
  KERNEL_TEST_TIMEOUT_MS,
  makeImageFolder,
  runGuest,
  type TestKernel,
} from '../support/kernel.js';
import { SparseImage } from '../support/sparse-image.js';
import { programFiles } from './guest-programs.js';

/** What the image of a seed is made from: one of these in turn. `hopping` is `dirty-crc` with a LAST kset. */
const BASES = ['dirty-crc', 'hopping', 'dirty-crc', 'gc-wrap', 'dirty-crc', 'hopping', 'dirty-crc', 'crash'] as const;
type BaseName = (typeof BASES)[number];

const IMAGES = Number(process.env['PCACHE_KERNEL_REPAIRS'] ?? 6);
const FIRST_SEED = Number(process.env['PCACHE_KERNEL_REPAIRS_SEED'] ?? 1);
/** Those made from full caches take half a gibibyte of memory each. */
const IMAGES_PER_MACHINE = 16;
const READ_BYTES = MIB;
/** Of what is written to the devices; pieces of zeroes are left out. */
const PIECE_BYTES = 64 * 1024;
const ZERO_PIECE = new Uint8Array(PIECE_BYTES);
/** The size of the cache device must be a multiple. */
const SLICE_BYTES = 2 * MIB;
/** For a busy machine: of an idle one it takes a tenth. */
const BOOT_SECONDS = 600;
const SECONDS_PER_IMAGE = 120;

interface Repaired {
  readonly subject: Subject;
  readonly device: Overlay;
  /** What it came of. */
  readonly title: string;
  /** What is read of it. */
  readonly ranges: readonly ByteRange[];
  readonly sha256: string;
}

const subjects = new Map<BaseName, Promise<Subject>>();

function subjectOf(name: BaseName): Promise<Subject> {
  let subject = subjects.get(name);
  if (subject === undefined) subjects.set(name, (subject = loadSubject(name)));
  return subject;
}

async function loadSubject(name: BaseName): Promise<Subject> {
  const { cachePath, backingPath } = await unpackImage(name === 'hopping' ? 'dirty-crc' : name);
  const image = SparseImage.fromFile(cachePath);
  if (name === 'hopping') makeHopping(image);
  const backing = SparseImage.fromFile(backingPath);
  const shape = { geometry: KERNEL_GEOMETRY, backingBytes: backing.sizeBytes };
  return makeSubject(name, new Overlay(image), backing, shape);
}

/** Ranges of the logical device as `pcache cat` reads them. */
function logicalSha256({ backing, shape }: Subject, device: Overlay, ranges: readonly ByteRange[]): string {
  const cache = loadCacheOrThrow(device, { ...shape, checkPayload: true });
  const reader = new LogicalReader(device, cache, {
    path: 'backing',
    sizeBytes: shape.backingBytes,
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

/** Damages and repairs, from a seed on, until so many images had something to repair, and all of it could be. */
async function repairMany(firstSeed: number, count: number): Promise<{ images: Repaired[]; nextSeed: number }> {
  const images: Repaired[] = [];
  let seed = firstSeed;
  for (; images.length < count; seed++) {
    const base = BASES[seed % BASES.length];
    const subject = await subjectOf(base);
    const held = mergeRanges(subject.keys);
    expect(totalBytes(held)).toBeGreaterThan(MIB);
    const random = new Random(seed);
    const device = subject.device.clone();
    for (let n = random.between(1, 4); n > 0; n--) damageByChance(subject, device, random);
    const { made, after } = await repairOverlay(device, subject.shape, new UndoInMemory(), { dropCorrupt: true });
    if (made.length === 0 || !after.clean) continue;
    const whole = { offsetBytes: 0, lengthBytes: subject.shape.backingBytes };
    const ranges = seed === FIRST_SEED ? [whole] : held;
    const title = `seed ${seed} on ${base}: ${made.map(({ id }) => id).join(', ')}`;
    images.push({ subject, device, title, ranges, sha256: logicalSha256(subject, device, ranges) });
  }
  return { images, nextSeed: seed };
}

/** Writes sources one after another to a file, each from a multiple of `alignBytes` on. @returns where each begins */
function writeSlices(path: string, sources: readonly OverlayBase[], alignBytes: number): number[] {
  const fd = openSync(path, 'w', 0o600);
  try {
    const offsets: number[] = [];
    let end = 0;
    const piece = new Uint8Array(PIECE_BYTES);
    for (const source of sources) {
      offsets.push(end);
      for (let at = 0; at < source.sizeBytes; at += PIECE_BYTES) {
        const length = Math.min(PIECE_BYTES, source.sizeBytes - at);
        source.read(at, piece, 0, length);
        if (Buffer.compare(piece.subarray(0, length), ZERO_PIECE.subarray(0, length)) === 0) continue;
        writeSync(fd, piece, 0, length, end + at);
      }
      end += Math.ceil(source.sizeBytes / alignBytes) * alignBytes;
    }
    ftruncateSync(fd, end);
    return offsets;
  } finally {
    closeSync(fd);
  }
}

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

/** Attaches an image by itself: slices of the two devices stand for them. */
function steps({ subject, device }: Repaired, n: number, cacheAt: number, backingAt: number): string {
  const sectors = (bytes: number): number => bytes / SECTOR_BYTES;
  const { backingBytes } = subject.shape;
  return `
dmsetup create cache --table "0 ${sectors(device.sizeBytes)} linear /dev/pmem0 ${sectors(cacheAt)}"
dmsetup create backing --table "0 ${sectors(backingBytes)} linear /dev/vda ${sectors(backingAt)}"
CACHE=/dev/mapper/cache BACKING=/dev/mapper/backing sectors=${sectors(backingBytes)}
echo "image ${n}"
if attach ${subject.dataCrc}; then perl /tmp/x/read.pl /tmp/x/ranges-${n} /tmp/x/read-${n}; detach; fi
dmsetup remove --retry cache; dmsetup remove --retry backing`;
}

/** @returns what each read, and what the machine printed */
async function attachMany(
  kernel: TestKernel,
  folder: string,
  images: readonly Repaired[],
): Promise<{ read: string[]; output: string }> {
  const paths = { cache: join(folder, 'cache'), backing: join(folder, 'backing') };
  const devices = images.map(({ device }) => device);
  const cacheAt = writeSlices(paths.cache, devices, SLICE_BYTES);
  const backingAt = writeSlices(
    paths.backing,
    images.map(({ subject }) => subject.backing),
    SECTOR_BYTES,
  );
  const files: Record<string, Uint8Array> = { 'read.pl': Buffer.from(READ) };
  images.forEach(({ ranges }, n) => {
    const lines = ranges.map(({ offsetBytes, lengthBytes }) => `${offsetBytes} ${lengthBytes}\n`);
    files[`ranges-${n}`] = Buffer.from(lines.join(''));
  });
  const guest = await runGuest({
    kernel,
    ...paths,
    files,
    script: [
      `mkdir /run/programs; cp -L ${programFiles().join(' ')} /run/programs`,
      'export PATH="/run/programs:$PATH" LD_LIBRARY_PATH=/run/programs PERL5LIB=/run/programs',
      ...images.map((image, n) => steps(image, n, cacheAt[n], backingAt[n])),
    ].join('\n'),
    seconds: BOOT_SECONDS + SECONDS_PER_IMAGE * images.length,
  });
  const read = images.map((_, n) => {
    const bytes = guest.files.get(`read-${n}`);
    return bytes === undefined ? 'refused' : createHash('sha256').update(bytes).digest('hex');
  });
  return { read, output: guest.output };
}

describeWithKernel('repaired caches', (kernel) => {
  it(
    `attach, and read as we say (${IMAGES} of them)`,
    { timeout: KERNEL_TEST_TIMEOUT_MS + IMAGES * SECONDS_PER_IMAGE * 1000 },
    async () => {
      const folder = makeImageFolder();
      try {
        let seed = FIRST_SEED;
        for (let done = 0; done < IMAGES; done += IMAGES_PER_MACHINE) {
          const { images, nextSeed } = await repairMany(seed, Math.min(IMAGES_PER_MACHINE, IMAGES - done));
          seed = nextSeed;
          const { read, output } = await attachMany(kernel, folder, images);
          const wrong = images.flatMap(({ title, sha256 }, n) => (read[n] === sha256 ? [] : [`${title}: ${read[n]}`]));
          expect(wrong, output).toEqual([]);
        }
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    },
  );
});
