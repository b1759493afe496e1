/**
 * A cache device for looks at large caches: a sparse file of a memory filesystem, which takes memory only where
 * something was written. While `dropsPayload` is set payload is neither written nor read, so that a cache of any
 * number of keys takes no more memory than its log, its metadata, and what is made resident by hand.
 *
 * Invariant: nothing is collected while payload is dropped, so a segment that got payload holds no log.
 */
import { openDeviceFile, orClose } from '../engine/device/device-file.js';
import { MappedPmem } from '../engine/device/mapped.js';
import { nativeAddon } from '../engine/device/native.js';
import type { Arena, CopyList, PieceList } from '../engine/device/pmem.js';
import {
  KERNEL_GEOMETRY,
  segmentCountFor,
  segmentDataOffsetBytes,
  SEGMENTS_OFFSET_BYTES,
} from '../engine/media/geometry.js';

export class SparsePmem extends MappedPmem {
  dropsPayload = true;
  private readonly holdsPayload = new Uint8Array(segmentCountFor(KERNEL_GEOMETRY, this.sizeBytes));

  /** Opens a file that is to be forgotten when it is closed. */
  static open(this: void, path: string): SparsePmem {
    const addon = nativeAddon();
    const file = openDeviceFile(path, { writable: true });
    return orClose(file.fd, () => new SparsePmem(addon, file, true));
  }

  override runReads(list: CopyList, count: number, arena: Arena): void {
    if (!this.dropsPayload) super.runReads(list, count, arena);
  }

  override writePieces(list: PieceList, count: number, pmemOffsetBytes: number, arena: Arena): void {
    if (this.dropsPayload) this.holdsPayload[segmentAt(pmemOffsetBytes)] = 1;
    else super.writePieces(list, count, pmemOffsetBytes, arena);
  }

  override read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    if (this.dropsPayload && this.isPayload(offsetBytes)) return;
    super.read(offsetBytes, target, targetOffset, lengthBytes);
  }

  private isPayload(offsetBytes: number): boolean {
    const segment = segmentAt(offsetBytes);
    return this.holdsPayload[segment] === 1 && offsetBytes >= segmentDataOffsetBytes(KERNEL_GEOMETRY, segment);
  }
}

/** The segment that a byte of the device is in; −1 before the first. */
function segmentAt(offsetBytes: number): number {
  return Math.floor((offsetBytes - SEGMENTS_OFFSET_BYTES) / KERNEL_GEOMETRY.segmentBytes);
}
