/**
 * Takes the clients of a service. Bounded: their number, and the time that negotiation may take. When there is no room,
 * a new client takes the place of one that has not finished negotiating, so that idle sockets lock nobody out.
 */
import type { Socket } from 'node:net';
import type { ServedClient, Service, Tell } from './service.js';
import type { ServerStats } from './stats.js';

export const CLIENTS_MAX = 64;
export const HANDSHAKE_MAX_MS = 10_000;
/** How long a client may take to read the last replies when the server stops. */
const STOP_GRACE_MS = 5_000;
/** After this long without data the system asks whether the other side is still there. */
const KEEPALIVE_MS = 60_000;

export interface ServerOptions {
  readonly service: Service;
  readonly clientsMax?: number | undefined;
  readonly handshakeMaxMs?: number | undefined;
  readonly stopGraceMs?: number;
  /** Receives what belongs in a log: refused clients, failed handshakes. */
  readonly tell?: Tell;
}

interface Client {
  readonly connection: ServedClient;
  /** Where it comes from: an address, or the same for all clients of a Unix socket. */
  readonly origin: string;
}

export class NbdServer {
  private readonly stats: ServerStats;
  private readonly clients = new Set<Client>();
  private readonly waiters: (() => void)[] = [];
  private readonly tell: Tell;
  private isStopping = false;
  private deviceConnections = 0;

  constructor(private readonly options: ServerOptions) {
    this.stats = options.service.stats;
    this.tell = options.tell ?? (() => undefined);
  }

  /** Takes a client that has just connected, not yet read from. */
  readonly accept = (socket: Socket): void => this.take(socket, socket.remoteAddress ?? 'the Unix socket', false);

  /** Takes a connection of the kernel's client, beyond the clients that the options allow. */
  acceptDevice(socket: Socket, devicePath: string): void {
    this.deviceConnections++;
    this.take(socket, devicePath, true);
  }

  private take(socket: Socket, origin: string, isDevice: boolean): void {
    const { stats, options } = this;
    stats.accepted++;
    if (this.isStopping || !(isDevice || this.hasRoom())) {
      stats.refused++;
      if (!this.isStopping) {
        this.tell('refused', `refused a client from ${origin}: ${this.clients.size} are connected (--max-clients)`);
      }
      socket.destroy();
      return;
    }
    socket.setKeepAlive(true, KEEPALIVE_MS);
    const connection = options.service.connect({
      socket,
      origin,
      isDevice,
      onReleased: () => this.released(client, timer),
    });
    const client: Client = { connection, origin };
    const timer = setTimeout(() => {
      if (connection.isAdmitted) return;
      stats.handshakeTimeouts++;
      this.tell('handshake', `dropped a client from ${origin}: it did not finish negotiating in time`);
      connection.evict();
    }, options.handshakeMaxMs ?? HANDSHAKE_MAX_MS);
    this.clients.add(client);
    stats.connections = this.clients.size;
  }

  /** Whether another client can be taken; if need be one that has not finished negotiating makes room. */
  private hasRoom(): boolean {
    const { clients, stats } = this;
    if (clients.size < (this.options.clientsMax ?? CLIENTS_MAX) + this.deviceConnections) return true;
    const negotiating = [...clients].filter(({ connection }) => !connection.isAdmitted);
    if (negotiating.length === 0) return false;
    // The oldest of the origin that has most of them.
    const counts = new Map<string, number>();
    for (const { origin } of negotiating) counts.set(origin, (counts.get(origin) ?? 0) + 1);
    const most = Math.max(...counts.values());
    const victim = negotiating.find(({ origin }) => counts.get(origin) === most)!;
    stats.refused++;
    this.tell('evicted', `dropped a client from ${victim.origin} that had not finished negotiating, to make room`);
    clients.delete(victim);
    victim.connection.evict();
    return true;
  }

  private released(client: Client, timer: NodeJS.Timeout): void {
    clearTimeout(timer);
    this.clients.delete(client);
    this.stats.connections = this.clients.size;
    if (this.clients.size === 0) for (const wake of this.waiters.splice(0)) wake();
  }

  /** Takes no further client and no further request; resolves when all that were under way are answered. */
  async stop(): Promise<void> {
    this.isStopping = true;
    this.options.service.stopPacing();
    for (const { connection } of [...this.clients]) connection.stop();
    const timer = setTimeout(() => this.destroy(), this.options.stopGraceMs ?? STOP_GRACE_MS);
    while (this.clients.size > 0) await new Promise<void>((resolve) => this.waiters.push(resolve));
    clearTimeout(timer);
  }

  /** Closes every connection at once. */
  destroy(): void {
    this.isStopping = true;
    for (const { connection } of [...this.clients]) connection.destroy();
  }
}
