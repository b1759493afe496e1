/**
 * What happened over time in a replay, in bounded memory whatever its length: time is cut into at most 128 bins
 * of equal width, and when it outgrows them, pairs of bins merge and the width doubles. It is told the time and
 * does not care whether that is real or simulated; what it records it reads from the cache when a bin ends, so a
 * group costs a comparison, and each of its requests one count in the address map.
 *
 * The look at every segment costs a walk through the dirty log. Its cost is kept in proportion to the requests
 * made; where there was none in a bin the bin's levels are null.
 */
import {
  Op,
  SegmentUse,
  type Cache,
  type EngineStats,
  type RequestGroup,
  type SegmentSurvey,
} from '../engine/index.js';
import { AddressHeat, type AddressHeatMap } from './address-heat.js';
import { LatencyHistory, type LatencyKind, type LatencyTimeline } from './latency-history.js';
import { SegmentHistory, type SegmentMap } from './segment-history.js';

/** An even number. */
const BINS = 128;
const FIRST_BIN_NS = 100_000;
/** Ksets (2 µs each) that may be walked for surveys whatever the length of the replay, and requests for each more. */
const FREE_KSETS = 50_000;
const REQUESTS_PER_KSET = 100;
/** Segments that cost as much to look at as one kset. */
const SEGMENTS_PER_KSET = 512;

/** Counters of the engine of which the increase in each bin is kept. */
const COUNTED = [
  'reads',
  'readBytes',
  'readHits',
  'readMissBytes',
  'writes',
  'writeBytes',
  'flushes',
  'deferredRequests',
  'fillBytes',
  'writebackKeys',
  'writebackBytes',
  'directWriteBytes',
  'gcKeys',
  'segmentsFreed',
] as const satisfies readonly (keyof EngineStats)[];

/** What is read at the end of each bin. */
const LEVELS = ['segmentsUsed', 'dirtyBytes', 'freeSegments', 'logSegments', 'cleanSegments', 'dirtySegments'] as const;

type Counted = (typeof COUNTED)[number];
type Level = (typeof LEVELS)[number];

/** The JSON of a timeline; docs/replay-json.md describes it. Bin n covers the time from `n * binNs` on. */
export interface ReplayTimeline {
  readonly binNs: number;
  /** When the replay ended; the last bin may be shorter than the others. */
  readonly endNs: number;
  /** Increase of engine counters in each bin. */
  readonly counts: Readonly<Record<Counted, readonly number[]>>;
  /** At the end of each bin; null where nobody looked. */
  readonly levels: Readonly<Record<Level, readonly (number | null)[]>>;
  /** By the time at which requests arrived; null where latencies are not known. */
  readonly latency: LatencyTimeline | null;
  /** The most dirty bytes that a look met; overwritten versions included. */
  readonly dirtyPeakBytes: number;
  readonly segmentMap: SegmentMap;
  readonly addresses: AddressHeatMap;
}

const columns = <Name extends string>(names: readonly Name[]): Record<Name, Float64Array> =>
  Object.fromEntries(names.map((name) => [name, new Float64Array(BINS)])) as Record<Name, Float64Array>;

export class TimelineRecorder {
  private readonly counts = columns(COUNTED);
  private readonly levels = columns(LEVELS);
  private readonly last: Record<Counted, number>;
  private readonly survey: SegmentSurvey;
  private readonly segments: SegmentHistory;
  private readonly addresses = new AddressHeat();
  private readonly latency = new LatencyHistory(BINS);
  private readonly useCounts = new Float64Array(4);
  private binNs = FIRST_BIN_NS;
  private bin = 0;
  private binEndNs = FIRST_BIN_NS;
  /** What surveys have cost so far, in ksets, and what the last one did. */
  private walkedKsets = 0;
  private surveyKsets = 0;
  private dirtyPeakBytes = 0;

  /** @param cache one that no request was made to yet. */
  constructor(private readonly cache: Cache) {
    this.last = Object.fromEntries(COUNTED.map((name) => [name, cache.stats[name]])) as Record<Counted, number>;
    this.survey = cache.makeSurvey();
    this.segments = new SegmentHistory(this.survey, BINS);
    for (const level of Object.values(this.levels)) level.fill(NaN);
  }

  /**
   * Takes note of a group of requests that is about to be submitted.
   * @param nowNs since the replay began; never decreases.
   * @param traceNs since the trace began.
   */
  submits(nowNs: number, group: RequestGroup, traceNs: number): void {
    if (nowNs >= this.binEndNs) this.advance(nowNs);
    for (let i = 0; i < group.count; i++) {
      if (group.op[i] !== Op.flush) this.addresses.count(traceNs, group.op[i] === Op.write, group.offsetBytes[i]);
    }
  }

  /** Time goes on without requests; to be told now and then, or background work counts for a time too early. */
  passes(nowNs: number): void {
    if (nowNs >= this.binEndNs) this.advance(nowNs);
  }

  /**
   * Takes note of the latency of a request.
   * @param arrivedNs since the replay began; not later than the last time of `submits` or `passes`
   */
  ended(arrivedNs: number, kind: LatencyKind, tookMs: number): void {
    this.latency.record(Math.min(this.bin, Math.floor(arrivedNs / this.binNs)), kind, tookMs);
  }

  private advance(nowNs: number): void {
    this.endBin();
    while (nowNs >= this.binNs * BINS) this.mergePairs();
    const bin = Math.floor(nowNs / this.binNs);
    for (let idle = this.bin + 1; idle < bin; idle++) this.look(idle);
    this.bin = bin;
    this.binEndNs = (bin + 1) * this.binNs;
  }

  private endBin(): void {
    const { stats } = this.cache;
    for (const name of COUNTED) {
      this.counts[name][this.bin] = stats[name] - this.last[name];
      this.last[name] = stats[name];
    }
    this.look(this.bin);
  }

  /** Records the levels as those of `bin`. */
  private look(bin: number): void {
    const { cache, levels, survey, useCounts } = this;
    levels.segmentsUsed[bin] = cache.segmentsUsed;
    if (!this.canAffordSurvey()) return;
    survey.take();
    this.surveyKsets = survey.ksets + survey.use.length / SEGMENTS_PER_KSET;
    this.walkedKsets += this.surveyKsets;
    useCounts.fill(0);
    for (let segment = 0; segment < survey.use.length; segment++) useCounts[survey.use[segment]]++;
    levels.dirtyBytes[bin] = survey.dirtyBytes;
    levels.freeSegments[bin] = useCounts[SegmentUse.free];
    levels.logSegments[bin] = useCounts[SegmentUse.log];
    levels.cleanSegments[bin] = useCounts[SegmentUse.clean];
    levels.dirtySegments[bin] = useCounts[SegmentUse.dirty];
    this.dirtyPeakBytes = Math.max(this.dirtyPeakBytes, survey.dirtyBytes);
    this.segments.record(bin);
  }

  private canAffordSurvey(): boolean {
    if (this.cache.failure) return false;
    const { reads, writes, flushes } = this.cache.stats;
    const budget = FREE_KSETS + (reads + writes + flushes) / REQUESTS_PER_KSET;
    return this.walkedKsets + this.surveyKsets <= budget;
  }

  private mergePairs(): void {
    for (const column of Object.values(this.counts)) {
      for (let n = 0; n < BINS / 2; n++) column[n] = column[2 * n] + column[2 * n + 1];
      column.fill(0, BINS / 2);
    }
    for (const column of Object.values(this.levels)) {
      for (let n = 0; n < BINS / 2; n++) {
        column[n] = Number.isNaN(column[2 * n + 1]) ? column[2 * n] : column[2 * n + 1];
      }
      column.fill(NaN, BINS / 2);
    }
    this.segments.mergePairs();
    this.latency.mergePairs();
    this.bin >>>= 1;
    this.binNs *= 2;
  }

  /** Ends the last bin, and gives everything. @param nowNs when the replay ended. */
  finish(nowNs: number): ReplayTimeline {
    this.passes(nowNs);
    this.endBin();
    const bins = this.bin + 1;
    const plain = <Name extends string, Value>(
      from: Record<Name, Float64Array>,
      value: (number: number) => Value,
    ): Record<Name, Value[]> =>
      Object.fromEntries(
        Object.entries<Float64Array>(from).map(([name, column]) => [name, Array.from(column.subarray(0, bins), value)]),
      ) as Record<Name, Value[]>;
    return {
      binNs: this.binNs,
      endNs: nowNs,
      counts: plain(this.counts, (number) => number),
      levels: plain(this.levels, (number) => (Number.isNaN(number) ? null : number)),
      latency: this.latency.finish(bins),
      dirtyPeakBytes: this.dirtyPeakBytes,
      segmentMap: this.segments.finish(bins),
      addresses: this.addresses.finish(),
    };
  }
}
