/** What is said while a cache is served: write-back that fails, reads that were mended, a line for the service manager. */
import type { ServedCache } from './served-cache.js';
import type { ServiceNotifier } from './service-manager.js';
import type { ServerStats } from './stats.js';
import type { StatusReporter } from './status.js';

/** How often a running cache is looked at. */
const LOOK_EVERY_MS = 500;
/** How often the service manager gets a new line of status. */
const SERVICE_STATUS_MS = 10_000;

export interface WatchedParts {
  /** Undefined for a cache that is served read-only. */
  readonly cache: ServedCache | undefined;
  readonly uri: string;
  readonly reporter: StatusReporter;
  readonly stats: ServerStats;
  readonly notifier: ServiceNotifier;
  readonly tell: (text: string) => void;
}

export class ServedWatch {
  private timer: NodeJS.Timeout | undefined;
  private statusMs = performance.now();
  /** Why write-back fails, as it was told. */
  private toldReason: string | undefined;
  /** Reads that were mended, as it was told. */
  private toldMended = 0;

  constructor(private readonly parts: WatchedParts) {}

  /** @returns resolves when the cache device has failed */
  start(): Promise<void> {
    return new Promise((resolve) => {
      this.timer = setInterval(() => {
        if (this.parts.cache?.failure) resolve();
        this.look();
      }, LOOK_EVERY_MS);
    });
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /** One line for the service manager. */
  serviceStatus(): string {
    const { uri, stats } = this.parts;
    const failing = this.toldReason === undefined ? '' : `; write-back fails: ${this.toldReason}`;
    return `serving at ${uri}, clients: ${stats.connections}${failing}`;
  }

  private look(): void {
    const { notifier, reporter } = this.parts;
    this.tellOfWriteback();
    this.tellOfMending();
    reporter.look();
    if (performance.now() - this.statusMs < SERVICE_STATUS_MS) return;
    this.statusMs = performance.now();
    notifier.status(this.serviceStatus());
  }

  private tellOfMending(): void {
    const mended = this.parts.cache?.stats.readPayloadsMended ?? 0;
    if (mended === this.toldMended) return;
    const reads = mended - this.toldMended === 1 ? '1 read' : `${mended - this.toldMended} reads`;
    this.parts.tell(`cached data of ${reads} did not match its CRC, and was mended from the backing device`);
    this.toldMended = mended;
  }

  private tellOfWriteback(): void {
    const reason = this.parts.cache?.writebackError?.message;
    if (reason !== undefined && reason !== this.toldReason) {
      this.parts.tell(`write-back failed and will be retried: ${reason}`);
    }
    this.toldReason = reason;
  }
}
