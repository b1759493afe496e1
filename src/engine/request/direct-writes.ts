/**
 * Direct writes (writearound): ranges that the cache does not hold go straight to the backing device.
 *
 * Invariants:
 * - No two direct writes of overlapping ranges are under way, so the write submitted last wins.
 * - From the beginning of a direct write until a flush of the backing device that began after its end, no read fills its
 *   range into the cache. Otherwise a CLEAN key could survive a crash that loses the data on the backing device, and
 *   reads would change when GC drops the key.
 * - The cache does not know what was written before it was opened, so at first the whole device counts as written and
 *   not flushed.
 */
import type { BackingDurability } from '../background/backing-durability.js';
import type { Core } from '../core.js';
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
  private readonly writes: DirectWrite[] = [];
  private underWay = 0;

  constructor(
    private readonly core: Core,
    private readonly durability: BackingDurability,
    private readonly onPartDone: (group: EngineGroup, request: number, error: PcacheError | undefined) => void,
  ) {
    const unknown = new DirectWrite(0, core.backing.sizeBytes);
    unknown.isUnderWay = false;
    unknown.flush = durability.flushes.next;
    this.writes.push(unknown);
    durability.flushes.request();
  }

  /** Number of writes under way. */
  get pending(): number {
    return this.underWay;
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
    const write = new DirectWrite(offsetBytes, offsetBytes + lengthBytes);
    this.writes.push(write);
    this.underWay++;
    group.parts[i]++;
    stats.directWrites++;
    stats.directWriteBytes += lengthBytes;
    backing.write(offsetBytes, group.arena.memory, arenaAt, lengthBytes, (error) => {
      this.underWay--;
      write.isUnderWay = false;
      write.flush = this.durability.flushes.next;
      if (this.writes.length > UNFLUSHED_RANGES_MAX) this.durability.flushes.request();
      this.onPartDone(group, i, error ? fromSystemError(error, backing.path, 'writing to it') : undefined);
    });
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
