/**
 * A connection against clients that do whatever comes to mind: requests good and bad, in pieces of any size,
 * replies read late or never, goodbyes in the middle. Every good request must be answered once and rightly, every
 * bad one with an error, and at the end the connection must have let go of everything.
 *
 * PCACHE_NBD_FUZZ=N sends N messages, PCACHE_NBD_FUZZ_SEED=N others.
 */
import { describe, expect, it } from 'vitest';
import { Connection } from '../../src/nbd/connection.js';
import { ArenaPool } from '../../src/nbd/memory.js';
import {
  Chunk,
  Command,
  CommandFlag,
  CHUNK_HEADER_BYTES,
  DATA_OFFSET_BYTES,
  Option,
  OPTION_REPLY_HEADER_BYTES,
  PAYLOAD_MAX_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from '../../src/nbd/protocol.js';
import { ServerStats } from '../../src/nbd/stats.js';
import type { Store } from '../../src/nbd/store.js';
import type { Transport } from '../../src/nbd/transport.js';
import { Op, PcacheError, RequestState, type RequestGroup } from '../../src/engine/index.js';
import { Random } from '../../src/engine/sim/random.js';
import { countOf } from '../support/long.js';
import { CLIENT_FLAGS, GO, optionBytes, requestBytes } from '../nbd/client.js';

const MESSAGES = Number(process.env['PCACHE_NBD_FUZZ'] ?? countOf({ share: 20_000, all: 1_000_000 }));
const SEED = Number(process.env['PCACHE_NBD_FUZZ_SEED'] ?? 1);
const SECTOR = 512;
const DEVICE_SECTORS = 2 ** 17;
const MESSAGES_PER_CLIENT_MAX = 400;

/** Every sector holds its number, front and back; what is not a stamp is the test's own buffer. */
function stampSectors(bytes: DataView, at: number, sector: number, sectors: number): void {
  for (let n = 0; n < sectors; n++) {
    bytes.setUint32(at + n * SECTOR, sector + n);
    bytes.setUint32(at + n * SECTOR + SECTOR - 4, ~(sector + n));
  }
}

function isStamped(bytes: DataView, at: number, sector: number, sectors: number): boolean {
  for (let n = 0; n < sectors; n++) {
    if (bytes.getUint32(at + n * SECTOR) !== sector + n) return false;
    if (bytes.getUint32(at + n * SECTOR + SECTOR - 4) !== ~(sector + n) >>> 0) return false;
  }
  return true;
}

/** A store that ends requests at once or later, in any order, and fails some. */
class FickleStore implements Store {
  readonly sizeBytes = DEVICE_SECTORS * SECTOR;
  readonly isReadOnly = false;
  readonly waiting: (() => void)[] = [];
  writtenBadly = 0;
  private readonly atOnce: number;

  constructor(private readonly random: Random) {
    this.atOnce = random.chance(0.5) ? 0.95 : 0.5;
  }

  submit(group: RequestGroup): number {
    group.pending = 0;
    for (let i = 0; i < group.count; i++) {
      group.state[i] = RequestState.pending;
      group.errors[i] = undefined;
      group.missBytes[i] = 0;
      if (this.random.chance(this.atOnce)) {
        this.end(group, i);
      } else {
        group.pending++;
        this.waiting.push(() => {
          this.end(group, i);
          group.pending--;
          group.onRequestDone!(group, i);
        });
      }
    }
    return group.pending;
  }

  private end(group: RequestGroup, i: number): void {
    const { memory } = group.arena;
    const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
    const sector = group.offsetBytes[i] / SECTOR;
    const sectors = group.lengthBytes[i] / SECTOR;
    const at = group.arenaOffsetBytes[i];
    if (sector % 1 !== 0 || sectors % 1 !== 0) this.writtenBadly++;
    if (this.random.chance(0.01)) {
      group.state[i] = RequestState.failed;
      group.errors[i] = new PcacheError(this.random.chance(0.5) ? 'IO' : 'CACHE_FULL', 'failed as asked '.repeat(40));
      return;
    }
    if (group.op[i] === Op.read) {
      stampSectors(view, at, sector, sectors);
    } else if (group.op[i] === Op.write) {
      if (!isStamped(view, at, sector, sectors)) this.writtenBadly++;
    }
    group.state[i] = RequestState.done;
  }

  /** Ends one of those that wait. @returns false when none does */
  endOne(): boolean {
    if (this.waiting.length === 0) return false;
    const [end] = this.waiting.splice(this.random.below(this.waiting.length), 1);
    end();
    return true;
  }

  makeArena(lengthBytes: number) {
    return { id: 0, memory: new Uint8Array(lengthBytes) };
  }
  dropArena(): void {}
}

/** What a client expects of a request. */
interface Expected {
  readonly command: number;
  readonly sector: number;
  readonly sectors: number;
  /** Nothing but an error will do. */
  readonly isBad: boolean;
  bytesLeft: number;
  failed: boolean;
}

/** Reads replies strictly. Anything that is not right is an Error. */
class ReplyReader {
  readonly expected = new Map<number, Expected>();
  private bytes = Buffer.alloc(0);
  private toSkip = 18;
  private isNegotiated = false;

  constructor(private readonly optionReplies: number) {}
  private optionsSeen = 0;

  take(piece: Uint8Array): void {
    this.bytes = this.bytes.length === 0 ? Buffer.from(piece) : Buffer.concat([this.bytes, piece]);
    let at = 0;
    for (let next = this.parse(at); next > at; next = this.parse(at)) at = next;
    this.bytes = this.bytes.subarray(at);
  }

  /** @returns where the next message begins, or `at` when this one is not whole. */
  private parse(at: number): number {
    const { bytes } = this;
    const here = bytes.length - at;
    if (this.toSkip > 0) {
      const skipped = Math.min(here, this.toSkip);
      this.toSkip -= skipped;
      return at + skipped;
    }
    if (!this.isNegotiated) {
      if (here < OPTION_REPLY_HEADER_BYTES) return at;
      const end = OPTION_REPLY_HEADER_BYTES + bytes.readUInt32BE(at + 16);
      if (here < end) return at;
      if (bytes.readUInt32BE(at + 12) !== 3) this.isNegotiated = ++this.optionsSeen === this.optionReplies;
      return at + end;
    }
    if (here < 16) return at;
    const magic = bytes.readUInt32BE(at);
    if (magic === SIMPLE_REPLY_MAGIC) return this.simple(at, here);
    if (magic === STRUCTURED_REPLY_MAGIC) return here < 20 ? at : this.chunk(at, here);
    throw new Error(`no reply begins with 0x${magic.toString(16)}`);
  }

  private find(cookie: number): Expected {
    const expected = this.expected.get(cookie);
    if (!expected) throw new Error(`a reply to a request that was not sent, or was answered: ${cookie}`);
    return expected;
  }

  private simple(at: number, here: number): number {
    const cookie = Number(this.bytes.readBigUInt64BE(at + 8));
    const expected = this.find(cookie);
    const error = this.bytes.readUInt32BE(at + 4);
    const dataBytes = error === 0 && expected.command === Command.read ? expected.sectors * SECTOR : 0;
    if (here < 16 + dataBytes) return at;
    if (error !== 0) expected.failed = true;
    else this.data(expected, at + 16, expected.sector, dataBytes);
    this.end(cookie, expected);
    return at + 16 + dataBytes;
  }

  private chunk(at: number, here: number): number {
    const { bytes } = this;
    const length = 20 + bytes.readUInt32BE(at + 16);
    if (here < length) return at;
    const cookie = Number(bytes.readBigUInt64BE(at + 8));
    const expected = this.find(cookie);
    const type = bytes.readUInt16BE(at + 6);
    if (type === Chunk.offsetData) {
      const offset = Number(bytes.readBigUInt64BE(at + 20));
      const header = CHUNK_HEADER_BYTES + DATA_OFFSET_BYTES;
      this.data(expected, at + header, offset / SECTOR, length - header);
    } else if (type === Chunk.error) {
      if (bytes.readUInt32BE(at + 20) === 0) throw new Error('an error chunk without an error');
      if (length !== 26 + bytes.readUInt16BE(at + 24)) throw new Error('an error chunk of the wrong length');
      expected.failed = true;
    } else {
      throw new Error(`a chunk of type ${type}`);
    }
    if (bytes.readUInt16BE(at + 4) === 1) this.end(cookie, expected);
    return at + length;
  }

  private data(expected: Expected, at: number, sector: number, lengthBytes: number): void {
    const { bytes } = this;
    const inside = sector >= expected.sector && sector + lengthBytes / SECTOR <= expected.sector + expected.sectors;
    if (lengthBytes > 0 && !inside) throw new Error('data from beyond what was asked for');
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (!isStamped(view, at, sector, lengthBytes / SECTOR)) throw new Error(`wrong data for sector ${sector}`);
    expected.bytesLeft -= lengthBytes;
  }

  private end(cookie: number, expected: Expected): void {
    this.expected.delete(cookie);
    if (expected.isBad && !expected.failed) throw new Error('a bad request has succeeded');
    if (!expected.failed && expected.bytesLeft !== 0) throw new Error('not all that was read has come');
  }
}

/** Bytes that stay where they are until `done`, which the test calls when it likes: only then they are read. */
class LazyTransport implements Transport {
  isReading = true;
  isEnded = false;
  isDestroyed = false;
  private readonly sent: { bytes: Uint8Array; done: () => void }[] = [];

  constructor(private readonly reader: ReplyReader) {}

  send(bytes: Uint8Array, done: () => void): void {
    if (!this.isDestroyed) this.sent.push({ bytes, done });
  }
  cork(): void {}
  uncork(): void {}
  resume(): void {
    this.isReading = true;
  }
  end(): void {
    this.isEnded = true;
  }
  destroy(): void {
    this.isDestroyed = true;
  }
  /** The client reads one piece. @returns false when there is none */
  deliver(): boolean {
    const next = this.sent.shift();
    if (!next) return false;
    this.reader.take(next.bytes);
    next.done();
    return true;
  }
}

/** What a client still has to send. A concatenation for each message would take more time than everything else. */
class SendQueue {
  length = 0;
  private messages: Buffer[] = [];
  private first = 0;
  private sent = 0;

  add(bytes: Buffer): void {
    this.messages.push(bytes);
    this.length += bytes.length;
  }

  /** @returns the next bytes, at most so many */
  take(count: number): Buffer {
    const taken: Buffer[] = [];
    let left = Math.min(count, this.length);
    this.length -= left;
    while (left > 0) {
      const message = this.messages[this.first];
      const piece = message.subarray(this.sent, this.sent + left);
      taken.push(piece);
      left -= piece.length;
      this.sent += piece.length;
      if (this.sent < message.length) continue;
      this.first++;
      this.sent = 0;
    }
    if (this.first > 1000) {
      this.messages = this.messages.slice(this.first);
      this.first = 0;
    }
    return taken.length === 1 ? taken[0] : Buffer.concat(taken);
  }
}

const commands = [Command.read, Command.write, Command.flush, Command.cache, Command.writeZeroes, Command.trim];

/** One client from its greeting to its end. @returns how many messages it has sent */
async function client(random: Random, store: FickleStore, arenas: ArenaPool, stats: ServerStats): Promise<number> {
  const isStructured = random.chance(0.6);
  const reader = new ReplyReader(isStructured ? 2 : 1);
  const transport = new LazyTransport(reader);
  let released = 0;
  const connection = new Connection(transport, {
    store,
    arenas,
    stats,
    description: 'fuzz',
    nowMs: () => 0,
    needsTls: false,
    startTls: () => {},
    onReleased: () => released++,
  });
  const inPlace = random.chance(0.7);
  const toSend = new SendQueue();
  for (const bytes of [CLIENT_FLAGS, ...(isStructured ? [optionBytes(Option.structuredReply)] : []), GO])
    toSend.add(bytes);
  let cookie = 0;
  let messages = 0;
  const longShare = random.chance(0.2) ? 0.3 : 0.001;
  const wanted = random.between(1, longShare > 0.01 ? 40 : MESSAGES_PER_CLIENT_MAX);
  const pace = random.chance(0.3) ? 0.02 : 0.5; // at which replies are read, and the store ends requests
  const how = random.below(10); // how it ends: 0 garbage, 1 cut off, 2 hang up, else goodbye
  let isPolite = how > 2;

  const add = () => {
    if (messages === wanted) {
      if (how === 0) toSend.add(Buffer.from(Array.from({ length: 64 }, () => random.below(256))));
      else if (isPolite) toSend.add(requestBytes(Command.disconnect, 0, 0));
      messages++;
      return;
    }
    messages++;
    toSend.add(message(random, reader, ++cookie, longShare));
  };

  /** @returns whether bytes went in */
  const feed = (): boolean => {
    if (!transport.isReading || toSend.length === 0) return false;
    const { target } = connection;
    const most = random.chance(0.1) ? random.between(1, 40) : random.between(1, 512 * 1024);
    let goesOn: boolean;
    if (target !== undefined && inPlace) {
      const bytes = toSend.take(Math.min(most, target.length));
      target.set(bytes);
      goesOn = connection.taken(bytes.length);
    } else {
      goesOn = connection.take(toSend.take(Math.min(most, 64 * 1024)));
    }
    if (!goesOn) transport.isReading = false;
    return true;
  };

  const cutAt = how === 1 ? random.between(1, wanted) : Infinity;
  const readsReplies = random.chance(0.9) || isPolite;
  for (let idle = 0; idle < 2000 && !transport.isDestroyed && !transport.isEnded;) {
    let worked = false;
    if (toSend.length < 256 * 1024 && messages <= wanted) {
      add();
      worked = true;
    }
    if (random.chance(0.7) && feed()) worked = true;
    if (random.chance(pace) && store.endOne()) worked = true;
    if (readsReplies && random.chance(pace) && transport.deliver()) worked = true;
    if (messages >= cutAt) break;
    await Promise.resolve();
    idle = worked ? 0 : idle + 1;
    if (idle > 10) await new Promise((resolve) => setImmediate(resolve));
  }
  if (how === 2) connection.ended();
  // The rest is read; then the socket is gone, and what is under way at the store ends.
  for (let n = 0; n < 3; n++) {
    // A slow client may have gone to sleep with something still to say.
    const more = () => transport.deliver() || store.endOne() || (isPolite && !transport.isEnded && feed());
    while (!transport.isDestroyed && more()) await Promise.resolve();
    await new Promise((resolve) => setImmediate(resolve));
  }
  isPolite &&= !transport.isDestroyed;
  if (isPolite) {
    expect(transport.isEnded).toBe(true);
    expect([...reader.expected.values()]).toEqual([]);
  }
  transport.isDestroyed = true;
  connection.closed();
  for (let n = 0; n < 3; n++) {
    while (store.endOne());
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(released).toBe(1);
  return messages;
}

/** A message, good or bad, and what it leads to noted in the reader. */
function message(random: Random, reader: ReplyReader, cookie: number, longShare: number): Buffer {
  const note = (command: number, sector: number, sectors: number, isBad: boolean) => {
    const bytesLeft = command === Command.read ? sectors * SECTOR : 0;
    reader.expected.set(cookie, { command, sector, sectors, isBad, bytesLeft, failed: false });
  };
  const command = commands[random.below(commands.length)];
  if (random.chance(0.15)) return badMessage(random, command, cookie, note);
  const most = random.chance(longShare) ? 12 * 1024 : random.chance(0.95) ? 16 : 512;
  const sectors = command === Command.flush ? 0 : random.between(1, most);
  const sector = command === Command.flush ? 0 : random.below(DEVICE_SECTORS - sectors + 1);
  note(command, sector, sectors, false);
  const flags = random.chance(0.2) ? CommandFlag.fua : 0;
  const header = requestBytes(command, sector * SECTOR, sectors * SECTOR, flags, cookie);
  if (command !== Command.write) return header;
  const payload = Buffer.alloc(sectors * SECTOR);
  stampSectors(new DataView(payload.buffer, payload.byteOffset, payload.length), 0, sector, sectors);
  return Buffer.concat([header, payload]);
}

type Note = (command: number, sector: number, sectors: number, isBad: boolean) => void;

function badMessage(random: Random, command: number, cookie: number, note: Note): Buffer {
  const kind = random.below(6);
  let [offset, length, flags, sent] = [
    random.below(DEVICE_SECTORS - 32) * SECTOR,
    SECTOR * random.between(1, 16),
    0,
    command,
  ];
  if (kind === 0) sent = random.between(7, 65535);
  else if (kind === 1) flags = 1 << random.between(5, 15);
  else if (kind === 2) offset = DEVICE_SECTORS * SECTOR - length + SECTOR * random.between(1, 4);
  else if (kind === 3) offset = 2 ** 40 * random.between(1, 2 ** 12);
  else if (kind === 4) offset += random.between(1, SECTOR - 1);
  else if (random.chance(0.5) || command === Command.write) length += random.between(1, SECTOR - 1);
  else length = command === Command.read ? PAYLOAD_MAX_BYTES + SECTOR : 0xffffffff;
  if (command === Command.flush && kind !== 0 && kind !== 1) offset += 1;
  note(sent, 0, 0, true);
  const header = requestBytes(sent, offset, length, flags, cookie);
  return sent === Command.write ? Buffer.concat([header, Buffer.alloc(length)]) : header;
}

describe('a connection', () => {
  it(`stands ${MESSAGES} messages of clients of all kinds (seed ${SEED})`, { timeout: 3_600_000 }, async () => {
    const stats = new ServerStats();
    let messages = 0;
    for (let n = 0; messages < MESSAGES; n++) {
      const random = new Random(SEED * 1_000_003 + n);
      const store = new FickleStore(random);
      const arenas = new ArenaPool(store);
      try {
        messages += await client(random, store, arenas, stats);
      } catch (error) {
        throw new Error(`client ${n} of seed ${SEED}: ${(error as Error).message}`, { cause: error });
      }
      expect([n, store.writtenBadly]).toEqual([n, 0]);
    }
    expect(stats.requests).toBeGreaterThan(MESSAGES * 0.8);
    expect(stats.failedRequests).toBeGreaterThan(MESSAGES / 20);
    expect(stats.protocolErrors).toBeGreaterThan(0);
  });
});
