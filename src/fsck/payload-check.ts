/**
 * Checks payload against the CRCs in its keys (format §1 "Key"). Keys are gathered and their CRCs taken many at a time,
 * which keeps the processors at it; what does not match is reported then, in the order of the log. Bounded: so many
 * keys, or so many bytes, at a time.
 */
import { PcacheError } from '../engine/errors.js';
import type { CrcRanges } from '../engine/device/pmem.js';
import { CRC_SEED } from '../engine/media/crc32c.js';
import type { KsetView } from '../engine/media/kset.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';
import { placeText } from './findings.js';

const KEYS_MAX = 4096;
const BYTES_MAX = 256 * 1024 * 1024;

export class PayloadCheck {
  private readonly ranges: CrcRanges = {
    offsetBytes: new Float64Array(KEYS_MAX),
    lengthBytes: new Uint32Array(KEYS_MAX),
    crc: new Uint32Array(KEYS_MAX),
  };
  private readonly expected = new Uint32Array(KEYS_MAX);
  private readonly isStale = new Uint8Array(KEYS_MAX);
  /** Where the key is: its kset, and which one of it. */
  private readonly ksetSegment = new Uint32Array(KEYS_MAX);
  private readonly ksetOffset = new Uint32Array(KEYS_MAX);
  private readonly index = new Uint8Array(KEYS_MAX);
  /** What it is for, and where its payload is. */
  private readonly logicalOffset = new Float64Array(KEYS_MAX);
  private readonly segment = new Uint32Array(KEYS_MAX);
  private readonly segmentOffset = new Uint32Array(KEYS_MAX);
  private count = 0;
  private bytes = 0;

  constructor(
    private readonly context: CheckContext,
    private readonly chain: CheckedChain,
  ) {}

  /**
   * Takes a key that is not bad.
   * @param ksetSegment of the place of its kset, as `ksetOffset`
   */
  add(kset: KsetView, index: number, isStale: boolean, ksetSegment: number, ksetOffset: number): void {
    const at = this.count++;
    const segment = kset.keySegment(index);
    const segmentOffset = kset.keySegmentOffsetBytes(index);
    const length = kset.keyLengthBytes(index);
    this.ranges.offsetBytes[at] = this.chain.dataOffsetBytes[segment] + segmentOffset;
    this.ranges.lengthBytes[at] = length;
    this.expected[at] = kset.keyDataCrc(index);
    this.isStale[at] = isStale ? 1 : 0;
    this.ksetSegment[at] = ksetSegment;
    this.ksetOffset[at] = ksetOffset;
    this.index[at] = index;
    this.logicalOffset[at] = kset.keyOffsetBytes(index);
    this.segment[at] = segment;
    this.segmentOffset[at] = segmentOffset;
    this.bytes += length;
    if (this.count === KEYS_MAX || this.bytes >= BYTES_MAX) this.finish();
  }

  /** Checks what was taken so far. */
  finish(): void {
    const { context, count, expected, ranges } = this;
    const { examined } = context;
    let isRead = true;
    try {
      context.source.crc32cMany(ranges, count, CRC_SEED);
    } catch (error) {
      throwUnlessIo(error);
      isRead = false;
    }
    for (let at = 0; at < count; at++) {
      if (!isRead && !this.readAlone(at)) continue;
      examined.payloadKeys++;
      examined.payloadBytes += ranges.lengthBytes[at];
      if (ranges.crc[at] === expected[at]) continue;
      const code = this.isStale[at] === 1 ? 'PAYLOAD_CRC_STALE' : 'PAYLOAD_CRC_CURRENT';
      context.findings.add(code, this.where(at), this.describe(at));
    }
    this.count = 0;
    this.bytes = 0;
  }

  /** @returns false, and reports it, when the medium cannot read it */
  private readAlone(at: number): boolean {
    const { context, ranges } = this;
    try {
      ranges.crc[at] = context.source.crc32c(ranges.offsetBytes[at], ranges.lengthBytes[at], CRC_SEED);
      return true;
    } catch (error) {
      const { message } = throwUnlessIo(error);
      context.findings.add('PAYLOAD_UNREADABLE', this.where(at), `${this.describe(at)}: ${message}`);
      return false;
    }
  }

  private where(at: number): string {
    return `kset ${placeText(this.ksetSegment[at], this.ksetOffset[at])} key ${this.index[at]}`;
  }

  private describe(at: number): string {
    const offset = this.logicalOffset[at];
    const place = placeText(this.segment[at], this.segmentOffset[at]);
    return `bytes ${offset} to ${offset + this.ranges.lengthBytes[at]}, at ${place}`;
  }
}

/** A medium that cannot be read is a finding; all else is not for here. */
function throwUnlessIo(error: unknown): PcacheError {
  if (error instanceof PcacheError && error.code === 'IO') return error;
  throw error;
}
