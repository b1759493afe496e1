/**
 * Many caches attached in one virtual machine, each a change of an image that lies there once: the machine restores
 * what the kernel wrote since, makes the next change, attaches. The kernel writes metadata and ksets only, because
 * nothing is read that is not cached.
 */
import { closeSync, ftruncateSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { KERNEL_GEOMETRY, MIB, segmentDataOffsetBytes, segmentOffsetBytes } from '../../src/engine/media/geometry.js';
import type { ByteRange } from '../../src/fsck/repair/ranges.js';
import { BACKING_BYTES, BASE_NAMES, type Base } from '../support/damage/bases.js';
import type { BaseName } from '../support/damage/damagers.js';
import { ksetsOf } from '../support/damage/edit.js';
import { PAGE_BYTES, type Overlay, type OverlayBase } from '../support/damage/overlay.js';
import { makeImageFolder, printed, runGuest, type TestKernel } from '../support/kernel.js';
import { programFiles } from './guest-programs.js';

/** Room for the largest image of a base: a damager extends one by a segment. */
const SLICE_BYTES = 544 * MIB;
const BACKING_SLICE_BYTES = Math.max(...Object.values(BACKING_BYTES));
/** Behind the log's end, what the kernel may append meanwhile. */
const APPENDED_BYTES = 64 * 1024;
const RECORD_HEAD_BYTES = 12;
const SECONDS = 900;
const GUEST_SCRIPT = fileURLToPath(new URL('guest/attach-many.pl', import.meta.url));

/** A cache to attach. */
export interface Attachable {
  readonly base: BaseName;
  /** An overlay over the base's image. */
  readonly image: Overlay;
  readonly backingBytes: number;
  /** What is read once it is attached; it must all be cached. */
  readonly ranges: readonly ByteRange[];
}

/** What a kernel did with one. */
export interface Attached {
  /** Its status line; undefined where it refused. */
  readonly status: string | undefined;
  /** What it said last when it refused. */
  readonly said: string | undefined;
  /** SHA-256 of the ranges; undefined where there are none. */
  readonly sha256: string | undefined;
}

/** Pages that the kernel writes when it attaches, works and detaches: metadata, and the log and what it may append. */
function pagesWritten(base: Overlay): Set<number> {
  const pages = new Set<number>();
  const add = (from: number, to: number): void => {
    for (let at = from - (from % PAGE_BYTES); at < to; at += PAGE_BYTES) pages.add(at);
  };
  add(0, segmentOffsetBytes(KERNEL_GEOMETRY, 0));
  for (let id = 0; segmentOffsetBytes(KERNEL_GEOMETRY, id + 1) <= base.sizeBytes; id++) {
    add(segmentOffsetBytes(KERNEL_GEOMETRY, id), segmentDataOffsetBytes(KERNEL_GEOMETRY, id) + PAGE_BYTES);
  }
  const { places, end } = ksetsOf(base);
  for (const place of [...places, end]) {
    const at = segmentDataOffsetBytes(KERNEL_GEOMETRY, place.segment) + place.offsetBytes;
    add(at, at + APPENDED_BYTES);
  }
  return pages;
}

/** Records for attach-many.pl: pages of an image, zeroes beyond its end, at their place on the shared device. */
function recordsOf(image: Overlay, pages: Iterable<number>, sliceAt: number): Buffer {
  const records = [...pages]
    .sort((a, b) => a - b)
    .map((at) => {
      const record = Buffer.alloc(RECORD_HEAD_BYTES + PAGE_BYTES);
      record.writeBigUInt64LE(BigInt(sliceAt + at));
      record.writeUInt32LE(PAGE_BYTES, 8);
      const length = Math.max(0, Math.min(PAGE_BYTES, image.sizeBytes - at));
      if (length > 0) image.read(at, record, RECORD_HEAD_BYTES, length);
      return record;
    });
  return Buffer.concat(records);
}

function writeSlices(
  bases: ReadonlyMap<BaseName, Base>,
  path: string,
  sliceBytes: number,
  part: (base: Base) => OverlayBase,
): void {
  const fd = openSync(path, 'w', 0o600);
  const piece = new Uint8Array(16 * PAGE_BYTES);
  BASE_NAMES.forEach((name, n) => {
    const source = part(bases.get(name)!);
    for (let at = 0; at < source.sizeBytes; at += piece.length) {
      const length = Math.min(piece.length, source.sizeBytes - at);
      source.read(at, piece, 0, length);
      if (piece.some((byte) => byte !== 0)) writeSync(fd, piece, 0, length, n * sliceBytes + at);
    }
  });
  ftruncateSync(fd, BASE_NAMES.length * sliceBytes);
  closeSync(fd);
}

/** Files of the exchange folder that describe the cases. */
function guestFiles(bases: ReadonlyMap<BaseName, Base>, cases: readonly Attachable[]): Record<string, Uint8Array> {
  const files: Record<string, Uint8Array> = { 'attach-many.pl': readFileSync(GUEST_SCRIPT) };
  BASE_NAMES.forEach((name, n) => {
    const base = bases.get(name)!.device;
    const pages = pagesWritten(base);
    for (const { base: own, image } of cases) {
      if (own === name) for (const page of image.touchedPages) pages.add(page);
    }
    files[`restore-${name}`] = recordsOf(base, pages, n * SLICE_BYTES);
  });
  const lines = cases.map(({ base, image, backingBytes, ranges }, n) => {
    const slice = BASE_NAMES.indexOf(base);
    files[`change-${n}`] = recordsOf(image, image.touchedPages, slice * SLICE_BYTES);
    files[`ranges-${n}`] = Buffer.from(ranges.map((one) => `${one.offsetBytes} ${one.lengthBytes}\n`).join(''));
    const crc = ['dirty-crc', 'hopping'].includes(base);
    const where = [slice * SLICE_BYTES, image.sizeBytes, slice * BACKING_SLICE_BYTES, backingBytes];
    return [n, ...where, crc, `restore-${base}`, ranges.length > 0 ? 1 : 0].join(' ');
  });
  files['cases'] = Buffer.from(`${lines.join('\n')}\n`);
  return files;
}

/** Attaches all of them, in order, in one machine. */
export async function attachMany(
  kernel: TestKernel,
  bases: ReadonlyMap<BaseName, Base>,
  cases: readonly Attachable[],
): Promise<{ attached: Attached[]; output: string }> {
  const folder = makeImageFolder();
  try {
    const paths = { cache: join(folder, 'cache'), backing: join(folder, 'backing') };
    writeSlices(bases, paths.cache, SLICE_BYTES, ({ device }) => device);
    writeSlices(bases, paths.backing, BACKING_SLICE_BYTES, ({ backing }) => backing);
    const guest = await runGuest({
      kernel,
      ...paths,
      files: guestFiles(bases, cases),
      script: `
        mkdir /run/programs; cp -L ${programFiles().join(' ')} /run/programs
        export PATH="/run/programs:$PATH" LD_LIBRARY_PATH=/run/programs PERL5LIB=/run/programs
        perl /tmp/x/attach-many.pl /tmp/x`,
      seconds: SECONDS,
    });
    const attached = cases.map((_, n): Attached => {
      const [line] = printed(guest, `case ${n}`);
      const read = guest.files.get(`read-${n}`);
      return {
        status: line === 'refused' ? undefined : line,
        said: printed(guest, `said ${n}`)[0],
        sha256: read === undefined ? undefined : createHash('sha256').update(read).digest('hex'),
      };
    });
    return { attached, output: guest.output };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
