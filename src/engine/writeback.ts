/**
 * Write-back (format §3): from dirty_tail, one kset at a time. Its newest versions go to the backing device,
 * the device is flushed, and only then does dirty_tail move. A failed write leaves dirty_tail where it is;
 * the kset is tried again after a pause that grows. A payload that does not match its CRC, or a log that
 * changed under us, stops write-back for good.
 *
 * Payload is read through a few staging buffers, and pieces that adjoin on the backing device share a write.
 * Nothing in [dirty_tail, key_head) can be collected, so the payload stays put while writes are under way.
 */
import type { Core } from './core.js';
import { fromSystemError, PcacheError } from './errors.js';
import { KsetOverlay } from './kset-overlay.js';
import { KsetReader } from './kset-reader.js';
import { CRC_SEED } from './media/crc32c.js';
import type { KsetView } from './media/kset.js';

const STAGING_BYTES = 1024 * 1024;
const STAGING_BUFFERS = 4;
const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 5000;

class Staging {
  readonly bytes = new Uint8Array(STAGING_BYTES);
  readonly done: (error: Error | null) => void;
  constructor(owner: Writeback) {
    this.done = (error) => owner.writeDone(this, error);
  }
}

export class Writeback {
  /** Consecutive failures; 0 when the last attempt went through. */
  failures = 0;
  /** The last failure, or what stopped write-back for good. */
  lastError: PcacheError | undefined;
  /** True when only a new open can help. */
  stopped = false;

  private readonly reader: KsetReader;
  private readonly overlay = new KsetOverlay();
  private readonly freeStaging: Staging[] = [];
  private busy = false;
  private retryAtMs = 0;
  private advanceBytes = 0;
  private passError: Error | null = null;
  private wroteAny = false;
  // Where in the overlay the pass is: extent, and bytes of it already staged.
  private extent = 0;
  private extentDone = 0;

  constructor(
    private readonly core: Core,
    private readonly onProgress: () => void,
  ) {
    this.reader = new KsetReader(core);
    for (let i = 0; i < STAGING_BUFFERS; i++) this.freeStaging.push(new Staging(this));
  }

  /** A pass is under way: its writes or its flush have not been answered yet. */
  get isBusy(): boolean {
    return this.busy;
  }
  /** When a failed pass may be tried again; Infinity when there is nothing to wait for. */
  get nextRetryMs(): number {
    return this.failures > 0 && !this.stopped && !this.busy ? this.retryAtMs : Infinity;
  }

  /**
   * Starts on the kset at dirty_tail, if there is one and nothing is under way.
   * @returns true when something was done; the answers of the backing device do the rest.
   */
  step(nowMs: number): boolean {
    const { core } = this;
    if (this.busy || this.stopped || core.logIsClean) return false;
    if (this.failures > 0 && nowMs < this.retryAtMs) return false;
    const { dirtyTail } = core;
    let kset: KsetView;
    try {
      kset = this.reader.readAt(dirtyTail.segment, dirtyTail.offsetBytes);
      if (!kset.isLast) this.collect(kset);
    } catch (error) {
      this.stop(error);
      return false;
    }
    if (kset.isLast) {
      this.moveDirtyTail(kset.nextSegment, 0);
      return true;
    }
    this.advanceBytes = kset.lengthBytes;
    this.extent = 0;
    this.extentDone = 0;
    this.passError = null;
    this.wroteAny = false;
    this.busy = true;
    core.stats.writebackKeys += kset.keyCount;
    this.pump();
    return true;
  }

  private stop(error: unknown): void {
    if (!(error instanceof PcacheError)) throw error;
    this.stopped = true;
    this.failures++;
    this.lastError = error;
    this.core.stats.writebackFailures++;
  }

  /** Resolves the kset's overlaps. CLEAN keys take part, and are not written. */
  private collect(kset: KsetView): void {
    const { core, overlay } = this;
    overlay.clear();
    for (let i = 0; i < kset.keyCount; i++) {
      const offset = kset.keyOffsetBytes(i);
      const length = kset.keyLengthBytes(i);
      const pmemOffset = core.segments.dataOffsetBytes[kset.keySegment(i)] + kset.keySegmentOffsetBytes(i);
      const isClean = kset.keyIsClean(i);
      if (core.dataCrc && !isClean && core.pmem.crc32c(pmemOffset, length, CRC_SEED) !== kset.keyDataCrc(i)) {
        throw new PcacheError(
          'BAD_MEDIA',
          `${core.pmem.path}: dirty data of bytes ${offset}–${offset + length - 1} does not match its CRC; write-back has stopped, run "pcache fsck"`,
        );
      }
      overlay.insert(offset, length, pmemOffset, isClean);
    }
  }

  /** Issues writes while there are buffers and extents; then waits for the last answer. */
  private pump(): void {
    while (this.passError === null && this.freeStaging.length > 0 && this.skipClean()) {
      const staging = this.freeStaging.pop()!;
      try {
        this.issue(staging);
      } catch (error) {
        if (!(error instanceof PcacheError)) throw error;
        this.freeStaging.push(staging);
        this.passError = error;
      }
    }
    if (this.freeStaging.length === STAGING_BUFFERS) this.endOfWrites();
  }

  /** Goes to the next extent that has to be written. False when there is none. */
  private skipClean(): boolean {
    while (this.extent < this.overlay.count && this.overlay.clean[this.extent]) this.extent++;
    return this.extent < this.overlay.count;
  }

  /** Fills one staging buffer from the current extent and those that adjoin it, and writes it. */
  private issue(staging: Staging): void {
    const { core, overlay } = this;
    const start = overlay.startBytes[this.extent] + this.extentDone;
    let filled = 0;
    while (filled < STAGING_BYTES && this.extent < overlay.count && !overlay.clean[this.extent]) {
      const from = overlay.startBytes[this.extent] + this.extentDone;
      if (from !== start + filled) break;
      const length = Math.min(overlay.endBytes[this.extent] - from, STAGING_BYTES - filled);
      core.pmem.read(overlay.pmemOffsetBytes[this.extent] + this.extentDone, staging.bytes, filled, length);
      filled += length;
      this.extentDone += length;
      if (from + length === overlay.endBytes[this.extent]) {
        this.extent++;
        this.extentDone = 0;
      }
    }
    core.stats.writebackWrites++;
    core.stats.writebackBytes += filled;
    this.wroteAny = true;
    core.backing.write(start, staging.bytes, 0, filled, staging.done);
  }

  /** Answer of one write. */
  writeDone(staging: Staging, error: Error | null): void {
    this.freeStaging.push(staging);
    if (error) this.passError ??= error;
    this.pump();
    this.onProgress();
  }

  private endOfWrites(): void {
    if (this.passError) {
      this.fail(this.passError);
      return;
    }
    if (!this.wroteAny) {
      this.endOfPass(); // all CLEAN: nothing to make durable
      return;
    }
    this.core.stats.backingFlushes++;
    this.core.backing.flush((error) => {
      if (error) this.fail(error);
      else this.endOfPass();
      this.onProgress();
    });
  }

  private fail(error: Error): void {
    this.busy = false;
    this.failures++;
    this.lastError = fromSystemError(error, this.core.backing.path, 'writing back');
    this.core.stats.writebackFailures++;
    const pause = Math.min(RETRY_FIRST_MS * 2 ** (this.failures - 1), RETRY_MAX_MS);
    this.retryAtMs = this.core.clock.nowMs() + pause;
  }

  /** The kset is on the backing device, and flushed. */
  private endOfPass(): void {
    const { dirtyTail, stats } = this.core;
    this.busy = false;
    this.failures = 0;
    this.lastError = undefined;
    this.moveDirtyTail(dirtyTail.segment, dirtyTail.offsetBytes + this.advanceBytes);
    stats.writebackKsets++;
  }

  /** When that fails nobody knows where dirty_tail is on the device, so the cache stops. */
  private moveDirtyTail(segment: number, offsetBytes: number): void {
    const { core } = this;
    if (core.failure) return;
    try {
      core.dirtyTail.segment = segment;
      core.dirtyTail.offsetBytes = offsetBytes;
      core.dirtyTail.store();
      core.pmem.persist();
    } catch (error) {
      if (!(error instanceof PcacheError)) throw error;
      core.failure ??= error;
    }
  }
}
