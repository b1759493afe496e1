/**
 * The cache device through plain reads: the read-only fallback when the native helper is off. The file stays
 * open, and locked, until `close()`.
 */
import { closeSync, readSync } from 'node:fs';
import { fromSystemError, PcacheError } from '../errors.js';
import { bestCrc32c } from './native.js';
import type { PmemReader } from './pmem.js';

/** The CRC of a long range is computed through a buffer of this many bytes. */
const CRC_BUFFER_BYTES = 1 << 20;
/** Maximum length of one read; the system's own limit is just below 2 GiB. */
const READ_BYTES_MAX = 1 << 30;

export class FileReader implements PmemReader {
  private crcBuffer: Uint8Array | undefined;
  private open = true;
  private readonly crc = bestCrc32c();

  /** @param fd file open for reading, which the new object closes. */
  constructor(
    readonly path: string,
    protected readonly fd: number,
    readonly sizeBytes: number,
  ) {}

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    this.check(offsetBytes, lengthBytes);
    if (!fits(targetOffset, lengthBytes, target.length)) throw this.outOfRange(offsetBytes, lengthBytes);
    for (let done = 0; done < lengthBytes;) {
      const wanted = Math.min(lengthBytes - done, READ_BYTES_MAX);
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
    this.crcBuffer ??= new Uint8Array(CRC_BUFFER_BYTES);
    let crc = seed;
    for (let done = 0; done < lengthBytes; done += CRC_BUFFER_BYTES) {
      const length = Math.min(CRC_BUFFER_BYTES, lengthBytes - done);
      this.read(offsetBytes + done, this.crcBuffer, 0, length);
      crc = this.crc(crc, this.crcBuffer, 0, length);
    }
    return crc;
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    closeSync(this.fd);
  }

  /** @returns number of bytes read */
  protected readSome(target: Uint8Array, targetOffset: number, lengthBytes: number, offsetBytes: number): number {
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
