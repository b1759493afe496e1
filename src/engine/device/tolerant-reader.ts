/**
 * Reads a cache device past what the medium cannot read. Such bytes read as UNREADABLE_BYTE, with which no structure
 * of the format is good: a copy of metadata counts as broken, so that the other one is used, and a kset ends the log.
 * `unreadable` says which ranges that were. CRCs of payload are not tolerant: they throw IO as before.
 */
import { PcacheError } from '../errors.js';
import { appendRange, type ByteRange } from '../media/byte-range.js';
import { KIB, SECTOR_BYTES } from '../media/geometry.js';
import type { CrcRanges, PmemReader } from './pmem.js';

/** Not zero: a copy of zeroes is one that was never written. */
export const UNREADABLE_BYTE = 0xff;
const BLOCK_BYTES = 4 * KIB;
/** A device that is worse than this is not listed in full. */
const SECTORS_NOTED_MAX = 1 << 20;

/** Calls `access`, a read or a write. @returns false when the medium fails. @throws whatever else it throws */
export function couldAccess(access: () => void): boolean {
  try {
    access();
    return true;
  } catch (error) {
    if (!(error instanceof PcacheError) || error.code !== 'IO') throw error;
    return false;
  }
}

/**
 * Reads [offsetBytes, +lengthBytes) of a device in ever smaller parts, down to sectors, where it fails as a whole.
 * @param read reads a part; throws IO where the medium fails
 * @param fail takes each part that cannot be read, of at most one sector
 */
export function readInParts(
  offsetBytes: number,
  lengthBytes: number,
  read: (offsetBytes: number, lengthBytes: number) => void,
  fail: (offsetBytes: number, lengthBytes: number) => void,
): void {
  const end = offsetBytes + lengthBytes;
  if (couldAccess(() => read(offsetBytes, lengthBytes))) return;
  const unitBytes = lengthBytes > BLOCK_BYTES ? BLOCK_BYTES : SECTOR_BYTES;
  const first = offsetBytes - (offsetBytes % unitBytes);
  if (lengthBytes <= SECTOR_BYTES && first + unitBytes >= end) {
    fail(offsetBytes, lengthBytes);
    return;
  }
  for (let block = first; block < end; block += unitBytes) {
    const from = Math.max(block, offsetBytes);
    readInParts(from, Math.min(block + unitBytes, end) - from, read, fail);
  }
}

export class TolerantReader implements PmemReader {
  readonly path: string;
  readonly sizeBytes: number;
  readonly beginCrcs?: NonNullable<PmemReader['beginCrcs']>;
  private readonly sectors = new Set<number>();

  constructor(private readonly reader: PmemReader) {
    this.path = reader.path;
    this.sizeBytes = reader.sizeBytes;
    if (reader.beginCrcs !== undefined) {
      this.beginCrcs = (ranges: CrcRanges, count, seed, threads) => reader.beginCrcs!(ranges, count, seed, threads);
    }
  }

  /** What could not be read so far: whole sectors, in the order of the device. Bounded. */
  get unreadable(): ByteRange[] {
    const ranges: ByteRange[] = [];
    for (const sector of [...this.sectors].sort((a, b) => a - b)) {
      appendRange(ranges, { offsetBytes: sector * SECTOR_BYTES, lengthBytes: SECTOR_BYTES });
    }
    return ranges;
  }

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    const to = targetOffset - offsetBytes;
    readInParts(
      offsetBytes,
      lengthBytes,
      (from, length) => this.reader.read(from, target, to + from, length),
      (from, length) => {
        target.fill(UNREADABLE_BYTE, to + from, to + from + length);
        if (this.sectors.size < SECTORS_NOTED_MAX) this.sectors.add(Math.floor(from / SECTOR_BYTES));
      },
    );
  }

  crc32c(offsetBytes: number, lengthBytes: number, seed: number): number {
    return this.reader.crc32c(offsetBytes, lengthBytes, seed);
  }

  close(): void {
    this.reader.close();
  }
}
