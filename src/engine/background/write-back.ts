/**
 * Write-back (format §3): goes through the log from dirty_tail, kset by kset and in order, and writes
 * its newest versions to the backing device, a few ksets in one go; after some ksets the device is flushed, and
 * only then does dirty_tail move.
 *
 * Three places, in the order of the log: dirty_tail, `flushedAt` (all before it is durable on the backing
 * device) and `cursor` (all before it has been written there). dirty_tail is at `flushedAt` unless a kset
 * holds dirty payload that does not match its CRC: that is never written, dirty_tail stays in front of its
 * kset for good, and write-back of everything behind it goes on.
 *
 * A failed write or flush moves nothing; it is tried again after a pause that grows. A log that changed
 * under us stops write-back for good.
 *
 * Ksets are counted in the order of the log: those closed since the cache was opened are 1, 2, …, as
 * `LogWriter.ksetsClosed` counts, those that were dirty before have the numbers up to 0.
 */
import type { Core } from '../core.js';
import { fromSystemError, PcacheError } from '../errors.js';
import type { ByteRange } from '../media/byte-range.js';
import type { Position } from '../media/codecs.js';
import type { KsetView } from '../media/kset.js';
import type { BackingDurability } from './backing-durability.js';
import { FlushTickets } from './flush-tickets.js';
import { KsetReader } from './kset-reader.js';
import { KsetWriter } from './kset-writer.js';

const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 5000;
/** What may be written before the backing device is flushed. */
const UNFLUSHED_KSETS_MAX = 64;
const UNFLUSHED_BYTES_MAX = 32 * 1024 * 1024;
/** In modes that wait with the flush until somebody needs it, nothing stays unflushed for longer. */
const UNFLUSHED_MAX_AGE_MS = 1000;
/** Ranges of corrupt payload that are remembered; of more only the count is. */
const CORRUPT_RANGES_MAX = 1000;

/** What the cache wants of the next step. */
export interface WritebackWish {
  readonly nowMs: number;
  /** Start on no further kset. */
  readonly hold: boolean;
  /** Flush as soon as there is nothing more to write, not when it must be. */
  readonly hurry: boolean;
}

export class Writeback implements BackingDurability {
  /** Consecutive failures; 0 when the last attempt went through. */
  failures = 0;
  /** True when only a new open can help. */
  stopped = false;
  /** Number of the last kset that has been written to the backing device, and of the last that is durable there. */
  written: number;
  flushed: number;
  /** Dirty ranges whose payload does not match its CRC: the first of them, and how many there are. */
  readonly corruptRanges: ByteRange[] = [];
  corruptCount = 0;
  /**
   * Called when ksets were written or the device was flushed, and with the error when that failed: then all
   * who wait for it had better know.
   */
  onChange: (error: PcacheError | undefined) => void = () => {};

  /** Flushes of the backing device: asked for, and done. */
  readonly flushes = new FlushTickets();

  private readonly reader: KsetReader;
  private readonly writer: KsetWriter;
  private failure: PcacheError | undefined;
  private cursor: Position;
  private flushedAt: Position;
  /** Place and number of the first kset with corrupt payload, which dirty_tail must not pass. */
  private heldAt: Position | undefined;
  private heldKset = Infinity;
  private corruptUpTo = -Infinity;
  private busy = false;
  private retryAtMs = 0;
  // What is being written: where it ends, and how many ksets it is.
  private writingUpTo: Position;
  private writingKsets = 0;
  private unflushedBytes = 0;
  private unflushedSinceMs = 0;

  /** @param dirtyKsets how many ksets were dirty when the cache was opened. */
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

  /** Writes or a flush have not been answered yet. */
  get isBusy(): boolean {
    return this.busy;
  }
  /** Why write-back is failing, has stopped, or cannot finish; undefined when all is well. */
  get lastError(): PcacheError | undefined {
    return this.failure ?? (this.heldAt ? this.corruptError() : undefined);
  }
  /** Everything in the log that can be written is durable on the backing device. */
  get isDone(): boolean {
    return this.isAtHead && !this.hasUnflushed;
  }
  /** Corrupt payload keeps dirty_tail where it is. */
  get isHeld(): boolean {
    return this.heldAt !== undefined;
  }
  /** When there is something to do even if nothing else happens; Infinity when there is not. */
  get nextDueMs(): number {
    if (this.stopped || this.busy) return Infinity;
    if (this.failures > 0) return this.retryAtMs;
    return this.hasUnflushed ? this.unflushedSinceMs + UNFLUSHED_MAX_AGE_MS : Infinity;
  }

  private get isAtHead(): boolean {
    return samePlace(this.cursor, this.core.log.head);
  }
  private get hasUnflushed(): boolean {
    return !samePlace(this.cursor, this.flushedAt);
  }

  /**
   * Flushes if that is due, or else goes on with the next kset, if there is one and nothing is under way.
   * @returns true when something was done; the answers of the backing device do the rest.
   */
  step(wish: WritebackWish): boolean {
    if (this.busy || this.stopped) return false;
    if (this.failures > 0 && wish.nowMs < this.retryAtMs) return false;
    if (this.isFlushDue(wish)) {
      this.flush();
      return true;
    }
    if (wish.hold || this.isAtHead) return false;
    this.startKsets(wish.nowMs);
    return !this.stopped;
  }

  private isFlushDue({ nowMs, hold, hurry }: WritebackWish): boolean {
    if (this.flushes.wouldServe(this.written)) return true;
    if (!this.hasUnflushed) return false;
    if (this.isUnflushedFull(0, 0)) return true;
    if (!hold && !this.isAtHead) return false;
    return hurry || hold || nowMs >= this.unflushedSinceMs + UNFLUSHED_MAX_AGE_MS;
  }

  /** So much is unflushed, with what is about to be written, that no more may be. */
  private isUnflushedFull(ksets: number, bytes: number): boolean {
    return (
      this.written + ksets - this.flushed >= UNFLUSHED_KSETS_MAX || this.unflushedBytes + bytes >= UNFLUSHED_BYTES_MAX
    );
  }

  // ---- some ksets -------------------------------------------------------------------------------------

  /** Begins to write the next ksets: as many as go together, and not more than may stay unflushed. */
  private startKsets(nowMs: number): void {
    const { core, writer } = this;
    if (!this.hasUnflushed) this.unflushedSinceMs = nowMs;
    const { head } = core.log;
    let place = this.cursor;
    let ksets = 0;
    do {
      const kset = this.readAt(place, ksets);
      if (kset === undefined) break;
      if (kset.isLast) {
        place = { segment: kset.nextSegment, offsetBytes: 0 };
        if (ksets > 0) continue;
        this.cursor = place;
        return;
      }
      place = { segment: place.segment, offsetBytes: place.offsetBytes + kset.lengthBytes };
      ksets++;
      core.stats.writebackKeys += kset.keyCount;
      writer.add(kset);
    } while (writer.takesMore && !samePlace(place, head) && !this.isUnflushedFull(ksets, writer.addedBytes));
    if (ksets === 0) return;
    this.writingUpTo = place;
    this.writingKsets = ksets;
    this.busy = true;
    writer.start();
  }

  /** The kset at `place`, behind `ksets` that are about to be written; undefined, and the end, when it went bad. */
  private readAt(place: Position, ksets: number): KsetView | undefined {
    try {
      return this.reader.readAt(place.segment, place.offsetBytes);
    } catch (error) {
      if (ksets === 0) this.stop(error); // else when these are written
      return undefined;
    }
  }

  /** Takes note of what the kset at the cursor has that cannot be written. */
  private noteCorrupt(ranges: readonly ByteRange[]): void {
    const kset = this.written + 1;
    if (ranges.length === 0 || kset <= this.corruptUpTo) return;
    this.corruptUpTo = kset; // after a failed flush the same ksets come again
    if (!this.heldAt) {
      this.heldAt = this.cursor;
      this.heldKset = kset;
    }
    this.corruptCount += ranges.length;
    this.core.stats.writebackCorruptKeys += ranges.length;
    this.corruptRanges.push(...ranges.slice(0, CORRUPT_RANGES_MAX - this.corruptRanges.length));
    this.onChange(this.corruptError());
  }

  private ksetsEnded(error: Error | null, writtenBytes: number, corrupt: readonly ByteRange[]): void {
    this.busy = false;
    this.unflushedBytes += writtenBytes;
    if (error) {
      this.fail(error);
      return;
    }
    this.noteCorrupt(corrupt);
    this.cursor = this.writingUpTo;
    this.written += this.writingKsets;
    this.core.stats.writebackKsets += this.writingKsets;
    this.onChange(undefined);
  }

  // ---- flush ------------------------------------------------------------------------------------------

  private flush(): void {
    const { core, cursor, flushes, written } = this;
    if (this.unflushedBytes === 0 && !flushes.wouldServe(written)) {
      this.flushEnded(cursor, written); // all CLEAN: nothing to make durable
      return;
    }
    flushes.begin(written);
    this.busy = true;
    core.stats.backingFlushes++;
    core.backing.flush((error) => {
      this.busy = false;
      if (error) {
        // The device may have dropped what it could not write: all of it has to come again.
        this.cursor = this.flushedAt;
        this.written = this.flushed;
        this.unflushedBytes = 0;
        this.fail(error);
      } else {
        flushes.succeed();
        this.flushEnded(cursor, written);
      }
      this.onProgress();
    });
  }

  /** All ksets before `place`, of which `kset` is the last, are durable on the backing device. */
  private flushEnded(place: Position, kset: number): void {
    this.failures = 0;
    this.failure = undefined;
    this.unflushedBytes = 0;
    this.flushedAt = place;
    this.flushed = kset;
    const limit = this.heldAt && this.heldKset <= kset ? this.heldAt : place;
    if (!this.core.dirtyTail.isAt(limit.segment, limit.offsetBytes)) this.moveDirtyTail(limit);
    this.onChange(undefined);
  }

  /** When that fails nobody knows where dirty_tail is on the device, so the cache stops. */
  private moveDirtyTail(place: Position): void {
    const { core } = this;
    if (core.failure) return;
    try {
      core.dirtyTail.segment = place.segment;
      core.dirtyTail.offsetBytes = place.offsetBytes;
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
      `${this.core.pmem.path}: dirty data of bytes ${offsetBytes}–${offsetBytes + lengthBytes - 1}${more} does not match its CRC and is not written back; all else is; run "pcache fsck"`,
    );
  }
}

function samePlace(a: Position, b: Position): boolean {
  return a.segment === b.segment && a.offsetBytes === b.offsetBytes;
}
