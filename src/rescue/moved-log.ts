/**
 * The log of a cache that `move` makes: ksets one behind another from the beginning of segment 0, in as many of the first
 * segments as it takes (format §1.7, §2). It is not read before the cache has a superblock, so its stores need no order.
 */
import type { Pmem, PmemReader } from '../engine/device/pmem.js';
import { writeU64, type Position } from '../engine/media/codecs.js';
import type { Crc32c } from '../engine/media/crc32c.js';
import { segmentDataOffsetBytes, type Geometry } from '../engine/media/geometry.js';
import {
  encodeLastKset,
  KEY_FLAG_CLEAN,
  KeyField,
  KSET_BYTES_MAX,
  KSET_HEADER_BYTES,
  KSET_KEYS_MAX,
  ksetBytes,
  KsetView,
  sealKset,
} from '../engine/media/kset.js';

/** The places of ksets, by their number of keys. */
export class LogPlaces {
  /** key_head: where the next kset would begin, if it fits there. */
  head: Position = { segment: 0, offsetBytes: 0 };

  constructor(private readonly geometry: Geometry) {}

  /**
   * Goes on by a kset. It must fit into its segment with 24 bytes behind it; if not, it begins the next segment.
   * @returns the position of the kset, and of the LAST kset that leads to it, if there is one
   */
  take(keyCount: number): { readonly at: Position; readonly last: Position | undefined } {
    const { head } = this;
    const lengthBytes = ksetBytes(keyCount);
    const fits = head.offsetBytes + lengthBytes + KSET_HEADER_BYTES <= this.geometry.segmentDataBytes;
    const at = fits ? head : { segment: head.segment + 1, offsetBytes: 0 };
    this.head = { segment: at.segment, offsetBytes: at.offsetBytes + lengthBytes };
    return { at, last: fits ? undefined : head };
  }

  /** Goes on by full ksets and one with what is left of so many keys; calls `visit` for each. */
  takeKeys(keyCount: number, visit?: (at: Position, keyCount: number) => void): void {
    for (let left = keyCount; left > 0; left -= KSET_KEYS_MAX) {
      const count = Math.min(left, KSET_KEYS_MAX);
      const { at } = this.take(count);
      visit?.(at, count);
    }
  }
}

export interface MovedKey {
  offsetBytes: number;
  lengthBytes: number;
  segment: number;
  segmentOffsetBytes: number;
  isClean: boolean;
}

/** Writes the log; the caller persists. */
export class MovedLog {
  private readonly places: LogPlaces;
  private readonly bytes = new Uint8Array(KSET_BYTES_MAX);
  private readonly view = new DataView(this.bytes.buffer);
  private keyCount = 0;

  constructor(
    private readonly pmem: Pmem,
    private readonly geometry: Geometry,
    private readonly crc: Crc32c,
  ) {
    this.places = new LogPlaces(geometry);
  }

  add(key: Readonly<MovedKey>, generation: number, dataCrc: number): void {
    const { view } = this;
    const at = ksetBytes(this.keyCount);
    writeU64(view, at + KeyField.off, key.offsetBytes);
    view.setUint32(at + KeyField.length, key.lengthBytes, true);
    view.setUint32(at + KeyField.flags, key.isClean ? KEY_FLAG_CLEAN : 0, true);
    view.setUint32(at + KeyField.segment, key.segment, true);
    view.setUint32(at + KeyField.segmentOffset, key.segmentOffsetBytes, true);
    writeU64(view, at + KeyField.generation, generation);
    view.setUint32(at + KeyField.dataCrc, dataCrc, true);
    view.setUint32(at + KeyField.reserved, 0, true);
    if (++this.keyCount === KSET_KEYS_MAX) this.close();
  }

  /** Writes the keys that are left. @returns key_head */
  close(): Position {
    if (this.keyCount > 0) {
      const { at, last } = this.places.take(this.keyCount);
      if (last !== undefined) this.store(last, encodeLastKset(at.segment, this.crc));
      const kset = this.bytes.subarray(0, ksetBytes(this.keyCount));
      sealKset(kset, this.keyCount, this.crc);
      this.store(at, kset);
      this.keyCount = 0;
    }
    return this.places.head;
  }

  /** Nothing may look like a kset behind the last one: an earlier cache may have left some there. */
  end(): void {
    this.store(this.places.head, new Uint8Array(KSET_HEADER_BYTES));
  }

  private store({ segment, offsetBytes }: Position, bytes: Uint8Array): void {
    this.pmem.write(segmentDataOffsetBytes(this.geometry, segment) + offsetBytes, bytes, 0, bytes.length);
  }
}

/**
 * Reads the log back.
 * @param keyCounts number of keys before dirty_tail, and from it on
 * @returns the first kset that is not whole; undefined when all are
 */
export function firstBrokenKset(
  pmem: PmemReader,
  geometry: Geometry,
  keyCounts: readonly number[],
  crc: Crc32c,
): Position | undefined {
  const places = new LogPlaces(geometry);
  const kset = new KsetView(crc);
  const bytes = new Uint8Array(KSET_BYTES_MAX);
  let broken: Position | undefined;
  for (const keyCount of keyCounts) {
    places.takeKeys(keyCount, (at, count) => {
      const lengthBytes = ksetBytes(count);
      pmem.read(segmentDataOffsetBytes(geometry, at.segment) + at.offsetBytes, bytes, 0, lengthBytes);
      const isWhole = kset.attach(bytes, 0).verdict(lengthBytes, lengthBytes) === 'ok' && kset.keyCount === count;
      if (!isWhole) broken ??= at;
    });
  }
  return broken;
}
