/** `pcache format` from outside: what it makes, what it refuses, what it leaves when it fails. */
import { execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openPmemReader } from '../../src/engine/device/open.js';
import type { PmemReader } from '../../src/engine/device/pmem.js';
import { CACHE_INFO_COPIES, KERNEL_GEOMETRY, KIB, MIB, segmentOffsetBytes } from '../../src/engine/media/geometry.js';
import { readMetadata } from '../../src/engine/media/metadata.js';
import { PCACHE, runCli, type CliResult } from '../support/cli.js';
import { unpackImage } from '../support/images.js';

let folder: string;
let cache: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-format-'));
  cache = join(folder, 'cache.img');
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const format = (...args: string[]): Promise<CliResult> => runCli(['format', cache, ...args]);

function withReader<T>(path: string, use: (reader: PmemReader) => T): T {
  const reader = openPmemReader(path);
  try {
    return use(reader);
  } finally {
    reader.close();
  }
}

const problems = (path: string): unknown =>
  withReader(path, (reader) => readMetadata(reader, KERNEL_GEOMETRY).problems);

/** Overwrites a piece of a file. */
function put(path: string, offsetBytes: number, bytes: Uint8Array): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, bytes, 0, bytes.length, offsetBytes);
  closeSync(fd);
}

describe('a new file', () => {
  it('is created, sparse when that is asked for, and holds a cache', async () => {
    const { status, stdout, stderr } = await format('--size', '512MiB', '--data-crc', '--no-preallocate');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toBe(
      [
        `Created and formatted ${cache} (512 MiB).`,
        'segments:    31 of 16 MiB, 495.6 MiB for data and log',
        'mode:        writeback',
        'data_crc:    on',
        'gc_percent:  70',
        'unused:      16.0 MiB (16756736 bytes) at the end (less than a segment)',
        'space:       sparse: a filesystem that becomes full stops the cache; --preallocate reserves the space',
        '',
        'Device-mapper table (the kernel needs a DAX device such as /dev/pmem0; it does not accept a file):',
        '  0 <sectors> pcache <cache_dev> <backing_dev> 4 cache_mode writeback data_crc true',
        '',
      ].join('\n'),
    );
    const file = statSync(cache);
    expect(file.size).toBe(512 * MIB);
    expect(file.blocks * 512).toBeLessThan(4 * MIB);
    expect(problems(cache)).toEqual([]);
  });

  it('has its space reserved with --preallocate, and an existing sparse file too', async () => {
    const made = await format('--size', '512MiB', '--preallocate');
    expect(made.stdout).toContain('\nspace:       reserved\n');
    expect(statSync(cache).blocks * 512).toBeGreaterThanOrEqual(512 * MIB);
    rmSync(cache);
    writeFileSync(cache, '');
    truncateSync(cache, 512 * MIB);
    expect((await format()).stdout).toContain('\nspace:       sparse: ');
    const again = await format('--force', '--preallocate', '--json');
    expect(JSON.parse(again.stdout)).toMatchObject({ sparse: false });
    expect(statSync(cache).blocks * 512).toBeGreaterThanOrEqual(512 * MIB);
    expect(problems(cache)).toEqual([]);
  });

  it('is touched at the heads of its segments only, however much its disk reads ahead', async () => {
    expect((await format('--size', '2GiB', '--no-preallocate')).status).toBe(0);
    const resident = execFileSync('fincore', ['--bytes', '--noheadings', '--output', 'RES', cache], {
      encoding: 'utf8',
    });
    expect(Number(resident)).toBeLessThan(127 * 64 * KIB);
  });

  it('that its filesystem has no room for is refused with --preallocate, and not left behind', async () => {
    const { status, stderr } = await format('--size', '2048TiB', '--preallocate');
    expect([status, stderr]).toEqual([8, expect.stringMatching(/: its filesystem has no room for \d+ bytes; free/)]);
    expect(existsSync(cache)).toBe(false);
  });

  it('is, but for a message the kernel got, the bytes of one that the kernel made', async () => {
    await format('--size', '512M');
    const { cachePath: theirs } = await unpackImage('fresh');
    withReader(cache, (ours) => {
      withReader(theirs, (kernels) => {
        const places = [0, ...Array.from({ length: 31 }, (_, id) => segmentOffsetBytes(KERNEL_GEOMETRY, id))];
        for (const place of places) {
          const [a, b] = [new Uint8Array(20 * 1024), new Uint8Array(20 * 1024)];
          ours.read(place, a, 0, a.length);
          kernels.read(place, b, 0, b.length);
          // gc_percent was set afterwards there: a second cache_info, in copy 0.
          if (place === 0) b.fill(0, CACHE_INFO_COPIES[0], CACHE_INFO_COPIES[0] + 24);
          expect(Buffer.compare(a, b), `bytes at ${place}`).toBe(0);
        }
      });
    });
  });

  it.each(['writethrough', 'writearound', 'writeonly'])(
    'of mode %s says so, and info and fsck know it',
    async (mode) => {
      const made = await format('--size', '512MiB', '--mode', mode);
      expect(made.stdout).toContain(`mode:        ${mode} (pcache only; the kernel treats every cache as writeback)`);
      expect(made.stdout).toContain('4 cache_mode writeback data_crc false');
      const info = await runCli(['info', cache, '--json']);
      expect(JSON.parse(info.stdout)).toMatchObject({ mode });
      const fsck = await runCli(['fsck', cache]);
      expect(fsck.status).toBe(0);
      expect(fsck.stdout).toContain('CACHE_MODE_NOT_WRITEBACK');
    },
  );

  it('is described as JSON', async () => {
    const { stdout } = await format('--size', '1GiB', '--gc-percent', '33', '--no-preallocate', '--json');
    expect(JSON.parse(stdout)).toEqual({
      schemaVersion: 1,
      path: cache,
      dryRun: false,
      created: true,
      sparse: true,
      overwrote: null,
      deviceBytes: 2 ** 30,
      segments: 63,
      segmentBytes: 16 * MIB,
      dataBytes: 63 * 16764928,
      unusedBytes: 16 * MIB - 20480,
      dataCrc: false,
      gcPercent: 33,
      mode: 'writeback',
      cacheFlags: 0x842,
      table: '0 <sectors> pcache <cache_dev> <backing_dev> 4 cache_mode writeback data_crc false',
    });
    expect(withReader(cache, (reader) => readMetadata(reader, KERNEL_GEOMETRY).flags.gcPercent)).toBe(33);
  });

  it('is not made by a dry run', async () => {
    const { status, stdout } = await format('--size', '1GiB', '--dry-run');
    expect(status).toBe(0);
    expect(stdout).toContain(`Would create and format ${cache} (1 GiB); nothing was changed.`);
    expect(existsSync(cache)).toBe(false);
  });

  it('is removed when formatting it fails', async () => {
    const { status, stderr } = await runCli(['format', cache, '--size', '1GiB'], { env: { PCACHE_NATIVE: 'off' } });
    expect(status).toBe(8);
    expect(stderr).toContain('native helper');
    expect(existsSync(cache)).toBe(false);
  });

  it('is removed when it is interrupted', async () => {
    const child = spawn(process.execPath, [PCACHE, 'format', cache, '--size', '1TiB'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const ended = new Promise((resolve) => child.on('close', (status, signal) => resolve({ status, signal })));
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
    await expect
      .poll(() => existsSync(cache) && statSync(cache).blocks > 0, { interval: 2, timeout: 15_000 })
      .toBe(true);
    child.kill('SIGINT');
    expect(await ended).toEqual({ status: 130, signal: null });
    expect(errors).toContain('not formatted; the unfinished cache has no superblock');
    expect(existsSync(cache)).toBe(false);
  });

  it.each([
    [['--size', '511MiB'], 8, 'are too few for a cache; it takes at least 536870912 (512 MiB)'],
    [['--size', '536871000'], 16, 'is not a multiple of 4096 bytes'],
    [['--size', 'big'], 16, "--size: 'big' is not a size"],
    [['--size', '1G', '--gc-percent', '91'], 16, '--gc-percent: 91 is too large; the maximum is 90'],
    [
      ['--size', '1G', '--mode', 'writeback2'],
      16,
      "--mode: 'writeback2' is not a cache mode; give writeback, writethrough",
    ],
    [[], 8, 'no such file; give --size to create it'],
  ])('%j is refused', async (args, expected, message) => {
    const { status, stderr } = await format(...args);
    expect(status).toBe(expected);
    expect(stderr).toContain(message);
    expect(existsSync(cache)).toBe(false);
  });
});

describe('an existing file', () => {
  beforeEach(() => {
    writeFileSync(cache, '');
    truncateSync(cache, 600 * MIB);
  });

  it('is used whole', async () => {
    const { status, stdout } = await format();
    expect(status).toBe(0);
    expect(stdout).toContain(`Formatted ${cache} (600 MiB).\nsegments:    37 of 16 MiB`);
    expect(problems(cache)).toEqual([]);
  });

  it('is not given another size, unless forced', async () => {
    const refused = await format('--size', '700MiB');
    expect(refused.status).toBe(16);
    expect(refused.stderr).toContain('exists with 629145600 bytes, not 734003200');
    expect(statSync(cache).size).toBe(600 * MIB);
    const forced = await format('--size', '512MiB', '--force');
    expect(forced.stdout).toContain('old file size:  600 MiB');
    expect(statSync(cache).size).toBe(512 * MIB);
    expect(problems(cache)).toEqual([]);
  });

  it('of the size given is fine', async () => {
    expect((await format('--size', '600MiB')).status).toBe(0);
  });

  it('with something else on it is refused, and overwritten when forced', async () => {
    put(cache, 1080, Uint8Array.of(0x53, 0xef));
    const refused = await format();
    expect(refused.status).toBe(8);
    expect(refused.stderr).toBe(`pcache: ${cache}: not empty: ext2 filesystem; give --force to overwrite it\n`);
    const dry = await format('--force', '--dry-run');
    expect(dry.stdout).toMatch(/overwrites: +ext2 filesystem/);
    expect((await format()).status).toBe(8);
    const forced = await format('--force');
    expect(forced.stdout).toMatch(/overwrote: +ext2 filesystem/);
    expect(problems(cache)).toEqual([]);
  });

  it('with a pcache on it is refused, naming it', async () => {
    await format('--data-crc');
    const refused = await format('--json');
    expect(refused.status).toBe(8);
    expect(JSON.parse(refused.stdout)).toEqual({
      schemaVersion: 1,
      error: {
        code: 'ALREADY_PCACHE',
        message: `${cache}: not empty: a pcache of 37 segments, data_crc on, nothing left to write back; give --force to overwrite it`,
      },
    });
    expect((await format('--force')).status).toBe(0);
    const metadata = withReader(cache, (reader) => readMetadata(reader, KERNEL_GEOMETRY));
    expect(metadata.flags.dataCrc).toBe(false);
    expect(new Set(metadata.chain.generation)).toEqual(new Set([1]));
  });

  it('with a cache that the kernel left dirty is named as such', async () => {
    const { cachePath: dirty } = await unpackImage('dirty-crc');
    const { status, stderr } = await runCli(['format', dirty]);
    expect(status).toBe(8);
    expect(stderr).toContain(
      'a pcache of 31 segments, data_crc on, possibly with writes that are not on its backing device yet',
    );
  });

  it('that is no file or device is refused', async () => {
    const { status, stderr } = await runCli(['format', folder]);
    expect(status).toBe(8);
    expect(stderr).toContain('is a directory');
  });
});
