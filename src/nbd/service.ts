/** What serves the clients of a cache and its block device: the thread that has the cache, or threads of their own. */
import type { Socket } from 'node:net';
import type { QueuePlace, ServedQueue } from '../block-device/ublk-queue.js';
import { UblkQueue } from '../block-device/ublk-queue.js';
import { activityOf, type Activity } from './activity.js';
import { Connection } from './connection.js';
import { ArenaPool } from './memory.js';
import { SocketTransport } from './socket-transport.js';
import { ServerStats } from './stats.js';
import type { Store } from './store.js';
import type { TlsFactory } from './tls.js';
import { UblkRequests } from './ublk-requests.js';
import { WritePacer } from './write-pacer.js';

/** @param kind of a fixed set, by which repeated lines are suppressed. */
export type Tell = (kind: string, text: string) => void;

export interface NewClient {
  /** Just connected, and not yet read from. */
  readonly socket: Socket;
  /** Where it comes from, for messages. */
  readonly origin: string;
  /** It is the kernel's client on a device of this machine. */
  readonly isDevice: boolean;
  /** Called once, when the client is gone and holds nothing any more. */
  readonly onReleased: () => void;
}

export interface ServedClient {
  /** Negotiation is over. */
  readonly isAdmitted: boolean;
  /** Takes no further request; what is under way is answered, and then it closes. */
  stop(): void;
  /** Closes at once. */
  destroy(): void;
  /** Closes at once, unless negotiation is over. */
  evict(): void;
}

export interface Service {
  /** Counts clients, and requests where they are served by this thread. */
  readonly stats: ServerStats;
  connect(client: NewClient): ServedClient;
  /** Serves a queue of a ublk device. @param ended receives an errno, or 0, when the driver takes no further results */
  serveQueue(place: QueuePlace, ended: (errno: number) => void): Promise<ServedQueue>;
  activity(): Promise<Activity>;
  /** Holds no reply back any more, and sends those that are held: the server stops. */
  stopPacing(): void;
}

export interface LocalServiceOptions {
  readonly store: Store;
  readonly description: string;
  readonly nowMs: () => number;
  readonly tls?: TlsFactory | undefined;
  /** False to receive by copying always; for tests. */
  readonly inPlace?: boolean;
  /** Name of the export; undefined takes whatever name a client gives. */
  readonly exportName?: string | undefined;
  /** Receives what belongs in a log: failed handshakes, failed requests. */
  readonly tell?: Tell | undefined;
}

/** Serves in the thread that makes it. */
export class LocalService implements Service {
  readonly stats = new ServerStats();
  private readonly pacer: WritePacer;
  private readonly arenas: ArenaPool;
  private readonly tell: Tell;

  constructor(private readonly options: LocalServiceOptions) {
    this.arenas = new ArenaPool(options.store);
    this.tell = options.tell ?? (() => undefined);
    this.pacer = new WritePacer({
      pressure: () => options.store.pressure?.(),
      nowMs: options.nowMs,
      onChange: (isSlowed, bytesPerSecond) => {
        if (isSlowed) this.tell('pace', slowedText(bytesPerSecond));
      },
    });
  }

  /** @param onAdmitted called when negotiation is over */
  connect({ socket, origin, isDevice, onReleased }: NewClient, onAdmitted?: () => void): Connection {
    const { options, arenas, stats, pacer } = this;
    const { store, description, nowMs, exportName, inPlace = true } = options;
    const tls = isDevice ? undefined : options.tls;
    const transport = new SocketTransport(socket, inPlace && tls === undefined);
    const connection: Connection = new Connection(transport, {
      store,
      arenas,
      stats,
      pacer,
      description,
      exportName,
      nowMs,
      isNegotiated: isDevice,
      needsTls: tls !== undefined,
      startTls: () =>
        transport.startTls(tls!, (reason) => this.tell('tls', `TLS with a client from ${origin} failed: ${reason}`)),
      tell: (kind, text) => this.tell(kind, `client from ${origin}: ${text}`),
      onAdmitted,
      onReleased,
    });
    transport.start(connection);
    return connection;
  }

  serveQueue(place: QueuePlace, ended: (errno: number) => void): Promise<ServedQueue> {
    const { stats, pacer, options } = this;
    const { store, nowMs } = options;
    const queue = new UblkQueue(place);
    const tell: Tell = (kind, text) => this.tell(kind, `${place.path}: ${text}`);
    queue.serve(new UblkRequests(queue, { store, stats, pacer, nowMs, tell }), ended);
    return Promise.resolve(queue);
  }

  activity(): Promise<Activity> {
    return Promise.resolve(activityOf(this.stats, this.pacer));
  }

  stopPacing(): void {
    this.pacer.stop();
  }
}

function slowedText(bytesPerSecond: number): string {
  const rate = (bytesPerSecond / 1024).toFixed(0);
  return `the cache is nearly full: writes are slowed to what the backing device takes, now ${rate} KiB/s`;
}
