/**
 * A small NBD client of our own, for what real ones can't be made to do. Structured replies, as most of them, or simple
 * ones, or extended headers.
 */
import { connect, type Socket, type NetConnectOpts } from 'node:net';
import {
  Chunk,
  Command,
  CommandFlag,
  EXTENDED_REPLY_MAGIC,
  EXTENDED_REQUEST_MAGIC,
  HandshakeFlag,
  INIT_MAGIC,
  Option,
  OPTION_MAGIC,
  OptionReply,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from '../../src/nbd/protocol.js';

export class NbdFailure extends Error {
  constructor(
    readonly error: number,
    text: string,
  ) {
    super(`error ${error}: ${text}`);
  }
}

interface Waiting {
  readonly data: Buffer | undefined;
  readonly offset: number;
  failure: NbdFailure | undefined;
  readonly resolve: (data: Buffer) => void;
  readonly reject: (error: Error) => void;
}

export function optionBytes(option: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt32BE(OPTION_MAGIC[0], 0);
  header.writeUInt32BE(OPTION_MAGIC[1], 4);
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(data.length, 12);
  return Buffer.concat([header, data]);
}

/** GO for the export with the empty name. */
export const GO = optionBytes(Option.go, Buffer.alloc(6));
export const CLIENT_FLAGS = Buffer.from([0, 0, 0, HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes]);

export function requestBytes(command: number, offset: number, length: number, flags = 0, cookie = 0): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(command, 6);
  bytes.writeBigUInt64BE(BigInt(cookie), 8);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

/** A request with an extended header. */
export function extendedRequestBytes(command: number, offset: number, length: number, flags = 0, cookie = 0): Buffer {
  const bytes = Buffer.alloc(32);
  requestBytes(command, offset, 0, flags, cookie).copy(bytes);
  bytes.writeUInt32BE(EXTENDED_REQUEST_MAGIC, 0);
  bytes.writeBigUInt64BE(BigInt(length), 24);
  return bytes;
}

export type Headers = 'simple' | 'structured' | 'extended';
const OPTION_OF: Readonly<Record<Headers, number | undefined>> = {
  simple: undefined,
  structured: Option.structuredReply,
  extended: Option.extendedHeaders,
};

export class NbdClient {
  sizeBytes = 0;
  private headers: Headers = 'structured';
  private buffer = Buffer.alloc(0);
  private wake: (() => void) | undefined;
  private closed = false;
  private cookie = 0;
  private readonly waiting = new Map<number, Waiting>();

  private constructor(readonly socket: Socket) {
    socket.on('data', (data) => {
      this.buffer = this.buffer.length === 0 ? data : Buffer.concat([this.buffer, data]);
      this.wake?.();
    });
    const gone = () => {
      this.closed = true;
      this.wake?.();
      for (const { reject } of this.waiting.values()) reject(new Error('the server has closed the connection'));
      this.waiting.clear();
    };
    socket.on('close', gone);
    socket.on('error', gone);
  }

  static async connect(where: string | NetConnectOpts, headers: Headers = 'structured'): Promise<NbdClient> {
    const socket = typeof where === 'string' ? connect(where) : connect(where);
    const client = new NbdClient(socket);
    await client.negotiate(headers);
    void client.receive().catch(() => socket.destroy());
    return client;
  }

  private async take(count: number): Promise<Buffer> {
    while (this.buffer.length < count) {
      if (this.closed) throw new Error('the server has closed the connection');
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
    const bytes = this.buffer.subarray(0, count);
    this.buffer = this.buffer.subarray(count);
    return bytes;
  }

  private async negotiate(headers: Headers): Promise<void> {
    this.headers = headers;
    const option = OPTION_OF[headers];
    const hello = await this.take(18);
    if (hello.readUInt32BE(0) !== INIT_MAGIC[0]) throw new Error('not an NBD server');
    this.socket.write(CLIENT_FLAGS);
    if (option !== undefined) this.socket.write(optionBytes(option));
    this.socket.write(GO);
    for (;;) {
      const header = await this.take(20);
      const type = header.readUInt32BE(12);
      const data = await this.take(header.readUInt32BE(16));
      if (type === OptionReply.info && data.readUInt16BE(0) === 0) this.sizeBytes = Number(data.readBigUInt64BE(2));
      if (type >= 0x80000000) throw new Error(`option refused: ${data.toString()}`);
      if (type === OptionReply.ack && header.readUInt32BE(8) === Option.go) return;
    }
  }

  private async receive(): Promise<void> {
    for (;;) {
      const magic = (await this.take(4)).readUInt32BE(0);
      if (magic === SIMPLE_REPLY_MAGIC) await this.simple();
      else if (magic === STRUCTURED_REPLY_MAGIC || magic === EXTENDED_REPLY_MAGIC) await this.chunk();
      else throw new Error('a reply does not begin with a magic');
    }
  }

  private async simple(): Promise<void> {
    const header = await this.take(12);
    const cookie = Number(header.readBigUInt64BE(4));
    const waiting = this.waiting.get(cookie)!;
    const error = header.readUInt32BE(0);
    if (error !== 0) waiting.failure = new NbdFailure(error, '');
    else if (waiting.data) (await this.take(waiting.data.length)).copy(waiting.data);
    this.end(cookie, waiting);
  }

  private async chunk(): Promise<void> {
    const header = await this.take(this.headers === 'extended' ? 28 : 16);
    const cookie = Number(header.readBigUInt64BE(4));
    const waiting = this.waiting.get(cookie)!;
    if (this.headers === 'extended' && header.readBigUInt64BE(12) !== BigInt(waiting.offset))
      throw new Error('a reply repeats another offset than its request has');
    const body = await this.take(header.readUInt32BE(header.length - 4));
    if (header.readUInt16BE(2) === Chunk.offsetData) {
      body.copy(waiting.data!, Number(body.readBigUInt64BE(0)) - waiting.offset, 8);
    } else if (header.readUInt16BE(2) === Chunk.error) {
      waiting.failure = new NbdFailure(body.readUInt32BE(0), body.subarray(6).toString());
    }
    if (header.readUInt16BE(0) === 1) this.end(cookie, waiting);
  }

  private end(cookie: number, waiting: Waiting): void {
    this.waiting.delete(cookie);
    if (waiting.failure) waiting.reject(waiting.failure);
    else waiting.resolve(waiting.data ?? Buffer.alloc(0));
  }

  /** Sends a request; resolves with what it reads. @throws NbdFailure */
  request(command: number, offset: number, length: number, flags = 0, payload?: Uint8Array): Promise<Buffer> {
    const cookie = ++this.cookie;
    const ended = new Promise<Buffer>((resolve, reject) => {
      const data = command === Command.read ? Buffer.alloc(length) : undefined;
      if (this.closed) reject(new Error('the server has closed the connection'));
      this.waiting.set(cookie, { data, offset, failure: undefined, resolve, reject });
    });
    if (this.headers === 'extended') {
      const payload = command === Command.write ? CommandFlag.payloadLength : 0;
      this.socket.write(extendedRequestBytes(command, offset, length, flags | payload, cookie));
    } else {
      this.socket.write(requestBytes(command, offset, length, flags, cookie));
    }
    if (payload) this.socket.write(payload);
    return ended;
  }

  read(offset: number, length: number, flags = 0): Promise<Buffer> {
    return this.request(Command.read, offset, length, flags);
  }
  async write(offset: number, data: Uint8Array, fua = false): Promise<void> {
    await this.request(Command.write, offset, data.length, fua ? CommandFlag.fua : 0, data);
  }
  async flush(): Promise<void> {
    await this.request(Command.flush, 0, 0);
  }

  /** Says goodbye. */
  close(): void {
    const isExtended = this.headers === 'extended';
    this.socket.end((isExtended ? extendedRequestBytes : requestBytes)(Command.disconnect, 0, 0));
  }
}
