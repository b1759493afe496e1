/**
 * A cache device in memory, for tests that need bytes and no durability. `RecordingPmem` also keeps a log of
 * what was done in which order, for rules about order.
 */
import { PcacheError } from '../../src/engine/errors.js';
import {
  plainCopyList,
  plainPieceList,
  writePlainly,
  type Arena,
  type CopyList,
  type Durability,
  type PieceList,
  type Pmem,
} from '../../src/engine/device/pmem.js';
import { crc32cRaw } from '../../src/engine/media/crc32c.js';

/** Memory is allocated in pages of this size when first written, so that a device may be large and sparse. */
const PAGE_BYTES = 64 * 1024;

export class MemoryPmem implements Pmem {
  readonly durability: Durability = 'volatile';
  private readonly pages = new Map<number, Uint8Array>();
  private closed = false;
  private arenas = 0;

  constructor(
    readonly sizeBytes: number,
    readonly path = 'memory',
  ) {}

  private check(offsetBytes: number, lengthBytes: number): void {
    if (this.closed) throw new PcacheError('CLOSED', `${this.path}: closed`);
    const inside =
      Number.isSafeInteger(offsetBytes) &&
      offsetBytes >= 0 &&
      lengthBytes >= 0 &&
      offsetBytes + lengthBytes <= this.sizeBytes;
    if (!inside)
      throw new PcacheError('OUT_OF_RANGE', `${this.path}: ${offsetBytes}+${lengthBytes} is beyond the device`);
  }

  /** Calls `body` with each page's part of a range: `done` bytes of it lie before. */
  private eachPage(
    offsetBytes: number,
    lengthBytes: number,
    body: (page: number, within: number, done: number, length: number) => void,
  ): void {
    for (let done = 0; done < lengthBytes;) {
      const page = Math.floor((offsetBytes + done) / PAGE_BYTES);
      const within = (offsetBytes + done) % PAGE_BYTES;
      const length = Math.min(PAGE_BYTES - within, lengthBytes - done);
      body(page, within, done, length);
      done += length;
    }
  }

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    this.check(offsetBytes, lengthBytes);
    this.eachPage(offsetBytes, lengthBytes, (page, within, done, length) => {
      const memory = this.pages.get(page);
      const part = target.subarray(targetOffset + done, targetOffset + done + length);
      if (memory === undefined) part.fill(0);
      else part.set(memory.subarray(within, within + length));
    });
  }

  write(offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number): void {
    this.check(offsetBytes, lengthBytes);
    this.eachPage(offsetBytes, lengthBytes, (page, within, done, length) => {
      let memory = this.pages.get(page);
      if (memory === undefined) this.pages.set(page, (memory = new Uint8Array(PAGE_BYTES)));
      memory.set(source.subarray(sourceOffset + done, sourceOffset + done + length), within);
    });
  }

  zero(offsetBytes: number, lengthBytes: number): void {
    this.check(offsetBytes, lengthBytes);
    this.eachPage(offsetBytes, lengthBytes, (page, within, _done, length) => {
      this.pages.get(page)?.fill(0, within, within + length);
    });
  }

  crc32c(offsetBytes: number, lengthBytes: number, seed: number): number {
    const bytes = new Uint8Array(lengthBytes);
    this.read(offsetBytes, bytes, 0, lengthBytes);
    return crc32cRaw(seed, bytes);
  }

  fence(): void {
    this.check(0, 0);
  }

  persist(): void {
    this.check(0, 0);
  }

  registerArena(memory: Uint8Array): Arena {
    return { id: ++this.arenas, memory };
  }

  unregisterArena(_arena: Arena): void {
    this.check(0, 0);
  }

  createCopyList(capacity: number): CopyList {
    return plainCopyList(capacity);
  }

  runReads(list: CopyList, count: number, arena: Arena): void {
    for (let i = 0; i < count; i++) {
      this.read(list.pmemOffsetBytes[i], arena.memory, list.arenaOffsetBytes[i], list.lengthBytes[i]);
    }
  }

  createPieceList(capacity: number, withCrc: boolean): PieceList {
    return plainPieceList(capacity, withCrc);
  }

  writePieces(list: PieceList, count: number, pmemOffsetBytes: number, arena: Arena): void {
    writePlainly(this, list, count, pmemOffsetBytes, arena, crc32cRaw);
  }

  close(): void {
    this.closed = true;
  }

  /** A copy of a range. */
  bytes(offsetBytes: number, lengthBytes: number): Uint8Array {
    const bytes = new Uint8Array(lengthBytes);
    this.read(offsetBytes, bytes, 0, lengthBytes);
    return bytes;
  }

  /** Offsets of all 64 KiB pages that hold anything but zeroes, ascending. */
  usedPages(): number[] {
    return [...this.pages.entries()]
      .filter(([, memory]) => memory.some((byte) => byte !== 0))
      .map(([page]) => page * PAGE_BYTES)
      .sort((a, b) => a - b);
  }
}

export type PmemEvent =
  | { readonly kind: 'write' | 'zero'; readonly offsetBytes: number; readonly lengthBytes: number }
  | { readonly kind: 'fence' | 'persist' };

/** Records stores and barriers; can fail from the nth of them on, to stop a writer in the middle. */
export class RecordingPmem extends MemoryPmem {
  readonly events: PmemEvent[] = [];
  failAtEvent = Infinity;

  private record(event: PmemEvent): void {
    if (this.events.length >= this.failAtEvent) throw new PcacheError('IO', `${this.path}: failed as asked`);
    this.events.push(event);
  }

  override write(offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number): void {
    this.record({ kind: 'write', offsetBytes, lengthBytes });
    super.write(offsetBytes, source, sourceOffset, lengthBytes);
  }

  override zero(offsetBytes: number, lengthBytes: number): void {
    this.record({ kind: 'zero', offsetBytes, lengthBytes });
    super.zero(offsetBytes, lengthBytes);
  }

  override fence(): void {
    this.record({ kind: 'fence' });
  }

  override persist(): void {
    this.record({ kind: 'persist' });
  }
}
