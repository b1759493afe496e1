/** What `attach` is asked for, and what contradicts itself in it. */
import { resolve } from 'node:path';
import type { BackingDevice } from '../engine/device/backing.js';
import { sameDevice } from '../engine/device/lock.js';
import type { Pmem, PmemReader } from '../engine/device/pmem.js';
import { PcacheError } from '../engine/errors.js';
import { requireServedName } from '../block-device/device-name.js';
import { checkDeviceName } from '../block-device/served-device.js';
import type { ServiceManager } from './service-manager.js';
import type { TlsRequest } from './tls.js';

export interface AttachOptions {
  readonly cachePath: string;
  readonly backingPath: string;
  /** Unix socket to listen on; made in a temporary folder for `exec` when there is neither it nor a port. */
  readonly socketPath: string | undefined;
  /** Listening socket passed by a service manager, instead of `socketPath` and `port`. */
  readonly listenFd: number | undefined;
  readonly host: string;
  readonly port: number | undefined;
  readonly readOnly: boolean;
  /** Refuse a cache whose data_crc is otherwise. */
  readonly dataCrc: boolean | undefined;
  readonly gcPercent: number | undefined;
  readonly verifyReads: boolean;
  /** Threads that serve; with more than one each has a share of the cache. */
  readonly jobs: number;
  readonly tls: TlsRequest;
  /** Command to run while attached; attach ends when it ends. */
  readonly exec: string | undefined;
  /** Block device of this machine to provide: `auto`, `ublk`, `nbd`, or its path. */
  readonly device: string | undefined;
  /** Take that device over from a server that has died. */
  readonly recover: boolean;
  /** A name of its own for it: /dev/pcache/NAME. */
  readonly name: string | undefined;
  readonly pidFile: string | undefined;
  /** Control socket; beside the socket when undefined, and none when there is only a port. */
  readonly controlPath: string | undefined;
  /** TCP port for metrics. */
  readonly metricsPort: number | undefined;
  readonly metricsHost: string;
  /** Name of the export; undefined takes whatever name a client gives. */
  readonly exportName: string | undefined;
  readonly clientsMax: number;
  readonly handshakeMaxMs: number;
  readonly drain: boolean;
  /** Service manager to tell how the server does. */
  readonly serviceManager: ServiceManager | undefined;
  /** A JSON document goes to standard output, so nothing else may. */
  readonly json: boolean;
  readonly native: boolean;
  /** Called before anything is read by what the log says, or written; throws to refuse the cache. */
  readonly admit: (cache: PmemReader, backingBytes: number) => void;
  /** Called before anything is written; throws for a foreign backing device. Undefined: not compared. */
  readonly guard: ((cache: PmemReader, backing: BackingDevice) => Promise<void>) | undefined;
  /** Keeps the record of the backing device in the cache: before it is opened, and when it was closed. */
  readonly record: {
    begin(cache: Pmem, backing: BackingDevice): void;
    end(cache: Pmem, backing: BackingDevice): Promise<void>;
  };
}

/** @throws PcacheError USAGE */
export function checkAttachOptions(options: AttachOptions): void {
  const refuse = (message: string) => {
    throw new PcacheError('USAGE', message);
  };
  const { socketPath, port, exec, readOnly, host, metricsHost } = options;
  if (options.listenFd !== undefined && (socketPath !== undefined || port !== undefined)) {
    refuse('the service manager passes a socket to listen on (LISTEN_FDS); leave out --socket and --port');
  }
  const { device } = options;
  if (device !== undefined) checkDeviceName(device, options.recover);
  if (options.name !== undefined) requireServedName(options.name);
  const isPlaceKnown = exec !== undefined || options.listenFd !== undefined || device !== undefined;
  if (socketPath === undefined && port === undefined && !isPlaceKnown) {
    refuse('where to listen is missing; give --socket PATH, --port N or --device auto');
  }
  if (socketPath !== undefined && port !== undefined) refuse('--socket and --port exclude one another: give one');
  // Node takes an empty address for every address of the machine.
  if (host === '') refuse('--address is empty; give an address, or 0.0.0.0 for every address of the machine');
  if (metricsHost === '') refuse('--metrics-address is empty; give an address');
  for (const [flag, path] of [
    ['--socket', socketPath],
    ['--control', options.controlPath],
    ['--pid-file', options.pidFile],
  ] as const) {
    if (path === '') refuse(`${flag} is empty; give a path`);
  }
  if (readOnly && options.drain) refuse('--drain cannot be used with --read-only: nothing is written');
  if (readOnly && options.gcPercent !== undefined) refuse('--gc-percent cannot be used with --read-only');
  if (readOnly && options.verifyReads) {
    refuse('--verify-reads cannot be used with --read-only; run "pcache fsck" first');
  }
  if (options.jobs > 1 && readOnly) refuse('--jobs cannot be used with --read-only, which one thread serves');
  if (options.jobs > 1 && options.verifyReads) {
    refuse('--verify-reads cannot be used with --jobs: leave out one of them');
  }
  if (sameDevice(options.cachePath, options.backingPath)) {
    refuse(`${options.backingPath}: is the cache device itself; give the backing device`);
  }
  const names = [socketPath, options.controlPath, options.pidFile].filter((path) => path !== undefined);
  if (new Set(names.map((path) => resolve(path))).size < names.length) {
    refuse('--socket, --control and --pid-file need different paths');
  }
}
