/**
 * A cache image in memory, without its zero blocks: what tests damage and look at. `clone()` is cheap (blocks
 * are shared until written), so each test may have its own. Invariant: a block is written only by its owner.
 */
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import type { PmemReader } from '../../src/engine/device/pmem.js';
import { crc32cRaw } from '../../src/engine/media/crc32c.js';

const BLOCK_BYTES = 64 * 1024;
const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES);

export class SparseImage implements PmemReader {
  private readonly owned = new Set<number>();

  private constructor(
    readonly path: string,
    readonly sizeBytes: number,
    private readonly blocks: Map<number, Uint8Array>,
  ) {}

  /** An image of zeroes. */
  static blank(sizeBytes: number, path = 'blank.pmem'): SparseImage {
    return new SparseImage(path, sizeBytes, new Map());
  }

  static fromFile(path: string): SparseImage {
    const fd = openSync(path, 'r');
    try {
      const image = SparseImage.blank(fstatSync(fd).size, path);
      const piece = Buffer.alloc(BLOCK_BYTES);
      for (let offset = 0; offset < image.sizeBytes; offset += BLOCK_BYTES) {
        const got = readSync(fd, piece, 0, BLOCK_BYTES, offset);
        if (piece.compare(ZERO_BLOCK, 0, got, 0, got) !== 0) image.write(offset, piece.subarray(0, got));
      }
      return image;
    } finally {
      closeSync(fd);
    }
  }

  /** Writes the image as a file with holes. */
  writeTo(path: string): void {
    const fd = openSync(path, 'w');
    try {
      ftruncateSync(fd, this.sizeBytes);
      for (const [number, block] of this.blocks) {
        const offset = number * BLOCK_BYTES;
        writeSync(fd, block, 0, Math.min(BLOCK_BYTES, this.sizeBytes - offset), offset);
      }
    } finally {
      closeSync(fd);
    }
  }

  /** A copy, cut or extended to `sizeBytes` when that is given. */
  clone(sizeBytes = this.sizeBytes): SparseImage {
    const kept = [...this.blocks].filter(([number]) => number * BLOCK_BYTES < sizeBytes);
    this.owned.clear();
    return new SparseImage(this.path, sizeBytes, new Map(kept));
  }

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    this.pieces(offsetBytes, lengthBytes, (number, from, done, length) => {
      const block = this.blocks.get(number);
      if (block === undefined) target.fill(0, targetOffset + done, targetOffset + done + length);
      else target.set(block.subarray(from, from + length), targetOffset + done);
    });
  }

  bytes(offsetBytes: number, lengthBytes: number): Uint8Array {
    const bytes = new Uint8Array(lengthBytes);
    this.read(offsetBytes, bytes, 0, lengthBytes);
    return bytes;
  }

  write(offsetBytes: number, source: Uint8Array): void {
    this.pieces(offsetBytes, source.length, (number, from, done, length) => {
      this.writable(number).set(source.subarray(done, done + length), from);
    });
  }

  zero(offsetBytes: number, lengthBytes: number): void {
    this.write(offsetBytes, new Uint8Array(lengthBytes));
  }

  crc32c(offsetBytes: number, lengthBytes: number, seed: number): number {
    return crc32cRaw(seed, this.bytes(offsetBytes, lengthBytes));
  }

  close(): void {
    // Nothing is held open.
  }

  private writable(number: number): Uint8Array {
    const block = this.blocks.get(number);
    if (block !== undefined && this.owned.has(number)) return block;
    const copy = new Uint8Array(BLOCK_BYTES);
    if (block !== undefined) copy.set(block);
    this.blocks.set(number, copy);
    this.owned.add(number);
    return copy;
  }

  private pieces(
    offsetBytes: number,
    lengthBytes: number,
    visit: (block: number, from: number, done: number, length: number) => void,
  ): void {
    if (offsetBytes < 0 || offsetBytes + lengthBytes > this.sizeBytes) throw new Error('beyond the image');
    for (let done = 0; done < lengthBytes;) {
      const at = offsetBytes + done;
      const from = at % BLOCK_BYTES;
      const length = Math.min(BLOCK_BYTES - from, lengthBytes - done);
      visit(Math.floor(at / BLOCK_BYTES), from, done, length);
      done += length;
    }
  }
}
