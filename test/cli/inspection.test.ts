/**
 * What `info`, `fsck`, `dump-keys` and `cat` have in common from outside: how they refuse what is no cache, that
 * they change nothing, and that a reader who leaves ends them quietly.
 */
import { mkdirSync, truncateSync, writeFileSync, chmodSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { runCli } from '../support/cli.js';
import { hashOf, temporaryFolder } from '../support/cli-images.js';
import { unpackImage, type UnpackedImage } from '../support/images.js';

const COMMANDS = ['info', 'fsck', 'dump-keys', 'cat'] as const;
const folder = temporaryFolder('inspection');
const made = (name: string, sizeBytes: number, content?: Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, content ?? '');
  truncateSync(path, sizeBytes);
  return path;
};
let image: UnpackedImage;
let hashesBefore: string[];
const hashes = async (): Promise<string[]> => [await hashOf(image.cachePath), await hashOf(image.backingPath)];
beforeAll(async () => {
  image = await unpackImage('gc-wrap');
  hashesBefore = await hashes();
});

/** The superblock of an ext4 file system, as far as a program looks that knows one. */
function ext4Like(): Uint8Array {
  const bytes = new Uint8Array(8192);
  bytes.set([0x53, 0xef], 1024 + 56);
  bytes.fill(0x11, 1024, 1060);
  bytes.fill(0x77, 4096, 8192);
  return bytes;
}

describe.each(COMMANDS)('%s', (command) => {
  it('needs a cache to be given', async () => {
    const { status, stdout, stderr } = await runCli([command]);
    expect({ status, stdout }).toEqual({ status: 16, stdout: '' });
    expect(stderr).toBe(`pcache: missing argument CACHE\nTry 'pcache ${command} --help'.\n`);
  });

  it.each([
    ['an empty file', () => made('empty', 0), 8, /: is an empty file; /],
    ['a file too short', () => made('short', 5000), 8, /: only 5000 bytes, too short for a pcache; /],
    ['a file of zeroes', () => made('zeroes', 1 << 29), 8, /: not a pcache device: /],
    ['an ext4-like file', () => made('ext4', 1 << 29, ext4Like()), 8, /: not a pcache device: /],
    ['a directory', () => folder, 8, /: is a directory; /],
    ['a path that does not exist', () => join(folder, 'nothing'), 8, /: no such file; /],
  ])('refuses %s in one line', async (_what, make, expected, message) => {
    const path = make();
    const { status, stdout, stderr } = await runCli([command, path]);
    expect({ status, stdout }).toEqual({ status: expected, stdout: '' });
    expect(stderr).toMatch(message);
    expect(stderr.startsWith(`pcache: ${path}: `)).toBe(true);
    expect(stderr.split('\n')).toHaveLength(2);
  });

  it('refuses a backing device that does not exist, or is a directory', async () => {
    const backing = join(folder, 'no-backing');
    const missing = await runCli([command, image.cachePath, backing]);
    expect([missing.status, missing.stderr]).toEqual([8, `pcache: ${backing}: no such file; check the path\n`]);
    const unnamed = await runCli([command, '']);
    expect([unnamed.status, unnamed.stderr]).toEqual([8, "pcache: '': no such file; check the path\n"]);
    mkdirSync(join(folder, 'd'), { recursive: true });
    const directory = await runCli([command, image.cachePath, join(folder, 'd')]);
    expect([directory.status, directory.stdout]).toEqual([8, '']);
  });

  const isRoot = process.getuid?.() === 0;
  it.skipIf(isRoot)(
    `refuses a file it may not read${isRoot ? ' (skipped: root may read everything)' : ''}`,
    async () => {
      const path = made('unreadable', 1 << 29);
      chmodSync(path, 0);
      const { status, stderr } = await runCli([command, path]);
      expect(status).toBe(8);
      expect(stderr).toMatch(/permission denied/);
    },
  );

  it('changes nothing, with the native helper or without', async () => {
    for (const native of ['on', 'off']) {
      const { status, stdout, stderr } = await runCli([command, image.cachePath, image.backingPath], {
        env: { PCACHE_NATIVE: native },
        ...(command === 'cat' ? { stdoutTo: '/dev/null' } : {}),
      });
      expect([status, stderr]).toEqual([0, '']);
      if (command !== 'cat') expect(stdout.length).toBeGreaterThan(100);
    }
    expect(await hashes()).toEqual(hashesBefore);
  });

  it('ends quietly when its reader leaves', async () => {
    const { status, stderr } = await runCli([command, image.cachePath, image.backingPath], { readOnlyBytes: 10 });
    expect([status, stderr]).toEqual([0, '']);
  });
});
