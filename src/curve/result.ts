/** What `--sizes` and `--curve` find, as one plain object: the JSON of the command (docs/curve.md), and what is shown. */
import type { LatencySummaries, PlainLatencySummaries, ReplayResult } from '../replay/replay-result.js';
import type { LatencyModel } from '../simulate/index.js';
import type { LruCurve } from './lru-curve.js';
import type { PolicyCurve } from './policy-counter.js';
import { dataBytesOf } from './sizes.js';
import type { WorkingSet } from './working-set.js';

/** What a cache of one size did with the trace. Ratios are 0 to 1, null where there was nothing. */
export interface CurvePoint {
  /** Size of the cache device. */
  readonly cacheBytes: number;
  readonly segments: number;
  /** Of it, what payload and log may use: the size of LRU that it is compared with. */
  readonly dataBytes: number;
  /** Of reads. */
  readonly hitRatioByRequests: number | null;
  readonly hitRatioByBytes: number | null;
  readonly missRatioByRequests: number | null;
  readonly missRatioByBytes: number | null;
  readonly readHits: number;
  readonly readHitBytes: number;
  /** Written to the backing device, all that was dirty at the end included. */
  readonly backingWriteBytes: number;
  /** That, for each byte of the writes. */
  readonly writeAmplification: number | null;
  /** The most that was dirty whenever it was looked, which is some hundred times over the trace. */
  readonly dirtyPeakBytes: number;
  readonly gcSegmentsFreed: number;
  readonly segmentsPeak: number;
  /** Requests that had to wait for a free segment. */
  readonly waitedForRoom: number;
  /** Nothing was ever dropped to make room: more could not hit more. */
  readonly holdsAll: boolean;
  /** What the model of the devices expects; null without one. */
  readonly latency: LatencySummaries | null;
  /** How busy the backing device was, 1 when always; null without a model. */
  readonly backingBusy: number | null;
  readonly elapsedNs: number;
}

/** What a model of the devices expects of the backing device alone. */
export interface WithoutCache {
  readonly model: LatencyModel;
  readonly latency: PlainLatencySummaries;
  readonly backingBusy: number | null;
}

export interface CurveResult {
  readonly trace: ReplayResult['trace'] & { readonly loops: number };
  readonly cache: { readonly mode: string; readonly dataCrc: boolean; readonly gcPercent: number };
  /** What was replayed, the same at every size. */
  readonly requests: {
    readonly total: number;
    readonly reads: number;
    readonly readBytes: number;
    readonly writes: number;
    readonly writeBytes: number;
    readonly flushes: number;
    readonly discardsSkipped: number;
  } | null;
  readonly threads: number;
  readonly elapsedNs: number;
  /** By rising size; those that an interrupt kept from their end are missing. */
  readonly curve: readonly CurvePoint[];
  readonly lru: LruCurve | null;
  /** Those asked for. */
  readonly policies: readonly PolicyCurve[];
  readonly answers: SizingAnswers;
  /** null without a model, and when interrupted before any size was done. */
  readonly withoutCache: WithoutCache | null;
  readonly interrupted: boolean;
}

export function describePoint(result: ReplayResult): CurvePoint {
  const { requests, devices, writeback, gc, segments } = result;
  const { hitRatioByRequests, hitRatioByBytes, writeBytes } = requests;
  const backingWriteBytes = writeback.bytes + requests.directWriteBytes;
  return {
    cacheBytes: devices.cacheBytes,
    segments: devices.segments,
    dataBytes: dataBytesOf(devices.cacheBytes),
    hitRatioByRequests,
    hitRatioByBytes,
    missRatioByRequests: hitRatioByRequests === null ? null : 1 - hitRatioByRequests,
    missRatioByBytes: hitRatioByBytes === null ? null : 1 - hitRatioByBytes,
    readHits: requests.readHits,
    readHitBytes: requests.readHitBytes,
    backingWriteBytes,
    writeAmplification: writeBytes === 0 ? null : backingWriteBytes / writeBytes,
    dirtyPeakBytes: result.timeline.dirtyPeakBytes,
    gcSegmentsFreed: gc.segmentsFreed,
    segmentsPeak: segments.usedPeak,
    waitedForRoom: requests.waitedForRoom,
    // One segment is kept back for the log: with all others in use a fill may have found no room.
    holdsAll: gc.segmentsFreed === 0 && requests.waitedForRoom === 0 && segments.usedPeak < devices.segments - 1,
    latency: result.latency,
    backingBusy: result.model?.backingBusy ?? null,
    elapsedNs: result.elapsedNs,
  };
}

export function describeWithoutCache({ model, latencyWithoutCache }: ReplayResult): WithoutCache | null {
  if (model === null || latencyWithoutCache === null) return null;
  const { pmem, backing, backingBusyWithoutCache: backingBusy } = model;
  return { model: { pmem, backing }, latency: latencyWithoutCache, backingBusy };
}

export function describeRequests({ requests }: ReplayResult): CurveResult['requests'] {
  const { total, reads, readBytes, writes, writeBytes, flushes, discardsSkipped } = requests;
  return { total, reads, readBytes, writes, writeBytes, flushes, discardsSkipped };
}

/** Which size nearly reaches the best hit ratio, what no size hits, and how much is in use at a time. */
export interface SizingAnswers {
  /** The smallest of the sizes within two points of the best hit ratio of reads by bytes; null without reads. */
  readonly nearlyBest: {
    readonly cacheBytes: number;
    readonly hitRatioByBytes: number;
    /** Written to the backing device at that size, and for each byte of the trace's writes. */
    readonly backingWriteBytes: number;
    readonly writeAmplification: number | null;
    readonly bestHitRatioByBytes: number;
  } | null;
  /**
   * Share of the bytes read that no read or write touched before: what a cache of any size misses. Null without reads, and
   * where the LRU curve does not reach to the footprint.
   */
  readonly coldMissRatioByBytes: number | null;
  /** Blocks touched in each hour, or shorter interval; null when interrupted before it was counted. */
  readonly workingSet: WorkingSet | null;
}
