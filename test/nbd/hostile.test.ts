/**
 * Clients that mean harm, or are broken, against a server that another client is working with all the while: it
 * stays up, that client never notices, and memory stays bounded.
 */
import { readFileSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Random } from '../../src/engine/sim/random.js';
import { Command, Option, PAYLOAD_MAX_BYTES } from '../../src/nbd/protocol.js';
import type { AttachStatus } from '../../src/nbd/status.js';
import { runCli } from '../support/cli.js';
import { makeImageFolder } from '../support/kernel.js';
import { attach, BACKING_BYTES, makeDevices, type Attached } from './attached.js';
import { CLIENT_FLAGS, GO, NbdClient, optionBytes, requestBytes } from './client.js';

const MIB = 1024 * 1024;
const folder = makeImageFolder();
let attached: Attached;

beforeAll(async () => {
  const { cache, backing } = await makeDevices(folder, ['--data-crc']);
  attached = await attach(folder, [cache, backing, '--export-name', '']);
});
afterAll(async () => {
  const result = await attached.result();
  rmSync(folder, { recursive: true, force: true });
  expect(result.connections).toBeGreaterThan(0);
});

function residentBytes(): number {
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${attached.child.pid}/status`, 'utf8'))!;
  return Number(kib) * 1024;
}

async function status(): Promise<AttachStatus> {
  const { stdout } = await runCli(['status', '--socket', attached.socket, '--json']);
  return JSON.parse(stdout) as AttachStatus;
}

/** A connection that errors are nothing to. */
function raw(): Socket {
  const socket = connect(attached.socket);
  socket.on('error', () => {});
  return socket;
}

/** Resolves when the server has closed it. */
const closed = (socket: Socket) =>
  new Promise<void>((resolve) => {
    if (socket.closed) resolve();
    else socket.on('close', () => resolve());
    socket.resume();
  });

/** Runs `body` while a client writes and reads what is its own; it must find all of it. */
async function besideGoodClient(body: () => Promise<void>): Promise<void> {
  const client = await NbdClient.connect(attached.socket);
  let stop = false;
  let rounds = 0;
  const working = (async () => {
    while (!stop) {
      const at = (rounds % 64) * 8192;
      const data = Buffer.alloc(8192, (rounds % 255) + 1);
      await client.write(at, data, rounds % 16 === 0);
      expect((await client.read(at, 8192)).equals(data)).toBe(true);
      rounds++;
    }
  })();
  await body();
  const before = rounds;
  await new Promise((resolve) => setTimeout(resolve, 50));
  stop = true;
  await working;
  expect(rounds).toBeGreaterThan(before);
  client.close();
}

describe('a client that', { timeout: 120_000 }, () => {
  it.each([
    ['sends garbage for its flags', Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')],
    ['sends garbage for an option', Buffer.concat([CLIENT_FLAGS, Buffer.alloc(4096, 0xff)])],
    ['sends an option of 4 GiB', Buffer.concat([CLIENT_FLAGS, optionBytes(Option.go).fill(0xff, 12)])],
    ['sends options for ever', Buffer.concat([CLIENT_FLAGS, ...Array<Buffer>(1000).fill(optionBytes(Option.list))])],
    [
      'asks for an unknown export the old way',
      Buffer.concat([CLIENT_FLAGS, optionBytes(Option.exportName, Buffer.from('x'))]),
    ],
    ['sends a wrong magic', Buffer.concat([CLIENT_FLAGS, GO, Buffer.alloc(28, 0x25)])],
    ['writes 4 GiB at once', Buffer.concat([CLIENT_FLAGS, GO, requestBytes(Command.write, 0, 0xfffffe00)])],
  ])('%s is dropped', async (_, bytes) => {
    const { protocolErrors } = (await status()).server;
    const socket = raw();
    socket.write(bytes);
    await closed(socket);
    expect((await status()).server.protocolErrors).toBe(protocolErrors + 1);
  });

  it.each([
    ['reads beyond the end', Command.read, BACKING_BYTES - 512, 1024, 22],
    ['reads far beyond the end', Command.read, 2 ** 53, 512, 22],
    ['reads more than is allowed', Command.read, 0, PAYLOAD_MAX_BYTES + 512, 22],
    ['reads 4 GiB', Command.read, 0, 0xfffffe00, 22],
    ['reads nothing', Command.read, 0, 0, 22],
    ['reads half a sector', Command.read, 256, 512, 22],
    ['writes beyond the end', Command.write, BACKING_BYTES - 512, 1024, 28],
    ['writes half a sector', Command.write, 0, 256, 22],
    ['writes more than is allowed', Command.write, 0, PAYLOAD_MAX_BYTES + 512, 22],
    ['trims beyond the end', Command.trim, BACKING_BYTES - 512, 1024, 22],
    ['flushes a range', Command.flush, 0, 4096, 22],
    ['invents a command', 77, 0, 4096, 22],
  ])('%s gets an error, and goes on', async (_, command, offset, length, error) => {
    const client = await NbdClient.connect(attached.socket);
    const payload = command === Command.write ? Buffer.alloc(length) : undefined;
    await expect(client.request(command, offset, length, 0, payload)).rejects.toMatchObject({ error });
    await client.flush();
    client.close();
  });

  it('does not read its replies holds up nobody, and no memory without bound', async () => {
    const before = residentBytes();
    await besideGoodClient(async () => {
      const sockets = Array.from({ length: 8 }, raw);
      for (const socket of sockets) {
        socket.pause();
        socket.write(Buffer.concat([CLIENT_FLAGS, GO]));
        const reads = Array.from({ length: 4000 }, (_, n) =>
          requestBytes(Command.read, (n % 1000) * 65536, 65536, 0, n),
        );
        socket.write(Buffer.concat(reads));
      }
      await new Promise((resolve) => setTimeout(resolve, 3000));
      // 8 MiB of replies each, and what is in the index and the sockets; not 2 GiB.
      expect(residentBytes() - before).toBeLessThan(8 * 12 * MIB + BACKING_BYTES + 128 * MIB);
      for (const socket of sockets) socket.destroy();
    });
  });

  it('writes for ever in pieces and hangs up in the middle leaves nothing behind', async () => {
    await besideGoodClient(async () => {
      for (let n = 0; n < 200; n++) {
        const socket = raw();
        const request = requestBytes(Command.write, 128 * MIB + n * 65536, 65536, 0, n);
        socket.write(Buffer.concat([CLIENT_FLAGS, GO, request, Buffer.alloc((n * 331) % 65536)]));
        await new Promise((resolve) => setTimeout(resolve, n % 3));
        socket.destroy();
      }
    });
    for (let tries = 0; (await status()).server.connections > 0; tries++) expect(tries).toBeLessThan(50);
  });

  it('connects hundreds of times and says nothing keeps nobody out who is in', async () => {
    await besideGoodClient(async () => {
      const sockets = Array.from({ length: 300 }, raw);
      await new Promise((resolve) => setTimeout(resolve, 500));
      for (const socket of sockets) socket.destroy();
    });
    const { server } = await status();
    expect(server.refused).toBeGreaterThan(200);
    for (let tries = 0; (await status()).server.connections > 0; tries++) expect(tries).toBeLessThan(50);
    (await NbdClient.connect(attached.socket)).close();
  });

  it('sends thousands of mangled requests over a real socket finds a server that stands', async () => {
    const random = new Random(23);
    await besideGoodClient(async () => {
      for (let n = 0; n < 150; n++) {
        const socket = raw();
        socket.resume();
        const messages: Buffer[] = [CLIENT_FLAGS, GO];
        for (let k = 0; k < 40; k++) {
          const command = random.below(9);
          const length = random.below(16) * 512 + (random.chance(0.1) ? 7 : 0);
          const offset = 64 * MIB + random.below(200) * MIB;
          const flags = random.chance(0.1) ? random.below(65536) : 0;
          messages.push(
            requestBytes(command, offset, length, flags, k),
            Buffer.alloc(command === Command.write ? length : 0),
          );
        }
        const bytes = Buffer.concat(messages);
        for (let flips = random.below(4); flips > 0; flips--) bytes[random.below(bytes.length)] ^= 1 << random.below(8);
        for (let at = 0; at < bytes.length;) {
          const end = at + random.between(1, 20_000);
          socket.write(bytes.subarray(at, end));
          at = end;
          if (random.chance(0.2)) await new Promise((resolve) => setImmediate(resolve));
        }
        socket.end();
        await new Promise((resolve) => setTimeout(resolve, random.below(3)));
        if (random.chance(0.5)) socket.destroy();
      }
    });
    const { server, cache } = await status();
    expect(server.requests).toBeGreaterThan(1000);
    expect(cache!.failure).toBeNull();
  });
});
