/** `pcache map` from outside. */
import { join } from 'node:path';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { runCli } from '../support/cli.js';
import { damagedCopy, hashOf, temporaryFolder } from '../support/cli-images.js';
import { dualPlace, ksetsOf, writeTail } from '../support/damage/edit.js';
import { unpackImage, type UnpackedImage } from '../support/images.js';
import type { MappedRange } from '../../src/engine/inspect/map-range.js';

const folder = temporaryFolder('map');
let image: UnpackedImage;
beforeAll(async () => {
  image = await unpackImage('dirty-crc');
});

describe('map', () => {
  it('shows pieces of a range in order, as a table and as JSON, and changes nothing', async () => {
    const before = [await hashOf(image.cachePath), await hashOf(image.backingPath)];
    const args = ['map', image.cachePath, image.backingPath, '1M-1200k'];
    const table = await runCli(args);
    expect([table.status, table.stderr]).toEqual([0, '']);
    const lines = table.stdout.trimEnd().split('\n');
    expect(lines[0].trim().split(/ {2,}/)).toEqual([
      'offset',
      'length',
      'version',
      'state',
      'kset at',
      'key',
      'payload at',
      'gen',
      'CRC',
      'cache byte',
    ]);
    expect(lines[1]).toMatch(/^ +1048576 +28160 {2}current +backing /);
    expect(lines[2]).toMatch(/^ +1076736 +1536 {2}current +dirty +0:20576 +71 +2:4289536 +0 {2}good +37876736$/);
    const json = await runCli([...args, '--json'], { env: { PCACHE_NATIVE: 'off' } });
    const mapped = JSON.parse(json.stdout) as MappedRange;
    expect(mapped).toMatchObject({
      path: image.cachePath,
      backing: image.backingPath,
      startBytes: 1 << 20,
      endBytes: 1200 * 1024,
      dataCrc: true,
      problems: [],
    });
    expect(mapped.pieces).toHaveLength(lines.length - 1);
    expect(mapped.pieces[1].key).toMatchObject({ keyIndex: 71, segment: 2, state: 'dirty', crc: 'good' });
    expect([await hashOf(image.cachePath), await hashOf(image.backingPath)]).toEqual(before);
  });

  it('takes an offset alone for one sector, and lengths', async () => {
    const one = JSON.parse((await runCli(['map', image.cachePath, '1076800', '--json'])).stdout) as MappedRange;
    expect([one.startBytes, one.endBytes, one.pieces.length]).toEqual([1076736, 1077248, 1]);
    const two = await runCli(['map', image.cachePath, '1M+64k', '--json']);
    expect(JSON.parse(two.stdout)).toMatchObject({ startBytes: 1 << 20, endBytes: (1 << 20) + (64 << 10) });
  });

  it('shows what older versions are under it, with places of their own', async () => {
    const { stdout } = await runCli(['map', image.cachePath, image.backingPath, '0-64M']);
    const rows = stdout.trimEnd().split('\n').slice(1);
    const under = rows.filter((row) => row.includes('superseded'));
    expect(under.length).toBeGreaterThan(100);
    // Clipped to the piece that they are under.
    let end = 0;
    for (const row of rows) {
      const [offset, length] = row.trim().split(/ +/).map(Number);
      if (row.includes('current')) end = offset + length;
      else expect(offset + length).toBeLessThanOrEqual(end);
    }
    expect(end).toBe(64 << 20);
  });

  it('of a damaged log shows what comes before the damage, and exits 4', async () => {
    const path = await damagedCopy(folder, 'dirty-crc', (one) => {
      const { end } = ksetsOf(one);
      expect(dualPlace('DIRTY_TAIL').copies).toHaveLength(2);
      writeTail(one, 'DIRTY_TAIL', { segment: end.segment, offsetBytes: end.offsetBytes + 4096 });
    });
    const { status, stdout, stderr } = await runCli(['map', path, '1M-1200k']);
    expect(status).toBe(4);
    expect(stdout.split('\n').length).toBeGreaterThan(3);
    expect(stderr).toMatch(
      /^pcache: .*: dirty_tail 0:\d+ is not a position in the log.*; run "pcache fsck" for all of it\n$/,
    );
  });

  it('ends quietly when its reader leaves', async () => {
    const { status, stderr } = await runCli(['map', image.cachePath, '0-64M'], { readOnlyBytes: 10 });
    expect([status, stderr]).toEqual([0, '']);
  });
});

describe('map refuses, in one line', () => {
  it('bad usage', async () => {
    for (const [args, message] of [
      [[], 'missing argument CACHE'],
      [[image.cachePath], 'missing argument OFFSET[-END]'],
      [[image.cachePath, 'x'], "'x' is not a range; "],
      [[image.cachePath, '2M-1M'], "'2M-1M' is an empty range; "],
      [[image.cachePath, image.backingPath, '0', 'more'], 'unexpected argument more'],
      [[image.cachePath, image.cachePath, '0'], `${image.cachePath}: is the cache device itself`],
    ] as const) {
      const { status, stdout, stderr } = await runCli(['map', ...args]);
      expect([status, stdout]).toEqual([16, '']);
      expect(stderr.startsWith(`pcache: ${message}`)).toBe(true);
      expect(stderr).toMatch(/\nTry 'pcache map --help'.\n$/);
    }
  });

  it('what is no cache, no backing device, or beyond it', async () => {
    const made = (name: string, size: number): string => {
      writeFileSync(join(folder, name), '');
      truncateSync(join(folder, name), size);
      return join(folder, name);
    };
    mkdirSync(join(folder, 'directory'), { recursive: true });
    for (const [args, message] of [
      [[join(folder, 'none'), '0'], /none: no such file; check the path\n$/],
      [[made('empty', 0), '0'], /: is an empty file; /],
      [[made('short', 5000), '0'], /: only 5000 bytes, too short for a pcache; /],
      [[made('zeroes', 1 << 29), '0'], /: not a pcache device: /],
      [[join(folder, 'directory'), '0'], /: is a directory; /],
      [[image.cachePath, join(folder, 'none'), '0'], /none: no such file; check the path\n$/],
      [[image.cachePath, image.backingPath, '64M'], /: ends at byte 67108864; give a range that begins before that\n$/],
    ] as const) {
      const { status, stdout, stderr } = await runCli(['map', ...args]);
      expect([status, stdout]).toEqual([8, '']);
      expect(stderr).toMatch(message);
      expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    }
  });
});
