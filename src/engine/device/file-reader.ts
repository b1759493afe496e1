/**
 * The cache device by plain reads: the read-only fallback where the native helper is off. The open file
 * stays open, and with it its locks, until `close()`.
 */
import { closeSync, readSync } from 'node:fs';
import { fromSystemError, PcacheError } from '../errors.js';
import { bestCrc32c } from './native.js';
import type { PmemReader } from './pmem.js';

/** CRCs of long ranges are taken in pieces of this many bytes. */
const CRC_PIECE_BYTES = 1 << 20;
/** A single read is no longer than this; the system's own limit is just below 2 GiB. */
const READ_PIECE_BYTES = 1 << 30;

export class FileReader implements PmemReader {
  private piece: Uint8Array | undefined;
  private open = true;
  private readonly crc = bestCrc32c();

  /** @param fd open for reading; belongs to the new object. */
  constructor(
    readonly path: string,
    private readonly fd: number,
    readonly sizeBytes: number,
  ) {}

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    this.check(offsetBytes, lengthBytes);
    if (!fits(targetOffset, lengthBytes, target.length)) throw this.outOfRange(offsetBytes, lengthBytes);
    for (let done = 0; done < lengthBytes;) {
      const wanted = Math.min(lengthBytes - done, READ_PIECE_BYTES);
      const got = this.readSome(target, targetOffset + done, wanted, offsetBytes + done);
      if (got === 0) {
        throw new PcacheError(
          'TRUNCATED',
          `${this.path}: ends at byte ${offsetBytes + done} but had ${this.sizeBytes} bytes when opened; restore it from a copy`,
        );
      }
      done += got;
    }
  }

  crc32c(offsetBytes: number, lengthBytes: number, seed: number): number {
    this.check(offsetBytes, lengthBytes);
    this.piece ??= new Uint8Array(CRC_PIECE_BYTES);
    let crc = seed;
    for (let done = 0; done < lengthBytes; done += CRC_PIECE_BYTES) {
      const length = Math.min(CRC_PIECE_BYTES, lengthBytes - done);
      this.read(offsetBytes + done, this.piece, 0, length);
      crc = this.crc(crc, this.piece, 0, length);
    }
    return crc;
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    closeSync(this.fd);
  }

  private readSome(target: Uint8Array, targetOffset: number, lengthBytes: number, offsetBytes: number): number {
    try {
      return readSync(this.fd, target, targetOffset, lengthBytes, offsetBytes);
    } catch (error) {
      throw fromSystemError(error, this.path, `reading bytes ${offsetBytes} to ${offsetBytes + lengthBytes}`);
    }
  }

  private check(offsetBytes: number, lengthBytes: number): void {
    if (!this.open) throw new PcacheError('CLOSED', `${this.path}: used after it was closed`);
    if (!fits(offsetBytes, lengthBytes, this.sizeBytes)) throw this.outOfRange(offsetBytes, lengthBytes);
  }

  private outOfRange(offsetBytes: number, lengthBytes: number): PcacheError {
    return new PcacheError(
      'OUT_OF_RANGE',
      `${this.path}: reading beyond its ${this.sizeBytes} bytes or the buffer (offset ${offsetBytes}, length ${lengthBytes})`,
    );
  }
}

/** Whether `[offset, offset + length)` lies within `size`; all must be safe non-negative integers. */
function fits(offset: number, length: number, size: number): boolean {
  return (
    Number.isSafeInteger(offset) &&
    Number.isSafeInteger(length) &&
    offset >= 0 &&
    length >= 0 &&
    length <= size &&
    offset <= size - length
  );
}
