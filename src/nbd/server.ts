/**
 * Serves a store to clients: their number is bounded, those that do not finish negotiating are dropped, and
 * stopping lets what is under way end.
 */
import type { Socket } from 'node:net';
import { Connection } from './connection.js';
import { ArenaPool } from './memory.js';
import { SocketTransport } from './socket-transport.js';
import { ServerStats } from './stats.js';
import type { Store } from './store.js';
import type { TlsFactory } from './tls.js';

const CONNECTIONS_MAX = 64;
const NEGOTIATION_MAX_MS = 30_000;
/** How long a client may take to read the last replies when the server stops. */
const STOP_GRACE_MS = 5_000;

export interface ServerOptions {
  readonly store: Store;
  readonly description: string;
  readonly nowMs: () => number;
  readonly tls?: TlsFactory | undefined;
  /** False to receive by copying always; for tests. */
  readonly inPlace?: boolean;
  readonly connectionsMax?: number;
  readonly stopGraceMs?: number;
}

export class NbdServer {
  readonly stats = new ServerStats();
  private readonly arenas: ArenaPool;
  private readonly connections = new Set<Connection>();
  private readonly waiters: (() => void)[] = [];
  private isStopping = false;

  constructor(private readonly options: ServerOptions) {
    this.arenas = new ArenaPool(options.store);
  }

  /** Takes a client that has just connected, not yet read from. */
  readonly accept = (socket: Socket): void => {
    const { stats } = this;
    stats.accepted++;
    if (this.isStopping || this.connections.size >= (this.options.connectionsMax ?? CONNECTIONS_MAX)) {
      stats.refused++;
      socket.destroy();
      return;
    }
    const { store, description, nowMs, tls, inPlace = true } = this.options;
    const transport = new SocketTransport(socket, inPlace && tls === undefined);
    const connection: Connection = new Connection(transport, {
      store,
      arenas: this.arenas,
      stats,
      description,
      nowMs,
      needsTls: tls !== undefined,
      startTls: () => transport.startTls(tls!),
      onReleased: () => this.released(connection, timer),
    });
    const timer = setTimeout(() => {
      if (!connection.isAdmitted) connection.destroy();
    }, NEGOTIATION_MAX_MS);
    this.connections.add(connection);
    stats.connections = this.connections.size;
    transport.start(connection);
  };

  private released(connection: Connection, timer: NodeJS.Timeout): void {
    clearTimeout(timer);
    this.connections.delete(connection);
    this.stats.connections = this.connections.size;
    if (this.connections.size === 0) for (const wake of this.waiters.splice(0)) wake();
  }

  /** Takes no further client and no further request; resolves when all that were under way are answered. */
  async stop(): Promise<void> {
    this.isStopping = true;
    for (const connection of [...this.connections]) connection.stop();
    const timer = setTimeout(() => {
      for (const connection of [...this.connections]) connection.destroy();
    }, this.options.stopGraceMs ?? STOP_GRACE_MS);
    while (this.connections.size > 0) await new Promise<void>((resolve) => this.waiters.push(resolve));
    clearTimeout(timer);
  }
}
