/**
 * A connection's bytes over a socket. Where Node lets it, the socket reads straight into the receiver's memory:
 * its `onread` option is for sockets that connect, so an accepted one is wrapped anew around its handle. Where
 * that is not possible, and under TLS, bytes come with 'data' events and are copied once.
 *
 * In the same way bytes go out: at once by one system call, without a stream of Node. What the socket does not take at
 * once goes by the stream, and everything after it until the stream is empty again.
 */
import { Socket, type SocketConstructorOpts } from 'node:net';
import { nativeAddonIfAvailable, type NativeAddon } from '../engine/device/native.js';
import type { TlsFactory } from './tls.js';
import type { Receiver, Transport } from './transport.js';

/** For what is received before a client is let in, and first after a pause. */
const SPARE_BYTES = 64 * 1024;
/** How long the other side may take to close after we have. */
const GOODBYE_MAX_MS = 2_000;

interface HandleHolder {
  _handle?: { readonly fd?: number } | null;
}

export class SocketTransport implements Transport {
  private socket: Socket;
  private receiver!: Receiver;
  private readonly spare = Buffer.allocUnsafe(SPARE_BYTES);
  private current: Uint8Array = this.spare;
  private isClosed = false;
  /** We have said goodbye: what still comes is thrown away, so that the client gets our last replies. */
  private isEnded = false;
  /** Sends at once; undefined where everything goes by the stream. */
  private sendNow: NativeAddon['sendNow'] | undefined;
  /** File descriptor of `socket`, for `sendNow`. */
  private fd = -1;
  /** Number of writes that the stream has not ended. */
  private inStream = 0;

  constructor(
    accepted: Socket,
    private readonly inPlace = true,
  ) {
    this.socket = this.inPlace ? (this.wrap(accepted) ?? accepted) : accepted;
    this.socket.setNoDelay(true);
  }

  /** Begins to receive. */
  start(receiver: Receiver): void {
    this.receiver = receiver;
    this.listen(this.socket, true);
    this.socket.resume();
  }

  /** The socket behind `accepted`, reading into our memory; undefined where this Node has no such way. */
  private wrap(accepted: Socket): Socket | undefined {
    const holder = accepted as unknown as HandleHolder;
    const handle = holder._handle;
    if (!handle) return undefined;
    const socket = new Socket({
      handle,
      allowHalfOpen: true,
      readable: true,
      writable: true,
      pauseOnCreate: true,
      onread: {
        buffer: () => (this.current = this.receiver?.target ?? this.spare),
        callback: (count: number) => this.read(count),
      },
    } as unknown as SocketConstructorOpts);
    holder._handle = null; // the new socket's now
    accepted.destroy(); // only for the server's books
    this.fd = handle.fd ?? -1;
    if (this.fd >= 0) this.sendNow = nativeAddonIfAvailable()?.sendNow;
    return socket;
  }

  private read(count: number): boolean {
    const { current, receiver } = this;
    if (this.isEnded) return true;
    return current === this.spare ? receiver.take(this.spare.subarray(0, count)) : receiver.taken(count);
  }

  private listen(socket: Socket, withClose: boolean): void {
    socket.on('data', (bytes: Buffer) => {
      if (!this.isEnded && !this.receiver.take(bytes)) socket.pause();
    });
    socket.on('end', () => {
      if (!this.isEnded) this.receiver.ended();
    });
    socket.on('error', () => socket.destroy());
    if (withClose) {
      socket.on('close', () => {
        this.isClosed = true;
        this.receiver.closed();
      });
    }
  }

  /** From here on the bytes are those within TLS. What was sent before goes in the clear. */
  startTls(factory: TlsFactory, onFailure: (reason: string) => void): void {
    const raw = this.socket;
    raw.removeAllListeners('data');
    raw.removeAllListeners('end');
    const server = factory();
    server.once('tlsClientError', (error) => {
      onFailure(error.message);
      raw.destroy();
    });
    server.once('secureConnection', (secure) => {
      this.socket = secure;
      this.listen(secure, false);
      secure.resume();
    });
    server.emit('connection', raw);
  }

  send(bytes: Uint8Array, done: () => void): void {
    if (this.isClosed) return;
    let sent = 0;
    if (this.sendNow && this.inStream === 0 && !this.socket.destroyed) {
      sent = this.sendNow(this.fd, bytes, 0, bytes.length);
      if (sent === bytes.length) {
        done();
        return;
      }
    }
    this.inStream++;
    this.socket.write(sent === 0 ? bytes : bytes.subarray(sent), () => {
      this.inStream--;
      done();
    });
  }
  cork(): void {
    this.socket.cork();
  }
  uncork(): void {
    this.socket.uncork();
  }
  resume(): void {
    this.socket.resume();
  }
  end(): void {
    if (this.isEnded) return;
    this.isEnded = true;
    this.socket.end();
    this.socket.resume();
    const timer = setTimeout(() => this.socket.destroy(), GOODBYE_MAX_MS);
    this.socket.once('close', () => clearTimeout(timer));
  }
  destroy(): void {
    this.socket.destroy();
  }
}
