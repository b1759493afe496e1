/**
 * Writes what one kset of the log holds to the backing device: the newest version of every byte of it, CLEAN
 * keys left out, and payload that does not match its CRC left out too. What adjoins on the backing device
 * shares a write.
 *
 * Payload is read through a few staging buffers. Nothing in [dirty_tail, key_head) can be collected, so it
 * stays put while writes are under way.
 */
import type { Core } from './core.js';
import { PcacheError } from './errors.js';
import { KsetOverlay } from './kset-overlay.js';
import { CRC_SEED } from './media/crc32c.js';
import type { KsetView } from './media/kset.js';

const STAGING_BYTES_MAX = 1024 * 1024;
const STAGING_BUFFERS = 4;

class Staging {
  readonly bytes: Uint8Array;
  readonly done: (error: Error | null) => void;
  constructor(owner: KsetWriter, sizeBytes: number) {
    this.bytes = new Uint8Array(sizeBytes);
    this.done = (error) => owner.writeDone(this, error);
  }
}

/** A range of the logical device, bytes. */
export interface ByteRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export class KsetWriter {
  private readonly overlay = new KsetOverlay();
  private readonly freeStaging: Staging[] = [];
  private error: Error | null = null;
  private writtenBytes = 0;
  // Where in the overlay the writing is: extent, and bytes of it already staged.
  private extent = 0;
  private extentDone = 0;

  /**
   * @param onEnd called when the last write has been answered, with the first error and the bytes written;
   *   from within `write` if there was nothing to write.
   */
  constructor(
    private readonly core: Core,
    private readonly onEnd: (error: Error | null, writtenBytes: number) => void,
    private readonly onProgress: () => void,
  ) {
    const sizeBytes = Math.min(STAGING_BYTES_MAX, core.geometry.segmentDataBytes);
    for (let i = 0; i < STAGING_BUFFERS; i++) this.freeStaging.push(new Staging(this, sizeBytes));
  }

  /**
   * Resolves the overlaps within the kset.
   * @returns the ranges of dirty keys whose payload does not match its CRC; they will not be written, nor will
   *   older versions that the kset has of them.
   * @throws what the cache device throws
   */
  collect(kset: KsetView): ByteRange[] {
    const { core, overlay } = this;
    const corrupt: ByteRange[] = [];
    overlay.clear();
    for (let i = 0; i < kset.keyCount; i++) {
      const offsetBytes = kset.keyOffsetBytes(i);
      const lengthBytes = kset.keyLengthBytes(i);
      const at = core.segments.dataOffsetBytes[kset.keySegment(i)] + kset.keySegmentOffsetBytes(i);
      const isClean = kset.keyIsClean(i);
      const isCorrupt = core.dataCrc && !isClean && core.pmem.crc32c(at, lengthBytes, CRC_SEED) !== kset.keyDataCrc(i);
      if (isCorrupt) corrupt.push({ offsetBytes, lengthBytes });
      overlay.insert(offsetBytes, lengthBytes, at, isClean || isCorrupt);
    }
    return corrupt;
  }

  /** Writes what `collect` found. */
  write(): void {
    this.error = null;
    this.writtenBytes = 0;
    this.extent = 0;
    this.extentDone = 0;
    this.pump();
  }

  /** Issues writes while there are buffers and extents; then waits for the last answer. */
  private pump(): void {
    while (this.error === null && this.freeStaging.length > 0 && this.skipClean()) {
      const staging = this.freeStaging.pop()!;
      try {
        this.issue(staging);
      } catch (error) {
        if (!(error instanceof PcacheError)) throw error;
        this.freeStaging.push(staging);
        this.error = error;
      }
    }
    if (this.freeStaging.length === STAGING_BUFFERS) this.onEnd(this.error, this.writtenBytes);
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
    const { bytes } = staging;
    let filled = 0;
    while (filled < bytes.length && this.extent < overlay.count && !overlay.clean[this.extent]) {
      const from = overlay.startBytes[this.extent] + this.extentDone;
      if (from !== start + filled) break;
      const length = Math.min(overlay.endBytes[this.extent] - from, bytes.length - filled);
      core.pmem.read(overlay.pmemOffsetBytes[this.extent] + this.extentDone, bytes, filled, length);
      filled += length;
      this.extentDone += length;
      if (from + length === overlay.endBytes[this.extent]) {
        this.extent++;
        this.extentDone = 0;
      }
    }
    core.stats.writebackWrites++;
    core.stats.writebackBytes += filled;
    this.writtenBytes += filled;
    core.backing.write(start, bytes, 0, filled, staging.done);
  }

  /** Answer of one write. */
  writeDone(staging: Staging, error: Error | null): void {
    this.freeStaging.push(staging);
    if (error) this.error ??= error;
    this.pump();
    this.onProgress();
  }
}
