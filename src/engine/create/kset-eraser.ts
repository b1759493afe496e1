/** Erases the ksets of an earlier cache (format §1.7) from a segment. */
import { TolerantReader } from '../device/tolerant-reader.js';
import type { Pmem } from '../device/pmem.js';
import { MIB, segmentDataOffsetBytes, type Geometry } from '../media/geometry.js';
import {
  KSET_ALIGNMENT_BYTES,
  KSET_HEADER_BYTES,
  KSET_KEYS_MAX,
  KSET_MAGIC_HIGH,
  KSET_MAGIC_LOW,
  ksetBytes,
  KsetField,
} from '../media/kset.js';

/** Payload is searched for ksets in parts of this size. */
const SEARCH_BYTES = MIB;

/**
 * Finds what begins like a kset, and erases it with its keys. A later cache on the device starts with generation 0 again,
 * so a kset of an earlier one with keys of generation 0, or its keys alone, would look like a lost part of its log.
 */
export class KsetEraser {
  private readonly reader: TolerantReader;
  private readonly buffer = Buffer.alloc(SEARCH_BYTES + KSET_HEADER_BYTES);
  private readonly magic = Buffer.alloc(8);

  constructor(
    private readonly pmem: Pmem,
    private readonly geometry: Geometry,
  ) {
    this.reader = new TolerantReader(pmem);
    this.magic.writeUInt32LE(KSET_MAGIC_LOW, 0);
    this.magic.writeUInt32LE(KSET_MAGIC_HIGH, 4);
  }

  /** Erases all ksets in a segment; the caller persists. @returns how many there were */
  erase(physicalId: number): number {
    const { segmentDataBytes } = this.geometry;
    const start = segmentDataOffsetBytes(this.geometry, physicalId);
    let found = 0;
    for (let part = 0; part < segmentDataBytes; part += SEARCH_BYTES) {
      // A header that begins in this part may end in the next.
      const length = Math.min(SEARCH_BYTES + KSET_HEADER_BYTES, segmentDataBytes - part);
      this.reader.read(start + part, this.buffer, 0, length);
      found += this.eraseIn(start + part, start + segmentDataBytes, this.buffer.subarray(0, length));
    }
    return found;
  }

  private eraseIn(offsetBytes: number, endBytes: number, bytes: Buffer): number {
    let found = 0;
    for (let at = bytes.indexOf(this.magic); at >= 0; at = bytes.indexOf(this.magic, at + 1)) {
      const header = at - KsetField.magic;
      if (header < 0 || header % KSET_ALIGNMENT_BYTES !== 0 || header >= SEARCH_BYTES) continue;
      const lengthBytes = ksetBytes(Math.min(bytes.readUInt32LE(header + KsetField.keyCount), KSET_KEYS_MAX));
      this.pmem.zero(offsetBytes + header, Math.min(lengthBytes, endBytes - offsetBytes - header));
      found++;
    }
    return found;
  }
}
