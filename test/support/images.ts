/**
 * The kernel-made images of fixtures/images as files, unpacked once per run into a temporary folder that
 * `images-cleanup.ts` removes at its end; and, where `PCACHE_SHARED` names a folder with more of them, those.
 * The files are shared by all tests: nobody writes to them. To damage one, take `SparseImage.fromFile`.
 */
import { createReadStream, existsSync, readFileSync } from 'node:fs';
import { chmod, mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createGunzip } from 'node:zlib';
import { describe, it, vi } from 'vitest';
import { findClient } from './clients.js';
import { imagesFolderOf } from './images-cleanup.js';

const FIXTURES = fileURLToPath(new URL('../../fixtures/images', import.meta.url));
/** Pieces are unpacked large, since each costs a turn of the event loop, and written small, to leave more holes. */
const UNPACK_BYTES = 1 << 20;
const PIECE_BYTES = 64 * 1024;
const ZERO_PIECE = Buffer.alloc(PIECE_BYTES);

// Half a gibibyte is soon unpacked, hashed or copied, but not on a machine that is busy with other things.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 180_000 });

/** What the kernel says of an image. */
export interface KernelImage {
  readonly name: string;
  readonly dataCrc: boolean;
  /** Status line right after the kernel attached it. */
  readonly statusLine: string;
  /** SHA-256 of the whole logical device, hexadecimal. */
  readonly logicalSha256: string;
  /** Folder the packed files are in. */
  readonly folder: string;
}

export interface UnpackedImage {
  readonly cachePath: string;
  readonly backingPath: string;
}

function readExpectations(folder: string): KernelImage[] {
  return readFileSync(join(folder, 'expect.tsv'), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [name, dataCrc, statusLine, logicalSha256] = line.split('\t');
      return { name, dataCrc: dataCrc === 'true', statusLine, logicalSha256, folder };
    });
}

export const FIXTURE_IMAGES: readonly KernelImage[] = readExpectations(FIXTURES);

/** The fixture image called `name`. */
export function fixtureImage(name: string): KernelImage {
  const image = FIXTURE_IMAGES.find((one) => one.name === name);
  if (image === undefined) throw new Error(`there is no fixture image ${name}`);
  return image;
}

/**
 * A `describe` for every fixture image, and for every image under `PCACHE_SHARED` that is not among them.
 * Where there are none, a skipped test says why.
 */
export function describeImages(title: string, body: (image: KernelImage) => void): void {
  for (const image of FIXTURE_IMAGES) {
    describe(`${title}: ${image.name}`, () => {
      body(image);
    });
  }
  const shared = process.env['PCACHE_SHARED'] ?? '';
  const folder = join(shared, 'images');
  if (shared === '') {
    it.skip(`${title}: further images (skipped: PCACHE_SHARED is not set)`, () => undefined);
  } else if (!existsSync(join(folder, 'expect.tsv'))) {
    it.skip(`${title}: further images (skipped: PCACHE_SHARED has no images/expect.tsv)`, () => undefined);
  } else if (findClient('zstd') === undefined) {
    it.skip(`${title}: further images (skipped: zstd is not installed)`, () => undefined);
  } else {
    for (const image of readExpectations(folder)) {
      if (FIXTURE_IMAGES.some((one) => one.name === image.name)) continue;
      describe(`${title}: ${image.name} (from PCACHE_SHARED)`, () => {
        body(image);
      });
    }
  }
}

/** The image as two files with holes, unpacked by whoever asks first. Takes a second or two then. */
export async function unpackImage(image: KernelImage | string): Promise<UnpackedImage> {
  const { name, folder } = typeof image === 'string' ? fixtureImage(image) : image;
  const target = imagesFolderOf(process.ppid);
  await mkdir(target, { recursive: true });
  return {
    cachePath: await unpackFile(folder, `${name}.pmem`, target),
    backingPath: await unpackFile(folder, `${name}.back`, target),
  };
}

async function unpackFile(folder: string, name: string, targetFolder: string): Promise<string> {
  const target = join(targetFolder, name);
  if (existsSync(target)) return target;
  const partial = `${target}.${process.pid}`;
  const gzipped = join(folder, `${name}.gz.gz`);
  try {
    if (existsSync(gzipped)) await gunzipTwice(gzipped, partial);
    else await promisify(execFile)('zstd', ['-dq', '--sparse', '-o', partial, join(folder, `${name}.zst`)]);
    await chmod(partial, 0o444);
    await rename(partial, target);
  } finally {
    await rm(partial, { force: true });
  }
  return target;
}

/** Unpacks to a new file, leaving holes where there are zeroes. */
async function gunzipTwice(source: string, target: string): Promise<void> {
  const outer = createReadStream(source).pipe(createGunzip());
  const inner = outer.pipe(createGunzip({ chunkSize: UNPACK_BYTES }));
  outer.on('error', (error) => inner.destroy(error));
  const file = await open(target, 'wx');
  try {
    let offset = 0;
    for await (const chunk of inner as AsyncIterable<Buffer>) {
      for (let from = 0; from < chunk.length; from += PIECE_BYTES) {
        const piece = chunk.subarray(from, from + PIECE_BYTES);
        if (piece.compare(ZERO_PIECE, 0, piece.length) !== 0) await file.write(piece, 0, piece.length, offset + from);
      }
      offset += chunk.length;
    }
    await file.truncate(offset);
  } finally {
    await file.close();
  }
}
