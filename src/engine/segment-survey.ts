/**
 * A look at a running cache from outside: what each segment is used for at this moment, and how much of the log
 * is still to be written back. It walks the dirty part of the log, so it costs about 2 µs a kset: for pictures
 * and statistics, not for the request path. Changes nothing.
 *
 * Keys of open ksets are not in the log yet: their bytes are not counted, and they make no segment dirty but the
 * one that payload goes to now.
 */
import type { Core } from './core.js';
import { LogWalker } from './media/log.js';

/** What a segment is used for. */
export const SegmentUse = {
  free: 0,
  /** The log runs through it. */
  log: 1,
  /** Payload, all of which is on the backing device. */
  clean: 2,
  /** Payload, some of which is not on the backing device yet (or is the older version of such data). */
  dirty: 3,
} as const;

export class SegmentSurvey {
  /** A `SegmentUse` for each logical segment, as of the last `take()`. */
  readonly use: Uint8Array;
  /** Keys from dirty_tail on that are not CLEAN, and their bytes, overwritten versions included. */
  dirtyKeys = 0;
  dirtyBytes = 0;
  /** Ksets that the last `take()` read: what it cost. */
  ksets = 0;

  constructor(private readonly core: Core) {
    this.use = new Uint8Array(core.segments.count);
  }

  /** Low 32 bits of a segment's generation: they change when it is freed. */
  generationLow(segment: number): number {
    return this.core.segments.generationLow[segment];
  }

  take(): void {
    const { segments } = this.core;
    for (let segment = 0; segment < segments.count; segment++) {
      if (!segments.isUsed(segment)) this.use[segment] = SegmentUse.free;
      else this.use[segment] = segments.isInLog(segment) ? SegmentUse.log : SegmentUse.clean;
    }
    this.dirtyKeys = 0;
    this.dirtyBytes = 0;
    this.ksets = 0;
    this.walkDirtyLog();
  }

  private walkDirtyLog(): void {
    const { pmem, geometry, metadata, dirtyTail, crc, log } = this.core;
    const walker = new LogWalker(pmem, geometry, metadata.chain, dirtyTail.position, crc);
    const { kset } = walker;
    while (walker.next()) {
      this.ksets++;
      for (let i = 0; i < kset.keyCount; i++) {
        if (kset.keyIsClean(i)) continue;
        this.dirtyKeys++;
        this.dirtyBytes += kset.keyLengthBytes(i);
        this.markDirty(kset.keySegment(i));
      }
    }
    if (!log.hasOpenKeys) return;
    for (const head of this.core.heads) this.markDirty(head.segment);
  }

  private markDirty(segment: number): void {
    if (this.use[segment] === SegmentUse.clean) this.use[segment] = SegmentUse.dirty;
  }
}
