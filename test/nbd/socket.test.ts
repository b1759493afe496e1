/** The server over real sockets in this process, receiving in place and by copying: the same bytes either way. */
import { rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { Op, RequestState, type RequestGroup } from '../../src/engine/index.js';
import { listen, type Listener } from '../../src/nbd/listen.js';
import { NbdServer, type ServerOptions } from '../../src/nbd/server.js';
import { LocalService } from '../../src/nbd/service.js';
import type { Store } from '../../src/nbd/store.js';
import { Transmission } from '../../src/nbd/transmission.js';
import { temporaryFolder } from '../support/cli-images.js';
import { NbdClient } from './client.js';

const MIB = 1024 * 1024;
const folder = temporaryFolder('nbd-socket');
const path = join(folder, 'socket');
let listener: Listener | undefined;
let server: NbdServer;
let service: LocalService;

afterEach(async () => {
  listener?.close();
  await server.stop();
  vi.restoreAllMocks();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

class MemoryStore implements Store {
  readonly sizeBytes = 64 * MIB;
  readonly isReadOnly = false;
  readonly bytes = new Uint8Array(this.sizeBytes);
  arenas = 0;

  submit(group: RequestGroup): number {
    for (let i = 0; i < group.count; i++) {
      const [offset, length, at] = [group.offsetBytes[i], group.lengthBytes[i], group.arenaOffsetBytes[i]];
      const { memory } = group.arena;
      if (group.op[i] === Op.write) this.bytes.set(memory.subarray(at, at + length), offset);
      if (group.op[i] === Op.read) memory.set(this.bytes.subarray(offset, offset + length), at);
      group.missBytes[i] = 0;
      group.state[i] = RequestState.done;
    }
    return 0;
  }
  makeArena(lengthBytes: number) {
    this.arenas++;
    return { id: 0, memory: new Uint8Array(lengthBytes) };
  }
  dropArena(): void {
    this.arenas--;
  }
}

async function serve({ inPlace = true, ...options }: Partial<ServerOptions> & { inPlace?: boolean } = {}) {
  const store = new MemoryStore();
  service = new LocalService({ store, description: '', nowMs: () => performance.now(), inPlace });
  server = new NbdServer({ service, ...options });
  listener = await listen({ path });
  listener.serve(server.accept);
  return store;
}

/** Bytes that differ from place to place. */
function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 4) bytes.writeUInt32LE((at * 2654435761 + seed) >>> 0, at);
  return bytes;
}

describe.each([[true], [false]])('receiving in place: %s', (inPlace) => {
  it.each(['simple', 'structured', 'extended'] as const)(
    'carries writes and reads of all sizes with %s replies',
    async (headers) => {
      const taken = vi.spyOn(Transmission.prototype, 'taken');
      const store = await serve({ inPlace });
      const client = await NbdClient.connect(path, headers);
      const sizes = [512, 4096, 65536, 512, MIB - 512, MIB, MIB + 512, 512, 5 * MIB, 3 * MIB + 512, 4096];
      const offsets = sizes.map((_, n) => sizes.slice(0, n).reduce((sum, size) => sum + size, 0));
      await Promise.all(sizes.map((size, n) => client.write(offsets[n], pattern(size, n))));
      sizes.forEach((size, n) => {
        expect(Buffer.compare(store.bytes.subarray(offsets[n], offsets[n] + size), pattern(size, n))).toBe(0);
      });
      const read = await Promise.all(
        [...sizes, 512].map((size, n) => client.read(n < sizes.length ? offsets[n] : 0, size)),
      );
      sizes.forEach((size, n) => expect(Buffer.compare(read[n], pattern(size, n))).toBe(0));
      client.close();
      expect(taken.mock.calls.length > 0).toBe(inPlace);
    },
  );
});

describe('the server', () => {
  it('keeps the order of what it sends when the socket takes only a part', async () => {
    const store = await serve();
    const client = await NbdClient.connect(path, 'structured');
    store.bytes.set(pattern(32 * MIB, 7));
    const reader = async (first: number): Promise<void> => {
      for (let n = first; n < first + 30; n++) {
        const [offset, size] = [(n % 31) * MIB, n % 3 === 0 ? 512 * 1024 : 4096];
        const bytes = await client.read(offset, size);
        expect(Buffer.compare(bytes, store.bytes.subarray(offset, offset + size))).toBe(0);
      }
    };
    await Promise.all(Array.from({ length: 16 }, (_, first) => reader(first)));
    client.close();
  });

  it('does not wait, when it stops, for a client that says nothing, or that does not read', async () => {
    const store = await serve({ stopGraceMs: 200 });
    const idle = await NbdClient.connect(path);
    const deaf = await NbdClient.connect(path);
    deaf.socket.pause();
    void Promise.allSettled(Array.from({ length: 100 }, () => deaf.read(0, MIB)));
    await new Promise((resolve) => setTimeout(resolve, 100));
    const began = performance.now();
    await server.stop();
    expect(performance.now() - began).toBeLessThan(5000);
    expect(service.stats.connections).toBe(0);
    expect(store.arenas).toBeLessThanOrEqual(4); // those kept for the next clients
    for (const { socket } of [idle, deaf]) socket.destroy();
  });

  it('answers what came before it stops', async () => {
    const store = await serve();
    const client = await NbdClient.connect(path);
    const writes = Array.from({ length: 50 }, (_, n) => client.write(n * 4096, pattern(4096, n)));
    const settled = Promise.allSettled(writes);
    await writes[0];
    await server.stop();
    const ends = await settled;
    ends.forEach((end, n) => {
      if (end.status === 'fulfilled') expect(store.bytes[n * 4096]).toBe(pattern(4, n)[0]);
    });
    expect(ends[0].status).toBe('fulfilled');
  });

  it('refuses a client beyond its maximum, and takes one again when another has left', async () => {
    await serve({ clientsMax: 2 });
    const [first, second] = [await NbdClient.connect(path), await NbdClient.connect(path)];
    await expect(NbdClient.connect(path)).rejects.toThrow('closed the connection');
    first.close();
    await vi.waitFor(() => expect(service.stats.connections).toBe(1));
    const third = await NbdClient.connect(path);
    for (const client of [second, third]) client.close();
  });

  it('drops a client that has not finished negotiating when it needs room for a new one', async () => {
    const lines: string[] = [];
    await serve({ clientsMax: 2, tell: (_, text) => lines.push(text) });
    const admitted = await NbdClient.connect(path);
    const idle = connect(path);
    const closed = new Promise((resolve) => idle.once('close', resolve));
    idle.on('error', () => undefined).resume();
    await vi.waitFor(() => expect(service.stats.connections).toBe(2));
    const late = await NbdClient.connect(path);
    await closed;
    expect((await admitted.read(0, 512)).length + (await late.read(0, 512)).length).toBe(1024);
    expect(lines).toEqual(['dropped a client from the Unix socket that had not finished negotiating, to make room']);
    for (const client of [admitted, late]) client.close();
  });

  it('drops a client that does not finish negotiating in time', async () => {
    await serve({ handshakeMaxMs: 50 });
    const idle = connect(path);
    await new Promise((resolve) =>
      idle
        .on('error', () => undefined)
        .resume()
        .once('close', resolve),
    );
    expect(service.stats.handshakeTimeouts).toBe(1);
  });
});
