/**
 * Walks the log (format §2) and checks every kset and key in it, and the payload they point to. Bounded: it
 * stops where a LAST kset leads back into what it has walked already.
 */
import type { Position } from '../engine/media/codecs.js';
import { KeyFields, KSET_FLAG_LAST, type KsetView } from '../engine/media/kset.js';
import type { LogEndReason, LogWalker } from '../engine/media/log-walker.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';
import { positionText } from '../engine/media/position-text.js';
import { findSupersededKeys } from './superseded-keys.js';
import { checkKey } from './keys.js';
import { StaleKeys } from './stale-keys.js';
import { findOverlaps, MAX_OVERLAPS, type PayloadRange } from './overlaps.js';
import { PayloadCheck } from './payload-check.js';
import { LastClaim, PayloadMap } from './payload-map.js';
import { walkFrom } from './walk-from.js';

/** The part of a segment that the log takes. */
export interface LogExtent {
  readonly startBytes: number;
  endBytes: number;
  /** Place of the LAST kset that leads there; undefined for the segment where the log starts. */
  readonly enteredFrom: string | undefined;
}

export interface LogFacts {
  readonly end: Position;
  /** Undefined when the log runs in a circle. */
  readonly endReason: LogEndReason | undefined;
  /** Segments of the log, by logical id. */
  readonly extents: ReadonlyMap<number, LogExtent>;
  readonly ksetCount: number;
  readonly passedDirtyTail: boolean;
  /** Keys whose payload lies in segments that the chain does not come to: the device was cut. */
  readonly keysBeyond: number;
  /** What the current keys claim. */
  readonly payload: PayloadMap;
}

export interface LogCheckOptions {
  readonly start: Position;
  readonly dirtyTail: Position | undefined;
  /** Segments the cache should have; the chain may be known for fewer. */
  readonly segmentCount: number;
  /** Whether to check payload against its CRC. */
  readonly checkPayload: boolean;
  readonly onProgress: () => void;
}

export function checkLog(context: CheckContext, chain: CheckedChain, options: LogCheckOptions): LogFacts {
  return new LogCheck(context, chain, options).run();
}

class LogCheck {
  private readonly walker: LogWalker;
  private readonly extents = new Map<number, LogExtent>();
  private readonly payload: PayloadMap;
  private readonly payloadCheck: PayloadCheck | undefined;
  private overlaps: PayloadRange[] = [];
  private readonly lastClaim = new LastClaim();
  /** The key that is looked at. */
  private readonly key = new KeyFields();
  /** How many current keys point into each segment. */
  private readonly references: Uint32Array;
  private readonly staleKeys: StaleKeys;
  private ksetCount = 0;
  private keysBeyond = 0;
  /** The walk has passed dirty_tail. */
  private isDirtyHere = false;
  private readonly place = (): string => positionText(this.walker);

  constructor(
    private readonly context: CheckContext,
    private readonly chain: CheckedChain,
    private readonly options: LogCheckOptions,
  ) {
    this.walker = walkFrom(context, chain, options.start);
    this.payload = new PayloadMap(context.geometry, context.payloadMapBytes);
    this.payloadCheck = options.checkPayload ? new PayloadCheck(context, chain) : undefined;
    this.references = new Uint32Array(chain.length);
    this.staleKeys = new StaleKeys(context, chain);
  }

  run(): LogFacts {
    try {
      return this.walk();
    } finally {
      this.payloadCheck?.abandon(); // after an interrupt, or a device that fails
    }
  }

  private walk(): LogFacts {
    const { walker, options } = this;
    const { start, dirtyTail } = options;
    this.extents.set(start.segment, {
      startBytes: start.offsetBytes,
      endBytes: start.offsetBytes,
      enteredFrom: undefined,
    });
    let loops = false;
    while (!loops && walker.next()) {
      if (dirtyTail !== undefined && walker.isAt(dirtyTail)) this.isDirtyHere = true;
      loops = !this.checkKset(walker.kset);
      options.onProgress();
    }
    if (!loops) {
      if (dirtyTail !== undefined && walker.isAt(dirtyTail)) this.isDirtyHere = true;
      this.reportRefusedEnd();
    }
    this.payloadCheck?.finish();
    this.checkDoubleUse();
    this.claimDeferred();
    findOverlaps(this.context, this.chain, options.start, options.segmentCount, this.overlaps);
    if (this.context.examined.staleKeys > 0 && this.isDirtyHere) {
      this.staleKeys.report(this.references, this.extents);
      findSupersededKeys(this.context, this.chain, options.start, options.dirtyTail!);
    }
    return {
      end: walker.position,
      endReason: loops ? undefined : walker.endReason,
      extents: this.extents,
      ksetCount: this.ksetCount,
      passedDirtyTail: this.isDirtyHere,
      keysBeyond: this.keysBeyond,
      payload: this.payload,
    };
  }

  /** @returns false when the kset leads back into the log. */
  private checkKset(kset: KsetView): boolean {
    const { walker } = this;
    const { examined, findings } = this.context;
    examined.ksets++;
    examined.logBytes += kset.lengthBytes;
    this.ksetCount++;
    this.extents.get(walker.segment)!.endBytes = walker.offsetBytes + kset.lengthBytes;
    const unknown = kset.flags - (kset.isLast ? KSET_FLAG_LAST : 0);
    if (unknown !== 0) findings.add('KSET_UNKNOWN_FLAGS', `kset ${this.place()}`, `flags 0x${unknown.toString(16)}`);
    if (kset.isLast) {
      examined.lastKsets++;
      return this.enterSegment(kset.nextSegment);
    }
    for (let index = 0; index < kset.keyCount; index++) this.checkKey(kset, index);
    return true;
  }

  private enterSegment(segment: number): boolean {
    if (this.extents.has(segment)) {
      const detail = `it leads to segment ${segment}, where the log has been already`;
      this.context.findings.add('LOG_LOOPS', `kset ${this.place()}`, detail);
      return false;
    }
    this.extents.set(segment, { startBytes: 0, endBytes: 0, enteredFrom: this.place() });
    return true;
  }

  private checkKey(kset: KsetView, index: number): void {
    const { context, chain, options, key } = this;
    const { examined } = context;
    kset.readKey(index, key);
    examined.keys++;
    if (key.isClean) examined.cleanKeys++;
    const state = checkKey(context, chain, options.segmentCount, key, kset, index, this.place);
    if (state === 'bad') {
      if (key.segment >= chain.length && key.segment < options.segmentCount) this.keysBeyond++;
      return;
    }
    if (state === 'stale') {
      examined.staleKeys++;
      if (this.isDirtyHere && !key.isClean) this.reportStale(kset, index);
      else this.staleKeys.add(key, index, this.place);
    }
    this.payloadCheck?.add(key, index, state === 'stale', this.walker.segment, this.walker.offsetBytes);
    if (state === 'stale') return;
    this.references[key.segment]++;
    if (this.payload.covers(key.segment)) this.claim(this.payload, key);
  }

  /** Nothing is collected before it is written back, so no key from dirty_tail on can rightly be stale. */
  private reportStale(kset: KsetView, index: number): void {
    const segment = kset.keySegment(index);
    const offset = kset.keyOffsetBytes(index);
    this.context.findings.add(
      'KEY_STALE_DIRTY',
      `kset ${this.place()} key ${index}`,
      `bytes ${offset} to ${offset + kset.keyLengthBytes(index)}: generation ${kset.keyGeneration(index)}, segment ${segment} is at ${this.chain.generation[segment]}`,
    );
  }

  private claim(map: PayloadMap, key: KeyFields): void {
    if (this.lastClaim.isRepeatedBy(key)) return;
    const { segment, segmentOffset, length } = key;
    const overlaps = map.claim(segment, segmentOffset, length);
    if (!map.covers(segment)) this.dropOverlaps(segment);
    else if (overlaps && this.overlaps.length < MAX_OVERLAPS) {
      this.overlaps.push({ segment, offsetBytes: segmentOffset, lengthBytes: length });
    }
  }

  /** Forgets what was found of a segment that was deferred: all of it will be found again. */
  private dropOverlaps(segment: number): void {
    this.overlaps = this.overlaps.filter((range) => range.segment !== segment);
  }

  /** The ends of a log that make the kernel refuse the device. */
  private reportRefusedEnd(): void {
    const { walker, chain } = this;
    const { findings, geometry } = this.context;
    const where = `kset ${this.place()}`;
    if (walker.endReason === 'too-long') {
      const left = geometry.segmentDataBytes - walker.offsetBytes;
      findings.add('KSET_TOO_LONG', where, `it has ${walker.kset.lengthBytes} bytes, its segment has ${left} left`);
    } else if (walker.endReason === 'last-out-of-range' && walker.kset.nextSegment >= this.options.segmentCount) {
      const detail = `it leads to segment ${walker.kset.nextSegment} of ${chain.length}`;
      findings.add('LAST_OUT_OF_RANGE', where, detail);
    }
  }

  /** No segment can hold both the log and payload. */
  private checkDoubleUse(): void {
    const { findings } = this.context;
    for (const [segment, extent] of this.extents) {
      const keys = this.references[segment];
      if (keys === 0) continue;
      const detail = `segment ${segment} is part of the log and holds the payload of ${keys} current keys`;
      if (extent.enteredFrom === undefined) findings.add('KEY_SEGMENT_HOLDS_PAYLOAD', `segment ${segment}`, detail);
      else findings.add('LAST_INTO_PAYLOAD', `kset ${extent.enteredFrom}`, detail);
    }
  }

  /** Walks the log again for the segments that the map had no memory for, until there was some for each. */
  private claimDeferred(): void {
    const { context, chain, options } = this;
    for (let deferred = this.payload.deferred; deferred.size > 0;) {
      const map = new PayloadMap(context.geometry, context.payloadMapBytes, deferred);
      const walker = walkFrom(context, chain, options.start);
      for (let left = this.ksetCount; left > 0 && walker.next(); left--) {
        const { kset } = walker;
        for (let index = 0; index < kset.keyCount; index++) {
          const key = kset.readKey(index, this.key);
          if (!map.covers(key.segment >>> 0)) continue;
          if (key.problem(context.geometry, chain.length, context.backingBytes) !== '') continue;
          if (key.generation >= chain.generation[key.segment]) this.claim(map, key);
        }
      }
      options.onProgress();
      deferred = map.deferred;
    }
  }
}
