/** The record of the backing device from outside: a cache with dirty data only, and devices that are not its own. */
import {
  closeSync,
  openSync,
  readSync,
  renameSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openBacking } from '../../src/engine/device/backing-file.js';
import { bestCrc32c } from '../../src/engine/device/native.js';
import { openPmem } from '../../src/engine/device/open.js';
import { decodeCacheInfo, encodeCacheInfo, CACHE_INFO_BYTES } from '../../src/engine/media/codecs.js';
import { CACHE_INFO_COPIES, KERNEL_GEOMETRY } from '../../src/engine/media/geometry.js';
import { recordBackingContents } from '../../src/rescue/recorded-backing.js';
import { runCli, type CliResult } from '../support/cli.js';
import { hashOf, temporaryFolder, writableCopy, writableImage } from '../support/cli-images.js';

const folder = temporaryFolder('backing-record');
const MIB = 1 << 20;
const SAMPLED_BYTE = 8 * 4096;

let original: { readonly cache: string; readonly backing: string };
let cache: string;
let backing: string;

/** The dirty data of a kernel-made cache, moved to one that holds nothing else, with a record of the backing device. */
beforeAll(async () => {
  const image = await writableImage(folder, 'dirty-crc');
  original = { cache: `${folder}/dirty`, backing: image.backing };
  const moved = await runCli([
    'move',
    image.cache,
    original.cache,
    '--size',
    '512MiB',
    '--no-preallocate',
    '--dirty-only',
    '--force',
  ]);
  expect(moved.status, moved.stderr).toBe(0);
  const devices = { cache: openPmem(original.cache), backing: openBacking(original.backing, { readOnly: true }) };
  await recordBackingContents(devices, { geometry: KERNEL_GEOMETRY, crc: bestCrc32c() });
  devices.cache.close();
  devices.backing.close();
}, 60_000);

beforeEach(() => {
  cache = writableCopy(folder, original.cache, 'cache-now');
  backing = writableCopy(folder, original.backing, 'backing-now');
});

const writeback = (device: string, ...flags: string[]): Promise<CliResult> =>
  runCli(['writeback', cache, device, ...flags]);
const attach = (device: string, ...flags: string[]): Promise<CliResult> =>
  runCli(['attach', cache, device, '--read-only', '--exec', 'true', ...flags]);

interface Recorded {
  readonly backingBytes: number;
  readonly samples: number;
  readonly isCurrent: boolean;
}

async function recordIn(path: string): Promise<Recorded | null> {
  const { stdout } = await runCli(['info', path, '--json']);
  return (JSON.parse(stdout) as { backingRecord: Recorded | null }).backingRecord;
}

function change(path: string, offsetBytes: number, text: string): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, Buffer.from(text), 0, text.length, offsetBytes);
  closeSync(fd);
}

/** What every attach does, the kernel's too. */
function rewriteCacheInfo(path: string): void {
  const fd = openSync(path, 'r+');
  const bytes = Buffer.alloc(CACHE_INFO_BYTES);
  readSync(fd, bytes, 0, bytes.length, CACHE_INFO_COPIES[1]);
  const info = decodeCacheInfo(bytes);
  writeSync(fd, encodeCacheInfo(info, info.seq + 1), 0, CACHE_INFO_BYTES, CACHE_INFO_COPIES[0]);
  closeSync(fd);
}

const DIFFERS =
  /: \d+ of \d+ samples differ from what .* has recorded, the first at bytes \d+ to \d+: it is another device, or was written to without the cache; give the right one, or --force-backing\n$/;

describe('a cache that holds dirty data only', { timeout: 60_000 }, () => {
  it('refuses another device of the same size, by write-back and attach, and changes neither', async () => {
    const other = `${folder}/other`;
    writeFileSync(other, '');
    truncateSync(other, (await recordIn(cache))!.backingBytes);
    change(other, 0, 'of another system');
    const before = [await hashOf(cache), await hashOf(other)];
    for (const { status, stderr } of [
      await writeback(other),
      await attach(other),
      await writeback(other, '--dry-run'),
    ]) {
      expect([status, stderr]).toEqual([4, expect.stringMatching(DIFFERS)]);
    }
    expect([await hashOf(cache), await hashOf(other)]).toEqual(before);
    expect((await attach(other, '--force-backing')).status).toBe(0);
  });

  it('refuses a device of another size', async () => {
    const before = await hashOf(cache);
    const { backingBytes } = (await recordIn(cache))!;
    truncateSync(backing, backingBytes + MIB);
    const { status, stderr } = await attach(backing);
    expect([status, stderr]).toEqual([
      4,
      expect.stringContaining(`has ${backingBytes + MIB} bytes, not ${backingBytes}`),
    ]);
    expect(await hashOf(cache)).toBe(before);
  });

  it('refuses a device that was written to without it, and a snapshot from before', async () => {
    const snapshot = writableCopy(folder, backing, 'snapshot');
    change(snapshot, SAMPLED_BYTE, 'older');
    expect((await attach(snapshot)).stderr).toMatch(DIFFERS);
    change(backing, SAMPLED_BYTE, 'mounted');
    const refused = await writeback(backing);
    expect([refused.status, refused.stderr]).toEqual([4, expect.stringMatching(DIFFERS)]);
    const forced = await writeback(backing, '--force-backing');
    expect(forced.status, forced.stderr).toBe(0);
    // The new record holds what was forced.
    expect(await recordIn(cache)).toMatchObject({ isCurrent: true });
    expect((await attach(backing)).status).toBe(0);
  });

  it('takes the right device by another path, and after a write-back that was not marked', async () => {
    expect((await writeback(backing, '--keep-metadata')).status).toBe(0);
    const renamed = `${folder}/renamed`;
    renameSync(backing, renamed);
    symlinkSync(renamed, `${folder}/link`);
    for (const path of [renamed, `${folder}/link`]) expect((await attach(path)).status).toBe(0);
    expect((await writeback(renamed)).status).toBe(0);
    expect(await recordIn(cache)).toMatchObject({ isCurrent: true });
  });

  it('takes a device that changed since something attached the cache', async () => {
    rewriteCacheInfo(cache);
    expect(await recordIn(cache)).toMatchObject({ isCurrent: false });
    change(backing, SAMPLED_BYTE, 'written back');
    expect((await attach(backing)).status).toBe(0);
  });
});

describe('the record of the backing device', { timeout: 60_000 }, () => {
  it('goes on to count when the cache grows or is moved, and goes with the cache', async () => {
    const before = await recordIn(cache);
    expect(before!.samples).toBeGreaterThan(20);
    expect((await runCli(['grow', cache, '--size', '600MiB'])).status).toBe(0);
    expect(await recordIn(cache)).toEqual(before);
    const moved = `${folder}/moved`;
    const { status } = await runCli(['move', cache, moved, '--size', '512MiB', '--no-preallocate', '--force']);
    expect([status, await recordIn(moved)]).toEqual([0, before]);
    expect((await runCli(['wipe', cache, '--force'])).status).toBe(0);
    expect((await runCli(['format', cache])).status).toBe(0);
    expect(await recordIn(cache)).toBeNull();
  });

  it('is kept by format --backing and by attach', async () => {
    expect((await runCli(['format', cache, '--force', '--backing', backing])).status).toBe(0);
    const formatted = await recordIn(cache);
    expect(formatted).toMatchObject({ samples: 80, isCurrent: true });
    expect((await runCli(['format', cache, '--force'])).status).toBe(0);
    expect(await recordIn(cache)).toBeNull();
    expect((await runCli(['attach', cache, backing, '--exec', 'true'])).status).toBe(0);
    expect(await recordIn(cache)).toEqual(formatted);
  });
});
