/**
 * Tells a service manager how the server does, as sd_notify(3) has it: READY when clients can connect, STATUS in between,
 * WATCHDOG as long as the event loop turns, STOPPING at the end. A manager that cannot be told stops nothing.
 */
import { nativeAddonIfAvailable } from '../engine/device/native.js';
import type { EngineStats } from '../engine/index.js';
import { printable } from './event-log.js';

/** What the environment of the process says of its service manager. */
export interface ServiceManager {
  /** Path of its datagram socket, or `@name` for an abstract one. */
  readonly address: string;
  /** It ends the service when it has not heard of it for this long; undefined for never. */
  readonly watchdogMs: number | undefined;
}

/** How often a drain that makes progress asks for more time, and for how much. */
const DRAIN_CHECK_MS = 5_000;
const DRAIN_EXTENSION_MS = 30_000;
/** How soon a message is sent again that the manager did not take. */
const RETRY_MS = 100;

export class ServiceNotifier {
  /** States that the manager has not taken yet, by name. */
  private readonly unsent = new Map<string, string>();
  private toldStatus = '';
  private watchdog: NodeJS.Timeout | undefined;
  private retry: NodeJS.Timeout | undefined;
  private hasFailed = false;

  /** @param tell receives why the manager cannot be told, once */
  constructor(
    private readonly manager: ServiceManager | undefined,
    private readonly tell: (text: string) => void,
  ) {}

  /** Clients can connect. From here on the watchdog is fed. */
  ready(status: string): void {
    this.toldStatus = status;
    this.send({ READY: '1', STATUS: status });
    const { watchdogMs } = this.manager ?? {};
    if (watchdogMs === undefined) return;
    this.watchdog = setInterval(() => this.send({ WATCHDOG: '1' }), Math.max(1, watchdogMs / 2));
  }

  /** A line for people; the same one is sent once. */
  status(status: string): void {
    if (status === this.toldStatus) return;
    this.toldStatus = status;
    this.send({ STATUS: status });
  }

  stopping(status: string): void {
    this.toldStatus = status;
    this.send({ STOPPING: '1', STATUS: status });
  }

  /** Waits for a drain, and asks for more time as long as it makes progress. */
  async whileDraining(stats: Pick<EngineStats, 'writebackBytes'>, drained: Promise<unknown>): Promise<void> {
    let writtenBytes = -1;
    const extend = () => {
      if (stats.writebackBytes !== writtenBytes) this.send({ EXTEND_TIMEOUT_USEC: String(DRAIN_EXTENSION_MS * 1000) });
      writtenBytes = stats.writebackBytes;
    };
    this.status('writing back');
    extend();
    const timer = setInterval(extend, DRAIN_CHECK_MS);
    await drained;
    clearInterval(timer);
  }

  close(): void {
    clearInterval(this.watchdog);
    clearTimeout(this.retry);
  }

  private send(states: Readonly<Record<string, string>>): void {
    if (this.manager === undefined || this.hasFailed) return;
    for (const [name, value] of Object.entries(states)) this.unsent.set(name, printable(value));
    this.flush();
  }

  private flush(): void {
    const { address } = this.manager!;
    const text = [...this.unsent].map(([name, value]) => `${name}=${value}\n`).join('');
    try {
      const addon = nativeAddonIfAvailable();
      if (addon === undefined) throw new Error('the native helper is missing');
      if (addon.notifyService(address, text)) {
        this.unsent.clear();
        return;
      }
    } catch (error) {
      this.hasFailed = true;
      this.tell(`the service manager at ${address} (NOTIFY_SOCKET) cannot be told: ${(error as Error).message}`);
      return;
    }
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.flush(), RETRY_MS);
  }
}
