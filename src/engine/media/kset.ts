/**
 * Key sets and keys on media (format §1 "Key set", "Key"). `KsetView` decodes in place from a byte buffer:
 * walking a log of millions of keys allocates nothing per key.
 */
import { assert } from '../errors.js';
import { CRC_SEED, crc32cRaw, type Crc32c } from './crc32c.js';
import { readU64 } from './codecs.js';
import { SECTOR_BYTES, SUBTREE_BYTES, type Geometry } from './geometry.js';

const SECTOR_MASK = SECTOR_BYTES - 1;
export const KSET_HEADER_BYTES = 24;
export const KEY_BYTES = 40;
export const KSET_KEYS_MAX = 128;
export const KSET_BYTES_MAX = KSET_HEADER_BYTES + KSET_KEYS_MAX * KEY_BYTES;
/** Ksets and payload begin at multiples of this. */
export const KSET_ALIGNMENT_BYTES = 8;

/** Magic of a kset as two 32-bit halves: 0x676894a64e164f1a. */
export const KSET_MAGIC_LOW = 0x4e164f1a;
export const KSET_MAGIC_HIGH = 0x676894a6;
export const KSET_FLAG_LAST = 1;

export const KEY_FLAG_EMPTY = 1 << 0;
export const KEY_FLAG_CLEAN = 1 << 1;

assert(KSET_BYTES_MAX === 5144, 'a full kset is not the size the format gives');

/** Byte length of a kset with `keyCount` keys (24 for a LAST kset, whose key count is 0). */
export function ksetBytes(keyCount: number): number {
  return KSET_HEADER_BYTES + keyCount * KEY_BYTES;
}

/** Offsets of a key's fields, for code that writes keys straight into a kset image. */
export const KeyField = {
  off: 0,
  length: 8,
  flags: 12,
  segment: 16,
  segmentOffset: 20,
  generation: 24,
  dataCrc: 32,
  reserved: 36,
} as const;

/** Offsets of a kset header's fields. */
export const KsetField = { crc: 0, keyCount: 4, nextSegment: 4, magic: 8, flags: 16 } as const;

/** `ok`, or why the log ends at this position. */
export type KsetVerdict = 'ok' | 'bad-magic' | 'bad-key-count' | 'too-long' | 'bad-crc';

/** A reusable window on one kset in a buffer. Field getters read the buffer on each call. */
export class KsetView {
  private bytes: Uint8Array = new Uint8Array(0);
  private view: DataView = new DataView(new ArrayBuffer(0));
  private base = 0;

  /** @param crc the CRC-32C to check ksets with: the native one where there is one. */
  constructor(private readonly crc: Crc32c = crc32cRaw) {}

  /** Looks at `bytes` from `offset` on. The buffer must stay unchanged while the view is used. */
  attach(bytes: Uint8Array, offset: number): this {
    if (bytes !== this.bytes) {
      this.bytes = bytes;
      this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    this.base = offset;
    return this;
  }

  get crcStored(): number {
    return this.view.getUint32(this.base + KsetField.crc, true);
  }
  get flags(): number {
    return readU64(this.view, this.base + KsetField.flags);
  }
  get isLast(): boolean {
    return (this.view.getUint32(this.base + KsetField.flags, true) & KSET_FLAG_LAST) !== 0;
  }
  /** Number of keys; 0 for a LAST kset. */
  get keyCount(): number {
    return this.isLast ? 0 : this.view.getUint32(this.base + KsetField.keyCount, true);
  }
  /** Logical id of the segment where the log goes on; of a LAST kset only. */
  get nextSegment(): number {
    return this.view.getUint32(this.base + KsetField.nextSegment, true);
  }
  get magicOk(): boolean {
    return (
      this.view.getUint32(this.base + KsetField.magic, true) === KSET_MAGIC_LOW &&
      this.view.getUint32(this.base + KsetField.magic + 4, true) === KSET_MAGIC_HIGH
    );
  }
  get lengthBytes(): number {
    return ksetBytes(this.keyCount);
  }
  /** Number of keys that lie whole in the first `lengthBytes` of a kset that may be broken. */
  keysWithin(lengthBytes: number): number {
    return Math.min(this.keyCount, Math.floor((lengthBytes - KSET_HEADER_BYTES) / KEY_BYTES));
  }
  /** CRC over the kset as its key count gives it; only after `keyCount` was found in bounds. */
  crcComputed(): number {
    return this.crc(CRC_SEED, this.bytes, this.base + 4, this.base + this.lengthBytes);
  }

  /**
   * Judges the kset (format §2: what ends the log). `too-long` is a complete kset with a good CRC that does not
   * fit in its segment: kernel 7.3 refuses the device, where the other verdicts only end the log (format §5).
   * @param readableBytes number of bytes of the buffer, from the kset on, that belong to the device.
   * @param availableBytes number of those bytes that lie in the segment's data area.
   */
  verdict(readableBytes: number, availableBytes: number): KsetVerdict {
    if (readableBytes < KSET_HEADER_BYTES || !this.magicOk) return 'bad-magic';
    if (!this.isLast && this.keyCount > KSET_KEYS_MAX) return 'bad-key-count';
    if (this.lengthBytes > readableBytes || this.crcStored !== this.crcComputed()) return 'bad-crc';
    return this.lengthBytes > availableBytes ? 'too-long' : 'ok';
  }

  private keyBase(index: number): number {
    return this.base + KSET_HEADER_BYTES + index * KEY_BYTES;
  }
  /** Logical byte offset on the backing device. */
  keyOffsetBytes(index: number): number {
    return readU64(this.view, this.keyBase(index) + KeyField.off);
  }
  keyLengthBytes(index: number): number {
    return this.view.getUint32(this.keyBase(index) + KeyField.length, true);
  }
  keyFlags(index: number): number {
    return this.view.getUint32(this.keyBase(index) + KeyField.flags, true);
  }
  keyIsClean(index: number): boolean {
    return (this.keyFlags(index) & KEY_FLAG_CLEAN) !== 0;
  }
  keySegment(index: number): number {
    return this.view.getUint32(this.keyBase(index) + KeyField.segment, true);
  }
  keySegmentOffsetBytes(index: number): number {
    return this.view.getUint32(this.keyBase(index) + KeyField.segmentOffset, true);
  }
  keyGeneration(index: number): number {
    return readU64(this.view, this.keyBase(index) + KeyField.generation);
  }
  keyDataCrc(index: number): number {
    return this.view.getUint32(this.keyBase(index) + KeyField.dataCrc, true);
  }
  /** Zero in every key that the kernel writes. */
  keyReserved(index: number): number {
    return this.view.getUint32(this.keyBase(index) + KeyField.reserved, true);
  }

  /** Copies the fields of key `index` into `into`. @returns `into` */
  readKey(index: number, into: KeyFields): KeyFields {
    const { view } = this;
    const at = this.keyBase(index);
    into.offsetLow = view.getInt32(at + KeyField.off, true);
    into.offsetHigh = view.getInt32(at + KeyField.off + 4, true);
    into.length = view.getInt32(at + KeyField.length, true);
    into.flags = view.getInt32(at + KeyField.flags, true);
    into.segment = view.getInt32(at + KeyField.segment, true);
    into.segmentOffset = view.getInt32(at + KeyField.segmentOffset, true);
    into.generationLow = view.getInt32(at + KeyField.generation, true);
    into.generationHigh = view.getInt32(at + KeyField.generation + 4, true);
    into.dataCrc = view.getInt32(at + KeyField.dataCrc, true);
    into.reserved = view.getInt32(at + KeyField.reserved, true);
    return into;
  }

  /** Why key `index` is not valid, or '' when it is: `KeyFields.problem`. */
  keyProblem(index: number, geometry: Geometry, segmentCount: number, backingBytes: number): string {
    return this.readKey(index, scratchKey).problem(geometry, segmentCount, backingBytes);
  }
}

/**
 * The fields of one key, for loops over millions of keys: the stored 32-bit words, but signed, since small signed
 * integers are passed without an allocation.
 */
export class KeyFields {
  offsetLow = 0;
  offsetHigh = 0;
  length = 0;
  flags = 0;
  segment = 0;
  segmentOffset = 0;
  generationLow = 0;
  generationHigh = 0;
  dataCrc = 0;
  reserved = 0;

  /** Logical byte offset on the backing device. */
  get offsetBytes(): number {
    return (this.offsetHigh >>> 0) * 2 ** 32 + (this.offsetLow >>> 0);
  }
  get generation(): number {
    return (this.generationHigh >>> 0) * 2 ** 32 + (this.generationLow >>> 0);
  }
  get isClean(): boolean {
    return (this.flags & KEY_FLAG_CLEAN) !== 0;
  }

  /**
   * Why the key is not valid (format §1 "Key"), or '' when it is valid; `length`, `segment` and `segmentOffset` of a
   * valid key are non-negative although they are signed words.
   * @param backingBytes size of the backing device, or Infinity when it is not known.
   */
  problem(geometry: Geometry, segmentCount: number, backingBytes: number): string {
    const length = this.length >>> 0;
    if (length === 0) return 'length is 0';
    if (((this.offsetLow | length) & SECTOR_MASK) !== 0) return 'offset or length is not a multiple of 512';
    const end = this.offsetBytes + length;
    if (end > Number.MAX_SAFE_INTEGER) return 'offset is beyond 2^53';
    if ((this.offsetLow & (SUBTREE_BYTES - 1)) + length > SUBTREE_BYTES) return 'crosses a 4 MiB boundary';
    if (end > backingBytes) return 'ends beyond the backing device';
    if (this.segment >>> 0 >= segmentCount) return 'segment id is out of range';
    if ((this.segmentOffset & SECTOR_MASK) !== 0) return 'segment offset is not a multiple of 512';
    if ((this.segmentOffset >>> 0) + length > geometry.segmentDataBytes) return 'ends beyond its segment';
    if ((this.flags & KEY_FLAG_EMPTY) !== 0) return 'is flagged EMPTY';
    return '';
  }
}

const scratchKey = new KeyFields();

/** The 24 bytes of a LAST kset that sends the log to logical segment `nextSegment`. */
export function encodeLastKset(nextSegment: number, crc: Crc32c = crc32cRaw): Uint8Array {
  const bytes = new Uint8Array(KSET_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(KsetField.nextSegment, nextSegment, true);
  view.setUint32(KsetField.magic, KSET_MAGIC_LOW, true);
  view.setUint32(KsetField.magic + 4, KSET_MAGIC_HIGH, true);
  view.setUint32(KsetField.flags, KSET_FLAG_LAST, true);
  view.setUint32(KsetField.crc, crc(CRC_SEED, bytes, 4, KSET_HEADER_BYTES), true);
  return bytes;
}

/** Writes the header of a kset of `keyCount` keys, and nothing else, before them. */
export function sealKset(kset: Uint8Array, keyCount: number, crc: Crc32c = crc32cRaw): void {
  const view = new DataView(kset.buffer, kset.byteOffset, kset.length);
  view.setUint32(KsetField.keyCount, keyCount, true);
  view.setUint32(KsetField.magic, KSET_MAGIC_LOW, true);
  view.setUint32(KsetField.magic + 4, KSET_MAGIC_HIGH, true);
  view.setUint32(KsetField.flags, 0, true);
  view.setUint32(KsetField.flags + 4, 0, true);
  view.setUint32(KsetField.crc, crc(CRC_SEED, kset, 4, kset.length), true);
}
