/**
 * `attach` from beginning to end. Order: the devices are opened and locked, every name and address is taken, and
 * only then is the cache opened for writing, so that an attach that fails has changed nothing. At the end
 * everything is closed in order: what was acknowledged as flushed is on the cache device, whatever ended it.
 */
import { resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { ServedDevice } from '../block-device/served-device.js';
import type { PmemReader } from '../engine/device/pmem.js';
import { PcacheError, type CloseReport } from '../engine/index.js';
import type { ServerCounters } from './activity.js';
import { checkAttachOptions, type AttachOptions } from './attach-options.js';
import { ControlServer, controlPathOf, type Tuned } from './control.js';
import { EventLog } from './event-log.js';
import { runCommand, type CommandEnd, type SignalGroup } from './exec.js';
import { listen, type Address, type BoundAddress, type Listener } from './listen.js';
import { listenForMetrics, type MetricsEndpoint } from './metrics.js';
import { transmissionFlags } from './negotiation.js';
import { pairIdentity } from './pair-identity.js';
import { PidFile } from './pid-file.js';
import type { ServedCache } from './served-cache.js';
import { openServedDevices, type Served, type ServedDevices } from './served-devices.js';
import { NbdServer } from './server.js';
import { ServedWatch } from './served-watch.js';
import { ServiceNotifier } from './service-manager.js';
import { makeSocketFolder, uriOf } from './socket-address.js';
import { StatusReporter } from './status.js';
import { loadTls, type TlsFactory } from './tls.js';

export type { AttachOptions } from './attach-options.js';

/** What `attach` reports while it runs, and what it needs of the process. */
export interface AttachObserver {
  /** Clients are served. `durability`: of stores to the cache device, or "read-only". */
  serving(served: {
    readonly uri: string;
    readonly sizeBytes: number;
    readonly durability: string;
    readonly metricsUrl: string | undefined;
    readonly devicePath: string | undefined;
  }): void;
  begins(phase: 'stop' | 'drain'): void;
  /** While it drains, every so often. @param totalBytes dirty when it began; what was overwritten is never written back */
  drains(writtenBytes: number, totalBytes: number): void;
  /** Something about a client or a device that belongs in a log. */
  tell(text: string): void;
  /** A cache that could be changed was closed in order; its devices are still locked. */
  closed(cache: PmemReader): void;
  /** `stop` ends it in order; `hurry` no longer waits for clients and the backing device. */
  onInterrupt(stop: () => void, hurry: () => void): void;
  readonly signalGroup: SignalGroup;
  /** The backing device does not answer, and threads that wait for it cannot be ended but with the process. */
  abandons(): void;
}

export interface AttachResult {
  readonly uri: string;
  /** Path of the block device that was provided; null without one. */
  readonly device: string | null;
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
  /** Why not everything was written back though that was asked for; null when it was, or was not asked for. */
  readonly drainError: string | null;
  /** How `exec`'s command ended; null without one. */
  readonly command: CommandEnd | null;
}

/** How long a hurried end waits for the backing device. */
const HURRY_MAX_MS = 5_000;
/** Maximum time for comparing the backing device with the cache. */
export const GUARD_MAX_MS = 10_000;
/** How often the observer hears of a drain. */
const DRAIN_TOLD_EVERY_MS = 250;

/** @throws PcacheError for what keeps it from being attached, or from being closed in order. */
export async function attach(options: AttachOptions, observer: AttachObserver): Promise<AttachResult> {
  checkAttachOptions(options);
  const tell = new EventLog(
    (line) => observer.tell(line),
    () => performance.now(),
  );
  const tls = loadTls(options.tls, (text) => observer.tell(text));
  const session = new Session(options, observer, tell, tls);
  try {
    return await session.run();
  } finally {
    await session.close();
  }
}

/** Everything that was taken before the cache was opened. */
interface Taken {
  readonly address: BoundAddress;
  readonly uri: string;
  readonly listener: Listener;
  readonly control: Listener | undefined;
  readonly metrics: MetricsEndpoint | undefined;
}

class Session {
  private devices: ServedDevices | undefined;
  private served: Served | undefined;
  private server: NbdServer | undefined;
  private device: ServedDevice | undefined;
  private readonly closers: (() => void)[] = [];
  private readonly notifier: ServiceNotifier;
  private isDriverClosed = false;
  /** The backing device did not answer: its memory is still in use. */
  private isAbandoned = false;
  /** The backing device is read, to be compared with the cache or recorded in it. */
  private isReadingBacking = false;
  private readonly stopped: Promise<void>;
  private readonly hurried: Promise<void>;
  private stop!: () => void;
  private isHurried = false;

  constructor(
    private readonly options: AttachOptions,
    private readonly observer: AttachObserver,
    private readonly log: EventLog,
    private readonly tls: TlsFactory | undefined,
  ) {
    this.notifier = new ServiceNotifier(options.serviceManager, (text) => observer.tell(text));
    this.stopped = new Promise((resolve) => (this.stop = resolve));
    this.hurried = new Promise((resolve) => {
      observer.onInterrupt(this.stop, () => {
        this.isHurried = true;
        resolve();
      });
    });
  }

  async run(): Promise<AttachResult> {
    const { options, observer } = this;
    this.devices = openServedDevices(options);
    await this.guardBacking(this.devices);
    const taken = await this.take();
    this.notifier.status('opening the cache');
    const tell = (kind: string, text: string) => this.log.tell(kind, text);
    const description = `pcache ${options.cachePath} over ${options.backingPath}`;
    const served = (this.served = await this.devices.open({ description, tls: this.tls, tell }));
    const { service } = served;
    const { clientsMax, handshakeMaxMs } = options;
    const server = (this.server = new NbdServer({ service, clientsMax, handshakeMaxMs, tell }));
    const reporter = this.serve(taken, served, server);
    await this.startDevice(served, server);
    observer.serving({
      uri: taken.uri,
      sizeBytes: served.sizeBytes,
      durability: served.durability,
      metricsUrl: taken.metrics?.url,
      devicePath: this.device?.path,
    });
    const watch = new ServedWatch({
      cache: served.cache,
      uri: taken.uri,
      reporter,
      stats: service.stats,
      notifier: this.notifier,
      tell: (text) => observer.tell(text),
    });
    this.notifier.ready(watch.serviceStatus());
    const command = await this.untilTheEnd(taken, watch);
    observer.begins('stop');
    this.notifier.stopping('closing');
    await this.endDevice(served);
    this.releaseNames();
    const { dirty, drainError, did } = await this.closeInOrder(served, server);
    return {
      uri: taken.uri,
      device: this.device?.path ?? null,
      sizeBytes: served.sizeBytes,
      readOnly: served.isReadOnly,
      requests: did.requests,
      readBytes: did.readBytes,
      writeBytes: did.writeBytes,
      failedRequests: did.failedRequests,
      connections: did.accepted,
      dirty,
      writebackError: served.cache?.writebackError?.message ?? null,
      drainError,
      command,
    };
  }

  /** Refuses a foreign backing device. One that does not answer is not compared: hits can be served without it. */
  private async guardBacking({ cache, backing }: ServedDevices): Promise<void> {
    const guarding = this.options.guard?.(cache, backing);
    if (guarding === undefined) return;
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<'timeout'>((resolve) => (timer = setTimeout(resolve, GUARD_MAX_MS, 'timeout')));
    const stopped = this.stopped.then(() => 'stopped' as const);
    this.isReadingBacking = true;
    const guarded = guarding.finally(() => (this.isReadingBacking = false));
    const end = await Promise.race([guarded, timeout, stopped]).finally(() => clearTimeout(timer));
    if (end === undefined) return;
    guarded.catch(() => undefined);
    if (end === 'stopped') throw new PcacheError('INTERRUPTED', `${backing.path}: not attached; nothing was changed`);
    this.observer.tell(`${backing.path}: no answer for ${GUARD_MAX_MS / 1000} s; not compared with the cache`);
  }

  /** Takes every name and address. Nothing is served yet: clients that connect wait. */
  private async take(): Promise<Taken> {
    const { options, closers } = this;
    if (options.device !== undefined) {
      const identity = pairIdentity(options.cachePath, options.backingPath);
      const { device: wanted, recover, name, jobs } = options;
      this.device = await ServedDevice.take({ wanted, recover, identity, name, jobs });
    }
    const listener = await listen(this.address());
    const { address } = listener;
    closers.push(() => listener.close());
    const isOurs = options.listenFd === undefined && 'path' in address;
    const controlPath = options.controlPath ?? (isOurs ? controlPathOf(address.path) : undefined);
    let control: Listener | undefined;
    if (controlPath !== undefined) {
      const opened = (control = await listen({ path: resolve(controlPath) }));
      closers.push(() => opened.close());
    }
    let metrics: MetricsEndpoint | undefined;
    if (options.metricsPort !== undefined) {
      const opened = (metrics = await listenForMetrics(options.metricsHost, options.metricsPort));
      closers.push(() => opened.close());
    }
    if (options.pidFile !== undefined) {
      const file = PidFile.create(resolve(options.pidFile));
      closers.push(() => file.remove());
    }
    return { address, uri: uriOf(address, this.tls !== undefined), listener, control, metrics };
  }

  private address(): Address {
    const { socketPath, host, port, listenFd } = this.options;
    if (listenFd !== undefined) return { fd: listenFd };
    if (port !== undefined) return { host, port };
    if (socketPath !== undefined) return { path: resolve(socketPath) };
    if (this.device) return { path: this.device.socketPath() };
    const folder = makeSocketFolder();
    this.closers.push(folder.remove);
    return { path: folder.socketPath };
  }

  private serve({ uri, listener, control, metrics }: Taken, served: Served, server: NbdServer): StatusReporter {
    const { options, closers } = this;
    const reporter = new StatusReporter({
      cachePath: options.cachePath,
      backingPath: options.backingPath,
      uri,
      device: this.device?.path ?? null,
      sizeBytes: served.sizeBytes,
      readOnly: served.isReadOnly,
      activity: () => served.service.activity(),
      cache: served.cache,
      durability: served.durability,
      nowMs: () => performance.now(),
    });
    if (control) {
      const controlServer = new ControlServer(
        {
          status: () => reporter.status(),
          tune: (gcPercent) => this.tune(gcPercent),
          requireDetachable: async () => this.device?.requireUnused(),
          detach: () => this.stop(),
          drain: () => this.drainNow(),
        },
        () => performance.now(),
      );
      control.serve(controlServer.accept);
      closers.push(() => controlServer.close());
    }
    metrics?.serve(() => reporter.status());
    listener.serve(server.accept);
    return reporter;
  }

  private async startDevice({ sizeBytes, isReadOnly, service }: Served, server: NbdServer): Promise<void> {
    const { device } = this;
    if (device === undefined) return;
    const started = device.start({
      sizeBytes,
      isReadOnly,
      nbdFlags: transmissionFlags(isReadOnly, false),
      accept: (socket, path) => server.acceptDevice(socket, path),
      serveQueue: (place, ended) => service.serveQueue(place, ended),
    });
    await Promise.race([started, this.hurried]);
  }

  /** Waits until nobody uses the block device, and removes it. */
  private async endDevice({ cache }: Served): Promise<void> {
    if (this.device === undefined) return;
    // Even if the process is killed while a user is waited for, acknowledged writes are in the log.
    cache?.commitSoon();
    const hurried = cache?.failure ? Promise.resolve() : this.hurried;
    await this.device.end(hurried, (text) => this.observer.tell(text));
    await this.device.close();
  }

  private tune(gcPercent: number): Tuned {
    this.runningCache('nothing can be set').setGcPercent(gcPercent);
    return { gcPercent };
  }

  /** Writes everything back while clients are served. @returns what has become dirty meanwhile */
  private async drainNow(): Promise<CloseReport> {
    const cache = this.runningCache('there is nothing to write back');
    await cache.drain();
    const { keys, bytes } = cache.dirtyInLog();
    return { dirtyKeys: keys, dirtyBytes: bytes };
  }

  private runningCache(otherwise: string): ServedCache {
    const cache = this.served?.cache;
    if (cache === undefined) throw new PcacheError('NO_ACCESS', `the cache is served read-only; ${otherwise}`);
    return cache;
  }

  /** In the order opposite to that in which they were taken. */
  private releaseNames(): void {
    for (const close of this.closers.splice(0).reverse()) close();
  }

  /** Waits for the command, or where there is none for a signal. A cache device that fails ends it too. */
  private async untilTheEnd({ address, uri }: Taken, watch: ServedWatch): Promise<CommandEnd | null> {
    const { exec, json } = this.options;
    const { signalGroup } = this.observer;
    const failed = watch.start();
    try {
      const { broken } = this.served!;
      const ends = [...(this.device ? [this.device.ended] : []), ...(broken ? [broken] : [])];
      const stopped = Promise.race([this.stopped, failed, ...ends]);
      if (exec === undefined) {
        await stopped;
        return null;
      }
      const variables = {
        PCACHE_URI: uri,
        ...('path' in address ? { PCACHE_SOCKET: address.path } : {}),
        ...(this.device ? { PCACHE_DEVICE: this.device.path } : {}),
      };
      const { hurried } = this;
      return await runCommand({ command: exec, variables, outputToStderr: json, stopped, hurried, signalGroup });
    } finally {
      watch.stop();
    }
  }

  /** Ends the clients' requests, drains if that was asked for, and closes the cache. */
  private async closeInOrder(
    { cache, service }: Served,
    server: NbdServer,
  ): Promise<{ dirty: CloseReport | null; drainError: string | null; did: ServerCounters }> {
    // Acknowledged writes go to the log first of all: from here on even a kill loses none of them.
    cache?.commitSoon();
    await Promise.race([server.stop(), this.hurried]);
    if (this.isHurried) server.destroy();
    const { server: did } = await service.activity();
    if (cache === undefined) {
      this.isAbandoned = this.isHurried; // reads may be under way
      return { dirty: null, drainError: null, did };
    }
    cache.commitSoon();
    let drainError: string | null = null;
    if (this.options.drain && !cache.failure && !this.isHurried) {
      this.observer.begins('drain');
      const totalBytes = cache.dirtyInLog().bytes;
      const writtenBefore = cache.stats.writebackBytes;
      const telling = setInterval(
        () => this.observer.drains(cache.stats.writebackBytes - writtenBefore, totalBytes),
        DRAIN_TOLD_EVERY_MS,
      );
      const drained = cache.drain().catch((error: Error) => (drainError = error.message));
      await this.notifier.whileDraining(cache.stats, Promise.race([drained, this.hurried]));
      clearInterval(telling);
    }
    if (this.options.drain && this.isHurried) drainError ??= 'ended by a second signal';
    this.isDriverClosed = true;
    const dirty = await this.closedOrAbandoned(cache.close());
    if (this.devices) {
      await this.recordBacking(this.devices);
      this.observer.closed(this.devices.cache);
    }
    if (drainError !== null && dirty.dirtyKeys === 0) drainError = null;
    return { dirty, drainError, did };
  }

  /** Records what the backing device holds, for the next attach. The cache is closed: a failure is a line, and no more. */
  private async recordBacking({ writable, backing }: ServedDevices): Promise<void> {
    if (writable === undefined || this.isHurried) return;
    const { record, cachePath } = this.options;
    this.isReadingBacking = true;
    const recorded = record
      .end(writable, backing)
      .catch((error: Error) => this.observer.tell(`not recorded in ${cachePath}: ${error.message}`))
      .finally(() => (this.isReadingBacking = false));
    await Promise.race([recorded, this.hurried]);
  }

  /** Waits for the cache to be closed; after a second signal not for long. */
  private async closedOrAbandoned(closing: Promise<CloseReport>): Promise<CloseReport> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = this.hurried.then(
      () => new Promise<undefined>((resolve) => (timer = setTimeout(() => resolve(undefined), HURRY_MAX_MS))),
    );
    const report = await Promise.race([closing, timeout]);
    clearTimeout(timer);
    if (report !== undefined) return report;
    closing.catch(() => undefined);
    this.isAbandoned = true;
    const isLost = this.served?.cache?.hasOpenKeys === true;
    throw new PcacheError(
      'IO',
      `${this.options.backingPath}: does not answer; ended without waiting for it; ` +
        (isLost
          ? 'the last acknowledged writes are lost: the log of the cache is full'
          : 'all acknowledged writes are in the cache'),
    );
  }

  /** Undoes whatever `run` has left. */
  async close(): Promise<void> {
    this.releaseNames();
    this.notifier.close();
    await this.device?.close();
    this.server?.destroy();
    // After a failure: what was acknowledged goes to the log all the same, if it can.
    if (!this.isDriverClosed) await this.served?.cache?.close().catch(() => {});
    if (this.isAbandoned || this.isReadingBacking) this.observer.abandons();
    else this.devices?.close();
  }
}
