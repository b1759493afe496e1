/**
 * Listening sockets: made here, or passed by a service manager. They are bound before anything else is changed, and
 * hand out clients only from `serve` on; those that connect earlier wait.
 *
 * A Unix socket appears under its name with mode 0600 and only when it listens: it is bound in a private folder
 * beside, and linked to its name, which fails where something is. A socket that nobody listens on is replaced.
 */
import { chmodSync, linkSync, readFileSync, readlinkSync, unlinkSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { fromSystemError, PcacheError } from '../engine/errors.js';
import { inFolderBeside, inodeAt, removeIfSame, removeStale, statusOf, takenError, type Inode } from './owned-name.js';

/** Longest path of a Unix socket that the kernel takes. */
const SOCKET_PATH_MAX_BYTES = 107;
const SOCKET_MODE = 0o600;
/** How often a socket that appears between two looks is looked at again. */
const TRIES = 10;

export type BoundAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** A Unix socket, a TCP address (port 0 for a free one), or a listening socket that a service manager has opened. */
export type Address = BoundAddress | { readonly fd: number };

export interface Listener {
  readonly address: BoundAddress;
  /** Hands clients out from now on, those that have connected already first. */
  serve(onConnection: (socket: Socket) => void): void;
  /** Takes no further clients, and removes the socket's name. */
  close(): void;
}

/** @throws PcacheError when the address cannot be had. */
export async function listen(address: Address): Promise<Listener> {
  let onConnection: ((socket: Socket) => void) | undefined;
  const early: Socket[] = [];
  // Paused, so that the one who takes the socket decides where it reads to.
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
    if (onConnection) onConnection(socket);
    else early.push(socket.on('error', () => socket.destroy()));
  });
  let inode: Inode | undefined;
  if ('path' in address) inode = await listenUnix(server, address.path);
  else if ('fd' in address) await listenPassed(server, address.fd);
  else await listenTcp(server, address.host, address.port);
  return {
    address: boundAddress(server, address),
    serve: (handOut) => {
      onConnection = handOut;
      for (const socket of early.splice(0)) handOut(socket.removeAllListeners('error'));
    },
    close: () => {
      // As long as it is open its inode is not used again.
      if ('path' in address) removeIfSame(address.path, inode!);
      for (const socket of early.splice(0)) socket.destroy();
      server.close();
    },
  };
}

/** Where the server listens; the host as the user gave it. */
function boundAddress(server: Server, asked: Address): BoundAddress {
  if ('path' in asked) return asked;
  const bound = server.address() as AddressInfo | null; // null: a Unix socket that Node has not bound
  if (bound === null) return { path: pathOfSocket('fd' in asked ? asked.fd : -1) };
  return { host: 'host' in asked ? asked.host : bound.address, port: bound.port };
}

/** Path of an open Unix socket; as the kernel's list has it. */
function pathOfSocket(fd: number): string {
  const inode = /\d+/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[0];
  for (const line of readFileSync('/proc/net/unix', 'utf8').split('\n')) {
    const [, found, path] = /^(?:\S+ +){6}(\d+) (.*)$/.exec(line) ?? [];
    if (found === inode && path !== undefined) return path;
  }
  return `/proc/self/fd/${fd}`;
}

async function listenTcp(server: Server, host: string, port: number): Promise<void> {
  const where = `${host} port ${port}`;
  try {
    await started(server, { host, port });
  } catch (error) {
    throw tcpError(error, where, host, '--port', '--address');
  }
}

/** The error for a TCP address that cannot be listened on; the flags are those that gave it. */
export function tcpError(
  error: unknown,
  where: string,
  host: string,
  portFlag: string,
  addressFlag: string,
): PcacheError {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE')
    return new PcacheError('BUSY', `${where}: in use; give another ${portFlag}`, { cause: error });
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return new PcacheError('USAGE', `${host}: is not an address of this machine; give one with ${addressFlag}`, {
      cause: error,
    });
  }
  return fromSystemError(error, where, 'listening on it');
}

async function listenPassed(server: Server, fd: number): Promise<void> {
  try {
    await started(server, { fd });
  } catch (error) {
    throw fromSystemError(error, `file descriptor ${fd}`, 'listening on the socket passed by the service manager');
  }
}

/** @returns the socket's inode. */
async function listenUnix(server: Server, path: string): Promise<Inode> {
  try {
    return await inFolderBeside(path, async (folder) => {
      const bound = `${folder}/s`;
      for (const name of [bound, path]) {
        if (Buffer.byteLength(name) > SOCKET_PATH_MAX_BYTES) {
          throw new PcacheError('USAGE', `${path}: too long for a socket; give a shorter path`);
        }
      }
      await removeUnused(path);
      await started(server, { path: bound });
      chmodSync(bound, SOCKET_MODE);
      await linkTo(bound, path);
      unlinkSync(bound);
      return inodeAt(path)!;
    });
  } catch (error) {
    server.close();
    throw fromSystemError(error, path, 'making a socket there');
  }
}

/** Gives the listening socket its name. */
async function linkTo(bound: string, path: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      linkSync(bound, path);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || attempt === TRIES) throw error;
    }
    await removeUnused(path);
  }
}

function started(
  server: Server,
  where: { path: string } | { host: string; port: number } | { fd: number },
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}

/** Removes a socket that nobody listens on. @throws PcacheError BUSY when somebody does, or it is something else. */
async function removeUnused(path: string): Promise<void> {
  const inode = inodeAt(path);
  if (inode === undefined) return;
  if (!statusOf(path)?.isSocket()) throw takenError(path, 'exists and is not a socket', 'give another path');
  if (await isListening(path)) {
    throw takenError(path, 'another process listens there', 'stop it, or give another path');
  }
  removeStale(path, inode);
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
