/**
 * Checks payload against the CRCs in its keys (format §1 "Key"). Keys are gathered, and their CRCs taken many at a
 * time by other threads while the next are gathered; what does not match is reported then, in the order of the log.
 * Bounded: so many keys, or so many bytes, at a time, and so many times ahead.
 */
import { PcacheError } from '../engine/errors.js';
import { CRC_RUNS_MAX, type CrcRanges } from '../engine/device/pmem.js';
import { CRC_SEED } from '../engine/media/crc32c.js';
import type { KeyFields } from '../engine/media/kset.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';
import { positionText } from '../engine/media/position-text.js';

const KEYS_MAX = 2048;
const BYTES_MAX = 256 * 1024 * 1024;

/** Keys whose payload is checked together, as columns. */
class Batch {
  readonly ranges: CrcRanges = {
    offsetBytes: new Float64Array(KEYS_MAX),
    lengthBytes: new Uint32Array(KEYS_MAX),
    crc: new Uint32Array(KEYS_MAX),
  };
  readonly expected = new Uint32Array(KEYS_MAX);
  readonly isStale = new Uint8Array(KEYS_MAX);
  /** Where the key is: its kset, and which one of it. */
  readonly ksetSegment = new Uint32Array(KEYS_MAX);
  readonly ksetOffset = new Uint32Array(KEYS_MAX);
  readonly index = new Uint8Array(KEYS_MAX);
  /** What it is for, and where its payload is. */
  readonly logicalOffset = new Float64Array(KEYS_MAX);
  readonly segment = new Uint32Array(KEYS_MAX);
  readonly segmentOffset = new Uint32Array(KEYS_MAX);
  count = 0;
  bytes = 0;
  /** Set while it is under way. */
  endCrcs: () => void = () => {};

  clear(): void {
    this.count = 0;
    this.bytes = 0;
  }
}

export class PayloadCheck {
  /** Being gathered. */
  private batch = new Batch();
  /** Under way, the oldest first. */
  private readonly begun: Batch[] = [];
  private readonly free: Batch[] = [];

  constructor(
    private readonly context: CheckContext,
    private readonly chain: CheckedChain,
  ) {}

  /**
   * Takes a key that is not bad.
   * @param index which one of its kset
   * @param ksetSegment of the position of its kset, as `ksetOffset`
   */
  add(key: KeyFields, index: number, isStale: boolean, ksetSegment: number, ksetOffset: number): void {
    const { batch } = this;
    const at = batch.count++;
    const { length, segment, segmentOffset } = key;
    batch.ranges.offsetBytes[at] = this.chain.dataOffsetBytes[segment] + segmentOffset;
    batch.ranges.lengthBytes[at] = length;
    batch.expected[at] = key.dataCrc;
    batch.isStale[at] = isStale ? 1 : 0;
    batch.ksetSegment[at] = ksetSegment;
    batch.ksetOffset[at] = ksetOffset;
    batch.index[at] = index;
    batch.logicalOffset[at] = key.offsetBytes;
    batch.segment[at] = segment;
    batch.segmentOffset[at] = segmentOffset;
    batch.bytes += length;
    if (batch.count === KEYS_MAX || batch.bytes >= BYTES_MAX) this.begin();
  }

  /** Checks all that was taken. */
  finish(): void {
    this.begin();
    while (this.begun.length > 0) this.end();
  }

  /** Waits for what is under way, if there is something, and forgets it. */
  abandon(): void {
    for (const { endCrcs } of this.begun.splice(0)) {
      try {
        endCrcs();
      } catch {
        // A caller that abandons it has another error, or has finished.
      }
    }
  }

  /** Begins the batch that was gathered; the oldest under way is ended when there are too many. */
  private begin(): void {
    const { batch, begun } = this;
    if (begun.length === CRC_RUNS_MAX) this.end();
    this.batch = this.free.pop() ?? new Batch();
    begun.push(batch);
    try {
      batch.endCrcs = this.context.source.beginCrcs(batch.ranges, batch.count, CRC_SEED);
    } catch (error) {
      batch.endCrcs = () => {
        throw error;
      };
    }
  }

  /** Ends the oldest batch under way. */
  private end(): void {
    const { context } = this;
    const batch = this.begun.shift()!;
    const { examined } = context;
    let isRead = true;
    try {
      batch.endCrcs();
    } catch (error) {
      throwUnlessIo(error);
      isRead = false;
    }
    const { expected } = batch;
    const { crc, lengthBytes } = batch.ranges;
    let keys = 0;
    let bytes = 0;
    for (let at = 0; at < batch.count; at++) {
      if (!isRead && !this.readAlone(batch, at)) continue;
      keys++;
      bytes += lengthBytes[at];
      if ((crc[at] ^ expected[at]) === 0) continue;
      const code = batch.isStale[at] === 1 ? 'PAYLOAD_CRC_STALE' : 'PAYLOAD_CRC_CURRENT';
      context.findings.add(code, where(batch, at), describe(batch, at));
    }
    examined.payloadKeys += keys;
    examined.payloadBytes += bytes;
    batch.clear();
    this.free.push(batch);
  }

  /** @returns false, and reports it, when the medium cannot read it */
  private readAlone(batch: Batch, at: number): boolean {
    const { context } = this;
    const { ranges } = batch;
    try {
      ranges.crc[at] = context.source.crc32c(ranges.offsetBytes[at], ranges.lengthBytes[at], CRC_SEED);
      return true;
    } catch (error) {
      const { message } = throwUnlessIo(error);
      context.findings.add('PAYLOAD_UNREADABLE', where(batch, at), `${describe(batch, at)}: ${message}`);
      return false;
    }
  }
}

function where(batch: Batch, at: number): string {
  return `kset ${positionText({ segment: batch.ksetSegment[at], offsetBytes: batch.ksetOffset[at] })} key ${batch.index[at]}`;
}

function describe(batch: Batch, at: number): string {
  const offset = batch.logicalOffset[at];
  const position = positionText({ segment: batch.segment[at], offsetBytes: batch.segmentOffset[at] });
  return `bytes ${offset} to ${offset + batch.ranges.lengthBytes[at]}, at ${position}`;
}

/** A medium that cannot be read is a finding; all else is not for here. */
function throwUnlessIo(error: unknown): PcacheError {
  if (error instanceof PcacheError && error.code === 'IO') return error;
  throw error;
}
