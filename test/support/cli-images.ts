/** Images for tests of the command line: files of their own that a test may damage. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, createReadStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { afterAll } from 'vitest';
import { unpackImage } from './images.js';
import { SparseImage } from './sparse-image.js';

/** A folder that goes away with the test file. */
export function temporaryFolder(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `pcache-${name}-`));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** SHA-256 of a file. */
export async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}

/** A damaged copy of a fixture image, as a file in `folder`. */
export async function damagedCopy(
  folder: string,
  name: string,
  damage: (image: SparseImage) => unknown,
): Promise<string> {
  const image = SparseImage.fromFile((await unpackImage(name)).cachePath).clone();
  const damaged = damage(image);
  const path = join(folder, `${name}-damaged.pmem`);
  (damaged instanceof SparseImage ? damaged : image).writeTo(path);
  return path;
}

/** A copy of a file in `folder` that may be written. */
export function writableCopy(folder: string, from: string, name = basename(from)): string {
  const to = join(folder, name);
  execFileSync('cp', ['--sparse=always', '--no-preserve=all', from, to]);
  chmodSync(to, 0o644);
  return to;
}

/** Writable copies in `folder` of a kernel-made image and its backing device. */
export async function writableImage(folder: string, image: string): Promise<{ cache: string; backing: string }> {
  const { cachePath, backingPath } = await unpackImage(image);
  return { cache: writableCopy(folder, cachePath, 'cache'), backing: writableCopy(folder, backingPath, 'backing') };
}
