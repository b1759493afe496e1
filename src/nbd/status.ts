/** How an attached cache stands, as the control socket and the metrics give it: plain data, made when asked for. */
import type { Activity } from './activity.js';
import { DirtyAge } from './dirty-age.js';
import type { Position } from '../engine/media/codecs.js';
import type { EngineStats } from '../engine/index.js';
import type { ServedCache } from './served-cache.js';

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

export interface AttachStatus extends Activity {
  readonly path: string;
  readonly backing: string;
  readonly uri: string;
  /** Path of the block device on this machine; null without one. */
  readonly device: string | null;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** Since clients could connect. */
  readonly uptimeMs: number;
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
  readonly activity: () => Promise<Activity>;
  /** Undefined for a cache that is served read-only. */
  readonly cache: ServedCache | undefined;
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

  async status(): Promise<AttachStatus> {
    const { cachePath, backingPath, uri, device, sizeBytes, readOnly, nowMs } = this.source;
    const { server, latency, latencySumNs, pacing } = await this.source.activity();
    return {
      path: cachePath,
      backing: backingPath,
      uri,
      device,
      sizeBytes,
      readOnly,
      uptimeMs: Math.round(nowMs() - this.startedMs),
      server,
      pacing,
      latency,
      latencySumNs,
      cache: await this.cacheState(),
    };
  }

  private async cacheState(): Promise<CacheState | null> {
    const { cache, durability, nowMs } = this.source;
    if (cache === undefined) return null;
    const status = await cache.status();
    this.countDirty(cache);
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
      oldestDirtyMs: this.oldestDirtyMs(cache),
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
    const { cache, nowMs } = this.source;
    if (cache) this.dirtyAge.look(cache.dirtyKsets, nowMs());
  }

  private oldestDirtyMs(cache: ServedCache): number | null {
    const ageMs = this.dirtyAge.ageMs(cache.dirtyKsets, this.source.nowMs());
    return ageMs === null ? null : Math.round(ageMs);
  }

  private countDirty(cache: ServedCache): void {
    const { nowMs } = this.source;
    const now = nowMs();
    if (cache.failure || now - this.countedMs < this.countTookMs / COUNTING_SHARE) return;
    this.dirty = cache.dirtyInLog();
    this.countedMs = nowMs();
    this.countTookMs = this.countedMs - now;
  }
}
