/** `pcache move` from outside: on caches that a kernel made, what it refuses, and that nothing is lost. */
import { closeSync, existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openDeviceFile } from '../../src/engine/device/device-file.js';
import type { MoveJson } from '../../src/output/move-report.js';
import { runCli, type CliResult } from '../support/cli.js';
import { damagedCopy, hashOf, temporaryFolder, writableImage } from '../support/cli-images.js';
import { unpackImage } from '../support/images.js';

const folder = temporaryFolder('move');
const move = (...args: string[]): Promise<CliResult> => runCli(['move', ...args]);

async function logicalHash(cache: string, backing: string): Promise<string> {
  const target = `${folder}/logical`;
  const { status, stderr } = await runCli(['cat', cache, backing], { stdoutTo: target });
  expect([status, stderr]).toEqual([0, '']);
  return hashOf(target);
}

describe('move of a cache that a kernel made', { timeout: 120_000 }, () => {
  it.each([
    ['gc-wrap', '600MiB', []],
    ['crash', '512MiB', ['--dirty-only']],
    ['dirty-crc', '512MiB', []],
  ] as const)('makes one that reads the same and is clean (%s, %s, %s)', async (image, size, flags) => {
    const { cachePath: old, backingPath: backing } = await unpackImage(image);
    const target = `${folder}/${image}`;
    const { status, stdout, stderr } = await move(old, target, '--size', size, '--no-preallocate', ...flags);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toContain(`${old}: still holds the old cache; never attach it again`);
    const check = await runCli(['fsck', target, backing]);
    expect([check.status, check.stdout]).toEqual([0, expect.stringContaining(`${target}: clean, `)]);
    expect(await logicalHash(target, backing)).toBe(await logicalHash(old, backing));
    const [before, after] = await Promise.all([old, target].map((path) => runCli(['info', path, '--json'])));
    const settings = ({ stdout: text }: CliResult): unknown => {
      const { mode, dataCrc, gcPercent } = JSON.parse(text) as { mode: string; dataCrc: boolean; gcPercent: number };
      return { mode, dataCrc, gcPercent };
    };
    expect(settings(after)).toEqual(settings(before));
  });
});

describe('move', { timeout: 60_000 }, () => {
  it('retires the old cache with --wipe-old', async () => {
    const { cache, backing } = await writableImage(folder, 'dirty-crc');
    const before = await logicalHash(cache, backing);
    const target = `${folder}/retired-to`;
    const { status, stdout } = await move(cache, target, '--size', '512MiB', '--no-preallocate', '--wipe-old');
    expect([status, stdout]).toEqual([
      0,
      expect.stringMatching(/^.*: moved to .*\n.*: wiped; payload stays on the device\n$/),
    ]);
    expect((await runCli(['info', cache])).stderr).toContain('not a pcache device');
    expect(await logicalHash(target, backing)).toBe(before);
  });

  it('shows with --dry-run what it would do, and changes nothing', async () => {
    const { cachePath } = await unpackImage('dirty-crc');
    const target = `${folder}/not-made`;
    const { status, stdout } = await move(cachePath, target, '--size', '1GiB', '--dry-run', '--wipe-old', '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout) as MoveJson).toMatchObject({ dryRun: true, segments: 63, keys: 1030, oldWiped: false });
    expect(existsSync(target)).toBe(false);
  });

  it('refuses a cache with findings, in its payload too', async () => {
    const tails = await damagedCopy(folder, 'dirty-crc', (image) => image.write(16 * 1024, Buffer.alloc(64)));
    const refused = await move(tails, `${folder}/not-made`, '--size', '512MiB');
    expect([refused.status, refused.stderr]).toEqual([
      4,
      expect.stringMatching(/_TAIL_LOST .*; run "pcache fsck .*" first\n$/),
    ]);
    const keys = await runCli([
      'dump-keys',
      (await unpackImage('dirty-crc')).cachePath,
      '--live',
      '--format',
      'ndjson',
    ]);
    const [{ segment, segmentOffsetBytes: at }] = keys.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { segment: number; segmentOffsetBytes: number });
    const payload = await damagedCopy(folder, 'dirty-crc', (image) =>
      image.write(20 * 1024 + segment * 16 * 1024 * 1024 + 12 * 1024 + at, Buffer.from('damage')),
    );
    const bad = await move(payload, `${folder}/not-made`, '--size', '512MiB');
    expect([bad.status, bad.stderr]).toEqual([
      4,
      expect.stringMatching(/PAYLOAD_\w+ .*; run "pcache fsck .*" first\n$/),
    ]);
    expect(existsSync(`${folder}/not-made`)).toBe(false);
  });

  it('refuses a device in use, the device itself, and one that holds something', async () => {
    const { cache } = await writableImage(folder, 'fresh');
    const held = openDeviceFile(cache, { writable: true });
    const busy = await move(cache, `${folder}/not-made`, '--size', '512MiB');
    closeSync(held.fd);
    expect([busy.status, busy.stderr]).toEqual([8, expect.stringMatching(/in use/)]);
    const itself = await move(cache, cache, '--force');
    expect([itself.status, itself.stderr]).toEqual([16, expect.stringContaining('give another device')]);
    const { cachePath: other } = await unpackImage('dirty-crc');
    const full = await move(cache, other);
    expect([full.status, full.stderr]).toEqual([8, expect.stringMatching(/not empty: a pcache .* give --force/)]);
  });
});
