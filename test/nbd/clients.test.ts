/** Real NBD clients against `pcache attach`: what they write reads back, through each other and from the devices. */
import { execFile } from 'node:child_process';
import { closeSync, existsSync, openSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { Random } from '../../src/engine/sim/random.js';
import { runCli } from '../support/cli.js';
import { hashOf } from '../support/cli-images.js';
import { describeWithClient } from '../support/clients.js';
import { casesOf } from '../support/long.js';
import { fixtureImage, unpackImage } from '../support/images.js';
import { makeImageFolder } from '../support/kernel.js';
import { Command, CommandFlag, NbdError } from '../../src/nbd/protocol.js';
import { attach, BACKING_BYTES, client, makeDevices, type Attached } from './attached.js';
import { NbdClient } from './client.js';

const folder = makeImageFolder();
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let attached: Attached | undefined;

afterEach(async () => {
  await attached?.stop('SIGKILL');
  attached = undefined;
});

async function serve(...flags: string[]): Promise<Attached & { cache: string; backing: string }> {
  const { cache, backing } = await makeDevices(folder, flags);
  attached = await attach(folder, [cache, backing]);
  return { ...attached, cache, backing };
}

/** Ends the server in order and checks what it leaves behind. @returns SHA-256 of the logical device */
async function endAndCheck({ cache, backing }: { cache: string; backing: string }): Promise<string> {
  const result = await attached!.result();
  expect(result.failedRequests).toBe(0);
  const fsck = await runCli(['fsck', cache, backing]);
  expect([fsck.status, fsck.stderr]).toEqual([0, '']);
  const drained = await runCli(['writeback', cache, backing]);
  expect(drained.status).toBe(0);
  return hashOf(backing);
}

/** A file of the export's size with data, and holes between them. */
function makeImage(): string {
  const path = join(folder, 'image.raw');
  const bytes = Buffer.alloc(BACKING_BYTES);
  const random = new Random(11);
  for (let n = 0; n < 300; n++) {
    const at = random.below(BACKING_BYTES / 4096) * 4096;
    const length = Math.min(random.between(1, 64) * 4096, BACKING_BYTES - at);
    for (let k = at; k < at + length; k += 4) bytes.writeUInt32LE((k * 2654435761 + n) >>> 0, k);
  }
  writeFileSync(path, bytes);
  return path;
}

describeWithClient('base:allocation', 'nbdinfo', (nbdinfo) => {
  it('tells holes where neither device holds data, and copies skip them', { timeout: 60_000 }, async () => {
    const MIB = 1024 * 1024;
    const { cache, backing } = await makeDevices(folder);
    const fd = openSync(backing, 'r+');
    writeSync(fd, Buffer.alloc(3 * MIB, 5), 0, 3 * MIB, 10 * MIB);
    closeSync(fd);
    const served = (attached = await attach(folder, [cache, backing]));
    const nbd = await NbdClient.connect(served.socket);
    await nbd.write(100 * MIB, Buffer.alloc(MIB, 7));
    await nbd.write(12 * MIB, Buffer.alloc(2 * MIB, 8)); // half of it over what the backing device holds
    await nbd.write(4096, Buffer.alloc(512, 9));
    await nbd.flush();
    nbd.close();
    const map = JSON.parse(await client(nbdinfo, '--map', '--json', served.uri)) as {
      offset: number;
      length: number;
      type: number;
    }[];
    const data = map.filter(({ type }) => type === 0).map(({ offset, length }) => [offset, offset + length]);
    const [first, ...others] = data;
    expect(others).toEqual([
      [10 * MIB, 14 * MIB],
      [100 * MIB, 101 * MIB],
    ]);
    expect([first[0], first[1] >= 4608 && first[1] <= 8192]).toEqual([4096, true]);
    expect(map.filter(({ type }) => type !== 0).every(({ type }) => type === 3)).toBe(true);
    expect(map.reduce((end, { offset, length }) => (offset === end ? end + length : NaN), 0)).toBe(BACKING_BYTES);

    const copies = ['nbdcopy.raw', 'qemu.raw'].map((name) => join(folder, name));
    await client('nbdcopy', served.uri, copies[0]);
    await client('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', served.uri, copies[1]);
    expect((await attached.result()).readBytes).toBeLessThan(2 * 8 * MIB);
    await runCli(['writeback', cache, backing]);
    for (const copy of copies) expect(await hashOf(copy)).toBe(await hashOf(backing));
    for (const copy of copies) rmSync(copy);
  });
});

describeWithClient('TRIM and WRITE_ZEROES', 'qemu-io', (qemuIo) => {
  it('give the space of the backing file back where the cache holds nothing', { timeout: 60_000 }, async () => {
    const MIB = 1024 * 1024;
    const { cache, backing } = await makeDevices(folder);
    writeFileSync(backing, Buffer.alloc(32 * MIB, 0x5a));
    truncateSync(backing, BACKING_BYTES);
    attached = await attach(folder, [cache, backing]);
    const { socket, uri } = attached;
    const allocatedMib = () => (statSync(backing).blocks * 512) / MIB;
    const run = (...commands: string[]) =>
      promisify(execFile)(qemuIo, ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri]);

    await run('write -P 7 10M 4096', 'discard 8M 8M', 'write -z -u 0 8M', 'flush');
    expect(allocatedMib()).toBeCloseTo(16, 0);
    await run('write -z 20M 4M'); // without -u: NO_HOLE
    expect(allocatedMib()).toBeCloseTo(16, 0);
    const client = await NbdClient.connect(socket);
    await client.request(Command.writeZeroes, 26 * MIB, MIB, CommandFlag.fastZero | CommandFlag.fua);
    expect(allocatedMib()).toBeCloseTo(15, 0);
    const overCached = client.request(Command.writeZeroes, 10 * MIB, MIB, CommandFlag.fastZero);
    await expect(overCached).rejects.toMatchObject({ error: NbdError.notSupported });
    client.close();

    await run('write -z 10M 8192');
    const { stdout } = await run(
      'read -P 0 0 16M',
      'read -P 0 20M 4M',
      'read -P 90 16M 4M',
      'read -P 90 24M 2M',
      'read -P 0 26M 1M',
    );
    expect(stdout).not.toContain('failed');

    expect((await attached.result()).failedRequests).toBe(1);
    expect((await runCli(['fsck', cache, backing])).status).toBe(0);
  });
});

describe.each(casesOf([['--data-crc'], ['--no-data-crc']], 1))('a cache with %s', (flag) => {
  const flags = flag === '--data-crc' ? [flag] : [];

  describeWithClient('qemu-io', 'qemu-io', (qemuIo) => {
    it('writes, flushes, writes with FUA, zeroes, and reads it back', async () => {
      const served = await serve(...flags);
      const commands = [
        'write -P 0x5a 4k 64k',
        'read -P 0x5a 4k 64k',
        'read -P 0 1M 1M',
        'flush',
        'write -z 8k 16M',
        'read -P 0x5a 4k 4k',
        'read -P 0 8k 16M',
        'write -f -P 7 100M 8M',
        'read -P 7 100M 8M',
        'aio_write -P 8 99M 1M',
        'aio_read 99M 9M',
        'aio_flush',
        'read -P 8 99M 1M',
        'read -P 7 100M 8M',
      ].flatMap((command) => ['-c', command]);
      const output = await client(qemuIo, '-f', 'raw', served.uri, ...commands);
      expect(output).not.toMatch(/fail|mismatch|error/i);
      await endAndCheck(served);
    });
  });

  describeWithClient('qemu-img', 'qemu-img', (qemuImg) => {
    it('converts an image into it and compares, here and after the end', { timeout: 60_000 }, async () => {
      const image = makeImage();
      const served = await serve(...flags);
      await client(qemuImg, 'convert', '-n', '-f', 'raw', '-O', 'raw', '-W', '-m', '8', image, served.uri);
      expect(await client(qemuImg, 'compare', '-f', 'raw', '-F', 'raw', image, served.uri)).toBe(
        'Images are identical.\n',
      );
      expect(await endAndCheck(served)).toBe(await hashOf(image));
    });
  });

  describeWithClient('nbdcopy', 'nbdcopy', (nbdcopy) => {
    it('copies in and out over several connections', { timeout: 60_000 }, async () => {
      const image = makeImage();
      const served = await serve(...flags);
      await client(nbdcopy, '--connections=4', '--requests=64', '--flush', image, served.uri);
      const back = join(folder, 'back.raw');
      await client(nbdcopy, '--connections=4', '--request-size=33554432', served.uri, back);
      expect(await hashOf(back)).toBe(await hashOf(image));
      expect(await endAndCheck(served)).toBe(await hashOf(image));
    });
  });

  describeWithClient('fio', 'fio', (fio) => {
    const SIZES = [
      ['all sizes', '--bsrange=512-2M'],
      ['small blocks', '--bsrange=512-8k'],
    ];
    it.each(casesOf(SIZES, 1))(
      'verifies a random mix with flushes, four connections of depth 64: %s',
      { timeout: 120_000 },
      async (_, sizes) => {
        const served = await serve(...flags);
        await client(
          fio,
          ...['--name=mix', '--ioengine=nbd', `--uri=${served.uri}`, '--rw=randrw', sizes, '--iodepth=64'],
          ...['--numjobs=4', '--size=64M', '--offset_increment=64M', '--io_size=24M', '--fsync=32'],
          ...['--verify=crc32c', '--verify_fatal=1', '--verify_state_save=0', '--randseed=17', '--group_reporting'],
        );
        await endAndCheck(served);
      },
    );
  });
});

describeWithClient('nbdinfo', 'nbdinfo', (nbdinfo) => {
  it('sees what is served', async () => {
    const { uri, socket } = await serve();
    const info = JSON.parse(await client(nbdinfo, '--json', uri)) as { exports: unknown[] };
    expect(info).toMatchObject({ protocol: 'newstyle-fixed', TLS: false, structured: true });
    expect(info.exports).toMatchObject([
      {
        'export-name': '',
        'export-size': BACKING_BYTES,
        'is_read_only': false,
        'is_rotational': false,
        'can_flush': true,
        'can_fua': true,
        'can_multi_conn': true,
        'can_trim': true,
        'can_zero': true,
        'can_fast_zero': true,
        'can_cache': true,
        'can_df': true,
        'block_size_minimum': 512,
        'block_size_preferred': 4096,
        'block_size_maximum': 67108864,
      },
    ]);
    expect(JSON.parse(await client(nbdinfo, '--list', '--json', uri))).toMatchObject({
      exports: [{ 'export-name': '' }],
    });
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    expect((await attached!.stop()).status).toBe(0);
    expect(existsSync(socket)).toBe(false);
  });
});

describeWithClient('a cache that the kernel left behind', 'nbdcopy', (nbdcopy) => {
  it('reads as the kernel reads it, and read-only changes neither device', { timeout: 120_000 }, async () => {
    const { cachePath, backingPath } = await unpackImage('crash');
    const { cache, backing } = { cache: join(folder, 'crash.pmem'), backing: join(folder, 'crash.back') };
    for (const [from, to] of [
      [cachePath, cache],
      [backingPath, backing],
    ]) {
      await promisify(execFile)('cp', ['--sparse=always', '--no-preserve=all', from, to]);
    }
    const before = [await hashOf(cache), await hashOf(backing)];
    const copy = join(folder, 'crash.raw');
    attached = await attach(folder, [cache, backing, '--read-only']);
    await client(nbdcopy, attached.uri, copy);
    expect(await hashOf(copy)).toBe(fixtureImage('crash').logicalSha256);
    expect(await attached.result()).toMatchObject({ readOnly: true, dirty: null });
    expect([await hashOf(cache), await hashOf(backing)]).toEqual(before);

    attached = await attach(folder, [cache, backing, '--data-crc', '--drain']);
    await client(nbdcopy, attached.uri, copy);
    expect(await hashOf(copy)).toBe(fixtureImage('crash').logicalSha256);
    expect((await attached.result()).dirty).toEqual({ dirtyKeys: 0, dirtyBytes: 0 });
    expect(await hashOf(backing)).toBe(fixtureImage('crash').logicalSha256);
  });
});
