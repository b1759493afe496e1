/** What a replay found, as one plain object: the JSON of `pcache replay --json`, and what the tables show. */
import type { CacheStatus, CloseReport, EngineStats } from '../engine/index.js';
import type { TraceFootprint } from '../trace/index.js';
import type { ReplayDevices } from './devices.js';
import type { LatencySummary } from './latency.js';
import type { ReplayOptions } from './replay.js';
import type { Runner } from './runner.js';
import type { TimelineSample } from './timeline.js';
import type { VerifyResult } from './verifier.js';

export interface ReplayResult {
  readonly trace: {
    readonly name: string;
    readonly format: string;
    readonly action: string;
    readonly durationNs: number;
    readonly endBytes: number;
    readonly uniqueBytes: number | undefined;
    /** What the reader met, in the whole trace. */
    readonly counts: Record<string, number>;
  };
  readonly devices: {
    readonly cache: string;
    readonly cacheBytes: number;
    readonly segments: number;
    readonly durability: string;
    readonly dataCrc: boolean;
    readonly gcPercent: number;
    readonly mode: string;
    readonly backing: string;
    readonly backingBytes: number;
  };
  readonly requests: {
    readonly total: number;
    readonly reads: number;
    readonly readBytes: number;
    readonly readHits: number;
    readonly readHitBytes: number;
    /** Of reads, 0 to 1; null without any. */
    readonly hitRatioByRequests: number | null;
    readonly hitRatioByBytes: number | null;
    readonly writes: number;
    readonly writeBytes: number;
    /** Parts of writes that went past the cache (writearound), and their bytes. */
    readonly directWrites: number;
    readonly directWriteBytes: number;
    readonly fuaWrites: number;
    readonly preflushWrites: number;
    readonly flushes: number;
    readonly discardsSkipped: number;
    readonly discardBytesSkipped: number;
    /** Requests that had to wait for a free segment. */
    readonly waitedForRoom: number;
  };
  readonly latency: Readonly<Record<'readHit' | 'readMiss' | 'write' | 'flush', LatencySummary>>;
  readonly elapsedNs: number;
  readonly requestsPerSecond: number;
  readonly bytesPerSecond: number;
  /** How late a paced request was at worst; null at full speed. */
  readonly maxLagNs: number | null;
  readonly fill: { readonly keys: number; readonly bytes: number; readonly dropped: number };
  readonly writeback: {
    readonly ksets: number;
    readonly keys: number;
    readonly writes: number;
    readonly bytes: number;
    readonly flushes: number;
    readonly failures: number;
  };
  readonly gc: { readonly ksets: number; readonly keys: number; readonly segmentsFreed: number };
  readonly segments: {
    readonly total: number;
    readonly usedAtStart: number;
    readonly usedAtEnd: number;
    readonly usedPeak: number;
    readonly overTime: readonly TimelineSample[];
  };
  readonly index: { readonly entries: number; readonly memoryBytes: number };
  /** The status line at the end. */
  readonly status: string;
  /** What is still to be written back; null when the cache failed. */
  readonly dirtyLeft: { readonly keys: number; readonly bytes: number } | null;
  readonly verify: VerifyResult | null;
  readonly interrupted: boolean;
}

export interface ReplayParts {
  readonly options: ReplayOptions;
  readonly footprint: TraceFootprint;
  readonly devices: ReplayDevices;
  readonly runner: Runner;
  readonly openedStatus: CacheStatus;
  readonly status: CacheStatus;
  readonly closed: CloseReport | undefined;
  readonly elapsedMs: number;
  readonly verify: VerifyResult | undefined;
}

export function describeResult(parts: ReplayParts): ReplayResult {
  const { footprint, devices, runner, status, options } = parts;
  const { stats } = status;
  const seconds = parts.elapsedMs / 1000;
  const perSecond = (amount: number) => (seconds > 0 ? amount / seconds : 0);
  const { devices: _devices, ...counts } = footprint.counts;
  return {
    trace: {
      name: options.trace,
      format: footprint.format,
      action: options.action,
      durationNs: footprint.durationNs,
      endBytes: footprint.endBytes,
      uniqueBytes: footprint.uniqueBytes,
      counts: { ...counts },
    },
    devices: {
      cache: devices.cacheName,
      cacheBytes: devices.pmem.sizeBytes,
      segments: status.cacheSegments,
      durability: devices.pmem.durability,
      dataCrc: (status.cacheFlags & 1) !== 0,
      gcPercent: status.gcPercent,
      mode: status.mode,
      backing: devices.backingName,
      backingBytes: devices.backing.sizeBytes,
    },
    requests: describeRequests(runner, stats),
    latency: {
      readHit: runner.latency.readHit.summary(),
      readMiss: runner.latency.readMiss.summary(),
      write: runner.latency.write.summary(),
      flush: runner.latency.flush.summary(),
    },
    elapsedNs: Math.round(parts.elapsedMs * 1e6),
    requestsPerSecond: perSecond(runner.requests),
    bytesPerSecond: perSecond(runner.readBytes + runner.writeBytes),
    maxLagNs: options.speed === Infinity ? null : Math.round(runner.maxLagMs * 1e6),
    fill: { keys: stats.fills, bytes: stats.fillBytes, dropped: stats.fillsDropped },
    writeback: {
      ksets: stats.writebackKsets,
      keys: stats.writebackKeys,
      writes: stats.writebackWrites,
      bytes: stats.writebackBytes,
      flushes: stats.backingFlushes,
      failures: stats.writebackFailures,
    },
    gc: { ksets: stats.gcKsets, keys: stats.gcKeys, segmentsFreed: stats.segmentsFreed },
    segments: {
      total: status.cacheSegments,
      usedAtStart: parts.openedStatus.segmentsUsed,
      usedAtEnd: status.segmentsUsed,
      usedPeak: Math.max(runner.peakSegmentsUsed, status.segmentsUsed),
      overTime: runner.segmentsUsed.finish({ requests: runner.requests, value: status.segmentsUsed }),
    },
    index: { entries: status.indexEntries, memoryBytes: status.indexMemoryBytes },
    status: status.line,
    dirtyLeft: parts.closed ? { keys: parts.closed.dirtyKeys, bytes: parts.closed.dirtyBytes } : null,
    verify: parts.verify ?? null,
    interrupted: runner.isStopped,
  };
}

function describeRequests(runner: Runner, stats: EngineStats): ReplayResult['requests'] {
  const readHitBytes = stats.readBytes - stats.readMissBytes;
  return {
    total: runner.requests,
    reads: stats.reads,
    readBytes: stats.readBytes,
    readHits: stats.readHits,
    readHitBytes,
    hitRatioByRequests: stats.reads === 0 ? null : stats.readHits / stats.reads,
    hitRatioByBytes: stats.readBytes === 0 ? null : readHitBytes / stats.readBytes,
    writes: stats.writes,
    writeBytes: stats.writeBytes,
    directWrites: stats.directWrites,
    directWriteBytes: stats.directWriteBytes,
    fuaWrites: runner.fuaWrites,
    preflushWrites: runner.preflushWrites,
    flushes: stats.flushes,
    discardsSkipped: runner.discardsSkipped,
    discardBytesSkipped: runner.discardBytesSkipped,
    waitedForRoom: stats.deferredRequests,
  };
}
