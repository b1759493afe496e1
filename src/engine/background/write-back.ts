/**
 * Write-back (format §3): goes through the log from dirty_tail, kset by kset and in order, and writes the newest
 * version of each range to the backing device. After some ksets the backing device is flushed, and only then dirty_tail
 * moves. What lies between two flushes may be written in any order, so it is gathered first, a few ksets a step, and then
 * written in the order of offsets.
 *
 * There are three positions, in the order of the log: dirty_tail; `flushedAt`, before which everything is durable on
 * the backing device; and `cursor`, before which everything has been written there. dirty_tail is at `flushedAt` unless
 * a kset holds dirty payload that does not match its CRC or cannot be read. Such payload is never written: dirty_tail stays before its
 * kset for good, and write-back of everything behind it goes on.
 *
 * A failed write or flush moves none of them; it is tried again after a growing pause. A log that changed under us
 * stops write-back for good.
 *
 * Ksets are numbered in the order of the log: those closed since the cache was opened are 1, 2, …, as
 * `LogWriter.ksetsClosed` counts; those that were dirty before have the numbers up to 0.
 */
import type { Core } from '../core.js';
import { fromSystemError, PcacheError } from '../errors.js';
import type { ByteRange } from '../media/byte-range.js';
import { isSamePosition, type Position } from '../media/codecs.js';
import type { KsetView } from '../media/kset.js';
import type { BackingDurability } from './backing-durability.js';
import { FlushTickets } from './flush-tickets.js';
import { OVERLAY_KSETS } from './kset-overlay.js';
import { KsetReader } from './kset-reader.js';
import { KsetWriter } from './kset-writer.js';
import { WritebackPace } from './write-back-pace.js';

const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 5000;
/** Limits of what is written between two flushes of the backing device. */
const UNFLUSHED_KSETS_MAX = OVERLAY_KSETS;
const UNFLUSHED_BYTES_MAX = 32 * 1024 * 1024;
/** Ksets gathered in one step, which keeps requests waiting. */
const STEP_KSETS_MAX = 8;
/** Maximum age of unflushed writes in the modes that flush only when a request needs it. */
const UNFLUSHED_MAX_AGE_MS = 1000;
/** Maximum number of ranges of corrupt payload that are listed; further ones are counted only. */
const CORRUPT_RANGES_MAX = 1000;

/** How the cache wants the next step to go. */
export interface WritebackWish {
  readonly nowMs: number;
  /** Start no further kset. */
  readonly hold: boolean;
  /** Flush as soon as everything is written, not only when a flush is due. */
  readonly hurry: boolean;
  /** Time that a slow backing device may take from one flush to the next, ms; at least one kset is written. */
  readonly cycleMs: number;
}

export class Writeback implements BackingDurability {
  /** Consecutive failures; 0 when the last attempt succeeded. */
  failures = 0;
  /** True when write-back cannot go on before the cache is opened again. */
  stopped = false;
  readonly othersOweFlush = false;
  /** Number of the last kset that has been written to the backing device, and of the last that is durable there. */
  written: number;
  flushed: number;
  /** Dirty ranges whose payload does not match its CRC or cannot be read (the first of them), and the number of all. */
  readonly corruptRanges: ByteRange[] = [];
  corruptCount = 0;
  /**
   * Called when ksets were written or the backing device was flushed; with an error when that failed, and then all
   * requests that wait for it fail.
   */
  onChange: (error: PcacheError | undefined) => void = () => {};

  /** Flushes of the backing device that were requested, and those that succeeded. */
  readonly flushes = new FlushTickets();
  readonly pace = new WritebackPace();

  private readonly reader: KsetReader;
  private readonly writer: KsetWriter;
  private failure: PcacheError | undefined;
  private cursor: Position;
  private flushedAt: Position;
  /** Position and number of the first kset with corrupt payload; dirty_tail must not pass it. */
  private heldAt: Position | undefined;
  private heldKset = Infinity;
  private corruptUpTo = -Infinity;
  /** Ksets up to this number are written one by one, because payload of some of them is bad. */
  private singlyUpTo = -Infinity;
  private busy = false;
  private retryAtMs = 0;
  // The ksets that are gathered or being written: where they end, and their number.
  private writingUpTo: Position;
  private writingKsets = 0;
  private unflushedBytes = 0;
  private unflushedSinceMs = 0;
  /** Ksets that may be written before the backing device is flushed. */
  private ksetsMax = UNFLUSHED_KSETS_MAX;

  /** @param dirtyKsets number of ksets that were dirty when the cache was opened */
  constructor(
    private readonly core: Core,
    dirtyKsets: number,
    private readonly onProgress: () => void,
  ) {
    this.reader = new KsetReader(core);
    this.writer = new KsetWriter(core, (...end) => this.ksetsEnded(...end), onProgress);
    this.cursor = this.writingUpTo = core.dirtyTail.position;
    this.flushedAt = core.dirtyTail.position;
    this.written = -dirtyKsets;
    this.flushed = -dirtyKsets;
  }

  /** Writes or a flush are under way. */
  get isBusy(): boolean {
    return this.busy;
  }
  /** Why write-back is failing, has stopped, or cannot finish; undefined when all is well. */
  get lastError(): PcacheError | undefined {
    return this.failure ?? (this.heldAt ? this.corruptError() : undefined);
  }
  /** Number of the oldest kset that is not durable on the backing device, or that holds corrupt payload. */
  get oldestDirtyKset(): number {
    return Math.min(this.heldKset, this.flushed + 1);
  }
  /** Everything in the log that can be written back is durable on the backing device. */
  get isDone(): boolean {
    return this.isAtHead && !this.hasUnflushed;
  }
  /** Corrupt payload keeps dirty_tail where it is. */
  get isHeld(): boolean {
    return this.heldAt !== undefined;
  }
  /** When `step` has something to do even if nothing else happens; Infinity when it has not. */
  get nextDueMs(): number {
    if (this.stopped || this.busy) return Infinity;
    if (this.failures > 0) return this.retryAtMs;
    return this.hasUnflushed ? this.unflushedSinceMs + UNFLUSHED_MAX_AGE_MS : Infinity;
  }

  private get isAtHead(): boolean {
    return isSamePosition(this.cursor, this.core.log.head);
  }
  private get hasUnflushed(): boolean {
    return !isSamePosition(this.cursor, this.flushedAt);
  }

  /**
   * Starts a flush if one is due, otherwise gathers the next ksets or starts writing them, unless something is under way.
   * @returns true when it did something; the answers of the backing device do the rest
   */
  step(wish: WritebackWish): boolean {
    if (this.busy || this.stopped) return false;
    if (this.failures > 0 && wish.nowMs < this.retryAtMs) return false;
    if (this.writingKsets > 0) {
      if (wish.hold) this.dropGathered();
      else this.gather(wish.nowMs);
      return !this.stopped;
    }
    this.ksetsMax = Math.min(UNFLUSHED_KSETS_MAX, this.pace.ksetsWithin(wish.cycleMs));
    if (this.isFlushDue(wish)) {
      this.flush();
      return true;
    }
    if (wish.hold || this.isAtHead) return false;
    this.gather(wish.nowMs);
    return !this.stopped;
  }

  private isFlushDue({ nowMs, hold, hurry }: WritebackWish): boolean {
    if (this.flushes.wouldServe(this.written)) return true;
    if (!this.hasUnflushed) return false;
    if (this.isUnflushedFull(0, 0)) return true;
    if (!hold && !this.isAtHead) return false;
    return hurry || hold || nowMs >= this.unflushedSinceMs + UNFLUSHED_MAX_AGE_MS;
  }

  /** Whether the limit of unflushed writes is reached, the ksets and bytes about to be written included. */
  private isUnflushedFull(ksets: number, bytes: number): boolean {
    return this.written + ksets - this.flushed >= this.ksetsMax || this.unflushedBytes + bytes >= UNFLUSHED_BYTES_MAX;
  }

  // ---- some ksets -------------------------------------------------------------------------------------

  /** Gathers the next ksets, and starts writing when no more fit together or may stay unflushed. */
  private gather(nowMs: number): void {
    const { core, writer } = this;
    const { head } = core.log;
    if (this.writingKsets === 0) {
      this.writingUpTo = this.cursor;
      if (!this.hasUnflushed) this.unflushedSinceMs = nowMs;
    }
    for (let n = 0; this.takesMore(head); n++) {
      if (n === STEP_KSETS_MAX) return;
      const position = this.writingUpTo;
      const kset = this.readAt(position, this.writingKsets);
      if (kset === undefined) break;
      if (kset.isLast) {
        this.writingUpTo = { segment: kset.nextSegment, offsetBytes: 0 };
        if (this.writingKsets === 0) this.cursor = this.writingUpTo;
        continue;
      }
      this.writingUpTo = { segment: position.segment, offsetBytes: position.offsetBytes + kset.lengthBytes };
      this.writingKsets++;
      writer.add(kset);
      core.stats.writebackKeys += kset.keyCount;
    }
    if (this.writingKsets === 0) return;
    this.busy = true;
    this.pace.began(nowMs, writer.addedBytes);
    writer.start();
  }

  private takesMore(head: Position): boolean {
    const { writer, writingKsets } = this;
    if (isSamePosition(this.writingUpTo, head)) return false;
    if (writingKsets === 0) return true;
    if (this.written < this.singlyUpTo) return false;
    return writer.takesMore && !this.isUnflushedFull(writingKsets, writer.addedBytes);
  }

  private dropGathered(): void {
    this.writer.drop();
    this.writingKsets = 0;
  }

  /**
   * Reads the kset at a position, after `ksets` others that are about to be written.
   * @returns undefined when it went bad; write-back stops then, after the others have been written
   */
  private readAt(position: Position, ksets: number): KsetView | undefined {
    try {
      return this.reader.readAt(position.segment, position.offsetBytes);
    } catch (error) {
      if (ksets === 0) this.stop(error); // otherwise it is read again when the others are written
      return undefined;
    }
  }

  /** Records the ranges of the kset at the cursor that cannot be written. */
  private noteCorrupt(ranges: readonly ByteRange[]): void {
    const kset = this.written + 1;
    if (ranges.length === 0 || kset <= this.corruptUpTo) return;
    this.corruptUpTo = kset; // after a failed flush the same ksets are written again
    if (!this.heldAt) {
      this.heldAt = this.cursor;
      this.heldKset = kset;
    }
    this.corruptCount += ranges.length;
    this.core.stats.writebackCorruptKeys += ranges.length;
    for (const range of ranges.slice(0, CORRUPT_RANGES_MAX - this.corruptRanges.length)) this.corruptRanges.push(range);
    this.onChange(this.corruptError());
  }

  private ksetsEnded(error: Error | null, writtenBytes: number, corrupt: readonly ByteRange[]): void {
    const ksets = this.writingKsets;
    this.busy = false;
    this.writingKsets = 0;
    this.pace.ended(this.core.clock.nowMs());
    this.unflushedBytes += writtenBytes;
    if (error) {
      this.fail(error);
      return;
    }
    if (corrupt.length > 0 && ksets > 1 && this.core.dataCrc) {
      // Bad payload may have taken the place of good payload of another kset. What is written again is counted then.
      this.singlyUpTo = this.written + ksets;
      this.core.stats.writebackBytes -= writtenBytes;
      return;
    }
    this.noteCorrupt(corrupt);
    this.cursor = this.writingUpTo;
    this.written += ksets;
    this.core.stats.writebackKsets += ksets;
    this.onChange(undefined);
  }

  // ---- flush ------------------------------------------------------------------------------------------

  private flush(): void {
    const { core, cursor, flushes, written } = this;
    if (this.unflushedBytes === 0 && !flushes.wouldServe(written)) {
      this.flushEnded(cursor, written); // all keys are CLEAN: nothing to make durable
      return;
    }
    flushes.begin(written);
    this.busy = true;
    this.pace.began(core.clock.nowMs(), 0);
    core.stats.backingFlushes++;
    core.backing.flush((error) => {
      this.busy = false;
      this.pace.ended(core.clock.nowMs());
      if (error) {
        // The device may have dropped what it could not write, so everything since the last flush is written again.
        this.cursor = this.flushedAt;
        this.written = this.flushed;
        this.unflushedBytes = 0;
        this.pace.restart();
        this.fail(error);
      } else {
        flushes.succeed();
        this.flushEnded(cursor, written);
      }
      this.onProgress();
    });
  }

  /** All ksets before `position` are durable on the backing device; `kset` is the number of the last one. */
  private flushEnded(position: Position, kset: number): void {
    this.failures = 0;
    this.failure = undefined;
    this.unflushedBytes = 0;
    this.flushedAt = position;
    this.pace.cycleEnded(kset - this.flushed);
    this.flushed = kset;
    const limit = this.heldAt && this.heldKset <= kset ? this.heldAt : position;
    if (!this.core.dirtyTail.isAt(limit.segment, limit.offsetBytes)) this.moveDirtyTail(limit);
    this.onChange(undefined);
  }

  /** Moves dirty_tail durably. If that fails, dirty_tail on the device is unknown, so the cache stops. */
  private moveDirtyTail(position: Position): void {
    const { core } = this;
    if (core.failure) return;
    try {
      core.dirtyTail.segment = position.segment;
      core.dirtyTail.offsetBytes = position.offsetBytes;
      core.dirtyTail.store();
      core.pmem.persist();
    } catch (error) {
      core.fail(error);
    }
  }

  // ---- failures ---------------------------------------------------------------------------------------

  private fail(error: Error): void {
    this.failures++;
    this.failure = fromSystemError(error, this.core.backing.path, 'writing back');
    this.core.stats.writebackFailures++;
    const pause = Math.min(RETRY_FIRST_MS * 2 ** (this.failures - 1), RETRY_MAX_MS);
    this.retryAtMs = this.core.clock.nowMs() + pause;
    this.onChange(this.failure);
  }

  private stop(error: unknown): void {
    if (!(error instanceof PcacheError)) throw error;
    this.stopped = true;
    this.failures++;
    this.failure = error;
    this.core.stats.writebackFailures++;
    this.onChange(error);
  }

  private corruptError(): PcacheError {
    const [{ offsetBytes, lengthBytes }] = this.corruptRanges;
    const more = this.corruptCount > 1 ? ` (and ${this.corruptCount - 1} more)` : '';
    return new PcacheError(
      'BAD_MEDIA',
      `${this.core.pmem.path}: the dirty data of bytes ${offsetBytes}–${offsetBytes + lengthBytes - 1}${more} does not match its CRC or cannot be read, and is not written back; all other data is; run "pcache fsck"`,
    );
  }
}
