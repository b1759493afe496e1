/**
 * Several caches in one virtual machine, one after another: starting a machine takes longer than most of what is done in
 * it. Each has slices of both devices of the machine, so that none sees what the kernel leaves of another.
 */
import { execFileSync } from 'node:child_process';
import { rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MIB, SECTOR_BYTES } from '../../src/engine/media/geometry.js';
import { makeImageFolder, runGuest, type GuestResult, type TestKernel } from '../support/kernel.js';
import type { Images } from './host.js';

/** Slices begin at multiples of this; the size of the cache device must be a multiple too. */
const SLICE_BYTES = 2 * MIB;
const SECONDS_PER_CACHE = 180;

export interface SharedJob {
  readonly images: Images;
  /**
   * Bash commands as for `runGuest`. $CACHE, $BACKING and $sectors are of this cache. A file NAME of this job, given or
   * made, is `$X`NAME.
   */
  readonly script: string;
  readonly files?: Readonly<Record<string, Uint8Array>>;
}

interface Slice {
  readonly path: string;
  readonly at: number;
  readonly sizeBytes: number;
}

/** Places of files in one file that holds them all. */
function slicesOf(paths: readonly string[]): Slice[] {
  let end = 0;
  return paths.map((path) => {
    const sizeBytes = statSync(path).size;
    const slice = { path, at: end, sizeBytes };
    end += Math.ceil(sizeBytes / SLICE_BYTES) * SLICE_BYTES;
    return slice;
  });
}

/** Copies [from, +sizeBytes) of a file to [to, …) of another, and leaves holes where there are zeroes only. */
function copySparse(source: string, from: number, target: string, to: number, sizeBytes: number): void {
  const range = [
    `skip=${from}`,
    `seek=${to}`,
    `count=${sizeBytes}`,
    'iflag=skip_bytes,count_bytes',
    'oflag=seek_bytes',
  ];
  execFileSync('dd', [`if=${source}`, `of=${target}`, 'bs=64k', ...range, 'conv=sparse,notrunc', 'status=none']);
}

function joinSlices(slices: readonly Slice[], target: string): void {
  writeFileSync(target, '');
  const { at, sizeBytes } = slices.at(-1)!;
  truncateSync(target, Math.ceil((at + sizeBytes) / SLICE_BYTES) * SLICE_BYTES);
  for (const slice of slices) copySparse(slice.path, 0, target, slice.at, slice.sizeBytes);
}

function partSlices(slices: readonly Slice[], source: string): void {
  for (const { path, at, sizeBytes } of slices) {
    truncateSync(path, 0);
    truncateSync(path, sizeBytes);
    copySparse(source, at, path, 0, sizeBytes);
  }
}

function linear(name: string, device: string, { at, sizeBytes }: Slice): string {
  return `dmsetup create ${name} --table "0 ${sizeBytes / SECTOR_BYTES} linear ${device} ${at / SECTOR_BYTES}"`;
}

const mark = (n: number): string => `=== cache ${n}`;

/** Runs each job in turn, and puts what the machine wrote back into the images. @returns one result for each job */
export async function runTogether(kernel: TestKernel, jobs: readonly SharedJob[]): Promise<GuestResult[]> {
  const folder = makeImageFolder();
  try {
    const caches = slicesOf(jobs.map(({ images }) => images.cache));
    const backings = slicesOf(jobs.map(({ images }) => images.backing));
    const paths = { cache: join(folder, 'caches'), backing: join(folder, 'backings') };
    joinSlices(caches, paths.cache);
    joinSlices(backings, paths.backing);
    const files = jobs.flatMap((job, n) =>
      Object.entries(job.files ?? {}).map(([name, bytes]) => [`${n}-${name}`, bytes] as const),
    );
    const scripts = jobs.map(
      ({ script }, n) => `
        ${linear(`cache${n}`, '/dev/pmem0', caches[n])}
        ${linear(`backing${n}`, '/dev/vda', backings[n])}
        CACHE=/dev/mapper/cache${n} BACKING=/dev/mapper/backing${n} sectors=${backings[n].sizeBytes / SECTOR_BYTES} X=/tmp/x/${n}-
        echo "${mark(n)}"
        ${script}
        dmsetup remove --retry cache${n}; dmsetup remove --retry backing${n}`,
    );
    const seconds = SECONDS_PER_CACHE * jobs.length;
    const guest = await runGuest({
      kernel,
      ...paths,
      files: Object.fromEntries(files),
      script: scripts.join('\n'),
      seconds,
    });
    partSlices(caches, paths.cache);
    partSlices(backings, paths.backing);
    return jobs.map((_, n) => {
      const from = guest.output.indexOf(mark(n));
      const to = n + 1 < jobs.length ? guest.output.indexOf(mark(n + 1)) : guest.output.length;
      const own = [...guest.files].filter(([name]) => name.startsWith(`${n}-`));
      const renamed = own.map(([name, bytes]) => [name.slice(`${n}-`.length), bytes] as const);
      return { output: guest.output.slice(from, to), files: new Map(renamed) };
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
