/** `pcache attach --jobs`: several threads that each have a share of one cache serve one device. */
import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { ControlClient } from '../../src/nbd/control.js';
import { Command } from '../../src/nbd/protocol.js';
import { Random } from '../../src/engine/sim/random.js';
import { runCli } from '../support/cli.js';
import { describeWithClient, findClient } from '../support/clients.js';
import { makeImageFolder } from '../support/kernel.js';
import { attach, BACKING_BYTES, client, killAll, makeDevices, sparseFile, type Attached } from './attached.js';
import { NbdClient } from './client.js';

const MIB = 1024 * 1024;
/** Of the device that each thread has in turn. */
const SHARE_BYTES = 4 * MIB;
const prlimit = findClient('prlimit');
const folder = makeImageFolder();
afterEach(killAll);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function serve(...flags: string[]): Promise<Attached & { cache: string; backing: string }> {
  const { cache, backing } = await makeDevices(folder);
  return { ...(await attach(folder, [cache, backing, ...flags])), cache, backing };
}

async function statusOf({ socket }: Attached) {
  const control = await ControlClient.connect({ device: undefined, socket });
  const status = await control.status();
  control.close();
  return status;
}

describe('a cache that three threads serve', () => {
  it('gives every client what any of them has written, across all shares', { timeout: 60_000 }, async () => {
    const served = await serve('--jobs', '3');
    const clients = await Promise.all(Array.from({ length: 4 }, () => NbdClient.connect(served.socket)));
    const model = Buffer.alloc(BACKING_BYTES);
    const random = new Random(9);
    for (let round = 0; round < 20; round++) {
      const used: [number, number][] = [];
      const requests: Promise<unknown>[] = [];
      for (let n = 0; n < 40; n++) {
        const length = 512 * random.between(1, random.below(8) === 0 ? 4096 : 64);
        // Every second one across a border of shares.
        const border = SHARE_BYTES * random.between(1, BACKING_BYTES / SHARE_BYTES - 1);
        const offset = border + (n % 2 === 0 ? -512 * random.below(length / 512) : 512 * random.below(512));
        if (offset < 0 || offset + length > BACKING_BYTES) continue;
        if (used.some(([at, bytes]) => at < offset + length && offset < at + bytes)) continue;
        used.push([offset, length]);
        const nbd = clients[n % clients.length];
        if (random.below(3) === 0) {
          requests.push(
            nbd
              .read(offset, length)
              .then((data) => expect(data.equals(model.subarray(offset, offset + length))).toBe(true)),
          );
        } else {
          const data = Buffer.alloc(length);
          for (let at = 0; at < length; at += 4) data.writeUInt32LE((offset + at + round * 2654435761) >>> 0, at);
          data.copy(model, offset);
          requests.push(nbd.write(offset, data, random.below(8) === 0));
        }
      }
      if (round % 3 === 0) requests.push(clients[round % clients.length].flush());
      await Promise.all(requests);
    }
    await clients[0].flush();
    const { server, cache } = await statusOf(served);
    expect(server.connections).toBe(4);
    expect(server.writeBytes).toBeGreaterThan(MIB);
    expect(cache!.engine.writeBytes).toBe(server.writeBytes);
    expect(cache!.indexEntries).toBeGreaterThan(0);
    for (const nbd of clients) nbd.close();
    const result = await served.result();
    expect(result).toMatchObject({ failedRequests: 0, connections: 4, writeBytes: server.writeBytes });
    expect((await runCli(['fsck', served.cache, served.backing])).status).toBe(0);
    expect((await runCli(['writeback', served.cache, served.backing])).status).toBe(0);
    expect(readFileSync(served.backing).equals(model)).toBe(true);
  });

  it('keeps what was flushed when it is killed, wherever it was written', { timeout: 60_000 }, async () => {
    const served = await serve('--jobs', '3');
    const [writer, flusher] = [await NbdClient.connect(served.socket), await NbdClient.connect(served.socket)];
    for (let share = 0; share < 6; share++) await writer.write(share * SHARE_BYTES, Buffer.alloc(4096, share + 1));
    await flusher.flush();
    await writer.write(7 * SHARE_BYTES, Buffer.alloc(4096, 8), true);
    await served.stop('SIGKILL');
    const again = await attach(folder, [served.cache, served.backing, '--jobs', '2']);
    const reader = await NbdClient.connect(again.socket);
    for (const share of [0, 1, 2, 3, 4, 5, 7]) {
      expect((await reader.read(share * SHARE_BYTES, 4096)).equals(Buffer.alloc(4096, share + 1))).toBe(true);
    }
    reader.close();
    await again.result();
  });

  it('drains, takes a new gc_percent, and detaches', { timeout: 60_000 }, async () => {
    const served = await serve('--jobs', '3');
    const nbd = await NbdClient.connect(served.socket);
    for (let share = 0; share < 6; share++) await nbd.write(share * SHARE_BYTES, Buffer.alloc(64 * 1024, share + 1));
    const run = (...args: string[]) => runCli([...args, '--socket', served.socket]);
    expect(await run('tune', 'gc_percent=40')).toMatchObject({ status: 0 });
    expect(await run('drain')).toMatchObject({ status: 0 });
    const { cache } = await statusOf(served);
    expect(cache).toMatchObject({ gcPercent: 40, dirtyBytes: 0, openKeys: false });
    const backing = readFileSync(served.backing);
    for (let share = 0; share < 6; share++) expect(backing[share * SHARE_BYTES]).toBe(share + 1);
    expect(await run('detach')).toMatchObject({ status: 0 });
  });

  it('gives space of the backing device back', { timeout: 60_000 }, async () => {
    const { cache, backing } = await makeDevices(folder);
    writeFileSync(backing, Buffer.alloc(32 * MIB, 0x5a));
    truncateSync(backing, BACKING_BYTES);
    const served = await attach(folder, [cache, backing, '--jobs', '3']);
    const nbd = await NbdClient.connect(served.socket);
    await nbd.request(Command.trim, 2 * MIB, 20 * MIB);
    await nbd.request(Command.writeZeroes, 24 * MIB, 4 * MIB);
    await nbd.flush();
    expect((statSync(backing).blocks * 512) / MIB).toBeCloseTo(8, 0);
    expect((await nbd.read(24 * MIB, MIB)).every((byte) => byte === 0)).toBe(true);
    expect((await nbd.read(28 * MIB, MIB)).every((byte) => byte === 0x5a)).toBe(true);
    nbd.close();
    expect(await served.result()).toMatchObject({ failedRequests: 0 });
  });

  it('counts clients of all threads against --max-clients', { timeout: 60_000 }, async () => {
    const served = await serve('--jobs', '3', '--max-clients', '2');
    const clients = [await NbdClient.connect(served.socket), await NbdClient.connect(served.socket)];
    // Nor is one that has just been let in taken for one that still negotiates, and makes room.
    for (let n = 0; n < 20; n++) await expect(NbdClient.connect(served.socket)).rejects.toThrow();
    for (const nbd of clients) await nbd.flush();
    clients.pop()!.close();
    await expect.poll(async () => (await statusOf(served)).server.connections).toBe(1);
    clients.push(await NbdClient.connect(served.socket));
    await served.result();
  });

  it.skipIf(prlimit === undefined)(
    `refuses clients when it may open no more files, and goes on${prlimit === undefined ? ' (skipped: no prlimit)' : ''}`,
    { timeout: 60_000 },
    async () => {
      const served = await serve('--jobs', '2');
      const nbd = await NbdClient.connect(served.socket);
      const { pid } = served.child;
      const limit = readdirSync(`/proc/${pid}/fd`).length + 6;
      await client(prlimit!, '--pid', String(pid), `--nofile=${limit}:`);
      const more = await Promise.allSettled(Array.from({ length: 20 }, () => NbdClient.connect(served.socket)));
      expect(more.some(({ status }) => status === 'rejected')).toBe(true);
      for (let share = 0; share < 4; share++) await nbd.write(share * SHARE_BYTES, Buffer.alloc(4096, 1), true);
      await client(prlimit!, '--pid', String(pid), '--nofile=1024:');
      const { status, stderr } = await served.stop();
      expect(status).toBe(0);
      expect(stderr).toContain('Too many open files; raise the limit of open files (ulimit -n)');
    },
  );

  it('ends as after a crash when one of its threads does', { timeout: 60_000 }, async () => {
    const { cache, backing } = await makeDevices(folder);
    const mark = join(folder, 'end-a-thread');
    // Runs in the server before the program, and ends its first thread when there is such a file.
    const code = `import { existsSync } from 'node:fs';
      process.once('worker', (worker) => {
        const timer = setInterval(() => existsSync(${JSON.stringify(mark)}) && worker.terminate(), 20);
        worker.once('exit', () => clearInterval(timer));
      });`;
    const env = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}` };
    const served = await attach(folder, [cache, backing, '--jobs', '3'], env);
    const nbd = await NbdClient.connect(served.socket);
    for (let share = 0; share < 6; share++) await nbd.write(share * SHARE_BYTES, Buffer.alloc(4096, share + 1));
    await nbd.flush();
    const ended = new Promise((resolve) => served.child.once('exit', resolve));
    writeFileSync(mark, '');
    await expect(
      (async () => {
        for (let n = 0; ; n++) await nbd.write((n % 6) * SHARE_BYTES + MIB, Buffer.alloc(4096));
      })(),
    ).rejects.toThrow();
    expect(await ended).toBe(8);
    const { stderr } = await served.stop();
    expect(stderr).toMatch(/a thread (of the server has ended|ended without closing its share of the cache)/);
    expect((await runCli(['fsck', cache, backing])).status).toBe(0);
    const again = await attach(folder, [cache, backing]);
    const reader = await NbdClient.connect(again.socket);
    for (let share = 0; share < 6; share++) {
      expect((await reader.read(share * SHARE_BYTES, 4096)).equals(Buffer.alloc(4096, share + 1))).toBe(true);
    }
    reader.close();
    await again.result();
  });
});

describe('several threads', () => {
  it.each([
    ['--read-only', '--jobs cannot be used with --read-only, which one thread serves'],
    ['--verify-reads', '--verify-reads cannot be used with --jobs: leave out one of them'],
  ])('do not go with %s', async (flag, message) => {
    const { cache, backing } = await makeDevices(folder);
    const refused = await runCli(['attach', cache, backing, '--jobs', '2', flag, '--socket', `${folder}/s`]);
    expect(refused).toMatchObject({ status: 16, stderr: `pcache: ${message}\nTry 'pcache attach --help'.\n` });
  });

  it('are refused for a cache that writes through', async () => {
    const { cache, backing } = await makeDevices(folder, ['--mode', 'writethrough']);
    const refused = await runCli(['attach', cache, backing, '--jobs', '2', '--socket', `${folder}/s`]);
    expect(refused.status).toBe(8);
    expect(refused.stderr).toContain('several jobs need the mode writeback or writeonly');
  });
});

describeWithClient('nbdcopy and nbdinfo', 'nbdcopy', (nbdcopy) => {
  it('copy in and out over four connections to three threads, and see the holes', { timeout: 60_000 }, async () => {
    const data = Buffer.alloc(40 * MIB);
    for (let at = 0; at < data.length; at += 4) data.writeUInt32LE((at * 2654435761 + 1) >>> 0, at);
    const image = sparseFile(`${folder}/in.raw`, BACKING_BYTES);
    const fd = openSync(image, 'r+');
    writeSync(fd, data, 0, data.length, 30 * MIB);
    closeSync(fd);
    const served = await serve('--jobs', '3');
    await client(nbdcopy, '--connections=4', '--requests=64', '--flush', image, served.uri);
    const map = JSON.parse(await client('nbdinfo', '--map', '--json', served.uri)) as {
      offset: number;
      length: number;
      type: number;
    }[];
    const ranges = map.filter(({ type }) => type === 0).map(({ offset, length }) => [offset / MIB, length / MIB]);
    expect(ranges).toEqual([[30, 40]]);
    await client(nbdcopy, '--connections=4', '--request-size=33554432', served.uri, `${folder}/out.raw`);
    expect(readFileSync(`${folder}/out.raw`).equals(readFileSync(image))).toBe(true);
    await served.result();
  });
});
