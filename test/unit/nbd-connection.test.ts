/** A connection in situations that have to be made on purpose: no room for replies, failures in the middle, its end. */
import { describe, expect, it } from 'vitest';
import { Op, PcacheError, RequestFlag, RequestState, type RequestGroup } from '../../src/engine/index.js';
import { Connection } from '../../src/nbd/connection.js';
import { ArenaPool } from '../../src/nbd/memory.js';
import {
  Command,
  CommandFlag,
  EXTENDED_REPLY_MAGIC,
  Option,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from '../../src/nbd/protocol.js';
import { ServerStats } from '../../src/nbd/stats.js';
import type { Store } from '../../src/nbd/store.js';
import type { Transport } from '../../src/nbd/transport.js';
import { CLIENT_FLAGS, extendedRequestBytes, GO, optionBytes, requestBytes } from '../nbd/client.js';

const MIB = 1024 * 1024;

/** Ends nothing by itself: the test says when, and how. */
class ManualStore implements Store {
  readonly sizeBytes = 2 ** 40;
  readonly isReadOnly = false;
  readonly parts: { group: RequestGroup; i: number }[] = [];

  submit(group: RequestGroup): number {
    group.pending = group.count;
    for (let i = 0; i < group.count; i++) {
      group.state[i] = RequestState.pending;
      group.errors[i] = undefined;
      group.missBytes[i] = 0;
      this.parts.push({ group, i });
    }
    return group.pending;
  }

  /** Ends part `n` of those that wait. */
  end(n = 0, error?: PcacheError): void {
    const [{ group, i }] = this.parts.splice(n, 1);
    group.state[i] = error ? RequestState.failed : RequestState.done;
    group.errors[i] = error;
    group.pending--;
    group.onRequestDone!(group, i);
  }
  endAll(): void {
    while (this.parts.length > 0) this.end();
  }
  makeArena(lengthBytes: number) {
    return { id: 0, memory: new Uint8Array(lengthBytes) };
  }
  dropArena(): void {}
}

/** Keeps what is sent until the client reads it. */
class SlowTransport implements Transport {
  readonly sent: { bytes: Uint8Array; done: () => void }[] = [];
  resumes = 0;
  isEnded = false;
  isDestroyed = false;

  send(bytes: Uint8Array, done: () => void): void {
    this.sent.push({ bytes, done });
  }
  cork(): void {}
  uncork(): void {}
  resume(): void {
    this.resumes++;
  }
  end(): void {
    this.isEnded = true;
  }
  destroy(): void {
    this.isDestroyed = true;
  }
  /** The client reads everything. */
  read(): Buffer {
    const pieces: Buffer[] = [];
    for (const { bytes, done } of this.sent.splice(0)) {
      pieces.push(Buffer.from(bytes));
      done();
    }
    return Buffer.concat(pieces);
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function connected(isStructured: boolean, ...options: Buffer[]) {
  const store = new ManualStore();
  const transport = new SlowTransport();
  const stats = new ServerStats();
  let released = 0;
  const connection = new Connection(transport, {
    store,
    arenas: new ArenaPool(store),
    stats,
    description: '',
    nowMs: () => 0,
    needsTls: false,
    startTls: () => {},
    onReleased: () => released++,
  });
  if (isStructured) options.unshift(optionBytes(Option.structuredReply));
  connection.take(Buffer.concat([CLIENT_FLAGS, ...options, GO]));
  await turn();
  transport.read();
  return { store, transport, stats, connection, released: () => released };
}

const failure = new PcacheError('IO', 'the backing device has failed');

/** Cookies and errors of simple replies without data. */
function simpleReplies(bytes: Buffer): [cookie: number, error: number][] {
  const replies: [number, number][] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    expect(bytes.readUInt32BE(at)).toBe(SIMPLE_REPLY_MAGIC);
    replies.push([Number(bytes.readBigUInt64BE(at + 8)), bytes.readUInt32BE(at + 4)]);
  }
  return replies;
}

/** Type, flags and length of chunks. */
function chunks(bytes: Buffer): { type: number; isLast: boolean; offset: number; length: number }[] {
  const list = [];
  for (let at = 0; at < bytes.length;) {
    expect(bytes.readUInt32BE(at)).toBe(STRUCTURED_REPLY_MAGIC);
    const length = bytes.readUInt32BE(at + 16);
    const type = bytes.readUInt16BE(at + 6);
    list.push({
      type,
      isLast: bytes[at + 5] === 1,
      offset: type === 1 ? Number(bytes.readBigUInt64BE(at + 20)) : -1,
      length,
    });
    at += 20 + length;
  }
  return list;
}

/** Chunks of extended replies. */
function extendedChunks(bytes: Buffer) {
  const list: { type: number; cookie: number; offset: number; body: Buffer }[] = [];
  for (let at = 0; at < bytes.length;) {
    expect([bytes.readUInt32BE(at), bytes.readUInt16BE(at + 4)]).toEqual([EXTENDED_REPLY_MAGIC, 1]);
    const end = at + 32 + Number(bytes.readBigUInt64BE(at + 24));
    list.push({
      type: bytes.readUInt16BE(at + 6),
      cookie: Number(bytes.readBigUInt64BE(at + 8)),
      offset: Number(bytes.readBigUInt64BE(at + 16)),
      body: bytes.subarray(at + 32, end),
    });
    at = end;
  }
  return list;
}

describe('a connection with extended headers', () => {
  const extended = optionBytes(Option.extendedHeaders);
  /** SET_META_CONTEXT for base:allocation of the export with the empty name. */
  const allocation = optionBytes(
    Option.setMetaContext,
    Buffer.concat([Buffer.from([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 15]), Buffer.from('base:allocation')]),
  );

  it('repeats cookie and offset in every reply, and has no simple one', async () => {
    const { store, transport, connection } = await connected(false, extended);
    connection.take(
      Buffer.concat([
        extendedRequestBytes(Command.read, 4096, 512, 0, 1),
        extendedRequestBytes(Command.write, 8192, 512, CommandFlag.payloadLength, 2),
        Buffer.alloc(512),
        extendedRequestBytes(Command.flush, 0, 0, 0, 3),
        extendedRequestBytes(Command.read, 2 ** 50, 512, 0, 4),
      ]),
    );
    store.endAll();
    await turn();
    const replies = extendedChunks(transport.read()).sort((a, b) => a.cookie - b.cookie);
    expect(replies.map(({ type, offset, body }) => [type, offset, body.length])).toEqual([
      [1, 4096, 8 + 512],
      [0, 8192, 0],
      [0, 0, 0],
      [0x8001, 2 ** 50, expect.any(Number)],
    ]);
    expect(replies[0].body.readBigUInt64BE(0)).toBe(4096n);
    expect(replies[3].body.readUInt32BE(0)).toBe(22);
  });

  it('takes TRIM, WRITE_ZEROES and BLOCK_STATUS of more than 4 GiB', async () => {
    const { store, transport, connection } = await connected(false, extended, allocation);
    const length = 2 ** 33 + 512;
    connection.take(extendedRequestBytes(Command.blockStatus, 512, length, 0, 1));
    await turn();
    const [status] = extendedChunks(transport.read());
    expect([status.type, status.offset, status.body.length]).toEqual([6, 512, 24]);
    expect([status.body.readUInt32BE(4), Number(status.body.readBigUInt64BE(8))]).toEqual([1, length]);
    for (const command of [Command.trim, Command.writeZeroes]) {
      connection.take(extendedRequestBytes(command, 1024, length, 0, 2));
      let bytes = 0;
      for (let n = 0; n < 5000 && transport.sent.length === 0; n++) {
        for (const { group } of store.parts) bytes += group.lengthBytes[0];
        store.endAll();
        await turn();
      }
      expect(bytes).toBe(length);
      expect(extendedChunks(transport.read())).toMatchObject([{ type: 0, cookie: 2, offset: 1024 }]);
    }
  });

  it('refuses a payload where none belongs and its lack where one does, and goes on behind it', async () => {
    const { store, transport, connection } = await connected(false, extended);
    connection.take(
      Buffer.concat([
        extendedRequestBytes(Command.trim, 0, 4096, CommandFlag.payloadLength, 1),
        Buffer.alloc(4096, 0xff),
        extendedRequestBytes(Command.write, 0, 4096, 0, 2),
        extendedRequestBytes(Command.flush, 0, 0, 0, 3),
      ]),
    );
    store.endAll();
    await turn();
    const replies = extendedChunks(transport.read()).sort((a, b) => a.cookie - b.cookie);
    expect(replies.map(({ type }) => type)).toEqual([0x8001, 0x8001, 0]);
    expect(replies.slice(0, 2).map(({ body }) => body.readUInt32BE(0))).toEqual([22, 22]);
  });

  it('ends when a header is not extended, or a payload is too long to pass over', async () => {
    const compact = await connected(false, extended);
    compact.connection.take(Buffer.concat([requestBytes(Command.flush, 0, 0), Buffer.alloc(4)]));
    await turn();
    const long = await connected(false, extended);
    long.connection.take(extendedRequestBytes(Command.write, 0, 2 ** 40, CommandFlag.payloadLength));
    await turn();
    expect([compact.transport.isDestroyed, long.transport.isDestroyed]).toEqual([true, true]);
  });
});

describe('a connection', () => {
  it('keeps replies for which the ring has no room, and sends them when it has', async () => {
    const { store, transport, connection } = await connected(false);
    const writes = Array.from({ length: 40 }, (_, n) => [
      requestBytes(Command.write, n * 512, 512, 0, 100 + n),
      Buffer.alloc(512),
    ]);
    connection.take(Buffer.concat(writes.flat()));
    // Reads of all the ring but a few bytes, which is less than forty replies.
    const reads = [
      ...Array<number>(3).fill(2 * MIB),
      MIB,
      512 * 1024,
      256 * 1024,
      128 * 1024,
      64 * 1024,
      32 * 1024,
      16 * 1024,
      8192,
      4096,
      2048,
      1024,
      512,
    ];
    connection.take(Buffer.concat(reads.map((length, n) => requestBytes(Command.read, 0, length, 0, n))));
    expect(store.parts.length).toBe(40 + reads.length);
    for (let n = 40 + reads.length - 1; n >= 40; n--) store.end(n);
    store.endAll();
    await turn();
    const first = transport.read().length;
    await turn();
    const late = simpleReplies(transport.read());
    expect(late.length).toBeGreaterThan(0);
    expect(first + late.length * 16).toBe(40 * 16 + reads.reduce((sum, length) => sum + 16 + length, 0));
  });

  it('takes nothing more when the ring is full, and goes on when it is read', async () => {
    const { store, transport, connection } = await connected(true);
    const reads = Array.from({ length: 12 }, (_, n) => requestBytes(Command.read, n * MIB, MIB, 0, n));
    expect(connection.take(Buffer.concat(reads))).toBe(false);
    expect(store.parts.length).toBe(7); // with their headers eight do not fit
    store.endAll();
    await turn();
    expect(store.parts.length).toBe(0);
    expect(transport.resumes).toBe(0);
    let seen = chunks(transport.read()).length;
    for (let n = 0; n < 3; n++) {
      await turn();
      store.endAll();
      await turn();
      seen += chunks(transport.read()).length;
    }
    expect([seen, transport.resumes > 0]).toEqual([12, true]);
  });

  it('says of a long structured read which part failed, and ends it once', async () => {
    const { store, transport, connection, stats } = await connected(true);
    connection.take(requestBytes(Command.read, 0, 5 * MIB, 0, 1));
    expect(store.parts.length).toBe(4); // so many pieces at a time
    store.end(2);
    store.end(1, failure);
    await turn();
    store.endAll();
    await turn();
    store.endAll();
    await turn();
    const list = chunks(transport.read());
    expect(list.map(({ type, isLast }) => [type, isLast])).toEqual([
      [1, false],
      [0x8001, false],
      ...Array<[number, boolean]>(2).fill([1, false]),
      [1, true],
    ]);
    expect(
      list
        .filter(({ type }) => type === 1)
        .map(({ offset }) => offset / MIB)
        .sort(),
    ).toEqual([0, 2, 3, 4]);
    expect(stats.failedRequests).toBe(1);
  });

  it('refuses a long read that must come in one piece', async () => {
    const { store, transport, connection } = await connected(true);
    connection.take(requestBytes(Command.read, 0, 5 * MIB, CommandFlag.dontFragment, 1));
    expect(store.parts.length).toBe(0);
    const reply = transport.read();
    expect([reply.readUInt16BE(6), reply.readUInt32BE(20)]).toEqual([0x8001, 75]);
  });

  it('sends a long simple read alone and in order', async () => {
    const { store, transport, connection } = await connected(false);
    connection.take(
      Buffer.concat([requestBytes(Command.read, 0, 512, 0, 1), requestBytes(Command.read, 0, 3 * MIB, 0, 2)]),
    );
    expect(store.parts.length).toBe(1); // the long one waits for the other
    store.end();
    for (let n = 0; n < 3; n++) {
      await turn();
      expect(store.parts.length).toBe(1);
      expect(store.parts[0].group.offsetBytes[0]).toBe(n * MIB);
      store.end();
    }
    await turn();
    const bytes = transport.read();
    expect(bytes.length).toBe(16 + 512 + 16 + 3 * MIB);
    expect(Number(bytes.readBigUInt64BE(16 + 512 + 8))).toBe(2);
  });

  it('whose simple read fails at its first piece says so; at a later one it closes', async () => {
    const early = await connected(false);
    early.connection.take(requestBytes(Command.read, 0, 3 * MIB, 0, 2));
    early.store.end(0, failure);
    await turn();
    expect(simpleReplies(early.transport.read())).toEqual([[2, 5]]);
    expect(early.transport.isDestroyed).toBe(false);
    const later = await connected(false);
    later.connection.take(requestBytes(Command.read, 0, 3 * MIB, 0, 2));
    later.store.end();
    await turn();
    later.store.end(0, failure);
    await turn();
    expect(later.transport.isDestroyed).toBe(true);
    later.connection.closed();
    expect(later.released()).toBe(1);
  });

  it('gives zeroes to the store in pieces, and stops at the first that fails', async () => {
    const { store, transport, connection } = await connected(true);
    connection.take(requestBytes(Command.writeZeroes, 0, 64 * MIB, CommandFlag.fua | CommandFlag.noHole, 9));
    const [{ group }] = store.parts;
    expect([group.op[0], group.lengthBytes[0], group.flags[0]]).toEqual([Op.zero, 8 * MIB, RequestFlag.keepsSpace]);
    store.end(0, failure);
    for (let n = 0; n < 4; n++) {
      await turn();
      store.endAll();
    }
    await turn();
    const reply = transport.read();
    expect([reply.readUInt16BE(6), reply.readUInt32BE(20), reply.subarray(26).toString()]).toEqual([
      0x8001,
      5,
      failure.message,
    ]);
    connection.take(requestBytes(Command.flush, 0, 0, 0, 10));
    store.endAll();
    await turn();
    expect(simpleReplies(transport.read())).toEqual([[10, 0]]);
  });

  it.each([
    ['TRIM', Command.trim, Op.trim],
    ['WRITE_ZEROES', Command.writeZeroes, Op.zero],
  ])('makes a long %s with FUA durable by one flush after its last piece', async (_, command, op) => {
    const { store, transport, connection } = await connected(true);
    connection.take(requestBytes(command, 0, 256 * MIB, CommandFlag.fua, 9));
    const ops: number[] = [];
    for (let n = 0; n < 100 && transport.sent.length === 0; n++) {
      for (const { group } of store.parts) ops.push(group.op[0]);
      store.endAll();
      await turn();
    }
    expect(ops.pop()).toBe(Op.flush);
    expect(ops.length).toBeGreaterThan(1);
    expect(new Set(ops)).toEqual(new Set([op]));
    expect(simpleReplies(transport.read())).toEqual([[9, 0]]);
  });

  it('gives a long payload to the store in pieces as it comes, each to the end of a block', async () => {
    const { store, transport, connection } = await connected(false);
    connection.take(Buffer.concat([requestBytes(Command.write, 512, MIB, 0, 1), Buffer.alloc(200 * 1024)]));
    await turn();
    const lengths = store.parts.map(({ group, i }) => group.lengthBytes[i]);
    expect(lengths).toEqual([200 * 1024 - 512]);
    connection.take(Buffer.alloc(100 * 1024));
    await turn();
    expect(store.parts.length).toBe(1); // too few for another piece
    connection.take(Buffer.alloc(MIB - 300 * 1024));
    await turn();
    const ranges = store.parts.map(({ group, i }) => [
      group.offsetBytes[i],
      group.offsetBytes[i] + group.lengthBytes[i],
    ]);
    expect(ranges[0][0]).toBe(512);
    for (let n = 1; n < ranges.length; n++) expect(ranges[n][0]).toBe(ranges[n - 1][1]);
    expect(ranges.at(-1)![1]).toBe(512 + MIB);
    store.end();
    await turn();
    expect(transport.sent.length).toBe(0);
    store.endAll();
    await turn();
    expect(simpleReplies(transport.read())).toEqual([[1, 0]]);
  });

  it.each([
    ['with FUA', MIB, CommandFlag.fua],
    ['of 128 KiB', 128 * 1024, 0],
  ])('waits for all of a payload %s before it gives it to the store', async (_, bytes, flags) => {
    const { store, connection } = await connected(false);
    connection.take(Buffer.concat([requestBytes(Command.write, 0, bytes, flags, 1), Buffer.alloc(bytes - 512)]));
    await turn();
    expect(store.parts.length).toBe(0);
    connection.take(Buffer.alloc(512));
    await turn();
    expect(store.parts.map(({ group, i }) => group.lengthBytes[i])).toEqual([bytes]);
  });

  it('answers what is under way before it ends, and a write that was cut off never', async () => {
    const { store, transport, connection, released } = await connected(false);
    connection.take(
      Buffer.concat([
        requestBytes(Command.flush, 0, 0, 0, 1),
        requestBytes(Command.write, 0, 3 * MIB, 0, 2),
        Buffer.alloc(1.5 * MIB),
      ]),
    );
    connection.stop();
    await turn();
    expect([transport.isEnded, store.parts.length]).toEqual([false, 3]); // pieces of the write are under way
    store.endAll();
    await turn();
    expect(simpleReplies(transport.read())).toEqual([[1, 0]]);
    await turn();
    expect([transport.isEnded, store.parts.length]).toEqual([true, 0]);
    connection.closed();
    expect(released()).toBe(1);
  });

  it('lets go of its memory only when the store is done with it', async () => {
    const { store, connection, released } = await connected(false);
    connection.take(requestBytes(Command.read, 0, 4096, 0, 1));
    connection.closed();
    await turn();
    expect(released()).toBe(0);
    store.end();
    await turn();
    expect(released()).toBe(1);
  });
});
