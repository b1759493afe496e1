/**
 * Writes the payload of ksets to the backing device: the newest version of every byte in them. It leaves out CLEAN keys
 * and bad payload, which does not match its CRC or cannot be read; an older version is not written in its place.
 * Extents that adjoin on the backing device share a write.
 *
 * All ksets up to the next flush are written together: only the flush gives their writes an order. With data_crc
 * the payload is copied into a few staging buffers before it is checked, so that payload that goes bad later does no harm.
 * Without data_crc the backing device takes the payload straight from the cache device if it can. GC collects nothing in
 * [dirty_tail, key_head), so payload stays in place while writes are under way.
 */
import type { Core } from '../core.js';
import type { PmemRanges, PmemRangesWriter } from '../device/backing.js';
import { couldAccess } from '../device/tolerant-reader.js';
import { PcacheError } from '../errors.js';
import type { ByteRange } from '../media/byte-range.js';
import { KsetOverlay, OVERLAY_CAPACITY, OVERLAY_KEYS } from './kset-overlay.js';
import { CRC_SEED } from '../media/crc32c.js';
import { KSET_KEYS_MAX, type KsetView } from '../media/kset.js';

const STAGING_BYTES_MAX = 1024 * 1024;
const STAGING_BUFFERS = 4;

/** The keys of the added ksets; a struct of arrays. */
class Keys {
  count = 0;
  readonly pmemOffsetBytes = new Float64Array(OVERLAY_KEYS);
  readonly offsetBytes = new Float64Array(OVERLAY_KEYS);
  readonly lengthBytes = new Uint32Array(OVERLAY_KEYS);
  readonly crc = new Uint32Array(OVERLAY_KEYS);
}

class Staging {
  readonly bytes: Uint8Array;
  /** Number of writes from the buffer that are under way. */
  pending = 0;
  readonly done: (error: Error | null) => void;
  constructor(owner: KsetWriter, sizeBytes: number) {
    this.bytes = new Uint8Array(sizeBytes);
    this.done = (error) => owner.writeDone(this, error);
  }
}

export class KsetWriter {
  private readonly overlay = new KsetOverlay();
  private readonly straight: PmemRangesWriter | undefined;
  private readonly ranges: PmemRanges = {
    pmemOffsetBytes: new Float64Array(OVERLAY_CAPACITY),
    offsetBytes: new Float64Array(OVERLAY_CAPACITY),
    lengthBytes: new Float64Array(OVERLAY_CAPACITY),
  };
  private readonly freeStaging: Staging[] = [];
  private readonly keys = new Keys();
  /** Payload of all added ksets, bytes. */
  addedBytes = 0;
  private error: Error | null = null;
  private writtenBytes = 0;
  private corrupt: ByteRange[] = [];
  // Extent of the overlay that is being staged, and the bytes of it already staged.
  private extent = 0;
  private extentDone = 0;

  /**
   * @param onEnd called when the last write has been answered; with the first error, the bytes written, and the ranges
   *   of keys that were left out because their payload is bad. Called from within `start` if there was
   *   nothing to write.
   */
  constructor(
    private readonly core: Core,
    private readonly onEnd: (error: Error | null, writtenBytes: number, corrupt: readonly ByteRange[]) => void,
    private readonly onProgress: () => void,
  ) {
    if (!core.dataCrc) this.straight = core.backing.writerFrom?.(core.pmem);
    if (this.straight) return;
    const sizeBytes = Math.min(STAGING_BYTES_MAX, core.geometry.segmentDataBytes);
    for (let i = 0; i < STAGING_BUFFERS; i++) this.freeStaging.push(new Staging(this, sizeBytes));
  }

  /** Whether another kset can be added before `start`. */
  get takesMore(): boolean {
    return this.keys.count + KSET_KEYS_MAX <= OVERLAY_KEYS;
  }

  /** Adds the next kset of the log. */
  add(kset: KsetView): void {
    const { core, overlay, keys } = this;
    for (let i = 0; i < kset.keyCount; i++) {
      const at = core.segments.dataOffsetBytes[kset.keySegment(i)] + kset.keySegmentOffsetBytes(i);
      const offsetBytes = kset.keyOffsetBytes(i);
      const lengthBytes = kset.keyLengthBytes(i);
      const key = keys.count++;
      keys.pmemOffsetBytes[key] = at;
      keys.offsetBytes[key] = offsetBytes;
      keys.lengthBytes[key] = lengthBytes;
      keys.crc[key] = kset.keyDataCrc(i);
      overlay.insert(offsetBytes, lengthBytes, at, key, kset.keyIsClean(i));
      this.addedBytes += lengthBytes;
    }
  }

  /** Writes the added ksets. */
  start(): void {
    if (this.straight) {
      this.writeStraight(this.straight);
      return;
    }
    this.error = null;
    this.writtenBytes = 0;
    this.corrupt = [];
    this.extent = 0;
    this.extentDone = 0;
    this.pump();
  }

  /** Forgets the added ksets. */
  drop(): void {
    this.keys.count = 0;
    this.addedBytes = 0;
    this.overlay.clear();
  }

  private end(error: Error | null, writtenBytes: number, corrupt: readonly ByteRange[]): void {
    this.drop();
    this.onEnd(error, writtenBytes, corrupt);
  }

  private writeStraight(straight: PmemRangesWriter): void {
    const { count, bytes } = this.gather(() => true);
    if (count === 0) {
      this.end(null, 0, []);
      return;
    }
    this.core.stats.writebackBytes += bytes;
    straight(this.ranges, count, (error) => {
      if (error === null) this.end(null, bytes, []);
      else this.writeReadable(straight, error);
      this.onProgress();
    });
  }

  /**
   * After a write that failed: if the medium cannot read some of the payload, leaves that out and writes the rest. Its
   * bytes are not counted again.
   */
  private writeReadable(straight: PmemRangesWriter, error: Error): void {
    const { pmem } = this.core;
    const bad: ByteRange[] = [];
    const { count, bytes } = this.gather((pmemAt, offsetBytes, lengthBytes) => {
      const isReadable = couldAccess(() => pmem.crc32c(pmemAt, lengthBytes, CRC_SEED));
      if (!isReadable) bad.push({ offsetBytes, lengthBytes });
      return isReadable;
    });
    if (bad.length === 0 || count === 0) {
      this.end(bad.length === 0 ? error : null, 0, bad);
      return;
    }
    straight(this.ranges, count, (again) => {
      this.end(again, bytes, bad);
      this.onProgress();
    });
  }

  /** Fills `ranges` with the extents that have to be written and are wanted. @returns their number and bytes */
  private gather(isWanted: (pmemAt: number, offsetBytes: number, lengthBytes: number) => boolean): {
    readonly count: number;
    readonly bytes: number;
  } {
    const { core, overlay } = this;
    const { pmemOffsetBytes, offsetBytes, lengthBytes } = this.ranges;
    let count = 0;
    let bytes = 0;
    let end = -1; // end of the previous range on the backing device
    let pmemEnd = -1; // and on the cache device
    for (let n = 0; n < overlay.count; n++) {
      const at = overlay.at[n];
      if (overlay.clean[at]) continue;
      const start = overlay.startBytes[at];
      const length = overlay.endBytes[at] - start;
      const pmemAt = overlay.pmemOffsetBytes[at];
      if (!isWanted(pmemAt, start, length)) continue;
      if (start !== end) core.stats.writebackWrites++;
      if (start === end && pmemAt === pmemEnd) {
        lengthBytes[count - 1] += length;
      } else {
        pmemOffsetBytes[count] = pmemAt;
        offsetBytes[count] = start;
        lengthBytes[count++] = length;
      }
      end = start + length;
      pmemEnd = pmemAt + length;
      bytes += length;
    }
    return { count, bytes };
  }

  /** Issues writes while there are free buffers and extents left; ends with the last answer. */
  private pump(): void {
    while (this.error === null && this.freeStaging.length > 0 && this.skipClean()) {
      const staging = this.freeStaging.pop()!;
      try {
        this.fill(staging);
      } catch (error) {
        if (!(error instanceof PcacheError)) throw error;
        this.error = error;
      }
      if (staging.pending === 0) this.freeStaging.push(staging);
    }
    if (this.freeStaging.length === STAGING_BUFFERS) this.end(this.error, this.writtenBytes, this.corrupt);
  }

  /** Goes to the next extent that has to be written. @returns false when there is none */
  private skipClean(): boolean {
    const { overlay } = this;
    while (this.extent < overlay.count && overlay.clean[overlay.at[this.extent]]) this.nextExtent();
    return this.extent < overlay.count;
  }

  private nextExtent(): void {
    this.extent++;
    this.extentDone = 0;
  }

  /** Fills one staging buffer from the current extent on, and writes its contents. */
  private fill(staging: Staging): void {
    for (let at = 0; at < staging.bytes.length && this.skipClean();) at += this.issue(staging, at);
  }

  /**
   * Writes the current extent and those that adjoin it, staged from byte `stagingFrom` of the buffer on.
   * @returns the bytes of the buffer used; 0 when there was only a corrupt extent
   */
  private issue(staging: Staging, stagingFrom: number): number {
    const { core, overlay } = this;
    const start = overlay.startBytes[overlay.at[this.extent]] + this.extentDone;
    const room = staging.bytes.length - stagingFrom;
    let filled = 0;
    while (filled < room && this.extent < overlay.count) {
      const at = overlay.at[this.extent];
      const from = overlay.startBytes[at] + this.extentDone;
      if (overlay.clean[at] || from !== start + filled) break;
      const length = Math.min(overlay.endBytes[at] - from, room - filled);
      const pmemAt = overlay.pmemOffsetBytes[at] + this.extentDone;
      const isRead = couldAccess(() => core.pmem.read(pmemAt, staging.bytes, stagingFrom + filled, length));
      if (!isRead || (core.dataCrc && !this.isIntact(overlay.key[at]))) {
        this.noteBad(overlay.key[at]);
        this.nextExtent();
        break;
      }
      filled += length;
      this.extentDone += length;
      if (from + length === overlay.endBytes[at]) this.nextExtent();
    }
    if (filled === 0) return 0;
    core.stats.writebackWrites++;
    core.stats.writebackBytes += filled;
    this.writtenBytes += filled;
    staging.pending++;
    core.backing.write(start, staging.bytes, stagingFrom, filled, staging.done);
    return filled;
  }

  /** Whether all payload of a key can be read and matches its CRC. */
  private isIntact(key: number): boolean {
    const { pmemOffsetBytes, lengthBytes, crc } = this.keys;
    let found = 0;
    const read = () => (found = this.core.pmem.crc32c(pmemOffsetBytes[key], lengthBytes[key], CRC_SEED));
    return couldAccess(read) && found === crc[key];
  }

  private noteBad(key: number): void {
    const offsetBytes = this.keys.offsetBytes[key];
    if (this.corrupt.some((range) => range.offsetBytes === offsetBytes)) return;
    this.corrupt.push({ offsetBytes, lengthBytes: this.keys.lengthBytes[key] });
  }

  /** One write from a staging buffer was answered. */
  writeDone(staging: Staging, error: Error | null): void {
    if (error) this.error ??= error;
    if (--staging.pending > 0) return;
    this.freeStaging.push(staging);
    this.pump();
    this.onProgress();
  }
}
