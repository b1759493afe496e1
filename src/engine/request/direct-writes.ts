/**
 * Writes past the cache (writearound): ranges that the cache does not hold go straight to the backing device.
 *
 * Invariants: no two writes of overlapping ranges are under way, so the last one submitted wins; and what was
 * read of a range since its write began, and before the backing device was flushed after its end, does not
 * go into the cache. Else a CLEAN key could outlive, in a crash, the data that it says is on the backing
 * device, and reads would change when it is collected. What an earlier life wrote is not known, so at first all of
 * the device counts as written and not flushed.
 */
import type { BackingDurability } from '../background/backing-durability.js';
import type { Core } from '../core.js';
import { fromSystemError, type PcacheError } from '../errors.js';
import type { EngineGroup } from './request-group.js';

/** Ranges that are remembered before a flush is asked for. */
const UNFLUSHED_RANGES_MAX = 256;

class DirectWrite {
  flush = 0;
  isUnderWay = true;
  constructor(
    readonly startBytes: number,
    readonly endBytes: number,
  ) {}
}

export class DirectWrites {
  /** Under way, or answered and not known to be durable. */
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

  get pending(): number {
    return this.underWay;
  }
  /** Something may still be lost in a crash. */
  get hasUnsettled(): boolean {
    return this.writes.length > 0;
  }

  /** Whether what the backing device has of a range may still be lost in a crash, or is changing. */
  isUnsettled(startBytes: number, endBytes: number): boolean {
    return this.writes.some((write) => write.startBytes < endBytes && startBytes < write.endBytes);
  }

  /** Whether a write that overlaps the range has not been answered. */
  isUnderWay(startBytes: number, endBytes: number): boolean {
    return (
      this.underWay > 0 &&
      this.writes.some((write) => write.isUnderWay && write.startBytes < endBytes && startBytes < write.endBytes)
    );
  }

  /** Writes a part of request `i`, which nothing under way may overlap. */
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

  /** Forgets the ranges that are durable. */
  forgetFlushed(): void {
    const { writes, durability } = this;
    let kept = 0;
    for (const write of writes) {
      if (write.isUnderWay || !durability.flushes.isDone(write.flush)) writes[kept++] = write;
    }
    writes.length = kept;
  }
}
