/**
 * A cache device in memory that is cheap to damage, repair and throw away: pages that were written lie over a base
 * that is never changed. What the base's payload CRCs are is remembered, so a check of it costs next to nothing.
 */
import { bestCrc32c } from '../../../src/engine/device/native.js';
import {
  plainCopyList,
  plainPieceList,
  writePlainly,
  type Arena,
  type CopyList,
  type PieceList,
  type Pmem,
} from '../../../src/engine/device/pmem.js';
import type { DamageImage } from './edit.js';

const PAGE_SHIFT = 12;
export const PAGE_BYTES = 1 << PAGE_SHIFT;
const KEY_STEP = 2 ** 32;

/** What lies below: an image, or any reader. */
export interface OverlayBase {
  readonly sizeBytes: number;
  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void;
}

export class Overlay implements Pmem, DamageImage {
  readonly durability = 'volatile';
  readonly path: string;
  readonly sizeBytes: number;
  private readonly pages = new Map<number, Uint8Array>();
  private readonly crc = bestCrc32c();

  constructor(
    private readonly base: OverlayBase,
    private readonly crcs = new Map<number, number>(),
    sizeBytes = base.sizeBytes,
  ) {
    this.path = 'overlay';
    this.sizeBytes = sizeBytes;
  }

  /** Another overlay over the same base, as this one is now. */
  clone(sizeBytes = this.sizeBytes): Overlay {
    const copy = new Overlay(this.base, this.crcs, sizeBytes);
    for (const [number, page] of this.pages) if (number * PAGE_BYTES < sizeBytes) copy.pages.set(number, page.slice());
    return copy;
  }

  /** Is any of these bytes on a page that was written? */
  isTouched(offsetBytes: number, lengthBytes: number): boolean {
    if (this.pages.size === 0) return false;
    const last = Math.floor((offsetBytes + lengthBytes - 1) / PAGE_BYTES);
    for (let page = Math.floor(offsetBytes / PAGE_BYTES); page <= last; page++) if (this.pages.has(page)) return true;
    return false;
  }

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    this.check(offsetBytes, lengthBytes);
    const inBase = Math.max(0, Math.min(lengthBytes, this.base.sizeBytes - offsetBytes));
    if (inBase > 0) this.base.read(offsetBytes, target, targetOffset, inBase);
    target.fill(0, targetOffset + inBase, targetOffset + lengthBytes);
    if (this.pages.size === 0) return;
    this.pieces(offsetBytes, lengthBytes, (number, from, done, length) => {
      const page = this.pages.get(number);
      if (page !== undefined) target.set(page.subarray(from, from + length), targetOffset + done);
    });
  }

  bytes(offsetBytes: number, lengthBytes: number): Uint8Array {
    const bytes = new Uint8Array(lengthBytes);
    this.read(offsetBytes, bytes, 0, lengthBytes);
    return bytes;
  }

  crc32c(offsetBytes: number, lengthBytes: number, seed: number): number {
    const known = lengthBytes < KEY_STEP && !this.isTouched(offsetBytes, lengthBytes);
    const key = (offsetBytes / 512) * (1 << 14) + lengthBytes / 512;
    const cached = known ? this.crcs.get(key) : undefined;
    if (cached !== undefined) return cached;
    const crc = this.crc(seed, this.bytes(offsetBytes, lengthBytes), 0, lengthBytes);
    if (known) this.crcs.set(key, crc);
    return crc;
  }

  write(offsetBytes: number, source: Uint8Array, sourceOffset = 0, lengthBytes = source.length): void {
    this.check(offsetBytes, lengthBytes);
    this.pieces(offsetBytes, lengthBytes, (number, from, done, length) => {
      const page = this.writable(number);
      page.set(source.subarray(sourceOffset + done, sourceOffset + done + length), from);
    });
  }

  zero(offsetBytes: number, lengthBytes: number): void {
    this.write(offsetBytes, new Uint8Array(lengthBytes));
  }

  fence(): void {
    this.check(0, 0);
  }

  persist(): void {
    this.check(0, 0);
  }

  registerArena(memory: Uint8Array): Arena {
    return { id: 0, memory };
  }

  unregisterArena(_arena: Arena): void {
    this.check(0, 0);
  }

  createCopyList(capacity: number): CopyList {
    return plainCopyList(capacity);
  }

  runReads(list: CopyList, count: number, { memory }: Arena): void {
    for (let i = 0; i < count; i++) {
      this.read(list.pmemOffsetBytes[i], memory, list.arenaOffsetBytes[i], list.lengthBytes[i]);
    }
  }

  createPieceList(capacity: number, withCrc: boolean): PieceList {
    return plainPieceList(capacity, withCrc);
  }

  writePieces(list: PieceList, count: number, pmemOffsetBytes: number, arena: Arena): void {
    writePlainly(this, list, count, pmemOffsetBytes, arena, this.crc);
  }

  close(): void {
    this.pages.clear();
  }

  /** Offsets of pages that were written, ascending. */
  get touchedPages(): number[] {
    return [...this.pages.keys()].map((number) => number * PAGE_BYTES).sort((a, b) => a - b);
  }

  /** Offsets of pages that differ between two overlays over one base. */
  differences(other: Overlay): number[] {
    const numbers = new Set([...this.pages.keys(), ...other.pages.keys()]);
    return [...numbers]
      .map((number) => number * PAGE_BYTES)
      .filter((offset) => {
        const length = Math.min(PAGE_BYTES, this.sizeBytes - offset);
        return Buffer.compare(this.bytes(offset, length), other.bytes(offset, length)) !== 0;
      });
  }

  private writable(number: number): Uint8Array {
    let page = this.pages.get(number);
    if (page === undefined) {
      const offset = number * PAGE_BYTES;
      page = new Uint8Array(PAGE_BYTES);
      const length = Math.min(PAGE_BYTES, this.base.sizeBytes - offset);
      if (length > 0) this.base.read(offset, page, 0, length);
      this.pages.set(number, page);
    }
    return page;
  }

  private check(offsetBytes: number, lengthBytes: number): void {
    if (offsetBytes < 0 || offsetBytes + lengthBytes > this.sizeBytes) throw new Error('beyond the overlay');
  }

  private pieces(
    offsetBytes: number,
    lengthBytes: number,
    visit: (page: number, from: number, done: number, length: number) => void,
  ): void {
    for (let done = 0; done < lengthBytes;) {
      const at = offsetBytes + done;
      const from = at % PAGE_BYTES;
      const length = Math.min(PAGE_BYTES - from, lengthBytes - done);
      visit(Math.floor(at / PAGE_BYTES), from, done, length);
      done += length;
    }
  }
}
