/**
 * The control socket of an attached cache: lines of JSON, one request each, one reply each.
 *
 *     {"command": "status"}                 {"status": …}
 *     {"command": "tune", "gcPercent": 70}  {"tuned": …}
 *     {"command": "drain"}                  {"drained": …}, when everything has been written back
 *     {"command": "detach"}                 {"detaching": true}; the server ends as on SIGTERM
 *
 * What cannot be done is answered with {"error": {"code": …, "message": …}}.
 *
 * Bounded: clients by number (the one idle longest makes room), and the share of time that answers take, so that
 * clients of the block device do not notice.
 */
import { connect, type Socket } from 'node:net';
import { deviceSocketPath } from '../block-device/device-socket.js';
import { fromSystemError, PcacheError, type CloseReport, type PcacheErrorCode } from '../engine/index.js';
import { printable } from './event-log.js';
import type { AttachStatus } from './status.js';

const LINE_BYTES_MAX = 4096;
const CLIENTS_MAX = 16;
/** A client that has asked within this time is not idle, ms. */
const ACTIVE_MS = 1000;
/** After an answer nothing is answered for this many times as long as it took. */
const PAUSE_FACTOR = 10;
/** A reply is a few KiB; one that is not whole after this is not from a cache. */
const REPLY_CHARS_MAX = 4 * 1024 * 1024;
const REPLY_MAX_MS = 10_000;

/** Path of the control socket of a cache that is served on `socketPath`. */
export function controlPathOf(socketPath: string): string {
  return `${socketPath}.control`;
}

/** Which attached cache is asked: by its block device, or by its socket. */
export interface CacheAddress {
  /** `/dev/ublkbN` or `/dev/nbdN`. */
  readonly device: string | undefined;
  /** The socket that the cache is served on, or its control socket. */
  readonly socket: string | undefined;
}

export interface Tuned {
  readonly gcPercent: number;
}

export interface ControlTarget {
  status(): Promise<AttachStatus>;
  /** @throws PcacheError USAGE */
  tune(gcPercent: number): Tuned;
  /** Writes everything back. @throws PcacheError for what keeps it from succeeding */
  drain(): Promise<CloseReport>;
  /** @throws PcacheError BUSY for a use that an end in order would wait for */
  requireDetachable(): Promise<void>;
  /** Begins to end the server in order. */
  detach(): void;
}

interface Client {
  readonly socket: Socket;
  text: string;
  askedMs: number;
  isBusy: boolean;
  /** Its connection stays until the process ends: that tells it that everything is closed. */
  isDetaching: boolean;
}

export class ControlServer {
  private readonly clients = new Set<Client>();
  private readonly ready: Client[] = [];
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly target: ControlTarget,
    private readonly nowMs: () => number,
  ) {}

  readonly accept = (socket: Socket): void => {
    socket.on('error', () => socket.destroy());
    if (this.clients.size >= CLIENTS_MAX && !this.dropIdle()) {
      const message = `${CLIENTS_MAX} clients use the control socket already; try again later`;
      socket.end(`${JSON.stringify({ error: { code: 'BUSY', message } })}\n`);
      socket.resume();
      return;
    }
    const client: Client = { socket, text: '', askedMs: this.nowMs(), isBusy: false, isDetaching: false };
    this.clients.add(client);
    socket.on('close', () => this.clients.delete(client));
    socket.on('end', () => this.endIfAnswered(client));
    socket.on('drain', () => this.proceed(client));
    socket.setEncoding('utf8').on('data', (piece: string) => {
      client.text += piece;
      if (!client.text.includes('\n') && client.text.length > LINE_BYTES_MAX) socket.destroy();
      else this.proceed(client);
    });
    socket.resume();
  };

  /** Makes room by dropping the client that has been idle longest. @returns whether one was idle */
  private dropIdle(): boolean {
    let idlest: Client | undefined;
    for (const client of this.clients) {
      if (client.isBusy || this.ready.includes(client)) continue;
      if (idlest === undefined || client.askedMs < idlest.askedMs) idlest = client;
    }
    if (idlest === undefined || this.nowMs() - idlest.askedMs < ACTIVE_MS) return false;
    this.clients.delete(idlest);
    idlest.socket.destroy();
    return true;
  }

  /** Puts a client in line when it has asked something; it sends no more until that is answered. */
  private proceed(client: Client): void {
    const { socket } = client;
    if (client.isBusy || socket.writableNeedDrain || this.ready.includes(client)) return;
    if (!client.text.includes('\n')) {
      if (socket.readableEnded) socket.end();
      else socket.resume();
      return;
    }
    socket.pause();
    this.ready.push(client);
    this.timer ??= setTimeout(() => void this.answerNext(), 0);
  }

  private endIfAnswered(client: Client): void {
    if (!client.isBusy && !this.ready.includes(client)) client.socket.end();
  }

  private async answerNext(): Promise<void> {
    const client = this.ready.shift();
    if (client === undefined) {
      this.timer = undefined;
      return;
    }
    const end = client.text.indexOf('\n');
    const line = client.text.slice(0, end);
    client.text = client.text.slice(end + 1);
    client.isBusy = true;
    const startedMs = this.nowMs();
    client.askedMs = startedMs;
    const reply = this.reply(line);
    const tookMs = this.nowMs() - startedMs;
    this.timer = setTimeout(() => void this.answerNext(), tookMs * PAUSE_FACTOR);
    const answered = await reply;
    client.isDetaching ||= 'detaching' in answered;
    const text = `${JSON.stringify(answered)}\n`;
    client.isBusy = false;
    if (client.socket.destroyed) return;
    client.socket.write(text);
    this.proceed(client);
  }

  private async reply(line: string): Promise<object> {
    try {
      if (line.length > LINE_BYTES_MAX) throw new PcacheError('USAGE', 'the request is too long');
      return await this.answer(JSON.parse(line) as unknown);
    } catch (error) {
      if (error instanceof PcacheError) return { error: { code: error.code, message: error.message } };
      if (error instanceof SyntaxError) return { error: { code: 'USAGE', message: 'the request is not JSON' } };
      throw error;
    }
  }

  private answer(request: unknown): object | Promise<object> {
    const { command, gcPercent } = (request ?? {}) as { command?: unknown; gcPercent?: unknown };
    switch (command) {
      case 'status':
        return this.target.status().then((status) => ({ status }));
      case 'tune':
        if (typeof gcPercent !== 'number') throw new PcacheError('USAGE', 'gcPercent is missing');
        return { tuned: this.target.tune(gcPercent) };
      case 'drain':
        return this.target.drain().then((drained) => ({ drained }));
      case 'detach':
        return this.target.requireDetachable().then(() => {
          setTimeout(() => this.target.detach(), 0); // after the reply
          return { detaching: true };
        });
      default:
        throw new PcacheError('USAGE', 'the command is not known; it is status, tune, drain or detach');
    }
  }

  close(): void {
    clearTimeout(this.timer);
    for (const { socket, isDetaching } of this.clients) if (!isDetaching) socket.destroySoon();
  }
}

type Reply =
  | { status: AttachStatus }
  | { tuned: Tuned }
  | { drained: CloseReport }
  | { detaching: true }
  | { error: { code: PcacheErrorCode; message: string } };

/** The other end: asks an attached cache. */
export class ControlClient {
  private text = '';
  private waiting: { resolve: (reply: Reply) => void; reject: (error: Error) => void } | undefined;
  private failure: PcacheError | undefined;

  private constructor(
    private readonly socket: Socket,
    private readonly path: string,
  ) {
    socket.setEncoding('utf8').on('data', (piece: string) => this.receive(piece));
    // What the server has said before it closed is read first: the failure waits for 'close'.
    socket.on('error', () => undefined);
    socket.on('close', () => this.fail(new PcacheError('CLOSED', `${path}: the server has closed the connection`)));
  }

  /** @throws PcacheError NOT_FOUND when no cache is served there, USAGE for an address that is none */
  static async connect({ device, socket }: CacheAddress): Promise<ControlClient> {
    if ((device === undefined) === (socket === undefined)) {
      throw new PcacheError(
        'USAGE',
        "which cache? give its block device (/dev/ublkbN, /dev/nbdN, or a NAME of the kernel's target), or --socket PATH",
      );
    }
    const socketPath = socket ?? deviceSocketPath(device!);
    for (const path of [controlPathOf(socketPath), socketPath]) {
      const connection = await connected(path);
      if (connection) return new ControlClient(connection, path);
    }
    throw new PcacheError(
      'NOT_FOUND',
      device === undefined
        ? `${socketPath}: no cache is served there; give the --socket of "pcache attach"`
        : `${device}: no cache is served at ${socketPath}; if it was attached with --socket or --port give that --socket, ` +
            'and if its server has died take it over with "pcache attach --recover"',
    );
  }

  async status(): Promise<AttachStatus> {
    const { status } = (await this.ask({ command: 'status' })) as { status?: unknown };
    if (!isStatus(status)) throw this.strange();
    return status;
  }

  async tune(gcPercent: number): Promise<Tuned> {
    const { tuned } = (await this.ask({ command: 'tune', gcPercent })) as { tuned?: Tuned };
    if (typeof tuned?.gcPercent !== 'number') throw this.strange();
    return tuned;
  }

  /** Has everything written back. @throws PcacheError for what keeps it from succeeding */
  async drain(): Promise<CloseReport> {
    const { drained } = (await this.ask({ command: 'drain' }, Infinity)) as { drained?: CloseReport };
    if (typeof drained?.dirtyKeys !== 'number') throw this.strange();
    return drained;
  }

  /** Has the server end in order, and waits until it has ended. */
  async detach(): Promise<void> {
    const { detaching } = (await this.ask({ command: 'detach' })) as { detaching?: unknown };
    if (detaching !== true) throw this.strange();
    if (this.socket.closed) return;
    await new Promise<void>((resolve) => this.socket.once('close', () => resolve()));
  }

  close(): void {
    this.socket.destroy();
  }

  private async ask(request: object, maxMs = REPLY_MAX_MS): Promise<Reply> {
    if (this.failure) throw this.failure;
    const timer = maxMs === Infinity ? undefined : setTimeout(() => this.fail(this.strange()), maxMs);
    try {
      const reply = await new Promise<Reply>((resolve, reject) => {
        this.waiting = { resolve, reject };
        this.socket.write(`${JSON.stringify(request)}\n`);
      });
      if ('error' in reply) throw new PcacheError(reply.error.code, reply.error.message);
      return reply;
    } finally {
      clearTimeout(timer);
    }
  }

  private receive(piece: string): void {
    this.text += piece;
    const end = this.text.indexOf('\n');
    if (end < 0) {
      // The greeting of an NBD server has no end of line.
      if (this.text.length > REPLY_CHARS_MAX || !this.text.startsWith('{')) this.fail(this.strange());
      return;
    }
    const line = this.text.slice(0, end);
    this.text = this.text.slice(end + 1);
    const reply = replyOf(line);
    if (reply === undefined) {
      this.fail(this.strange());
    } else if (this.waiting) {
      this.waiting.resolve(reply);
      this.waiting = undefined;
    } else {
      // Unasked: the server refuses this client.
      this.fail('error' in reply ? new PcacheError(reply.error.code, reply.error.message) : this.strange());
    }
  }

  private fail(error: PcacheError): void {
    this.failure ??= error;
    this.waiting?.reject(this.failure);
    this.waiting = undefined;
    this.socket.destroy();
  }

  private strange(): PcacheError {
    return new PcacheError(
      'USAGE',
      `${this.path}: is not the control socket of a cache; give the --socket of "pcache attach"`,
    );
  }
}

/** A line as a reply, its texts safe for a terminal; undefined when it is not one. */
function replyOf(line: string): Reply | undefined {
  let reply: unknown;
  try {
    reply = JSON.parse(line, (_, value: unknown) => (typeof value === 'string' ? printable(value) : value));
  } catch {
    return undefined;
  }
  if (typeof reply !== 'object' || reply === null || Array.isArray(reply)) return undefined;
  if ('error' in reply) {
    const { code, message } = (reply.error ?? {}) as { code?: unknown; message?: unknown };
    if (typeof code !== 'string' || typeof message !== 'string') return undefined;
  }
  return reply as Reply;
}

/** Whether a value has what every status has. */
function isStatus(value: unknown): value is AttachStatus {
  if (typeof value !== 'object' || value === null) return false;
  const { path, backing, uri, sizeBytes, uptimeMs, server, latency, cache } = value as Partial<AttachStatus>;
  const isRecord = (part: unknown) => typeof part === 'object' && part !== null;
  const kinds = isRecord(latency) ? Object.values(latency) : [];
  return (
    [path, backing, uri].every((text) => typeof text === 'string') &&
    [sizeBytes, uptimeMs].every((number) => typeof number === 'number') &&
    isRecord(server) &&
    kinds.length > 0 &&
    kinds.every((snapshot) => Array.isArray(snapshot)) &&
    (cache === null || (isRecord(cache) && isRecord(cache.engine) && isRecord(cache.keyHead)))
  );
}

/** A socket, or undefined where nobody listens. @throws PcacheError for anything else */
function connected(path: string): Promise<Socket | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED' || error.code === 'ENOTSOCK') resolve(undefined);
      else reject(fromSystemError(error, path, 'connecting to it'));
    });
  });
}
