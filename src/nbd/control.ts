/**
 * The control socket of an attached cache: lines of JSON, a request each, a reply each. `{"command": "status"}`
 * is answered with `{"status": …}`, `{"command": "tune", "gcPercent": 70}` with `{"tuned": …}`, and what cannot
 * be done with `{"error": {"code": …, "message": …}}`.
 */
import { connect, type Socket } from 'node:net';
import { fromSystemError, PcacheError, type PcacheErrorCode } from '../engine/errors.js';
import type { AttachStatus } from './status.js';

const LINE_BYTES_MAX = 4096;
const CLIENTS_MAX = 16;
/** A reply is a few KiB; one that is not whole after this is not from a cache. */
const REPLY_CHARS_MAX = 4 * 1024 * 1024;
const REPLY_MAX_MS = 10_000;

/** Where the control socket of a cache is that is served on `socketPath`. */
export function controlPathOf(socketPath: string): string {
  return `${socketPath}.control`;
}

export interface Tuned {
  readonly gcPercent: number;
}

export interface ControlTarget {
  status(): AttachStatus;
  /** @throws PcacheError USAGE */
  tune(gcPercent: number): Tuned;
}

export class ControlServer {
  private readonly clients = new Set<Socket>();

  constructor(private readonly target: ControlTarget) {}

  readonly accept = (socket: Socket): void => {
    if (this.clients.size >= CLIENTS_MAX) {
      socket.destroy();
      return;
    }
    this.clients.add(socket);
    let text = '';
    socket.on('close', () => this.clients.delete(socket));
    socket.on('error', () => socket.destroy());
    socket.on('end', () => socket.end());
    socket.setEncoding('utf8').on('data', (piece: string) => {
      text += piece;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        // Somebody who does not read the replies gets no more of them.
        if (!socket.write(`${JSON.stringify(this.reply(line))}\n`)) socket.pause();
      }
      if (text.length > LINE_BYTES_MAX) socket.destroy();
    });
    socket.on('drain', () => socket.resume());
    socket.resume();
  };

  private reply(line: string): object {
    try {
      return this.answer(JSON.parse(line) as unknown);
    } catch (error) {
      if (error instanceof PcacheError) return { error: { code: error.code, message: error.message } };
      if (error instanceof SyntaxError) return { error: { code: 'USAGE', message: 'the request is not JSON' } };
      throw error;
    }
  }

  private answer(request: unknown): object {
    const { command, gcPercent } = (request ?? {}) as { command?: unknown; gcPercent?: unknown };
    if (command === 'status') return { status: this.target.status() };
    if (command === 'tune') {
      if (typeof gcPercent !== 'number') throw new PcacheError('USAGE', 'gcPercent is missing');
      return { tuned: this.target.tune(gcPercent) };
    }
    throw new PcacheError('USAGE', 'the command is not known; it is status or tune');
  }

  close(): void {
    for (const client of this.clients) client.destroy();
  }
}

type Reply = { status: AttachStatus } | { tuned: Tuned } | { error: { code: PcacheErrorCode; message: string } };

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
    socket.on('error', (error) => this.fail(fromSystemError(error, path, 'asking the cache that is served there')));
    socket.on('close', () => this.fail(new PcacheError('CLOSED', `${path}: the cache is not served any more`)));
  }

  /** @param socketPath the socket that a cache is served on, or its control socket. */
  static async connect(socketPath: string): Promise<ControlClient> {
    for (const path of [controlPathOf(socketPath), socketPath]) {
      const socket = await connected(path);
      if (socket) return new ControlClient(socket, path);
    }
    throw new PcacheError('NOT_FOUND', `${socketPath}: no cache is served there; give the --socket of "pcache attach"`);
  }

  async status(): Promise<AttachStatus> {
    const reply = await this.ask({ command: 'status' });
    if ('status' in reply) return reply.status;
    throw this.strange();
  }

  async tune(gcPercent: number): Promise<Tuned> {
    const reply = await this.ask({ command: 'tune', gcPercent });
    if ('tuned' in reply) return reply.tuned;
    throw this.strange();
  }

  close(): void {
    this.socket.destroy();
  }

  private async ask(request: object): Promise<Reply> {
    if (this.failure) throw this.failure;
    const timer = setTimeout(() => this.fail(this.strange()), REPLY_MAX_MS);
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
    try {
      const reply = JSON.parse(line) as Reply;
      this.waiting?.resolve(reply);
      this.waiting = undefined;
    } catch {
      this.fail(this.strange());
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
