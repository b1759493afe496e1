/**
 * Appends to the log (format §2). Each slot has an open kset, in which keys are encoded as they arrive; closing a
 * kset writes it at key_head. kernel: `cache_key_append`, `cache_kset_close` as called from the request path, and
 * `get_kset_id`.
 *
 * Order rules of this file: all payload, and the zeroes behind the kset, are persisted before the kset (the kernel
 * sends the zeroes together with the kset, so a crash may keep one without the other); a kset is persisted before
 * anything that relies on it; a LAST kset is written only after the first bytes of the next segment were zeroed and
 * persisted.
 */
import type { Clock } from '../clock.js';
import { assert, internalError } from '../errors.js';
import * as device from '../device/pmem.js';
import type { Position } from '../media/codecs.js';
import type { Crc32c } from '../media/crc32c.js';
import * as geometry from '../media/geometry.js';
import {
  encodeLastKset,
  KEY_BYTES,
  KeyField,
  KSET_BYTES_MAX,
  KSET_HEADER_BYTES,
  KSET_KEYS_MAX as KEYS_MAX,
  ksetBytes,
  sealKset,
} from '../media/kset.js';
import type { PayloadCrcs } from '../space/payload-crcs.js';
import type { Pieces } from '../space/pieces.js';
import type { SegmentTable } from '../space/segment-table.js';

// See `pieces.ts` about imported constants.
const { PIECE_WORDS } = device;
const { SECTOR_SHIFT, SUBTREE_SHIFT } = geometry;
const KSET_KEYS_MAX = KEYS_MAX;
const { length: LENGTH, subtree: SUBTREE, sector: SECTOR, crc: CRC, offsetSectors: OFFSET_SECTORS } = device.PieceWord;

const ZEROES = new Uint8Array(KSET_HEADER_BYTES);

// Word offsets of the fields of a key.
const FIRST_KEY_WORD = KSET_HEADER_BYTES / 4;
const KEY_WORDS = KEY_BYTES / 4;
const OFF_WORD = KeyField.off / 4;
const LENGTH_WORD = KeyField.length / 4;
const FLAGS_WORD = KeyField.flags / 4;
const SEGMENT_WORD = KeyField.segment / 4;
const SEGMENT_OFFSET_WORD = KeyField.segmentOffset / 4;
const GENERATION_WORD = KeyField.generation / 4;
const DATA_CRC_WORD = KeyField.dataCrc / 4;
const RESERVED_WORD = KeyField.reserved / 4;

/** An open kset: the image of what will be written. */
export class OpenKset {
  readonly bytes = new Uint8Array(KSET_BYTES_MAX);
  /** The same bytes as words. */
  readonly words = new Int32Array(this.bytes.buffer);
  keyCount = 0;
  /** Clock when its first key was appended. */
  openedAtMs = 0;
  /** Must be closed at the next commit: it is full, or holds a FUA write. */
  closeDue = false;
}

export class LogWriter {
  readonly slotCount: number;
  /** key_head: position of the next kset. */
  headSegment: number;
  headOffsetBytes: number;
  /** Ksets written and keys in them since the log was opened. */
  ksetsClosed = 0;
  keysLogged = 0;
  /** The last attempt to close a kset found no segment for the log to go on in. */
  isStuck = false;
  private readonly slots: OpenKset[];
  private openSlots = 0;
  private dueSlots = 0;

  constructor(
    private readonly pmem: device.Pmem,
    protected readonly segments: SegmentTable,
    head: Position,
    slotCount: number,
    private readonly crc: Crc32c,
    private readonly clock: Clock,
    private readonly payloadCrcs?: PayloadCrcs,
  ) {
    assert(new Uint8Array(Int32Array.of(1).buffer)[0] === 1, 'keys are encoded for processors of little-endian order');
    this.slotCount = slotCount;
    this.slots = Array.from({ length: slotCount }, () => new OpenKset());
    this.headSegment = head.segment;
    this.headOffsetBytes = head.offsetBytes;
  }

  get head(): Position {
    return { segment: this.headSegment, offsetBytes: this.headOffsetBytes };
  }

  /** The slot that all keys of the subtree go through, so that log order is write order. */
  slotOf(subtree: number): number {
    return this.slotCount === 1 ? 0 : subtree % this.slotCount;
  }

  /** Keys that still fit in the slot's open kset. */
  roomOf(slot: number): number {
    return KSET_KEYS_MAX - this.slots[slot].keyCount;
  }

  /** The open ksets with the keys that they hold so far; valid until the next append. */
  get openKsets(): readonly Readonly<Pick<OpenKset, 'bytes' | 'keyCount'>>[] {
    return this.slots;
  }

  get hasOpenKeys(): boolean {
    return this.openSlots > 0;
  }
  /** At least one kset must be closed at the next commit. */
  get hasDue(): boolean {
    return this.dueSlots > 0;
  }

  /**
   * Appends the keys of pieces to the open kset of their slot, which must have room for them.
   * @param flags key flags of all of them
   */
  append(pieces: Pieces, flags: number): void {
    const { words: from, count } = pieces;
    const { segment, generationLow, generationHigh } = pieces.head;
    const kset = this.slots[pieces.slot];
    const { words, keyCount } = kset;
    if (keyCount + count > KSET_KEYS_MAX) internalError('appended keys do not fit in their kset');
    if (keyCount === 0) this.open(kset);
    for (let i = 0; i < count; i++) {
      const piece = i * PIECE_WORDS;
      const at = FIRST_KEY_WORD + (keyCount + i) * KEY_WORDS;
      const subtree = from[piece | SUBTREE];
      // The offset is `subtree` × 4 MiB + the sector × 512, in two words.
      words[at + OFF_WORD] = (subtree << SUBTREE_SHIFT) | (from[piece | SECTOR] << SECTOR_SHIFT);
      words[at + OFF_WORD + 1] = subtree >>> (32 - SUBTREE_SHIFT);
      words[at + LENGTH_WORD] = from[piece | LENGTH];
      words[at + FLAGS_WORD] = flags;
      words[at + SEGMENT_WORD] = segment;
      words[at + SEGMENT_OFFSET_WORD] = from[piece | OFFSET_SECTORS] << SECTOR_SHIFT;
      words[at + GENERATION_WORD] = generationLow;
      words[at + GENERATION_WORD + 1] = generationHigh;
      words[at + DATA_CRC_WORD] = from[piece | CRC];
      words[at + RESERVED_WORD] = 0;
    }
    kset.keyCount = keyCount + count;
    if (kset.keyCount === KSET_KEYS_MAX) this.markDue(pieces.slot);
    if (this.payloadCrcs !== undefined) addCrcs(this.payloadCrcs, pieces);
  }

  private open(kset: OpenKset): void {
    kset.openedAtMs = this.clock.nowMs();
    this.openSlots++;
  }

  /** Marks the slot's kset to be closed at the next commit. */
  markDue(slot: number): void {
    const kset = this.slots[slot];
    if (kset.closeDue || kset.keyCount === 0) return;
    kset.closeDue = true;
    this.dueSlots++;
  }
  /** Marks all open ksets (FLUSH). */
  markAllDue(): void {
    for (let slot = 0; slot < this.slotCount; slot++) this.markDue(slot);
  }
  /** Marks the ksets whose first key is `ageMs` old. */
  markAgedDue(nowMs: number, ageMs: number): void {
    if (this.openSlots === 0) return;
    for (let slot = 0; slot < this.slotCount; slot++) {
      if (this.slots[slot].keyCount > 0 && nowMs - this.slots[slot].openedAtMs >= ageMs) this.markDue(slot);
    }
  }
  /** Time at which the oldest open kset becomes `ageMs` old; Infinity when none is open or the log is stuck. */
  nextDueMs(ageMs: number): number {
    let due = Infinity;
    if (this.isStuck) return due;
    for (const kset of this.slots) if (kset.keyCount > 0) due = Math.min(due, kset.openedAtMs + ageMs);
    return due;
  }

  /**
   * Closes every kset that is due. The caller has stored all their payload and set the CRCs of their keys.
   * @returns false when the log needs a segment and none is free; those ksets stay due.
   */
  closeDue(): boolean {
    for (let slot = 0; slot < this.slotCount && this.dueSlots > 0; slot++) {
      this.isStuck = this.slots[slot].closeDue && !this.close(this.slots[slot]);
      if (this.isStuck) return false;
    }
    return true;
  }

  private close(kset: OpenKset): boolean {
    const lengthBytes = ksetBytes(kset.keyCount);
    sealKset(kset.bytes.subarray(0, lengthBytes), kset.keyCount, this.crc);
    if (!this.write(kset, lengthBytes)) return false;
    kset.keyCount = 0;
    this.openSlots--;
    kset.closeDue = false;
    this.dueSlots--;
    return true;
  }

  /** Writes a kset at key_head. @returns false when the log needs a segment and none is free. */
  protected write({ bytes, keyCount }: OpenKset, lengthBytes: number): boolean {
    if (!this.makeRoom(lengthBytes + KSET_HEADER_BYTES)) return false;
    // Zeroes first: if a crash kept the kset without the zeroes, an old kset behind it would be replayed after it.
    this.pmem.write(this.headAddress() + lengthBytes, ZEROES, 0, KSET_HEADER_BYTES);
    this.pmem.persist(); // payload, and the zeroes, before key
    this.pmem.write(this.headAddress(), bytes, 0, lengthBytes);
    this.pmem.persist(); // kset before anything that relies on it
    this.headOffsetBytes += lengthBytes;
    this.ksetsClosed++;
    this.keysLogged += keyCount;
    return true;
  }

  /** Moves key_head to another segment when `bytes` do not fit in this one. */
  private makeRoom(bytes: number): boolean {
    const { segmentDataBytes } = this.segments.geometry;
    if (this.headOffsetBytes + bytes <= segmentDataBytes) return true;
    const next = this.segments.takeForLog();
    if (next < 0) return false;
    this.pmem.write(this.segments.dataOffsetBytes[next], ZEROES, 0, KSET_HEADER_BYTES);
    this.pmem.persist(); // no old kset may show there once the LAST kset leads to it
    const last = encodeLastKset(next, this.crc);
    this.pmem.write(this.headAddress(), last, 0, last.length);
    this.pmem.persist();
    this.headSegment = next;
    this.headOffsetBytes = 0;
    return true;
  }

  private headAddress(): number {
    return this.segments.dataOffsetBytes[this.headSegment] + this.headOffsetBytes;
  }
}

function addCrcs(crcs: PayloadCrcs, { words, count, head }: Pieces): void {
  for (let i = 0; i < count; i++) {
    const piece = i * PIECE_WORDS;
    crcs.add(
      head.segment,
      words[piece | OFFSET_SECTORS],
      words[piece | LENGTH] >>> SECTOR_SHIFT,
      words[piece | CRC] >>> 0,
    );
  }
}
