/** How an attached cache stands, as the control socket and the metrics give it: plain data, made when asked for. */
import { DirtyAge } from './dirty-age.js';
import type { Position } from '../engine/media/codecs.js';
import type { CacheDriver, EngineStats } from '../engine/index.js';
import type { HistogramSnapshot } from './histogram.js';
import { KIND_NAMES, type ServerStats } from './stats.js';
import type { WritePacer } from './write-pacer.js';

export type ServerCounters = Omit<ServerStats, 'latency' | 'countLong'>;
export type LatencyKind = (typeof KIND_NAMES)[number];

export interface CacheState {
  /** The kernel's status line. */
  readonly line: string;
  readonly mode: string;
  readonly durability: string;
  readonly segments: number;
  readonly segmentsUsed: number;
  readonly gcPercent: number;
  readonly keyHead: Position;
  readonly dirtyTail: Position;
  readonly keyTail: Position;
  /** In the log and not on the backing device, older versions included; as of `dirtyAgeMs` ago. */
  readonly dirtyKeys: number;
  readonly dirtyBytes: number;
  readonly dirtyAgeMs: number;
  /** Age of the oldest data that is not on the backing device, to within half a second; null when there is none. */
  readonly oldestDirtyMs: number | null;
  /** Keys are in open ksets that are not in the log yet. */
  readonly openKeys: boolean;
  readonly waitingRequests: number;
  readonly pendingBackingReads: number;
  readonly indexEntries: number;
  readonly indexMemoryBytes: number;
  readonly writebackError: string | null;
  readonly failure: string | null;
  readonly engine: EngineStats;
}

export interface PacingState {
  readonly slowed: boolean;
  /** What writers get; null when they are not slowed. */
  readonly bytesPerSecond: number | null;
  readonly heldReplies: number;
  readonly slowedMs: number;
}

export interface AttachStatus {
  readonly path: string;
  readonly backing: string;
  readonly uri: string;
  /** Path of the block device on this machine; null without one. */
  readonly device: string | null;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** Since clients could connect. */
  readonly uptimeMs: number;
  readonly server: ServerCounters;
  readonly latency: Readonly<Record<LatencyKind, HistogramSnapshot>>;
  /** Sum of the latencies, ns. */
  readonly latencySumNs: Readonly<Record<LatencyKind, number>>;
  /** Whether writes are slowed because the cache is nearly full. */
  readonly pacing: PacingState;
  /** Null when served read-only: then no cache runs. */
  readonly cache: CacheState | null;
}

export interface StatusSource {
  readonly cachePath: string;
  readonly backingPath: string;
  readonly uri: string;
  readonly device: string | null;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly stats: ServerStats;
  readonly pacer: WritePacer;
  readonly driver: CacheDriver | undefined;
  readonly durability: string;
  readonly nowMs: () => number;
}

/** Counting what is dirty reads the log: it may take this part of the time. */
const COUNTING_SHARE = 0.02;

export class StatusReporter {
  private readonly startedMs: number;
  private dirty = { keys: 0, bytes: 0 };
  private countedMs = -Infinity;
  private countTookMs = 0;
  private readonly dirtyAge: DirtyAge;

  constructor(private readonly source: StatusSource) {
    this.startedMs = source.nowMs();
    this.dirtyAge = new DirtyAge(this.startedMs);
  }

  status(): AttachStatus {
    const { cachePath, backingPath, uri, device, sizeBytes, readOnly, stats, nowMs } = this.source;
    const { latency, ...server } = stats;
    const snapshots = KIND_NAMES.map((name, kind) => [name, latency[kind].snapshot()] as const);
    return {
      path: cachePath,
      backing: backingPath,
      uri,
      device,
      sizeBytes,
      readOnly,
      uptimeMs: Math.round(nowMs() - this.startedMs),
      server,
      pacing: this.pacingState(),
      latency: Object.fromEntries(snapshots) as Record<LatencyKind, HistogramSnapshot>,
      latencySumNs: Object.fromEntries(KIND_NAMES.map((name, kind) => [name, latency[kind].sumNs])) as Record<
        LatencyKind,
        number
      >,
      cache: this.cacheState(),
    };
  }

  private pacingState(): PacingState {
    const { isSlowed, rate, heldReplies, slowedMs } = this.source.pacer;
    return {
      slowed: isSlowed,
      bytesPerSecond: isSlowed ? Math.round(rate * 1000) : null,
      heldReplies,
      slowedMs: Math.round(slowedMs),
    };
  }

  private cacheState(): CacheState | null {
    const { driver, durability, nowMs } = this.source;
    if (driver === undefined) return null;
    const { cache } = driver;
    this.countDirty();
    const status = cache.status();
    return {
      line: status.line,
      mode: status.mode,
      durability,
      segments: status.cacheSegments,
      segmentsUsed: status.segmentsUsed,
      gcPercent: status.gcPercent,
      keyHead: status.keyHead,
      dirtyTail: status.dirtyTail,
      keyTail: status.keyTail,
      dirtyKeys: this.dirty.keys,
      dirtyBytes: this.dirty.bytes,
      dirtyAgeMs: Math.round(nowMs() - this.countedMs),
      oldestDirtyMs: this.oldestDirtyMs(),
      openKeys: status.openKeys,
      waitingRequests: status.waitingRequests,
      pendingBackingReads: status.pendingBackingReads,
      indexEntries: status.indexEntries,
      indexMemoryBytes: status.indexMemoryBytes,
      writebackError: status.writebackError?.message ?? null,
      failure: cache.failure?.message ?? null,
      engine: { ...status.stats },
    };
  }

  /** To be called a few times a second: notes what has become dirty. */
  look(): void {
    const { driver, nowMs } = this.source;
    if (driver) this.dirtyAge.look(driver.cache.dirtyKsets, nowMs());
  }

  private oldestDirtyMs(): number | null {
    const { driver, nowMs } = this.source;
    const ageMs = this.dirtyAge.ageMs(driver!.cache.dirtyKsets, nowMs());
    return ageMs === null ? null : Math.round(ageMs);
  }

  private countDirty(): void {
    const { driver, nowMs } = this.source;
    const { cache } = driver!;
    const now = nowMs();
    if (cache.failure || now - this.countedMs < this.countTookMs / COUNTING_SHARE) return;
    this.dirty = cache.dirtyInLog();
    this.countedMs = nowMs();
    this.countTookMs = this.countedMs - now;
  }
}
