/**
 * A block device that is in use, read past its page cache (O_DIRECT). The kernel's target stores to persistent memory
 * directly, so pages that the page cache read before stay as they were until nobody has the device open.
 */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { fromSystemError, PcacheError } from '../errors.js';
import { KIB, MIB } from '../media/geometry.js';
import { FileReader } from './file-reader.js';

/** Offsets, lengths and memory of direct reads are multiples of the device's block, which is at most this. */
const BLOCK_BYTES = 4 * KIB;
const BUFFER_BYTES = MIB;
/** The allocator aligns memory to this. */
const ALLOCATION_BYTES = 16;

export class DirectReader extends FileReader {
  private readonly directFd: number;
  /** As many bytes as BUFFER_BYTES, at an address that the device takes. */
  private readonly buffer: Uint8Array;
  private directOpen = true;

  /** @param fd block device open for reading, which the new object closes once its constructor has returned */
  constructor(path: string, fd: number, sizeBytes: number) {
    super(path, fd, sizeBytes);
    try {
      this.directFd = openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY | constants.O_DIRECT);
    } catch (error) {
      throw fromSystemError(error, path, 'opening it for direct reads');
    }
    try {
      this.buffer = alignedBuffer(path, this.directFd);
    } catch (error) {
      closeSync(this.directFd);
      throw error;
    }
  }

  protected override readSome(
    target: Uint8Array,
    targetOffset: number,
    lengthBytes: number,
    offsetBytes: number,
  ): number {
    const start = offsetBytes - (offsetBytes % BLOCK_BYTES);
    const wanted = Math.ceil((offsetBytes + lengthBytes) / BLOCK_BYTES) * BLOCK_BYTES;
    const end = Math.min(wanted, this.sizeBytes, start + BUFFER_BYTES);
    let got: number;
    try {
      got = readSync(this.directFd, this.buffer, 0, end - start, start);
    } catch (error) {
      throw fromSystemError(error, this.path, `reading bytes ${offsetBytes} to ${offsetBytes + lengthBytes}`);
    }
    const skipped = offsetBytes - start;
    const length = Math.max(0, Math.min(got - skipped, lengthBytes));
    target.set(this.buffer.subarray(skipped, skipped + length), targetOffset);
    return length;
  }

  override close(): void {
    if (this.directOpen) closeSync(this.directFd);
    this.directOpen = false;
    super.close();
  }
}

/** Memory at an address that the device takes, which is found by trying: JavaScript does not tell addresses. */
function alignedBuffer(path: string, fd: number): Uint8Array {
  const memory = new Uint8Array(BUFFER_BYTES + BLOCK_BYTES);
  for (let shift = 0; shift < BLOCK_BYTES; shift += ALLOCATION_BYTES) {
    try {
      readSync(fd, memory, shift, BLOCK_BYTES, 0);
    } catch (error) {
      // Any other error comes after the address was accepted, and is met again when that place is read.
      if ((error as NodeJS.ErrnoException).code === 'EINVAL') continue;
    }
    return memory.subarray(shift, shift + BUFFER_BYTES);
  }
  throw new PcacheError('UNSUPPORTED', `${path}: is in use and takes no direct reads; stop that use first`);
}
