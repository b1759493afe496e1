/**
 * Reads the logical device, cache over backing, without changing either. Byte-exact, synchronous, and of
 * constant memory beyond the index. Payload is not checked against its CRC.
 */
import type { PmemReader } from '../device/pmem.js';
import { readInParts } from '../device/tolerant-reader.js';
import { PcacheError } from '../errors.js';
import type { ByteRange } from '../media/byte-range.js';
import { cachedRanges, type CachedRanges } from '../index/cached-ranges.js';
import { SECTOR_BYTES, SUBTREE_BYTES } from '../media/geometry.js';
import type { LoadedCache } from '../log/recovery.js';
import { PackReader } from '../pack/pack-reader.js';

/** What a hole is read from. */
export interface BackingReader {
  readonly path: string;
  readonly sizeBytes: number;
  /** @throws PcacheError that names the device and the range */
  readSync(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void;
}

/** @param deviceOffsetBytes where the piece lies on the cache device, or -1 for a hole. */
type PieceVisitor = (offsetBytes: number, lengthBytes: number, deviceOffsetBytes: number) => void;

export class LogicalReader {
  /** Size of the logical device; without a backing device, as far as the keys reach. */
  readonly sizeBytes: number;

  /** @throws PcacheError UNSUPPORTED for a pack without the payload */
  constructor(
    private readonly pmem: PmemReader,
    private readonly cache: LoadedCache,
    private readonly backing: BackingReader | undefined,
  ) {
    if (pmem instanceof PackReader && !pmem.hasPayload) {
      throw new PcacheError(
        'UNSUPPORTED',
        `${pmem.path}: a pack of metadata only, without the data; make one with "pcache pack --data"`,
      );
    }
    this.sizeBytes = cache.logicalBytes;
  }

  /**
   * Copies [offsetBytes, +lengthBytes) of the logical device.
   * @param onUnreadable takes what a medium cannot read, which then reads as zeroes; left out, that throws IO
   * @throws PcacheError OUT_OF_RANGE beyond its size, or where the cache has a hole and there is no backing device
   */
  read(
    offsetBytes: number,
    target: Uint8Array,
    targetOffset: number,
    lengthBytes: number,
    onUnreadable?: (range: ByteRange) => void,
  ): void {
    if (onUnreadable === undefined) {
      this.readPieces(offsetBytes, target, targetOffset, lengthBytes);
      return;
    }
    const to = targetOffset - offsetBytes;
    readInParts(
      offsetBytes,
      lengthBytes,
      (from, length) => this.readPieces(from, target, to + from, length),
      (from, length) => {
        target.fill(0, to + from, to + from + length);
        onUnreadable({ offsetBytes: from, lengthBytes: length });
      },
    );
  }

  private readPieces(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    const { pmem, backing } = this;
    this.eachPiece(offsetBytes, lengthBytes, (at, length, deviceOffset) => {
      const to = targetOffset + at - offsetBytes;
      if (deviceOffset >= 0) pmem.read(deviceOffset, target, to, length);
      else if (backing !== undefined) backing.readSync(at, target, to, length);
      else throw this.holeError(at, length);
    });
  }

  /**
   * Copies what the cache holds of [offsetBytes, +lengthBytes), and leaves the rest to the caller.
   * @param onHole called for each range that the cache does not hold, with its offset in `target`
   * @throws PcacheError OUT_OF_RANGE beyond its size
   */
  readCached(
    offsetBytes: number,
    target: Uint8Array,
    targetOffset: number,
    lengthBytes: number,
    onHole: (offsetBytes: number, targetOffset: number, lengthBytes: number) => void,
  ): void {
    this.eachPiece(offsetBytes, lengthBytes, (at, length, deviceOffset) => {
      const to = targetOffset + at - offsetBytes;
      if (deviceOffset >= 0) this.pmem.read(deviceOffset, target, to, length);
      else onHole(at, to, length);
    });
  }

  /** As `Cache.cachedRanges`. */
  cachedRanges(offsetBytes: number, lengthBytes: number, rangesMax: number): CachedRanges {
    return cachedRanges(this.cache.index, offsetBytes, lengthBytes, rangesMax);
  }

  /**
   * Makes sure that [offsetBytes, +lengthBytes) can be read, before any of it is.
   * @throws PcacheError OUT_OF_RANGE as `read` does
   */
  checkReadable(offsetBytes: number, lengthBytes: number): void {
    this.checkRange(offsetBytes, lengthBytes);
    if (this.backing !== undefined) return;
    // Holes that follow one another count as one in the message.
    let start = -1;
    let end = -1;
    this.eachPiece(offsetBytes, lengthBytes, (at, length, deviceOffset) => {
      if (deviceOffset >= 0) {
        if (start >= 0) throw this.holeError(start, end - start);
      } else {
        if (start < 0) start = at;
        end = at + length;
      }
    });
    if (start >= 0) throw this.holeError(start, end - start);
  }

  private holeError(offsetBytes: number, lengthBytes: number): PcacheError {
    return new PcacheError(
      'OUT_OF_RANGE',
      `${this.pmem.path}: bytes ${offsetBytes} to ${offsetBytes + lengthBytes} are not in the cache; give the backing device too`,
    );
  }

  private checkRange(offsetBytes: number, lengthBytes: number): void {
    if (offsetBytes + lengthBytes <= this.sizeBytes) return;
    const what = this.backing === undefined ? 'the keys of the cache reach to byte' : 'the logical device ends at byte';
    throw new PcacheError(
      'OUT_OF_RANGE',
      `${this.pmem.path}: bytes ${offsetBytes} to ${offsetBytes + lengthBytes} were asked for, but ${what} ${this.sizeBytes}`,
    );
  }

  private eachPiece(offsetBytes: number, lengthBytes: number, visit: PieceVisitor): void {
    this.checkRange(offsetBytes, lengthBytes);
    const end = offsetBytes + lengthBytes;
    for (let at = offsetBytes; at < end;) {
      const subtree = Math.floor(at / SUBTREE_BYTES);
      const stop = Math.min(end, (subtree + 1) * SUBTREE_BYTES);
      this.eachPieceOfSubtree(subtree, at, stop, visit);
      at = stop;
    }
  }

  private eachPieceOfSubtree(subtree: number, from: number, stop: number, visit: PieceVisitor): void {
    const { index, segments } = this.cache;
    const base = subtree * SUBTREE_BYTES;
    let at = from;
    for (index.seek(subtree, Math.floor((from - base) / SECTOR_BYTES)); index.valid; index.advance()) {
      const start = base + index.start * SECTOR_BYTES;
      if (start >= stop) break;
      if (index.isStale) continue;
      if (start > at) visit(at, start - at, -1);
      const pieceStart = Math.max(at, start);
      const pieceEnd = Math.min(stop, base + index.end * SECTOR_BYTES);
      const payload = segments.dataOffsetBytes[index.segment] + index.offsetSectors * SECTOR_BYTES;
      visit(pieceStart, pieceEnd - pieceStart, payload + pieceStart - start);
      at = pieceEnd;
    }
    if (at < stop) visit(at, stop - at, -1);
  }
}
