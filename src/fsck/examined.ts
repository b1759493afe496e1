/**
 * Byte accounting: what a check really looked at, so that one that looks at nothing cannot pass for a good
 * one. `CountingReader` counts at the device; the rest is counted where things are judged.
 */
import type { CrcRanges, PmemReader } from '../engine/device/pmem.js';
import type { ByteSource } from '../engine/media/dual.js';

export interface Examined {
  /** Bytes read from the device, CRCs of payload included; what was read twice counts twice. */
  bytesRead: number;
  /** Copies of dual structures, good or not. */
  metadataCopies: number;
  segments: number;
  /** Ksets of the log, LAST ksets included. */
  ksets: number;
  lastKsets: number;
  keys: number;
  /** Keys whose generation is over: their payload is gone. */
  staleKeys: number;
  cleanKeys: number;
  logBytes: number;
  /** Bytes behind the end of the log that were searched for ksets. */
  searchedBytes: number;
  payloadKeys: number;
  payloadBytes: number;
}

export function nothingExamined(): Examined {
  return {
    bytesRead: 0,
    metadataCopies: 0,
    segments: 0,
    ksets: 0,
    lastKsets: 0,
    keys: 0,
    staleKeys: 0,
    cleanKeys: 0,
    logBytes: 0,
    searchedBytes: 0,
    payloadKeys: 0,
    payloadBytes: 0,
  };
}

export class CountingReader implements ByteSource {
  readonly sizeBytes: number;

  constructor(
    private readonly reader: PmemReader,
    private readonly examined: Examined,
    /** Threads to take many CRCs by. */
    private readonly threads: number,
  ) {
    this.sizeBytes = reader.sizeBytes;
  }

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    this.reader.read(offsetBytes, target, targetOffset, lengthBytes);
    this.examined.bytesRead += lengthBytes;
  }

  crc32c(offsetBytes: number, lengthBytes: number, seed: number): number {
    const crc = this.reader.crc32c(offsetBytes, lengthBytes, seed);
    this.examined.bytesRead += lengthBytes;
    return crc;
  }

  /** As `PmemReader.beginCrcs`, with any reader. */
  beginCrcs(ranges: CrcRanges, count: number, seed: number): () => void {
    const { reader } = this;
    for (let at = 0; at < count; at++) this.examined.bytesRead += ranges.lengthBytes[at];
    if (reader.beginCrcs !== undefined) return reader.beginCrcs(ranges, count, seed, this.threads);
    return () => {
      for (let at = 0; at < count; at++) {
        ranges.crc[at] = reader.crc32c(ranges.offsetBytes[at], ranges.lengthBytes[at], seed);
      }
    };
  }
}
