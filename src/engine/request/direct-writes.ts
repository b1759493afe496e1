/**
 * Direct writes: ranges that the cache does not hold go straight to the backing device (writearound), or are zeroed there
 * (TRIM and WRITE_ZEROES in all modes).
 *
 * Invariants:
 * - No two direct writes of overlapping ranges are under way, so the write submitted last wins.
 * - The cache does not come to hold a range while a direct write of it is under way, so write-back never writes there at
 *   the same time.
 * - From the beginning of a direct write until a flush of the backing device that began after its end, no read fills its
 *   range into the cache. Otherwise a CLEAN key could survive a crash that loses the data on the backing device, and
 *   reads would change when GC drops the key.
 * - The cache does not know what was written before it was opened, so at first the whole device counts as written and
 *   not flushed.
 */
import type { BackingDurability } from '../background/backing-durability.js';
import type { Core } from '../core.js';
import type { BackingDone } from '../device/backing.js';
import { fromSystemError, type PcacheError } from '../errors.js';
import type { EngineGroup } from './request-group.js';

/** With more ranges than this a flush of the backing device is requested. */
const UNFLUSHED_RANGES_MAX = 256;

class DirectWrite {
  /** Number of the first flush that makes it durable, once it has been answered. */
  flush = 0;
  isUnderWay = true;
  constructor(
    readonly startBytes: number,
    readonly endBytes: number,
  ) {}
}

export class DirectWrites {
  /** Writes that are under way, or answered and not known to be durable. */
  private writes: DirectWrite[] = [];
  private underWay = 0;

  constructor(
    private readonly core: Core,
    private readonly durability: BackingDurability,
    private readonly onPartDone: (group: EngineGroup, request: number, error: PcacheError | undefined) => void,
  ) {
    const unknown = new DirectWrite(0, core.backing.sizeBytes);
    unknown.isUnderWay = false;
    unknown.flush = durability.flushes.owe();
    this.writes.push(unknown);
    durability.flushes.request();
  }

  /** Number of writes under way. */
  get pending(): number {
    return this.underWay;
  }
  /** Number of ranges that are kept because they may be lost in a crash. */
  get unsettledCount(): number {
    return this.writes.length;
  }
  /** Some range may still be lost in a crash. */
  get hasUnsettled(): boolean {
    return this.writes.length > 0;
  }

  /** Whether the backing device's data of a range is changing, or may still be lost in a crash. */
  isUnsettled(startBytes: number, endBytes: number): boolean {
    return this.writes.some((write) => write.startBytes < endBytes && startBytes < write.endBytes);
  }

  /** Whether a write that overlaps the range is under way. */
  isUnderWay(startBytes: number, endBytes: number): boolean {
    return (
      this.underWay > 0 &&
      this.writes.some((write) => write.isUnderWay && write.startBytes < endBytes && startBytes < write.endBytes)
    );
  }

  /** Writes a part of request `i`; no write under way may overlap it. */
  write(group: EngineGroup, i: number, offsetBytes: number, lengthBytes: number, arenaAt: number): void {
    const { backing, stats } = this.core;
    stats.directWrites++;
    stats.directWriteBytes += lengthBytes;
    backing.write(
      offsetBytes,
      group.arena.memory,
      arenaAt,
      lengthBytes,
      this.begin(group, i, offsetBytes, lengthBytes),
    );
  }

  /** Zeroes a part of request `i`; no write under way may overlap it. */
  zero(group: EngineGroup, i: number, offsetBytes: number, lengthBytes: number, keepsSpace: boolean): void {
    const { backing, stats } = this.core;
    stats.backingZeroes++;
    stats.backingZeroBytes += lengthBytes;
    backing.zero!(offsetBytes, lengthBytes, keepsSpace, this.begin(group, i, offsetBytes, lengthBytes));
  }

  /** Notes a part that is about to begin. @returns what the backing device calls at its end */
  private begin(group: EngineGroup, i: number, offsetBytes: number, lengthBytes: number): BackingDone {
    const write = new DirectWrite(offsetBytes, offsetBytes + lengthBytes);
    this.writes.push(write);
    this.underWay++;
    group.parts[i]++;
    return (error) => {
      this.underWay--;
      write.isUnderWay = false;
      write.flush = this.durability.flushes.owe();
      if (this.writes.length > UNFLUSHED_RANGES_MAX) {
        this.durability.flushes.request();
        if (this.writes.length > 2 * (UNFLUSHED_RANGES_MAX + this.underWay)) this.merge();
      }
      const { path } = this.core.backing;
      this.onPartDone(group, i, error ? fromSystemError(error, path, 'writing to it') : undefined);
    };
  }

  /** Makes one range of all that are answered, so that their number stays bounded while no flush succeeds. */
  private merge(): void {
    const kept: DirectWrite[] = [];
    let [start, end, flush] = [Infinity, 0, 0];
    for (const write of this.writes) {
      if (write.isUnderWay) {
        kept.push(write);
        continue;
      }
      start = Math.min(start, write.startBytes);
      end = Math.max(end, write.endBytes);
      flush = Math.max(flush, write.flush);
    }
    const all = new DirectWrite(start, end);
    all.isUnderWay = false;
    all.flush = flush;
    kept.push(all);
    this.writes = kept;
  }

  /** Forgets the ranges that have become durable. */
  forgetFlushed(): void {
    const { writes, durability } = this;
    let kept = 0;
    for (const write of writes) {
      if (write.isUnderWay || !durability.flushes.isDone(write.flush)) writes[kept++] = write;
    }
    writes.length = kept;
  }
}
