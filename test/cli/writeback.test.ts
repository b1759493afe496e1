/** `pcache writeback` from outside: against what the kernel read, against damage, and against being killed. */
import { execFileSync } from 'node:child_process';
import { chmodSync, closeSync, copyFileSync, mkdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runCli, type CliResult } from '../support/cli.js';
import { damagedCopy, hashOf, temporaryFolder } from '../support/cli-images.js';
import { deviceOffset, flip, ksetAt, ksetsOf } from '../support/damage/edit.js';
import { describeImages, fixtureImage, unpackImage, type KernelImage } from '../support/images.js';
import { casesOf } from '../support/long.js';
import { openDeviceFile } from '../../src/engine/device/device-file.js';
import type { KsetView } from '../../src/engine/media/kset.js';
import type { WritebackJson } from '../../src/output/writeback-report.js';

const folder = temporaryFolder('writeback');

/** Copies of an image that may be written. */
async function copies(image: KernelImage | string): Promise<{ cache: string; backing: string }> {
  const { cachePath, backingPath } = await unpackImage(image);
  const [cache, backing] = [join(folder, 'cache'), join(folder, 'backing')];
  for (const [from, to] of [
    [cachePath, cache],
    [backingPath, backing],
  ]) {
    execFileSync('cp', ['--sparse=always', '--no-preserve=all', from, to]);
    chmodSync(to, 0o644);
  }
  return { cache, backing };
}

const run = (...args: string[]): Promise<CliResult> => runCli(['writeback', ...args]);

describeImages('writeback', (image) => {
  it('leaves on the backing device what the kernel read, and nothing dirty', async () => {
    const { cache, backing } = await copies(image);
    const { status, stdout, stderr } = await run(cache, backing);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/: nothing left to write back\n$/);
    expect(await hashOf(backing)).toBe(image.logicalSha256);
    const check = await runCli(['fsck', cache, backing]);
    expect([check.status, check.stdout]).toEqual([0, expect.stringContaining(`${cache}: clean, `)]);
    const info = JSON.parse((await runCli(['info', cache, backing, '--json'])).stdout) as {
      content: { dirtyBytes: number; keyHead: object };
      dirtyTail: { winner: number; copies: object[] };
    };
    expect(info.content.dirtyBytes).toBe(0);
    expect(info.dirtyTail.copies[info.dirtyTail.winner]).toMatchObject(info.content.keyHead);
    // A second run has nothing to do.
    const again = JSON.parse((await run(cache, backing, '--json')).stdout) as WritebackJson;
    expect(again).toMatchObject({ dirtyKeys: 0, dirtyBytes: 0, writes: 0, complete: true });
  });
});

describe('writeback', () => {
  it('with --keep-metadata leaves the cache as it was, with the native helper or without', async () => {
    const { cache, backing } = await copies('dirty-crc');
    const before = await hashOf(cache);
    for (const native of ['on', 'off']) {
      const { status, stdout } = await runCli(['writeback', cache, backing, '--keep-metadata'], {
        env: { PCACHE_NATIVE: native },
      });
      expect([status, stdout]).toEqual([
        0,
        expect.stringMatching(/: everything is on .*; the cache was not changed\n$/),
      ]);
    }
    expect(await hashOf(cache)).toBe(before);
    expect(await hashOf(backing)).toBe(fixtureImage('dirty-crc').logicalSha256);
  });

  it('with --dry-run changes nothing, and exits 4 when there is something to write', async () => {
    const { cache, backing } = await copies('dirty-crc');
    const before = [await hashOf(cache), await hashOf(backing)];
    const { status, stdout, stderr } = await run(cache, backing, '--dry-run', '--json');
    expect([status, stderr]).toEqual([4, '']);
    expect(JSON.parse(stdout)).toMatchObject({
      dryRun: true,
      complete: false,
      dataCrc: true,
      ksets: 9,
      dirtyKeys: 760,
      cleanKeys: 294,
      writtenBytes: 0,
      failedRanges: 0,
      dirtyTailBefore: { segment: 0, offsetBytes: 0 },
      dirtyTailAfter: { segment: 0, offsetBytes: 0 },
    });
    expect([await hashOf(cache), await hashOf(backing)]).toEqual(before);
    const fresh = await copies('fresh');
    expect((await run(fresh.cache, fresh.backing, '-n')).status).toBe(0);
  });

  it('needs the native helper only to change the cache', async () => {
    const { cache, backing } = await copies('dirty-crc');
    const { status, stderr } = await runCli(['writeback', cache, backing], { env: { PCACHE_NATIVE: 'off' } });
    expect([status, stderr.split('\n').length]).toEqual([8, 2]);
    expect(stderr).toMatch(/native helper, which is switched off/);
  });
});

describe('a cache with bad payload', () => {
  /** Damages the payload of the last key that is dirty; nothing later lies over it. */
  async function badPayload(): Promise<{ cache: string; backing: string; offset: number; length: number }> {
    const { backing } = await copies('dirty-crc');
    const key = { offset: 0, length: 0 };
    const cache = await damagedCopy(folder, 'dirty-crc', (image) => {
      const ksets = ksetsOf(image).places.map((place) => ksetAt(image, place));
      const dirtyKey = (one: KsetView): number[] => [...Array(one.keyCount).keys()].filter((n) => !one.keyIsClean(n));
      const kset = ksets.findLast((one) => dirtyKey(one).length > 0)!;
      const last = dirtyKey(kset).at(-1)!;
      key.offset = kset.keyOffsetBytes(last);
      key.length = kset.keyLengthBytes(last);
      flip(image, deviceOffset({ segment: kset.keySegment(last), offsetBytes: kset.keySegmentOffsetBytes(last) }));
    });
    return { cache, backing, ...key };
  }

  it('is written back but for that, with status 4, and stays dirty', async () => {
    const { cache, backing, offset, length } = await badPayload();
    const before = await hashOf(cache);
    const { status, stdout, stderr } = await run(cache, backing, '--list-failed');
    expect([status, stderr]).toEqual([4, '']);
    const lines = stdout.trimEnd().split('\n');
    expect(lines.at(-3)).toMatch(/^ +offset +length {2}reason$/);
    expect(lines.at(-2)!.trim().split(/ +/)).toEqual([String(offset), String(length), 'bad-crc']);
    expect(lines.at(-1)).toMatch(/ in 1 range could not be written back and remain dirty$/);
    expect(await hashOf(cache)).toBe(before);
  });

  it('is reported as JSON, with the ranges where they were asked for', async () => {
    const { cache, backing, offset, length } = await badPayload();
    const asked = JSON.parse((await run(cache, backing, '--list-failed', '--json')).stdout) as WritebackJson;
    expect(asked.failed).toEqual([{ offsetBytes: offset, lengthBytes: length, reason: 'bad-crc' }]);
    const not = await run(cache, backing, '--json');
    expect(JSON.parse(not.stdout)).toMatchObject({ failedBytes: length, failedRanges: 1, complete: false });
    expect(not.stdout).not.toContain('bad-crc');
    expect(not.status).toBe(4);
  });
});

describe('writeback refuses, in one line, and changes nothing', () => {
  const refused = async (args: string[], status: number, message: RegExp): Promise<void> => {
    const result = await run(...args);
    expect([result.status, result.stdout]).toEqual([status, '']);
    expect(result.stderr).toMatch(message);
    expect(result.stderr.trimEnd().split('\n')).toHaveLength(status === 16 && args.length < 2 ? 2 : 1);
  };

  it('a missing argument', async () => {
    await refused([], 16, /^pcache: missing arguments CACHE, BACKING\n/);
    await refused(['x'], 16, /^pcache: missing argument BACKING\n/);
  });

  it('what is no cache, or no backing device', async () => {
    const { cache, backing } = await copies('fresh');
    const made = (name: string, size: number): string => {
      writeFileSync(join(folder, name), '');
      truncateSync(join(folder, name), size);
      return join(folder, name);
    };
    mkdirSync(join(folder, 'directory'), { recursive: true });
    await refused([join(folder, 'none'), backing], 8, /none: no such file; check the path\n$/);
    await refused([cache, join(folder, 'none')], 8, /none: no such file; check the path\n$/);
    await refused([made('empty', 0), backing], 8, /: is an empty file; /);
    await refused([made('short', 5000), backing], 8, /: only 5000 bytes, too short for a pcache; /);
    await refused([made('zeroes', 1 << 29), backing], 8, /: not a pcache device: /);
    await refused([join(folder, 'directory'), backing], 8, /: is a directory; /);
    await refused([cache, join(folder, 'directory')], 8, /: is a directory; /);
    await refused([backing, cache], 8, /: not a pcache device: /);
    await refused([cache, made('odd', 1025)], 8, /: 1025 bytes is not a multiple of 512; /);
  });

  it('one device for both', async () => {
    const { cache } = await copies('fresh');
    const { status, stderr } = await run(cache, cache);
    expect([status, stderr.split('\n')[0]]).toEqual([
      16,
      `pcache: ${cache}: is the cache device itself; give the backing device`,
    ]);
  });

  it('a backing device that its keys do not fit on', async () => {
    const { cache } = await copies('gc-wrap');
    const { backingPath } = await unpackImage('dirty-crc');
    const small = join(folder, 'small');
    copyFileSync(backingPath, small);
    chmodSync(small, 0o644);
    const before = [await hashOf(cache), await hashOf(small)];
    await refused([cache, small], 4, /: KEY_BEYOND_BACKING .*; give the backing device that belongs to this cache\n$/);
    expect([await hashOf(cache), await hashOf(small)]).toEqual(before);
  });

  it('a log that is cut in two', async () => {
    const { backing } = await copies('dirty-crc');
    const cache = await damagedCopy(folder, 'dirty-crc', (image) =>
      flip(image, deviceOffset(ksetsOf(image).places[4])),
    );
    const before = [await hashOf(cache), await hashOf(backing)];
    await refused(
      [cache, backing],
      4,
      /: LOG_CUT_SHORT kset 0:20576: .*; run "pcache fsck .*" first, or give --accept-loss\n$/,
    );
    expect([await hashOf(cache), await hashOf(backing)]).toEqual(before);
  });

  it('a device that is in use, with the name of its user', async () => {
    const { cache, backing } = await copies('fresh');
    for (const busy of [cache, backing]) {
      const { fd } = openDeviceFile(busy, { writable: true });
      try {
        const user = new RegExp(`${busy}: in use by pid ${process.pid} \\(.*\\); stop that use first\n$`);
        await refused([cache, backing], 8, user);
      } finally {
        closeSync(fd);
      }
    }
  });

  it('a number of retries that is none', async () => {
    const { cache, backing } = await copies('fresh');
    expect((await run(cache, backing, '--retries', '-1')).status).toBe(16);
    expect((await run(cache, backing, '--retries', 'often')).status).toBe(16);
  });
});

/** Runs the command and sends it `signal` as soon as it has written to the backing device. */
async function signalled(cache: string, backing: string, signal: NodeJS.Signals, delayMs: number): Promise<CliResult> {
  const before = statSync(backing, { bigint: true }).mtimeNs;
  return runCli(['writeback', cache, backing, '--json'], {
    onStart: (child) => {
      const poll = setInterval(() => {
        if (child.exitCode !== null) clearInterval(poll);
        else if (statSync(backing, { bigint: true }).mtimeNs !== before) {
          clearInterval(poll);
          setTimeout(() => child.kill(signal), delayMs);
        }
      }, 1);
      child.on('exit', () => clearInterval(poll));
    },
  });
}

describe('a run that is stopped', () => {
  it.each(casesOf([3, 0, 10, 30], 1))('by SIGKILL, %i ms after its first write, can be made again', async (delayMs) => {
    const { cache, backing } = await copies('crash');
    await signalled(cache, backing, 'SIGKILL', delayMs);
    expect((await run(cache, backing)).status).toBe(0);
    expect(await hashOf(backing)).toBe(fixtureImage('crash').logicalSha256);
    expect((await runCli(['fsck', cache, backing])).status).toBe(0);
  });

  it('by SIGINT ends with 130, leaves the cache as it was, and can be made again', async () => {
    const { cache, backing } = await copies('crash');
    const before = await hashOf(cache);
    const { status, stdout, stderr } = await signalled(cache, backing, 'SIGINT', 0);
    expect(status).toBe(130);
    expect(stderr).toContain('pcache: interrupted: stopping; interrupt again to exit at once\n');
    expect(stderr).toMatch(/: not all is written back to .*; the cache is as it was, run it again\n$/);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'INTERRUPTED' } });
    expect(await hashOf(cache)).toBe(before);
    expect((await run(cache, backing)).status).toBe(0);
    expect(await hashOf(backing)).toBe(fixtureImage('crash').logicalSha256);
  });
});

it('writeback ends quietly when its reader leaves, with the work done', async () => {
  const { cache, backing } = await copies('dirty-crc');
  const { status, stderr } = await runCli(['writeback', cache, backing], { readOnlyBytes: 1 });
  expect([status, stderr]).toEqual([0, '']);
  expect(await hashOf(backing)).toBe(fixtureImage('dirty-crc').logicalSha256);
});
