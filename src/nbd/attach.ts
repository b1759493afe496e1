/**
 * `attach` from beginning to end: opens the devices, runs the cache, serves it, and at the end closes
 * everything in order. Whatever ends it, what was acknowledged as flushed is on the cache device.
 */
import { mkdtempSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { openBacking } from '../engine/device/backing-file.js';
import { sameDevice } from '../engine/device/lock.js';
import { bestCrc32c } from '../engine/device/native.js';
import { openPmem } from '../engine/device/open.js';
import { Cache, CacheDriver, fromSystemError, PcacheError, readMetadataOf, type CloseReport } from '../engine/index.js';
import { LogicalReader } from '../engine/inspect/logical-reader.js';
import { loadForInspection, openForInspection } from '../engine/inspect/open.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import { ControlServer, controlPathOf, type Tuned } from './control.js';
import { runCommand, type CommandEnd } from './exec.js';
import { listen, type Address } from './listen.js';
import { serveMetrics } from './metrics.js';
import { NbdServer } from './server.js';
import { StatusReporter } from './status.js';
import { CacheStore, ReadOnlyStore, type Store } from './store.js';
import { loadTls, type TlsFactory, type TlsRequest } from './tls.js';

export interface AttachOptions {
  readonly cachePath: string;
  readonly backingPath: string;
  /** Unix socket to listen on; made in a temporary folder when there is neither it nor a port, for `exec`. */
  readonly socketPath: string | undefined;
  readonly host: string;
  readonly port: number | undefined;
  readonly readOnly: boolean;
  /** Refuse a cache whose data_crc is otherwise. */
  readonly dataCrc: boolean | undefined;
  readonly gcPercent: number | undefined;
  readonly verifyReads: boolean;
  readonly tls: TlsRequest;
  /** Command to run while attached; it ends with it. */
  readonly exec: string | undefined;
  readonly pidFile: string | undefined;
  /** Control socket; beside the socket when undefined, and none when there is only a port. */
  readonly controlPath: string | undefined;
  /** TCP port on the loopback address for metrics. */
  readonly metricsPort: number | undefined;
  readonly drain: boolean;
  /** A JSON document goes to standard output, so nothing else may. */
  readonly json: boolean;
  readonly native: boolean;
}

/** What `attach` tells while it runs. */
export interface AttachObserver {
  /** Clients can connect. */
  serving(uri: string, sizeBytes: number, metricsPort: number | undefined): void;
  begins(phase: 'stop' | 'drain'): void;
  /** Write-back fails, and is tried again; said once for each reason. */
  writebackFails(reason: string): void;
  /** Asked for; `stop` ends it in order. */
  onInterrupt(stop: () => void): void;
}

export interface AttachResult {
  readonly uri: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly requests: number;
  readonly readBytes: number;
  readonly writeBytes: number;
  readonly failedRequests: number;
  readonly connections: number;
  /** What the cache holds that is not on the backing device; null when it was served read-only. */
  readonly dirty: CloseReport | null;
  /** Why write-back was failing at the end, if it was. */
  readonly writebackError: string | null;
  /** How `exec`'s command ended; null without one. */
  readonly command: CommandEnd | null;
}

interface Served {
  readonly store: Store;
  /** Absent when served read-only. */
  readonly driver: CacheDriver | undefined;
  readonly durability: string;
  closeDevices(): void;
}

/** @throws PcacheError for what keeps it from being attached, or from being closed in order. */
export async function attach(options: AttachOptions, observer: AttachObserver): Promise<AttachResult> {
  checkOptions(options);
  const tls = loadTls(options.tls);
  const stopped = new Promise<void>((resolve) => observer.onInterrupt(resolve));
  const served = options.readOnly ? openReadOnly(options) : openCache(options);
  const session = new Session(options, observer, served, tls);
  try {
    return await session.run(stopped);
  } finally {
    await session.close();
  }
}

function checkOptions(options: AttachOptions): void {
  const refuse = (message: string) => {
    throw new PcacheError('USAGE', message);
  };
  const { socketPath, port, exec, readOnly } = options;
  if (socketPath === undefined && port === undefined && exec === undefined) {
    refuse('where to listen is missing; give --socket PATH or --port N');
  }
  if (socketPath !== undefined && port !== undefined) refuse('--socket and --port exclude one another: give one');
  if (readOnly && options.drain) refuse('--drain writes; it does not go with --read-only');
  if (readOnly && options.gcPercent !== undefined) refuse('--gc-percent writes; it does not go with --read-only');
  if (readOnly && options.verifyReads) refuse('--verify-reads is not there with --read-only; run "pcache fsck" before');
  if (sameDevice(options.cachePath, options.backingPath)) {
    refuse(`${options.backingPath}: is the cache device itself; give the backing device`);
  }
}

function refuseOtherCrc(path: string, has: boolean, wanted: boolean | undefined): void {
  if (wanted === undefined || has === wanted) return;
  throw new PcacheError(
    'USAGE',
    `${path}: was formatted with data_crc ${has ? 'on' : 'off'}; give ${has ? '--data-crc' : '--no-data-crc'}, or neither`,
  );
}

function openReadOnly({ cachePath, backingPath, dataCrc, native }: AttachOptions): Served {
  const devices = openForInspection({ cachePath, backingPath, native });
  try {
    const loaded = loadForInspection(devices);
    refuseOtherCrc(cachePath, loaded.metadata.flags.dataCrc, dataCrc);
    const reader = new LogicalReader(devices.pmem, loaded, devices.backing);
    return {
      store: new ReadOnlyStore(reader),
      driver: undefined,
      durability: 'read-only',
      closeDevices: () => devices.close(),
    };
  } catch (error) {
    devices.close();
    throw error;
  }
}

function openCache(options: AttachOptions): Served {
  const { cachePath, backingPath, dataCrc, gcPercent, verifyReads } = options;
  const backing = openBacking(backingPath, { readOnly: false });
  let pmem: ReturnType<typeof openPmem> | undefined;
  const closeDevices = () => {
    pmem?.close();
    backing.close();
  };
  try {
    pmem = openPmem(cachePath);
    const { flags, problems } = readMetadataOf(pmem, KERNEL_GEOMETRY);
    if (problems.length === 0) refuseOtherCrc(cachePath, flags.dataCrc, dataCrc);
    const clock = { nowMs: () => performance.now() };
    const cache = new Cache({ pmem, backing, clock, crc: bestCrc32c(), verifyReads });
    if (gcPercent !== undefined) cache.setGcPercent(gcPercent);
    const driver = new CacheDriver(cache, clock, () => backing.giveWay());
    return { store: new CacheStore(driver, pmem), driver, durability: pmem.durability, closeDevices };
  } catch (error) {
    closeDevices();
    throw error;
  }
}

/** How often a running cache is looked at, whether its device has failed. */
const FAILURE_CHECK_MS = 500;
/** Metrics are for this machine; what carries them further is the monitoring's. */
const METRICS_HOST = '127.0.0.1';

/** The cache while it is served. */
class Session {
  private readonly server: NbdServer;
  private readonly listeners: { close(): void }[] = [];
  /** What is to be removed at the end. */
  private readonly leftovers: string[] = [];
  private isDriverClosed = false;
  /** Why write-back fails, as the observer has been told. */
  private toldReason: string | undefined;

  constructor(
    private readonly options: AttachOptions,
    private readonly observer: AttachObserver,
    private readonly served: Served,
    private readonly tls: TlsFactory | undefined,
  ) {
    this.server = new NbdServer({
      store: served.store,
      description: `pcache ${options.cachePath} over ${options.backingPath}`,
      nowMs: () => performance.now(),
      tls,
    });
  }

  async run(stopped: Promise<void>): Promise<AttachResult> {
    const { options, observer, server, served } = this;
    const address = this.address();
    const listener = await listen(address, server.accept);
    this.listeners.push(listener);
    const uri = uriOf(address, listener.port, this.tls !== undefined);
    const metricsPort = await this.openControl(address, uri);
    if (options.pidFile !== undefined) this.writePidFile(options.pidFile);
    observer.serving(uri, served.store.sizeBytes, metricsPort);
    const command = await this.untilTheEnd(address, uri, stopped);
    observer.begins('stop');
    this.closeListeners();
    await server.stop();
    const dirty = await this.closeCache();
    const { stats } = server;
    return {
      uri,
      sizeBytes: served.store.sizeBytes,
      readOnly: served.store.isReadOnly,
      requests: stats.requests,
      readBytes: stats.readBytes,
      writeBytes: stats.writeBytes,
      failedRequests: stats.failedRequests,
      connections: stats.accepted,
      dirty,
      writebackError: served.driver?.cache.writebackError?.message ?? null,
      command,
    };
  }

  private address(): Address {
    const { socketPath, host, port } = this.options;
    if (port !== undefined) return { host, port };
    if (socketPath !== undefined) return { path: resolve(socketPath) };
    const folder = mkdtempSync(join(tmpdir(), 'pcache-'));
    this.leftovers.push(folder);
    return { path: join(folder, 'socket') };
  }

  /** Opens the control socket and what else tells of the cache. @returns the port of the metrics, if any */
  private async openControl(address: Address, uri: string): Promise<number | undefined> {
    const { options, served, server } = this;
    const reporter = new StatusReporter({
      cachePath: options.cachePath,
      backingPath: options.backingPath,
      uri,
      sizeBytes: served.store.sizeBytes,
      readOnly: served.store.isReadOnly,
      stats: server.stats,
      driver: served.driver,
      durability: served.durability,
      nowMs: () => performance.now(),
    });
    const path = options.controlPath ?? ('path' in address ? controlPathOf(address.path) : undefined);
    if (path !== undefined) {
      const control = new ControlServer({
        status: () => reporter.status(),
        tune: (gcPercent) => this.tune(gcPercent),
      });
      this.listeners.push(await listen({ path: resolve(path) }, control.accept), control);
    }
    if (options.metricsPort === undefined) return undefined;
    const endpoint = await serveMetrics(METRICS_HOST, options.metricsPort, () => reporter.status());
    this.listeners.push(endpoint);
    return endpoint.port;
  }

  private tune(gcPercent: number): Tuned {
    const { driver } = this.served;
    if (driver === undefined) throw new PcacheError('NO_ACCESS', 'the cache is served read-only; nothing can be set');
    driver.cache.setGcPercent(gcPercent);
    driver.kick();
    return { gcPercent };
  }

  private closeListeners(): void {
    for (const listener of this.listeners.splice(0)) listener.close();
  }

  private writePidFile(path: string): void {
    try {
      writeFileSync(path, `${readlinkSync('/proc/self')}\n`);
    } catch (error) {
      throw fromSystemError(error, path, 'writing the process number to it');
    }
    this.leftovers.push(path);
  }

  /** Waits for the command, or where there is none for a signal. A cache device that fails ends it too. */
  private async untilTheEnd(address: Address, uri: string, stopped: Promise<void>): Promise<CommandEnd | null> {
    const { exec, json } = this.options;
    let timer: NodeJS.Timeout | undefined;
    const failed = new Promise<void>((resolve) => {
      timer = setInterval(() => {
        if (this.served.driver?.cache.failure) resolve();
        this.tellOfWriteback();
      }, FAILURE_CHECK_MS);
    });
    try {
      const ended = Promise.race([stopped, failed]);
      if (exec === undefined) {
        await ended;
        return null;
      }
      const variables = { PCACHE_URI: uri, ...('path' in address ? { PCACHE_SOCKET: address.path } : {}) };
      return await runCommand({ command: exec, variables, outputToStderr: json, stopped: ended });
    } finally {
      clearInterval(timer);
    }
  }

  private tellOfWriteback(): void {
    const reason = this.served.driver?.cache.writebackError?.message;
    if (reason !== undefined && reason !== this.toldReason) this.observer.writebackFails(reason);
    this.toldReason = reason;
  }

  private async closeCache(): Promise<CloseReport | null> {
    const { driver } = this.served;
    if (driver === undefined) return null;
    let problem: Error | undefined;
    if (this.options.drain && !driver.cache.failure) {
      this.observer.begins('drain');
      await driver.drain().catch((error: Error) => (problem = error));
    }
    this.isDriverClosed = true;
    const report = await driver.close();
    if (problem !== undefined) throw problem;
    return report;
  }

  /** Undoes whatever `run` has left. */
  async close(): Promise<void> {
    this.closeListeners();
    // After a failure: what was acknowledged goes to the log all the same, if it can.
    if (!this.isDriverClosed) await this.served.driver?.close().catch(() => {});
    for (const path of this.leftovers) rmSync(path, { recursive: true, force: true });
    this.served.closeDevices();
  }
}

function uriOf(address: Address, port: number, isTls: boolean): string {
  const scheme = isTls ? 'nbds' : 'nbd';
  if ('path' in address) return `${scheme}+unix:///?socket=${encodeURIComponent(address.path).replaceAll('%2F', '/')}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `${scheme}://${host}:${port}`;
}
