/**
 * Codecs of every structure on media (format §1), over plain bytes. A decoder never judges: it returns the
 * stored values, and `crcOk` says whether the CRC matches. Integers are little-endian. 64-bit fields become
 * doubles: exact below 2^53, and only compared; a larger value is outside every legal range.
 */
import { assert } from '../errors.js';
import { structCrc } from './crc32c.js';

export const SUPERBLOCK_BYTES = 24;
export const META_HEADER_BYTES = 8;
export const CACHE_INFO_BYTES = 24;
export const POSITION_BYTES = 16;
export const SEGMENT_INFO_BYTES = 16;
export const GENERATION_BYTES = 16;

/** Magic of the superblock as two 32-bit halves: 0x65B05EFA96C596EF. */
export const SUPERBLOCK_MAGIC_LOW = 0x96c596ef;
export const SUPERBLOCK_MAGIC_HIGH = 0x65b05efa;
export const SUPERBLOCK_FLAG_BIG_ENDIAN = 1;

export const CACHE_FLAG_DATA_CRC = 1 << 0;
export const CACHE_FLAG_INIT_DONE = 1 << 1;
const CACHE_MODE_SHIFT = 2;
const CACHE_MODE_MASK = 0xf << CACHE_MODE_SHIFT;
const GC_PERCENT_SHIFT = 6;
const GC_PERCENT_MASK = 0x7f << GC_PERCENT_SHIFT;
export const GC_PERCENT_MAX = 90;
export const GC_PERCENT_DEFAULT = 70;

/** Cache modes in the order of their number on media. */
export const CACHE_MODES = ['writeback', 'writethrough', 'writearound', 'writeonly'] as const;
export type CacheMode = (typeof CACHE_MODES)[number];

export const SEGMENT_FLAG_HAS_NEXT = 1 << 0;
const SEGMENT_TYPE_SHIFT = 1;
const SEGMENT_TYPE_MASK = 0xf << SEGMENT_TYPE_SHIFT;
export const SEGMENT_TYPE_CACHE_DATA = 1;

const TWO_32 = 2 ** 32;

/** Reads an unsigned 64-bit little-endian integer as a double (rounded from 2^53 on). */
export function readU64(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * TWO_32 + view.getUint32(offset, true);
}

/** Writes a safe non-negative integer as unsigned 64-bit little-endian. */
export function writeU64(view: DataView, offset: number, value: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, 'a 64-bit field takes a safe non-negative integer');
  view.setUint32(offset, value % TWO_32, true);
  view.setUint32(offset + 4, Math.floor(value / TWO_32), true);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export interface Superblock {
  readonly crcOk: boolean;
  readonly crcStored: number;
  readonly crcComputed: number;
  readonly flags: number;
  /** The magic as 16 lower-case hexadecimal digits. */
  readonly magic: string;
  readonly magicOk: boolean;
  readonly magicZero: boolean;
  readonly bigEndian: boolean;
  readonly segmentCount: number;
}

/** @param bytes at least 24 bytes, from byte 4096 of the device. */
export function decodeSuperblock(bytes: Uint8Array): Superblock {
  const view = viewOf(bytes);
  const flags = view.getUint32(4, true);
  const low = view.getUint32(8, true);
  const high = view.getUint32(12, true);
  const crcStored = view.getUint32(0, true);
  const crcComputed = structCrc(bytes, 0, SUPERBLOCK_BYTES);
  return {
    crcOk: crcStored === crcComputed,
    crcStored,
    crcComputed,
    flags,
    magic: high.toString(16).padStart(8, '0') + low.toString(16).padStart(8, '0'),
    magicOk: low === SUPERBLOCK_MAGIC_LOW && high === SUPERBLOCK_MAGIC_HIGH,
    magicZero: low === 0 && high === 0,
    bigEndian: (flags & SUPERBLOCK_FLAG_BIG_ENDIAN) !== 0,
    segmentCount: view.getUint32(16, true),
  };
}

/**
 * @param padding the four bytes at +20 that the CRC covers: zero on a fresh device, else the device's old bytes.
 * @returns 24 bytes.
 */
export function encodeSuperblock(segmentCount: number, padding = 0): Uint8Array {
  const bytes = new Uint8Array(SUPERBLOCK_BYTES);
  const view = viewOf(bytes);
  view.setUint32(8, SUPERBLOCK_MAGIC_LOW, true);
  view.setUint32(12, SUPERBLOCK_MAGIC_HIGH, true);
  view.setUint32(16, segmentCount, true);
  view.setUint32(20, padding, true);
  view.setUint32(0, structCrc(bytes, 0, SUPERBLOCK_BYTES), true);
  return bytes;
}

/** Header of every dual-copy structure. In positions and generations `version` and `reserved` are undefined. */
export interface MetaHeader {
  readonly crcOk: boolean;
  readonly crcStored: number;
  readonly crcComputed: number;
  /** Low 8 bits of the sequence number. */
  readonly seq: number;
}

// The decoders below copy the header's fields one by one: spreading an object costs more than the decoding
// itself, and each of up to 2^20 segments has four of these structures.
function decodeHeader(bytes: Uint8Array, view: DataView, lengthBytes: number): MetaHeader {
  const crcStored = view.getUint32(0, true);
  const crcComputed = structCrc(bytes, 0, lengthBytes);
  return { crcOk: crcStored === crcComputed, crcStored, crcComputed, seq: view.getUint8(4) };
}

/** Stores `seq` in the header, then the structure's CRC. */
function seal(bytes: Uint8Array, seq: number): Uint8Array {
  bytes[4] = seq & 0xff;
  putU32(bytes, 0, structCrc(bytes, 0, bytes.length));
  return bytes;
}

/** `DataView.setUint32` without the view: a position is encoded for every kset that is written back. */
function putU32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value;
  bytes[offset + 1] = value >>> 8;
  bytes[offset + 2] = value >>> 16;
  bytes[offset + 3] = value >>> 24;
}

export interface CacheInfo {
  /** Physical id of the first segment of the chain. */
  readonly firstSegmentId: number;
  readonly segmentCount: number;
  readonly flags: number;
}

export function decodeCacheInfo(bytes: Uint8Array): MetaHeader & CacheInfo {
  const view = viewOf(bytes);
  const { crcOk, crcStored, crcComputed, seq } = decodeHeader(bytes, view, CACHE_INFO_BYTES);
  return {
    crcOk,
    crcStored,
    crcComputed,
    seq,
    firstSegmentId: view.getUint32(8, true),
    segmentCount: view.getUint32(12, true),
    flags: view.getUint32(16, true),
  };
}

export function encodeCacheInfo(info: CacheInfo, seq: number): Uint8Array {
  const bytes = new Uint8Array(CACHE_INFO_BYTES);
  const view = viewOf(bytes);
  view.setUint32(8, info.firstSegmentId, true);
  view.setUint32(12, info.segmentCount, true);
  view.setUint32(16, info.flags, true);
  return seal(bytes, seq);
}

/** The fields of the cache_info flags word (format §1 "cache_info"). */
export interface CacheFlags {
  readonly dataCrc: boolean;
  readonly initDone: boolean;
  /** Number of the mode; `CACHE_MODES[modeNumber]` is undefined for an unassigned number. */
  readonly modeNumber: number;
  readonly gcPercent: number;
}

export function decodeCacheFlags(flags: number): CacheFlags {
  return {
    dataCrc: (flags & CACHE_FLAG_DATA_CRC) !== 0,
    initDone: (flags & CACHE_FLAG_INIT_DONE) !== 0,
    modeNumber: (flags & CACHE_MODE_MASK) >>> CACHE_MODE_SHIFT,
    gcPercent: (flags & GC_PERCENT_MASK) >>> GC_PERCENT_SHIFT,
  };
}

export function encodeCacheFlags(parts: CacheFlags): number {
  assert(parts.gcPercent >= 0 && parts.gcPercent <= GC_PERCENT_MAX, 'gc_percent out of range');
  return (
    (parts.dataCrc ? CACHE_FLAG_DATA_CRC : 0) |
    (parts.initDone ? CACHE_FLAG_INIT_DONE : 0) |
    (parts.modeNumber << CACHE_MODE_SHIFT) |
    (parts.gcPercent << GC_PERCENT_SHIFT)
  );
}

/** A position in the log: a logical segment and a byte offset in its data area. */
export interface Position {
  readonly segment: number;
  readonly offsetBytes: number;
}

export function isSamePosition(a: Position, b: Position): boolean {
  return a.segment === b.segment && a.offsetBytes === b.offsetBytes;
}

export function decodePosition(bytes: Uint8Array): MetaHeader & Position {
  const view = viewOf(bytes);
  const { crcOk, crcStored, crcComputed, seq } = decodeHeader(bytes, view, POSITION_BYTES);
  return {
    crcOk,
    crcStored,
    crcComputed,
    seq,
    segment: view.getUint32(8, true),
    offsetBytes: view.getUint32(12, true),
  };
}

export function encodePosition(position: Position, seq: number): Uint8Array {
  const bytes = new Uint8Array(POSITION_BYTES);
  putU32(bytes, 8, position.segment);
  putU32(bytes, 12, position.offsetBytes);
  return seal(bytes, seq);
}

export interface SegmentInfo {
  readonly flags: number;
  readonly hasNext: boolean;
  readonly type: number;
  /** Physical id of the next segment of the chain; meaningful when `hasNext`. */
  readonly nextSegmentId: number;
}

export function decodeSegmentInfo(bytes: Uint8Array): MetaHeader & SegmentInfo {
  const view = viewOf(bytes);
  const flags = view.getUint32(8, true);
  const { crcOk, crcStored, crcComputed, seq } = decodeHeader(bytes, view, SEGMENT_INFO_BYTES);
  return {
    crcOk,
    crcStored,
    crcComputed,
    seq,
    flags,
    hasNext: (flags & SEGMENT_FLAG_HAS_NEXT) !== 0,
    type: (flags & SEGMENT_TYPE_MASK) >>> SEGMENT_TYPE_SHIFT,
    nextSegmentId: view.getUint32(12, true),
  };
}

/** @param nextSegmentId physical id of the next segment, or undefined for the last of the chain. */
export function encodeSegmentInfo(nextSegmentId: number | undefined, seq: number): Uint8Array {
  const bytes = new Uint8Array(SEGMENT_INFO_BYTES);
  const view = viewOf(bytes);
  const type = SEGMENT_TYPE_CACHE_DATA << SEGMENT_TYPE_SHIFT;
  view.setUint32(8, type | (nextSegmentId === undefined ? 0 : SEGMENT_FLAG_HAS_NEXT), true);
  view.setUint32(12, nextSegmentId ?? 0, true);
  return seal(bytes, seq);
}

export interface Generation {
  readonly generation: number;
}

export function decodeGeneration(bytes: Uint8Array): MetaHeader & Generation {
  const view = viewOf(bytes);
  const { crcOk, crcStored, crcComputed, seq } = decodeHeader(bytes, view, GENERATION_BYTES);
  return { crcOk, crcStored, crcComputed, seq, generation: readU64(view, 8) };
}

export function encodeGeneration(generation: number, seq: number): Uint8Array {
  const bytes = new Uint8Array(GENERATION_BYTES);
  const view = viewOf(bytes);
  writeU64(view, 8, generation);
  return seal(bytes, seq);
}
