/** What a replay found, as one plain object: the JSON of `pcache replay --json`, and what the tables show. */
import type { CacheStatus, CloseReport, EngineStats } from '../engine/index.js';
import type { TraceFootprint } from '../trace/index.js';
import type { LatencyHistogram, LatencySummary } from './latency.js';
import type { ReplayTimeline } from './timeline-recorder.js';
import type { Timeline, TimelineSample } from './timeline.js';
import type { VerifyResult } from './verifier.js';

export type LatencySummaries = Readonly<Record<'readHit' | 'readMiss' | 'write' | 'flush', LatencySummary>>;
export type PlainLatencySummaries = Readonly<Record<'read' | 'write' | 'flush', LatencySummary>>;

/** Times in ns, rates in bytes a second; docs/simulation.md says what each means. */
export interface LatencyModelResult {
  readonly pmem: {
    readonly readNs: number;
    readonly writeNs: number;
    readonly readBytesPerSecond: number;
    readonly writeBytesPerSecond: number;
  };
  readonly backing: {
    readonly readNs: number;
    readonly writeNs: number;
    readonly flushNs: number;
    readonly seekNs: number;
    readonly shortSeekNs: number;
    readonly bytesPerSecond: number;
    readonly depth: number;
  };
  /**
   * How busy the backing device was until the last request had ended, with the cache and without: 1 when all it
   * can do at once was always under way, more when it would still have been at work then. null without time.
   */
  readonly backingBusy: number | null;
  readonly backingBusyWithoutCache: number | null;
}

export interface ReplayResult {
  /** No payload was moved and no device touched: the engine ran on a model of both. */
  readonly simulated: boolean;
  /** The outcome does not depend on the speed of anything: `--lockstep`, and any simulation at full speed. */
  readonly lockstep: boolean;
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
    /** null when simulated. */
    readonly durability: string | null;
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
  /** Measured, or in a simulation at the trace's pace what the model expects; null in lockstep. */
  readonly latency: LatencySummaries | null;
  /** How the durations were spread; null where `latency` is. */
  readonly latencyHistogram: LatencyHistogram<keyof LatencySummaries> | null;
  /** What the model expects of the backing device alone; null without a model. */
  readonly latencyWithoutCache: PlainLatencySummaries | null;
  /** What the expected latencies were made with; null without a model. */
  readonly model: LatencyModelResult | null;
  /** Of the run itself, as are the two rates: in a simulation how long that took, not how fast the cache is. */
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
  /** What the backing device was asked for, until the cache was closed. */
  readonly backingRequests: {
    readonly reads: number;
    readonly readBytes: number;
    readonly writes: number;
    readonly writeBytes: number;
    readonly flushes: number;
  };
  /** The status line at the end. */
  readonly status: string;
  /** What is still to be written back; null when the cache failed. */
  readonly dirtyLeft: { readonly keys: number; readonly bytes: number } | null;
  readonly verify: VerifyResult | null;
  readonly interrupted: boolean;
  /** What happened over time, in at most 128 steps; draining and closing afterwards are not in it. */
  readonly timeline: ReplayTimeline;
}

/** Counts kept by the side that made the requests. */
export interface RunCounts {
  readonly requests: number;
  readonly readBytes: number;
  readonly writeBytes: number;
  readonly fuaWrites: number;
  readonly preflushWrites: number;
  readonly discardsSkipped: number;
  readonly discardBytesSkipped: number;
  readonly peakSegmentsUsed: number;
  readonly segmentsUsed: Timeline;
}

export interface ReplayParts extends Pick<
  ReplayResult,
  | 'simulated'
  | 'lockstep'
  | 'trace'
  | 'latency'
  | 'latencyHistogram'
  | 'latencyWithoutCache'
  | 'model'
  | 'maxLagNs'
  | 'verify'
  | 'interrupted'
  | 'timeline'
> {
  readonly devices: Pick<ReplayResult['devices'], 'cache' | 'cacheBytes' | 'durability' | 'backing' | 'backingBytes'>;
  readonly run: RunCounts;
  readonly openedStatus: CacheStatus;
  readonly status: CacheStatus;
  readonly closed: CloseReport | undefined;
  readonly elapsedMs: number;
}

/** What a result says of the trace. @param name as the user gave it */
export function describeTrace(
  name: string,
  action: string,
  footprint: Omit<TraceFootprint, 'name' | 'warnings'>,
): ReplayResult['trace'] {
  const { devices: _devices, ...counts } = footprint.counts;
  const { format, durationNs, endBytes, uniqueBytes } = footprint;
  return { name, format, action, durationNs, endBytes, uniqueBytes, counts: { ...counts } };
}

export function describeResult(parts: ReplayParts): ReplayResult {
  const { simulated, lockstep, trace, devices, run, status, latency, latencyHistogram, latencyWithoutCache } = parts;
  const { stats } = status;
  const seconds = parts.elapsedMs / 1000;
  const perSecond = (amount: number) => (seconds > 0 ? amount / seconds : 0);
  return {
    simulated,
    lockstep,
    trace,
    devices: {
      ...devices,
      segments: status.cacheSegments,
      dataCrc: (status.cacheFlags & 1) !== 0,
      gcPercent: status.gcPercent,
      mode: status.mode,
    },
    requests: describeRequests(run, stats),
    latency,
    latencyHistogram,
    latencyWithoutCache,
    model: parts.model,
    elapsedNs: Math.round(parts.elapsedMs * 1e6),
    requestsPerSecond: perSecond(run.requests),
    bytesPerSecond: perSecond(run.readBytes + run.writeBytes),
    maxLagNs: parts.maxLagNs,
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
      usedPeak: Math.max(run.peakSegmentsUsed, status.segmentsUsed),
      overTime: run.segmentsUsed.finish({ requests: run.requests, value: status.segmentsUsed }),
    },
    index: { entries: status.indexEntries, memoryBytes: status.indexMemoryBytes },
    backingRequests: {
      reads: stats.backingReads,
      readBytes: stats.backingReadBytes,
      writes: stats.writebackWrites + stats.directWrites,
      writeBytes: stats.writebackBytes + stats.directWriteBytes,
      flushes: stats.backingFlushes,
    },
    status: status.line,
    dirtyLeft: parts.closed ? { keys: parts.closed.dirtyKeys, bytes: parts.closed.dirtyBytes } : null,
    verify: parts.verify,
    interrupted: parts.interrupted,
    timeline: parts.timeline,
  };
}

function describeRequests(run: RunCounts, stats: EngineStats): ReplayResult['requests'] {
  const readHitBytes = stats.readBytes - stats.readMissBytes;
  return {
    total: run.requests,
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
    fuaWrites: run.fuaWrites,
    preflushWrites: run.preflushWrites,
    flushes: stats.flushes,
    discardsSkipped: run.discardsSkipped,
    discardBytesSkipped: run.discardBytesSkipped,
    waitedForRoom: stats.deferredRequests,
  };
}
