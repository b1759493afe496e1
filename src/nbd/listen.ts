/**
 * Listening sockets. A Unix socket comes into being with mode 0600 and under its name only when it listens:
 * it is bound in a private folder beside, and renamed. A stale one, that nobody listens on, is replaced.
 */
import { chmodSync, lstatSync, mkdtempSync, renameSync, rmSync, unlinkSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { fromSystemError, PcacheError } from '../engine/errors.js';

/** What the kernel takes as the path of a Unix socket. */
const SOCKET_PATH_MAX_BYTES = 107;
const SOCKET_MODE = 0o600;

export type Address = { readonly path: string } | { readonly host: string; readonly port: number };

export interface Listener {
  /** Port that it listens on; 0 for a Unix socket. */
  readonly port: number;
  /** Takes no further clients, and removes the socket's name. */
  close(): void;
}

/** @throws PcacheError when the address cannot be had. */
export function listen(address: Address, onConnection: (socket: Socket) => void): Promise<Listener> {
  // Paused, so that whoever takes the socket decides where it reads to.
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, onConnection);
  return 'path' in address ? listenUnix(server, address.path) : listenTcp(server, address.host, address.port);
}

async function listenTcp(server: Server, host: string, port: number): Promise<Listener> {
  const where = `${host} port ${port}`;
  try {
    await started(server, { host, port });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EADDRINUSE') throw new PcacheError('BUSY', `${where}: in use; give another --port`, { cause: error });
    if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
      throw new PcacheError('USAGE', `${host}: not an address of this machine; give one with --address`, {
        cause: error,
      });
    }
    throw fromSystemError(error, where, 'listening on it');
  }
  return { port: (server.address() as AddressInfo).port, close: () => server.close() };
}

async function listenUnix(server: Server, path: string): Promise<Listener> {
  await removeStale(path);
  let folder: string;
  try {
    folder = mkdtempSync(join(dirname(path), '.'));
  } catch (error) {
    throw fromSystemError(error, path, 'making a socket there');
  }
  try {
    const bound = join(folder, 's');
    for (const name of [bound, path]) {
      if (Buffer.byteLength(name) > SOCKET_PATH_MAX_BYTES) {
        throw new PcacheError('USAGE', `${path}: too long for a socket; give a shorter path`);
      }
    }
    await started(server, { path: bound });
    chmodSync(bound, SOCKET_MODE);
    renameSync(bound, path);
  } catch (error) {
    server.close();
    throw fromSystemError(error, path, 'listening on it');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return {
    port: 0,
    close: () => {
      server.close();
      try {
        unlinkSync(path);
      } catch {
        // Somebody has removed it already.
      }
    },
  };
}

function started(server: Server, where: { path: string } | { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}

/** Removes a socket that nobody listens on. @throws PcacheError BUSY when somebody does, or it is something else. */
async function removeStale(path: string): Promise<void> {
  let isSocket: boolean;
  try {
    isSocket = lstatSync(path).isSocket();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw fromSystemError(error, path, 'looking for a socket there');
  }
  if (!isSocket) throw new PcacheError('BUSY', `${path}: is there already and is no socket; give another --socket`);
  if (await isListening(path)) {
    throw new PcacheError('BUSY', `${path}: another process listens there; stop it, or give another --socket`);
  }
  rmSync(path, { force: true });
}

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.on('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.on('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  });
}
