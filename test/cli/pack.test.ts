/** `pcache pack` and `pcache unpack` from outside, and the commands that read packs. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  readSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openDeviceFile } from '../../src/engine/device/device-file.js';
import { runCli, type CliResult } from '../support/cli.js';
import { damagedCopy, hashOf, temporaryFolder } from '../support/cli-images.js';
import { deviceOffset, flip, ksetsOf } from '../support/damage/edit.js';
import { describeImages, unpackImage, type UnpackedImage } from '../support/images.js';
import { itLong } from '../support/long.js';

const folder = temporaryFolder('pack');
const packed = join(folder, 'cache.pack');
const run = (command: string, ...args: string[]): Promise<CliResult> => runCli([command, ...args]);
/** What is in the folder, for who must leave nothing behind. */
const listing = (): string[] => readdirSync(folder).sort();

const dataPacks = new Map<string, string>();
/** A pack with the data of that cache, made once. */
async function dataPackOf(cachePath: string): Promise<string> {
  let file = dataPacks.get(cachePath);
  if (file !== undefined) return file;
  file = join(folder, `data-${dataPacks.size}.pack`);
  expect(await run('pack', cachePath, file, '--data')).toMatchObject({ status: 0, stderr: '' });
  dataPacks.set(cachePath, file);
  return file;
}

let image: UnpackedImage;
beforeAll(async () => {
  image = await unpackImage('dirty-crc');
});

/** Images whose packs take longest: left to `npm run test:all`. */
const SLOW_IMAGES = ['crash', 'gc-wrap'];

describeImages('a pack', (one) => {
  const itOfImage = SLOW_IMAGES.includes(one.name) ? itLong : it;

  itOfImage('is read by fsck, info and dump-keys as the cache is', { timeout: 300_000 }, async () => {
    const { cachePath, backingPath } = await unpackImage(one);
    expect(await run('pack', cachePath, packed, '--force')).toMatchObject({ status: 0, stderr: '' });
    expect(statSync(packed).size).toBeLessThan(4 << 20);
    for (const args of [
      ['fsck', '--json'],
      ['dump-keys', '--live'],
    ]) {
      const [command, ...rest] = args;
      const of = async (path: string): Promise<CliResult> => {
        const result = await run(command, path, backingPath, ...rest);
        return { ...result, stdout: result.stdout.replaceAll(path, 'CACHE') };
      };
      expect(await of(packed)).toEqual(await of(cachePath));
    }
    const info = async (path: string): Promise<object> =>
      JSON.parse((await run('info', path, backingPath, '--json')).stdout.replaceAll(path, 'CACHE')) as object;
    expect(await info(packed)).toEqual({ ...(await info(cachePath)), durability: null });
  });

  itOfImage('with --data becomes the same image again', { timeout: 300_000 }, async () => {
    const { cachePath, backingPath } = await unpackImage(one);
    const target = join(folder, 'again.pmem');
    const pack = await dataPackOf(cachePath);
    expect((await run('unpack', pack, target, '--force')).status).toBe(0);
    expect(await hashOf(target)).toBe(await hashOf(cachePath));
    expect(statSync(target).blocks).toBeLessThanOrEqual(statSync(cachePath).blocks + 8);
    const out = join(folder, 'out');
    expect((await runCli(['cat', pack, backingPath], { stdoutTo: out })).status).toBe(0);
    expect(await hashOf(out)).toBe(one.logicalSha256);
  });
});

describe('pack', () => {
  it('says what it did, as a line and as JSON, and changes nothing on the cache', async () => {
    const before = await hashOf(image.cachePath);
    const file = join(folder, 'one.pack');
    const text = await run('pack', image.cachePath, file);
    expect(text.stdout).toMatch(/: packed into .*one\.pack: 9 ksets, no data, [\d.]+ KiB for 512 MiB\n$/);
    const json = await runCli(['pack', image.cachePath, file, '--force', '--json'], { env: { PCACHE_NATIVE: 'off' } });
    expect(JSON.parse(json.stdout)).toEqual({
      schemaVersion: 1,
      path: image.cachePath,
      file,
      payload: false,
      deviceBytes: 512 << 20,
      packedBytes: statSync(file).size,
      ksets: 9,
      badPayloads: 0,
      unreadableBytes: 0,
      unreadable: [],
      losses: [],
    });
    expect(await hashOf(image.cachePath)).toBe(before);
  });

  it('goes to standard output, the same bytes', async () => {
    const [file, out] = [join(folder, 'a.pack'), join(folder, 'b.pack')];
    await run('pack', image.cachePath, file, '--force');
    const { status, stderr } = await runCli(['pack', image.cachePath, '-'], { stdoutTo: out });
    expect(status).toBe(0);
    expect(stderr).toMatch(/^pcache: .*: packed into standard output: /);
    expect(readFileSync(out).equals(readFileSync(file))).toBe(true);
    expect((await run('pack', image.cachePath, '-', '--json')).status).toBe(16);
  });

  it('of a damaged cache is made, and shows the damage', async () => {
    const path = await damagedCopy(folder, 'dirty-crc', (one) => {
      const { places } = ksetsOf(one);
      one.zero(4096, 4096);
      flip(one, deviceOffset(places[4]));
      // Payload of a key.
      flip(one, deviceOffset({ segment: 1, offsetBytes: 4197376 }));
    });
    const { status, stderr } = await run('pack', path, packed, '--force');
    expect(status).toBe(4);
    const [loss, ...rest] = stderr.split('\n');
    expect(loss).toMatch(/^pcache: .*: dirty data may be lost or old: LOG_CUT_SHORT kset 0:20576: /);
    expect(rest).toEqual([`pcache: ${path}: 1 key with bad payload; the pack records which`, '']);
    const check = await run('fsck', packed);
    expect(check.status).toBe(4);
    for (const code of ['SUPERBLOCK_ZERO_MAGIC', 'LOG_CUT_SHORT', 'PAYLOAD_CRC_CURRENT']) {
      expect(check.stdout).toMatch(new RegExp(`^${code} `, 'm'));
    }
    expect(check.stdout.replaceAll(packed, path)).toBe((await run('fsck', path)).stdout);
  });

  it('has no data, and commands that need them say so', async () => {
    await run('pack', image.cachePath, packed, '--force');
    const cat = await run('cat', packed, image.backingPath);
    const line = `pcache: ${packed}: a pack of metadata only, without the data; make one with "pcache pack --data"\n`;
    expect([cat.status, cat.stdout, cat.stderr]).toEqual([8, '', line]);
    const backing = join(folder, 'backing');
    copyFileSync(image.backingPath, backing);
    chmodSync(backing, 0o644);
    const writeback = await run('writeback', packed, backing);
    expect([writeback.status, writeback.stderr]).toEqual([
      8,
      `pcache: ${packed}: a packed cache; make a device or image of it with "pcache unpack"\n`,
    ]);
  });

  it('is read by map too, which tells whose payload was good', async () => {
    await run('pack', image.cachePath, packed, '--force');
    const of = async (path: string): Promise<string> => (await run('map', path, '1M-2M')).stdout;
    expect(await of(packed)).toBe(await of(image.cachePath));
    expect(await of(packed)).toMatch(/ good /);
  });

  it('ends quietly when its reader leaves', async () => {
    const { status, stderr } = await runCli(['pack', image.cachePath, '-', '--data'], { readOnlyBytes: 10 });
    expect([status, stderr]).toEqual([0, '']);
  });
});

describe('unpack', () => {
  it('of metadata makes an image that says what the pack says, and takes little room', async () => {
    const target = join(folder, 'metadata.pmem');
    await run('pack', image.cachePath, packed, '--force');
    const { status, stdout } = await run('unpack', packed, target);
    expect([status, stdout]).toEqual([
      0,
      `${packed}: unpacked into ${target}: 512 MiB, metadata only; not usable as a cache\n`,
    ]);
    expect([statSync(target).size, statSync(target).mode & 0o777]).toEqual([512 << 20, 0o600]);
    expect(statSync(target).blocks * 512).toBeLessThan(2 << 20);
    const check = await run('fsck', target, '--no-data');
    expect(check.stdout.replaceAll(target, 'CACHE')).toBe(
      (await run('fsck', image.cachePath, '--no-data')).stdout.replaceAll(image.cachePath, 'CACHE'),
    );
  });

  it('does not overwrite without --force, and never what is in use', async () => {
    const target = join(folder, 'there');
    writeFileSync(target, 'something');
    await run('pack', image.cachePath, packed, '--force');
    const refused = await run('unpack', packed, target);
    expect([refused.status, refused.stderr.split('\n')[0]]).toEqual([
      16,
      `pcache: ${target}: already exists; give --force to overwrite it`,
    ]);
    const { fd } = openDeviceFile(target, { writable: true });
    try {
      const busy = await run('unpack', packed, target, '--force');
      expect(busy.status).toBe(8);
      expect(busy.stderr).toMatch(new RegExp(`^pcache: ${target}: in use by pid ${process.pid} `));
    } finally {
      closeSync(fd);
    }
    expect(readFileSync(target, 'utf8')).toBe('something');
    writeFileSync(target, '');
    expect(await run('unpack', packed, target, '--json')).toMatchObject({ status: 0, stderr: '' });
    expect((await run('unpack', packed, target, '--force')).status).toBe(0);
  });

  it('of a pack that is cut short or damaged leaves nothing behind', async () => {
    await run('pack', image.cachePath, packed, '--force');
    const bad = join(folder, 'bad.pack');
    copyFileSync(packed, bad);
    truncateSync(bad, statSync(packed).size - 100);
    const before = listing();
    const cut = await run('unpack', bad, join(folder, 'new'));
    expect([cut.status, cut.stderr]).toEqual([
      8,
      `pcache: ${bad}: truncated pack: it ends at byte ${statSync(bad).size}; get it again from where it came\n`,
    ]);
    const bytes = readFileSync(packed);
    bytes[200] ^= 1;
    writeFileSync(bad, bytes);
    const damaged = await run('unpack', bad, join(folder, 'new'));
    expect([damaged.status, damaged.stderr.split('\n').length]).toEqual([8, 2]);
    expect(damaged.stderr).toMatch(/: damaged pack: .*; get it again from where it came\n$/);
    expect(listing()).toEqual(before);
    for (const command of ['fsck', 'info', 'dump-keys']) {
      expect((await run(command, bad)).stderr).toMatch(/^pcache: .*: damaged pack: [^\n]*\n$/);
    }
  });
});

describe('pack and unpack refuse, in one line, and leave nothing behind', () => {
  const refused = async (args: string[], status: number, message: RegExp): Promise<void> => {
    const before = listing();
    const [command, ...rest] = args;
    const result = await run(command, ...rest);
    expect([result.status, result.stdout]).toEqual([status, '']);
    expect(result.stderr).toMatch(message);
    expect(result.stderr.trimEnd().split('\n')).toHaveLength(status === 16 ? 2 : 1);
    expect(listing()).toEqual(before);
  };
  const made = (name: string, size: number): string => {
    writeFileSync(join(folder, name), '');
    truncateSync(join(folder, name), size);
    return join(folder, name);
  };

  it('bad usage', async () => {
    await refused(['pack'], 16, /^pcache: missing arguments CACHE, FILE\n/);
    await refused(['pack', image.cachePath], 16, /^pcache: missing argument FILE\n/);
    await refused(['unpack', 'x'], 16, /^pcache: missing argument CACHE\n/);
    await refused(['pack', image.cachePath, image.cachePath], 16, /: is the cache itself; /);
    await refused(['unpack', packed, packed], 16, /: is the pack itself; /);
    const there = made('there-already', 10);
    await refused(['pack', image.cachePath, there], 16, /: already exists; give --force to overwrite it\n/);
  });

  it('what is no cache, and what no pack can be written to', async () => {
    const file = join(folder, 'x.pack');
    mkdirSync(join(folder, 'directory'), { recursive: true });
    for (const [cache, message] of [
      [join(folder, 'none'), /none: no such file; check the path\n$/],
      [made('empty', 0), /: is an empty file; /],
      [made('short', 5000), /: only 5000 bytes, too short for a pcache; /],
      [made('zeroes', 1 << 29), /: not a pcache device: /],
      [join(folder, 'directory'), /: is a directory; /],
    ] as const) {
      await refused(['pack', cache, file], 8, message);
    }
    await refused(['pack', image.cachePath, join(folder, 'directory')], 8, /directory: is a directory; give a file\n$/);
    await refused(['pack', image.cachePath, '/dev/null'], 8, /^pcache: \/dev\/null: is a device or the like; /);
    await refused(['pack', image.cachePath, join(folder, 'none', 'x')], 8, /: no such file; check the path\n$/);
    const { cachePath } = await unpackImage('fresh');
    const copy = join(folder, 'fresh');
    execFileSync('cp', ['--sparse=always', '--no-preserve=all', cachePath, copy]);
    const { fd } = openDeviceFile(copy, { writable: true });
    try {
      await refused(['pack', copy, file], 8, /fresh: in use by pid \d+ \(.*\); stop that use first\n$/);
    } finally {
      closeSync(fd);
    }
  });

  it('what is no pack', async () => {
    const target = join(folder, 'x.pmem');
    for (const [file, message] of [
      [join(folder, 'none'), /none: no such file; check the path\n$/],
      [made('empty', 0), /: not a packed cache; give a file that "pcache pack" wrote\n$/],
      [image.cachePath, /: not a packed cache; /],
      [join(folder, 'directory'), /: not a regular file; /],
    ] as const) {
      await refused(['unpack', file, target], 8, message);
    }
    await refused(['unpack', packed, join(folder, 'directory')], 8, /directory: is a directory; give a file\n$/);
  });

  const isRoot = process.getuid?.() === 0;
  it.skipIf(!isRoot)(`a full disk${isRoot ? '' : ' (skipped: only root can mount one)'}`, async (context) => {
    const small = join(folder, 'small');
    mkdirSync(small);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', small], { stdio: 'ignore' });
    } catch {
      context.skip('a tmpfs cannot be mounted here');
    }
    try {
      const { cachePath } = await unpackImage('crash');
      const pack = await run('pack', cachePath, join(small, 'x'));
      expect([pack.status, pack.stderr]).toEqual([
        8,
        `pcache: ${join(small, 'x')}: no space left on its filesystem while writing it; free some space\n`,
      ]);
      const unpack = await run('unpack', packed, join(small, 'y'));
      expect([unpack.status, unpack.stderr.split('\n').length]).toEqual([8, 2]);
      expect(unpack.stderr).toMatch(/: no space left on its filesystem while /);
      expect(readdirSync(small)).toEqual([]);
    } finally {
      execFileSync('umount', [small]);
    }
  });
});

describe('interrupted', () => {
  /** Runs a command and sends SIGINT when a file whose name has `part` in it shows in the folder. */
  const interrupted = (args: string[]): Promise<CliResult> =>
    runCli(args, {
      onStart: (child) => {
        const poll = setInterval(() => {
          if (!readdirSync(folder).some((name) => name.endsWith('.partial'))) return;
          clearInterval(poll);
          child.kill('SIGINT');
        }, 1);
        child.on('exit', () => clearInterval(poll));
      },
    });

  it('pack and unpack end with 130 and leave nothing behind', async () => {
    const { cachePath } = await unpackImage('crash');
    const data = await dataPackOf(cachePath);
    const before = listing();
    const pack = await interrupted(['pack', cachePath, join(folder, 'cut.pack'), '--data']);
    expect([pack.status, pack.stdout]).toEqual([130, '']);
    expect(pack.stderr).toMatch(/\npcache: .*: not packed\n$/);
    const unpack = await interrupted(['unpack', data, join(folder, 'cut.pmem')]);
    expect([unpack.status, unpack.stdout]).toEqual([130, '']);
    expect(unpack.stderr).toMatch(/\npcache: .*: not unpacked\n$/);
    expect(listing()).toEqual(before);
  });
});

describe('a block device', () => {
  const isRoot = process.getuid?.() === 0;
  const canLoop = isRoot && existsSync('/dev/loop-control');
  it.skipIf(!canLoop)(
    `is overwritten with --force only, and wholly${canLoop ? '' : ' (skipped: needs root and loop devices)'}`,
    async (context) => {
      const { cachePath } = await unpackImage('gc-wrap');
      const pack = await dataPackOf(cachePath);
      const file = join(folder, 'device');
      writeFileSync(file, Buffer.alloc(513 << 20, 0x5a));
      let loop = '';
      try {
        loop = execFileSync('losetup', ['-f', '--show', file], { encoding: 'utf8', stdio: 'pipe' }).trim();
      } catch {
        context.skip('a loop device cannot be made here');
      }
      try {
        const refused = await run('unpack', pack, loop);
        expect([refused.status, refused.stderr.split('\n')[0]]).toEqual([
          16,
          `pcache: ${loop}: is a device; give --force to overwrite it`,
        ]);
        expect((await run('unpack', pack, loop, '--force')).status).toBe(0);
      } finally {
        execFileSync('losetup', ['-d', loop]);
      }
      const [ours, theirs] = [openSync(file, 'r'), openSync(cachePath, 'r')];
      const size = statSync(cachePath).size;
      const [a, b] = [Buffer.alloc(1 << 20), Buffer.alloc(1 << 20)];
      for (let at = 0; at < size; at += a.length) {
        readSync(ours, a, 0, a.length, at);
        readSync(theirs, b, 0, b.length, at);
        if (!a.equals(b)) expect(`different at ${at}`).toBe('the same');
      }
      closeSync(ours);
      closeSync(theirs);
      expect((await run('fsck', file)).stdout).toMatch(new RegExp(`^${file}: clean, `, 'm'));
    },
  );
});
