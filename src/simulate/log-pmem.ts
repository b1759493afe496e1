/**
 * The cache device of a simulation: keeps the metadata and the log, which the engine reads back, and no
 * payload. So its memory goes with what the log and the number of segments need, not with the cache's size.
 *
 * A segment has memory from the first kset that is written to it until neither copy of key_tail leads to it
 * any more. All payload has the CRC 0, and reading it leaves the buffer as it is.
 *
 * Invariants: logical and physical segment ids are the same, as formatting makes them; of the 12 KiB that a
 * segment begins with, only the two copies of its info and of its generation are ever other than zero, so
 * only these are kept.
 */
import { PcacheError } from '../engine/errors.js';
import {
  plainCopyList,
  plainPieceList,
  type Arena,
  type CopyList,
  type Durability,
  type PieceList,
  type Pmem,
} from '../engine/device/pmem.js';
import {
  DATA_OFFSET_IN_SEGMENT_BYTES,
  GENERATION_OFFSET_IN_SEGMENT_BYTES,
  GENERATION_STRIDE_BYTES,
  KERNEL_GEOMETRY,
  KEY_TAIL_COPIES,
  POSITION_STRIDE_BYTES,
  SEGMENT_INFO_STRIDE_BYTES,
  segmentCountFor,
  SEGMENTS_OFFSET_BYTES,
} from '../engine/media/geometry.js';

const { segmentBytes: SEGMENT_BYTES, segmentDataBytes: SEGMENT_DATA_BYTES } = KERNEL_GEOMETRY;
/** Infos and generations are all of this size. */
const RECORD_BYTES = 16;
/** Where they are in a segment. */
const RECORDS: readonly number[] = [
  0,
  SEGMENT_INFO_STRIDE_BYTES,
  GENERATION_OFFSET_IN_SEGMENT_BYTES,
  GENERATION_OFFSET_IN_SEGMENT_BYTES + GENERATION_STRIDE_BYTES,
];
const RECORDS_BYTES = RECORDS.length * RECORD_BYTES;
/** Where a position (key_tail) says its segment. */
const POSITION_SEGMENT_OFFSET_BYTES = 8;
const KEY_TAIL_END_BYTES = KEY_TAIL_COPIES[1] + POSITION_STRIDE_BYTES;
/** Shorter copies are faster byte by byte. */
const SHORT_COPY_BYTES = 32;

/** Memory of one segment of the log. All of it from `usedBytes` on is zero. */
class LogSegment {
  readonly bytes = new Uint8Array(SEGMENT_DATA_BYTES);
  usedBytes = 0;

  clear(): void {
    this.bytes.fill(0, 0, this.usedBytes);
    this.usedBytes = 0;
  }
}

export class LogPmem implements Pmem {
  readonly path = 'simulated cache';
  readonly durability: Durability = 'volatile';
  /** Everything before the segments. */
  private readonly head = new Uint8Array(SEGMENTS_OFFSET_BYTES);
  private readonly headView = new DataView(this.head.buffer);
  /** The records of all segments, `RECORDS_BYTES` each. */
  private readonly records: Uint8Array;
  private readonly log: (LogSegment | undefined)[];
  /** Which segments hold payload, and the first and end byte of the last one that got some. */
  private readonly hasPayload: Uint8Array;
  private payloadStart = 0;
  private payloadEnd = 0;
  /** Memory of a former log segment, cleared, for the next one. */
  private spare: LogSegment | undefined;
  /** The segments that the copies of key_tail lead to. */
  private readonly tails: [number, number] = [0, 0];
  private arenas = 0;

  /** @param sizeBytes as a real cache device would have. */
  constructor(readonly sizeBytes: number) {
    const segments = segmentCountFor(KERNEL_GEOMETRY, sizeBytes);
    this.records = new Uint8Array(segments * RECORDS_BYTES);
    this.log = new Array<LogSegment | undefined>(segments).fill(undefined);
    this.hasPayload = new Uint8Array(segments);
  }

  /** Segments that have memory: those of the log. */
  get logSegments(): number {
    return this.log.reduce((count, segment) => (segment ? count + 1 : count), 0);
  }

  // ---- what the engine keeps here ---------------------------------------------------------------------

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    const segment = this.segmentOfData(offsetBytes, lengthBytes);
    if (segment < 0) {
      this.readMixed(offsetBytes, target, targetOffset, lengthBytes);
      return;
    }
    const kept = this.log[segment];
    if (kept) copyBytes(kept.bytes, offsetBytes - dataOffset(segment), target, targetOffset, lengthBytes);
    else if (this.hasPayload[segment] === 0) target.fill(0, targetOffset, targetOffset + lengthBytes);
  }

  write(offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number): void {
    const segment = this.segmentOfData(offsetBytes, lengthBytes);
    if (segment < 0) this.writeMixed(offsetBytes, source, sourceOffset, lengthBytes);
    else this.writeLog(segment, offsetBytes - dataOffset(segment), source, sourceOffset, lengthBytes);
  }

  zero(offsetBytes: number, lengthBytes: number): void {
    this.write(offsetBytes, new Uint8Array(lengthBytes), 0, lengthBytes);
  }

  /** The segment whose data area holds the whole range; −1 when none does. */
  private segmentOfData(offsetBytes: number, lengthBytes: number): number {
    if (!(offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes + lengthBytes <= this.sizeBytes)) {
      throw new PcacheError(
        'OUT_OF_RANGE',
        `${this.path}: ${lengthBytes} bytes at ${offsetBytes} of ${this.sizeBytes}`,
      );
    }
    const segment = Math.floor((offsetBytes - SEGMENTS_OFFSET_BYTES) / SEGMENT_BYTES);
    if (segment < 0 || segment >= this.log.length) return -1;
    const at = offsetBytes - dataOffset(segment);
    return at >= 0 && at + lengthBytes <= SEGMENT_DATA_BYTES ? segment : -1;
  }

  private writeLog(segment: number, at: number, source: Uint8Array, from: number, lengthBytes: number): void {
    if (this.hasPayload[segment] === 1) this.forgetPayload(segment);
    let kept = this.log[segment];
    if (!kept) {
      if (isZero(source, from, lengthBytes)) return; // it is zero already
      kept = this.spare ?? new LogSegment();
      this.spare = undefined;
      this.log[segment] = kept;
    }
    copyBytes(source, from, kept.bytes, at, lengthBytes);
    if (at + lengthBytes > kept.usedBytes) kept.usedBytes = at + lengthBytes;
  }

  // ---- ranges that are not all in one data area -------------------------------------------------------

  private readMixed(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    if (lengthBytes === 0) return;
    const length = Math.min(lengthBytes, areaEnd(offsetBytes) - offsetBytes);
    if (offsetBytes < SEGMENTS_OFFSET_BYTES) {
      copyBytes(this.head, offsetBytes, target, targetOffset, length);
    } else if (this.segmentOfData(offsetBytes, length) >= 0) {
      this.read(offsetBytes, target, targetOffset, length); // a look at the log that reaches beyond its segment
    } else {
      target.fill(0, targetOffset, targetOffset + length);
      this.eachRecord(offsetBytes, length, (record, from, bytes) =>
        copyBytes(this.records, record, target, targetOffset + from, bytes),
      );
    }
    if (length < lengthBytes) this.read(offsetBytes + length, target, targetOffset + length, lengthBytes - length);
  }

  private writeMixed(offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number): void {
    if (lengthBytes === 0) return;
    const length = Math.min(lengthBytes, areaEnd(offsetBytes) - offsetBytes);
    if (offsetBytes < SEGMENTS_OFFSET_BYTES) {
      copyBytes(source, sourceOffset, this.head, offsetBytes, length);
      if (offsetBytes < KEY_TAIL_END_BYTES && offsetBytes + length > KEY_TAIL_COPIES[0]) this.keyTailStored();
    } else {
      this.eachRecord(offsetBytes, length, (record, from, bytes) =>
        copyBytes(source, sourceOffset + from, this.records, record, bytes),
      );
    }
    if (length < lengthBytes) this.write(offsetBytes + length, source, sourceOffset + length, lengthBytes - length);
  }

  /**
   * Calls `body` for each part of a record that lies in a range of one area: where it is in `records`, where
   * in the range, and its length.
   */
  private eachRecord(
    offsetBytes: number,
    lengthBytes: number,
    body: (record: number, from: number, lengthBytes: number) => void,
  ): void {
    const segment = Math.floor((offsetBytes - SEGMENTS_OFFSET_BYTES) / SEGMENT_BYTES);
    if (segment >= this.log.length) return;
    const start = offsetBytes - SEGMENTS_OFFSET_BYTES - segment * SEGMENT_BYTES;
    RECORDS.forEach((recordStart, n) => {
      const first = Math.max(start, recordStart);
      const end = Math.min(start + lengthBytes, recordStart + RECORD_BYTES);
      if (first >= end) return;
      body(segment * RECORDS_BYTES + n * RECORD_BYTES + first - recordStart, first - start, end - first);
    });
  }

  /** A copy of key_tail was stored: the log that neither copy leads to any more is none. */
  private keyTailStored(): void {
    KEY_TAIL_COPIES.forEach((offset, n) => {
      const segment = this.headView.getUint32(offset + POSITION_SEGMENT_OFFSET_BYTES, true);
      const left = this.tails[n];
      if (segment === left) return;
      this.tails[n] = segment;
      if (!this.tails.includes(left)) this.forgetLog(left);
    });
  }

  private forgetLog(segment: number): void {
    const kept = this.log[segment];
    if (!kept) return;
    this.log[segment] = undefined;
    kept.clear();
    this.spare = kept;
  }

  // ---- payload, which is nowhere ----------------------------------------------------------------------

  crc32c(): number {
    return 0;
  }

  createCopyList(capacity: number): CopyList {
    return plainCopyList(capacity);
  }

  runReads(): void {}

  createPieceList(capacity: number, withCrc: boolean): PieceList {
    return plainPieceList(capacity, withCrc);
  }

  writePieces(_list: PieceList, _count: number, pmemOffsetBytes: number): void {
    if (pmemOffsetBytes < this.payloadStart || pmemOffsetBytes >= this.payloadEnd) this.payloadAt(pmemOffsetBytes);
  }

  private payloadAt(offsetBytes: number): void {
    const segment = Math.floor((offsetBytes - SEGMENTS_OFFSET_BYTES) / SEGMENT_BYTES);
    this.hasPayload[segment] = 1;
    this.payloadStart = dataOffset(segment);
    this.payloadEnd = this.payloadStart + SEGMENT_DATA_BYTES;
  }

  private forgetPayload(segment: number): void {
    this.hasPayload[segment] = 0;
    this.payloadStart = 0;
    this.payloadEnd = 0;
  }

  registerArena(memory: Uint8Array): Arena {
    return { id: ++this.arenas, memory };
  }

  unregisterArena(): void {}
  fence(): void {}
  persist(): void {}
  close(): void {}
}

function dataOffset(segment: number): number {
  return SEGMENTS_OFFSET_BYTES + segment * SEGMENT_BYTES + DATA_OFFSET_IN_SEGMENT_BYTES;
}

/** Where the area that `offsetBytes` is in ends: what lies before the segments, a segment's records, or its data. */
function areaEnd(offsetBytes: number): number {
  if (offsetBytes < SEGMENTS_OFFSET_BYTES) return SEGMENTS_OFFSET_BYTES;
  const segment = Math.floor((offsetBytes - SEGMENTS_OFFSET_BYTES) / SEGMENT_BYTES);
  const data = dataOffset(segment);
  return offsetBytes < data ? data : data + SEGMENT_DATA_BYTES;
}

function copyBytes(source: Uint8Array, from: number, target: Uint8Array, to: number, lengthBytes: number): void {
  if (lengthBytes <= SHORT_COPY_BYTES) {
    for (let i = 0; i < lengthBytes; i++) target[to + i] = source[from + i];
  } else {
    target.set(source.subarray(from, from + lengthBytes), to);
  }
}

function isZero(bytes: Uint8Array, from: number, lengthBytes: number): boolean {
  for (let i = from; i < from + lengthBytes; i++) if (bytes[i] !== 0) return false;
  return true;
}
