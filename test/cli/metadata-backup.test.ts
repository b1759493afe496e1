/**
 * The metadata backup that `attach` and `writeback` write: what it brings back after the beginning of the cache was
 * wiped, and which files it never replaces.
 */
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runCli, type CliResult } from '../support/cli.js';
import { hashOf, temporaryFolder, writableCopy, writableImage } from '../support/cli-images.js';
import { describeWithClient } from '../support/clients.js';

const folder = temporaryFolder('metadata-backup');
const MIB = 1024 * 1024;
/** Metadata before the log: everything before the data area of the first segment. */
const BEFORE_LOG_BYTES = 20480 + 12288;
/** Of the backup; it holds when that was made. */
const HEADER_BYTES = 64;

interface Place {
  readonly own: string;
  readonly cache: string;
  readonly backing: string;
  readonly file: string;
}

async function copyOf(image: string): Promise<Place> {
  const own = mkdtempSync(join(folder, `${image}-`));
  return { own, ...(await writableImage(own, image)), file: join(own, 'metadata') };
}

function zero(path: string, lengthBytes: number): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, Buffer.alloc(lengthBytes), 0, lengthBytes, 0);
  closeSync(fd);
}

const attach = ({ cache, backing }: Place, exec: string, ...flags: string[]): Promise<CliResult> =>
  runCli(['attach', cache, backing, '--exec', exec, ...flags], { env: { TMPDIR: folder } });

/** What a cache reads as, and its keys. */
async function contentsOf({ own, cache, backing }: Place): Promise<{ logical: string; keys: string }> {
  const logical = join(own, 'logical');
  const { status, stderr } = await runCli(['cat', cache, backing], { stdoutTo: logical });
  expect([status, stderr]).toEqual([0, '']);
  const { stdout } = await runCli(['dump-keys', cache, '--format', 'csv']);
  return { logical: await hashOf(logical), keys: stdout };
}

describeWithClient('a metadata backup of attach', 'nbdcopy', () => {
  it('brings back a cache whose first MiB was wiped afterwards', { timeout: 120_000 }, async () => {
    const place = await copyOf('gc-wrap');
    const { cache, backing, file } = place;
    const source = writableCopy(place.own, backing, 'source');
    // So many keys that the log no longer begins in the first MiB of the device.
    const copy = `nbdcopy --request-size=4096 '${source}' "$PCACHE_URI"`;
    const attached = await attach(place, copy, '--gc-percent', '20', '--backup-metadata', file);
    expect([attached.status, attached.stderr]).toEqual([
      0,
      expect.stringContaining(`pcache: metadata saved in ${file}, 22 KiB\n`),
    ]);
    const before = await contentsOf(place);
    zero(cache, MIB);
    const wiped = await runCli(['fsck', cache, backing]);
    expect([wiped.status, wiped.stdout]).toEqual([4, expect.stringContaining('SUPERBLOCK')]);
    const restored = await runCli(['fsck', cache, backing, '--restore-metadata', file]);
    expect([restored.status, restored.stdout, restored.stderr]).toEqual([
      0,
      expect.stringMatching(/^restored: superblock$[^]*: clean, \d+ ksets, \d+ keys\n$/m),
      '',
    ]);
    expect(await contentsOf(place)).toEqual(before);
    expect(before.keys.split('\n').length).toBeGreaterThan(1000);
  });
});

describe('a metadata backup of writeback', () => {
  it('holds the tails as they are once everything was written back', { timeout: 60_000 }, async () => {
    const { cache, backing, file } = await copyOf('dirty-crc');
    const { status, stderr } = await runCli(['writeback', cache, backing, '--backup-metadata', file]);
    expect([status, stderr]).toEqual([0, `pcache: metadata saved in ${file}, 22 KiB\n`]);
    zero(cache, BEFORE_LOG_BYTES);
    const restored = await runCli(['fsck', cache, backing, '--restore-metadata', file]);
    expect([restored.status, restored.stdout]).toEqual([0, expect.stringMatching(/: clean, 9 ksets, 1054 keys\n$/)]);
    const left = await runCli(['writeback', cache, backing, '--dry-run']);
    expect([left.status, left.stdout]).toEqual([0, expect.stringMatching(/: nothing to write back\n$/)]);
  });

  it('is refused with --dry-run, which changes nothing', async () => {
    const { cache, backing, file } = await copyOf('fresh');
    const { status, stderr } = await runCli(['writeback', cache, backing, '--dry-run', '--backup-metadata', file]);
    expect([status, stderr]).toEqual([16, expect.stringContaining('--dry-run')]);
    expect(existsSync(file)).toBe(false);
  });
});

describe('a metadata backup', { timeout: 60_000 }, () => {
  it('replaces an older one of the same cache, and leaves no other file', async () => {
    const place = await copyOf('dirty-crc');
    const { own, cache, backing, file } = place;
    expect((await runCli(['fsck', cache, '--backup-metadata', file])).status).toBe(0);
    const older = readFileSync(file);
    const metadata = (bytes: Buffer): Buffer => bytes.subarray(HEADER_BYTES);
    const attached = await attach(place, 'true', '--drain', '--backup-metadata', file);
    expect(attached.status).toBe(0);
    expect(metadata(readFileSync(file)).equals(metadata(older))).toBe(false);
    expect(readdirSync(own).sort()).toEqual(['backing', 'cache', 'metadata']);
    expect((await runCli(['fsck', cache, backing, '--restore-metadata', file])).status).toBe(0);
  });

  it('never replaces another file, the cache, or a backup of a device of another size', async () => {
    const place = await copyOf('dirty-crc');
    const { own, cache, backing, file } = place;
    writeFileSync(file, 'a letter'.repeat(20));
    const other = join(own, 'other');
    expect((await runCli(['format', join(own, 'larger'), '--size', '544MiB'])).status).toBe(0);
    expect((await runCli(['fsck', join(own, 'larger'), '--backup-metadata', other])).status).toBe(0);
    const hashes = (): Promise<string[]> => Promise.all([cache, backing, file, other].map(hashOf));
    const before = await hashes();
    for (const taken of [file, other, cache, '/dev/null', own]) {
      const line = `pcache: ${taken}: exists already, and is not a metadata backup of this device; give another name\n`;
      const attached = await attach(place, 'true', '--backup-metadata', taken);
      expect([attached.status, attached.stderr]).toEqual([16, expect.stringContaining(line)]);
      const written = await runCli(['writeback', cache, backing, '--backup-metadata', taken]);
      expect([written.status, written.stderr]).toEqual([16, expect.stringContaining(line)]);
    }
    expect(await hashes()).toEqual(before);
  });

  it('that cannot be written at the end is reported with status 8, and the work is kept', async () => {
    const place = await copyOf('fresh');
    const away = join(place.own, 'away');
    mkdirSync(away);
    const file = join(away, 'metadata');
    const { status, stdout, stderr } = await attach(place, `rm -r '${away}'`, '--backup-metadata', file);
    expect([status, stdout]).toEqual([8, expect.stringContaining('dirty: ')]);
    expect(stderr).toMatch(/metadata: no such file; .*; the metadata backup is not up to date\n$/);
  });
});
