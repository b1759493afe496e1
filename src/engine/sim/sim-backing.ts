/**
 * Simulated backing device with a volatile write cache. No call completes by itself: the driver of the
 * simulation chooses which call ends next, and how. So latencies, reorderings and stalls are all orders of
 * `finish` calls.
 *
 * Model: data moves when a call ends, so that a buffer that changes too early is noticed. A written sector is
 * volatile until a flush that began after the end of the write has ended. A crash keeps, per sector and
 * independently, the durable contents or any of the volatile ones, those of unfinished writes included; a sector
 * is never torn. A failed write may have written any of its sectors; a failed flush may have made any sector
 * durable and, by default, may have dropped any for good.
 */
import type { BackingDevice, BackingDone, PmemRangesWriter } from '../device/backing.js';
import type { Pmem } from '../device/pmem.js';
import { PcacheError, type PcacheErrorCode } from '../errors.js';
import { SECTOR_BYTES } from '../media/geometry.js';
import type { Random } from './random.js';

/** Contents of one sector, with their tag from `tagOf`. */
export interface SectorVersion {
  readonly bytes: Uint8Array;
  readonly tag: number;
  /** Order in which versions reached the device. */
  readonly serial: number;
}

export interface SimBackingOptions {
  readonly sizeBytes: number;
  readonly path?: string;
  /** Fills in the contents of a sector that was never written. */
  readonly initial: (sector: number, target: Uint8Array, targetOffset: number) => void;
  /** Returns a number that identifies the contents of a sector, so that a checker need not read them again; -1 if unknown. */
  readonly tagOf: (sector: number, bytes: Uint8Array, offset: number) => number;
  /** A failed flush drops nothing. */
  readonly keepsOnFailedFlush?: boolean;
}

interface Call {
  readonly kind: 'read' | 'write' | 'flush';
  readonly offsetBytes: number;
  readonly memory: Uint8Array;
  readonly memoryOffset: number;
  readonly lengthBytes: number;
  readonly done: BackingDone;
  /** Of a flush: serial of the newest version that had ended when the flush was called. */
  readonly serial: number;
}

const NO_MEMORY = new Uint8Array(0);

export class SimBacking implements BackingDevice {
  readonly path: string;
  readonly sizeBytes: number;
  reads = 0;
  writes = 0;
  flushes = 0;
  zeroes = 0;
  /** Called when the durable contents of a sector have changed. */
  onDurable: ((sector: number) => void) | undefined;

  private readonly durable = new Map<number, SectorVersion>();
  private readonly durableTags: Int32Array;
  /** Versions not durable yet, oldest first; a sector without any has no entry. */
  private readonly pending = new Map<number, SectorVersion[]>();
  private readonly calls: Call[] = [];
  private serial = 0;

  constructor(private readonly options: SimBackingOptions) {
    this.sizeBytes = options.sizeBytes;
    this.durableTags = new Int32Array(Math.ceil(options.sizeBytes / SECTOR_BYTES));
    this.path = options.path ?? 'simulated-backing';
  }

  // ---- the device interface ---------------------------------------------------------------------------

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number, done: BackingDone): void {
    this.reads++;
    this.take('read', offsetBytes, target, targetOffset, lengthBytes, done);
  }

  write(offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number, done: BackingDone): void {
    this.writes++;
    this.take('write', offsetBytes, source, sourceOffset, lengthBytes, done);
  }

  canPunch = true;
  /** A write of zeroes, for the model: a hole in a file is as volatile as data. */
  zero(offsetBytes: number, lengthBytes: number, _keepsSpace: boolean, done: BackingDone): void {
    this.zeroes++;
    this.take('write', offsetBytes, new Uint8Array(lengthBytes), 0, lengthBytes, done);
  }

  /** Ranges that adjoin share one write, with the bytes of the cache device at the time of the call. */
  writerFrom(pmem: Pmem): PmemRangesWriter {
    return (ranges, count, done) => {
      const { offsetBytes, lengthBytes, pmemOffsetBytes } = ranges;
      const endOf = (i: number) => offsetBytes[i] + lengthBytes[i];
      let left = 0;
      let first: Error | null = null;
      const ended: BackingDone = (error) => {
        first ??= error;
        if (--left === 0) done(first);
      };
      for (let i = 0, next = 0; i < count; i = next) {
        for (next = i + 1; next < count && offsetBytes[next] === endOf(next - 1);) next++;
        const bytes = new Uint8Array(endOf(next - 1) - offsetBytes[i]);
        left++;
        try {
          for (let n = i; n < next; n++) {
            pmem.read(pmemOffsetBytes[n], bytes, offsetBytes[n] - offsetBytes[i], lengthBytes[n]);
          }
          this.write(offsetBytes[i], bytes, 0, bytes.length, ended);
        } catch (error) {
          if (!(error instanceof PcacheError)) throw error;
          queueMicrotask(() => ended(error));
        }
      }
    };
  }

  flush(done: BackingDone): void {
    this.flushes++;
    this.take('flush', 0, NO_MEMORY, 0, 0, done);
  }

  close(): void {
    if (this.calls.length > 0) throw new PcacheError('BUSY', `${this.path}: closed with calls under way`);
  }

  private take(
    kind: Call['kind'],
    offsetBytes: number,
    memory: Uint8Array,
    memoryOffset: number,
    lengthBytes: number,
    done: BackingDone,
  ): void {
    const aligned = offsetBytes % SECTOR_BYTES === 0 && lengthBytes % SECTOR_BYTES === 0;
    if (!aligned || offsetBytes < 0 || offsetBytes + lengthBytes > this.sizeBytes) {
      throw new PcacheError(
        'OUT_OF_RANGE',
        `${this.path}: ${kind} of ${offsetBytes}+${lengthBytes} is not on the device`,
      );
    }
    this.calls.push({ kind, offsetBytes, memory, memoryOffset, lengthBytes, done, serial: this.serial });
  }

  // ---- the driver's side ------------------------------------------------------------------------------

  /** Calls under way. */
  get underWay(): number {
    return this.calls.length;
  }
  kindOf(call: number): Call['kind'] {
    return this.calls[call].kind;
  }

  /** Ends call number `which` (0 is the oldest) successfully. */
  finish(which: number): void {
    const [call] = this.calls.splice(which, 1);
    if (call.kind === 'read') this.load(call, call.lengthBytes);
    else if (call.kind === 'write') this.store(call, () => true);
    else this.settle(call.serial, () => true);
    call.done(null);
  }

  /** Ends call number `which` with an error, after a part of it was done. */
  finishWithError(which: number, random: Random, code: PcacheErrorCode = 'IO'): void {
    const [call] = this.calls.splice(which, 1);
    if (call.kind === 'read') {
      this.load(call, SECTOR_BYTES * random.below(call.lengthBytes / SECTOR_BYTES + 1));
    } else if (call.kind === 'write') {
      this.store(call, () => random.chance(0.5));
    } else {
      this.settle(call.serial, () => random.chance(0.5));
      if (!this.options.keepsOnFailedFlush) this.dropSome(random);
    }
    const range = `${call.offsetBytes}+${call.lengthBytes}`;
    call.done(new PcacheError(code, `${this.path}: ${call.kind} of ${range} failed as asked`));
  }

  /** Whether a sector has contents that a crash could lose. */
  isVolatile(sector: number): boolean {
    return this.pending.has(sector);
  }

  /** The newest contents of a sector, which a read would return. */
  newest(sector: number): SectorVersion | undefined {
    return this.pending.get(sector)?.at(-1) ?? this.durable.get(sector);
  }

  /** The durable contents of a sector; undefined for its initial contents. */
  durableVersion(sector: number): SectorVersion | undefined {
    return this.durable.get(sector);
  }

  /** Tag of the durable contents of a sector; 0 for its initial contents. */
  durableTag(sector: number): number {
    return this.durableTags[sector];
  }

  /**
   * Calls `visit` with the tag of everything that a crash could leave in a sector besides its durable contents.
   * @param skip sectors that need not be looked at.
   */
  eachVolatile(skip: (sector: number) => boolean, visit: (sector: number, tag: number) => void): void {
    for (const [sector, versions] of this.pending) {
      if (!skip(sector)) for (const version of versions) visit(sector, version.tag);
    }
    for (const call of this.calls) {
      if (call.kind !== 'write') continue;
      this.eachSector(call, (sector, at) => {
        if (!skip(sector)) visit(sector, this.options.tagOf(sector, call.memory, at));
      });
    }
  }

  /** Loses power: calls under way never complete, and each volatile sector survives or is lost. */
  crash(random: Random): void {
    for (const call of this.calls) {
      if (call.kind === 'write' && random.chance(0.7)) this.store(call, () => random.chance(0.6));
    }
    this.calls.length = 0;
    const style = random.below(3); // all lost, all kept, or each at random
    for (const [sector, versions] of this.pending) {
      const kept = style === 0 ? -1 : style === 1 ? versions.length - 1 : random.between(-1, versions.length - 1);
      if (kept >= 0) this.makeDurable(sector, versions[kept]);
    }
    this.pending.clear();
  }

  /** The process ended: calls under way end in any way, and their callbacks are not called. */
  abandon(random: Random): void {
    for (const call of this.calls.splice(0)) {
      if (call.kind === 'write') this.store(call, () => random.chance(0.5));
      else if (call.kind === 'flush' && random.chance(0.5)) this.settle(call.serial, () => true);
    }
  }

  /** A separate device in a state that a crash at this moment may leave. */
  copyCrashed(random: Random): SimBacking {
    const copy = new SimBacking(this.options);
    for (const [sector, version] of this.durable) copy.durable.set(sector, version);
    copy.durableTags.set(this.durableTags);
    for (const [sector, versions] of this.pending) copy.pending.set(sector, versions.slice());
    for (const call of this.calls) copy.calls.push(call);
    copy.serial = this.serial;
    copy.crash(random);
    return copy;
  }

  private eachSector(call: Call, visit: (sector: number, memoryAt: number) => void): void {
    const first = call.offsetBytes / SECTOR_BYTES;
    for (let n = 0; n < call.lengthBytes / SECTOR_BYTES; n++) visit(first + n, call.memoryOffset + n * SECTOR_BYTES);
  }

  private version(sector: number, memory: Uint8Array, at: number): SectorVersion {
    const tag = this.options.tagOf(sector, memory, at);
    return { bytes: memory.slice(at, at + SECTOR_BYTES), tag, serial: ++this.serial };
  }

  private load(call: Call, lengthBytes: number): void {
    const first = call.offsetBytes / SECTOR_BYTES;
    for (let n = 0; n < lengthBytes / SECTOR_BYTES; n++) {
      const at = call.memoryOffset + n * SECTOR_BYTES;
      const version = this.newest(first + n);
      if (version) call.memory.set(version.bytes, at);
      else this.options.initial(first + n, call.memory, at);
    }
  }

  private store(call: Call, reaches: (sector: number) => boolean): void {
    this.eachSector(call, (sector, at) => {
      if (!reaches(sector)) return;
      const version = this.version(sector, call.memory, at);
      const versions = this.pending.get(sector);
      if (versions) versions.push(version);
      else this.pending.set(sector, [version]);
    });
  }

  private makeDurable(sector: number, version: SectorVersion): void {
    this.durable.set(sector, version);
    this.durableTags[sector] = version.tag;
    this.onDurable?.(sector);
  }

  /** Makes versions up to `serial` durable, in the sectors that are `reached`. */
  private settle(serial: number, reached: (sector: number) => boolean): void {
    for (const [sector, versions] of this.pending) {
      if (!reached(sector)) continue;
      let settled = 0;
      while (settled < versions.length && versions[settled].serial <= serial) settled++;
      if (settled === 0) continue;
      this.makeDurable(sector, versions[settled - 1]);
      if (settled === versions.length) this.pending.delete(sector);
      else versions.splice(0, settled);
    }
  }

  /** A failed flush may drop sectors for good, and later flushes do not report it. */
  private dropSome(random: Random): void {
    for (const sector of [...this.pending.keys()]) if (random.chance(0.5)) this.pending.delete(sector);
  }
}
