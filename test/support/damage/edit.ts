/**
 * Edits a cache image structure by structure, sealing each with its right CRC, so that a damager makes the one
 * damage it is about and no other.
 */
import type { Position } from '../../../src/engine/media/codecs.js';
import {
  decodeCacheInfo,
  encodeCacheInfo,
  encodeGeneration,
  encodePosition,
  encodeSegmentInfo,
  encodeSuperblock,
  CACHE_INFO_BYTES,
  GENERATION_BYTES,
  POSITION_BYTES,
  SEGMENT_INFO_BYTES,
  type CacheInfo,
} from '../../../src/engine/media/codecs.js';
import { structCrc } from '../../../src/engine/media/crc32c.js';
import { readDual } from '../../../src/engine/media/dual.js';
import {
  CACHE_INFO_COPIES,
  DIRTY_TAIL_COPIES,
  generationCopies,
  KERNEL_GEOMETRY,
  KEY_TAIL_COPIES,
  segmentDataOffsetBytes,
  segmentInfoCopies,
  SUPERBLOCK_OFFSET_BYTES,
  type CopyOffsets,
} from '../../../src/engine/media/geometry.js';
import { encodeLastKset, KEY_BYTES, KeyField, KSET_HEADER_BYTES, KsetView } from '../../../src/engine/media/kset.js';
import { LogWalker } from '../../../src/engine/media/log-walker.js';
import { readMetadata } from '../../../src/engine/media/metadata.js';

export const GEOMETRY = KERNEL_GEOMETRY;

/** An image that can be damaged: a `SparseImage`, an `Overlay`. */
export interface DamageImage {
  readonly path: string;
  readonly sizeBytes: number;
  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void;
  crc32c(offsetBytes: number, lengthBytes: number, seed: number): number;
  /** A copy of a range. */
  bytes(offsetBytes: number, lengthBytes: number): Uint8Array;
  write(offsetBytes: number, source: Uint8Array): void;
  zero(offsetBytes: number, lengthBytes: number): void;
  /** A copy of the image, cut or extended to `sizeBytes` when that is given. */
  clone(sizeBytes?: number): DamageImage;
  close(): void;
}

/** Byte offset on the device of a place in the log; the kernel's chains are the identity. */
export function deviceOffset(place: Position): number {
  return segmentDataOffsetBytes(GEOMETRY, place.segment) + place.offsetBytes;
}

export function flip(image: DamageImage, offsetBytes: number): void {
  const bytes = image.bytes(offsetBytes, 1);
  bytes[0] ^= 0x55;
  image.write(offsetBytes, bytes);
}

/** Changes a little-endian u32 of a structure at `offsetBytes` and seals the structure with its CRC. */
export function patchSealed(
  image: DamageImage,
  offsetBytes: number,
  lengthBytes: number,
  field: number,
  value: number,
): void {
  const bytes = image.bytes(offsetBytes, lengthBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(field, value, true);
  view.setUint32(0, structCrc(bytes, 0, lengthBytes), true);
  image.write(offsetBytes, bytes);
}

export function writeSuperblock(image: DamageImage, segmentCount: number): void {
  image.write(SUPERBLOCK_OFFSET_BYTES, encodeSuperblock(segmentCount));
}

/** Writes a cache_info that counts, changed from the one that did. */
export function changeCacheInfo(image: DamageImage, change: (info: CacheInfo) => CacheInfo): void {
  const dual = readDual<CacheInfo>(image, CACHE_INFO_COPIES, CACHE_INFO_BYTES, decodeCacheInfo);
  const value = dual.value!;
  const next = dual.winner === 0 ? 1 : 0;
  image.write(CACHE_INFO_COPIES[next], encodeCacheInfo(change(value), value.seq + 1));
}

export type DualName = 'CACHE_INFO' | 'KEY_TAIL' | 'DIRTY_TAIL' | 'SEGMENT_INFO' | 'GENERATION';

/** Places and length of a dual structure; of segment 2 for those that every segment has. */
export function dualPlace(name: DualName): { copies: CopyOffsets; lengthBytes: number } {
  switch (name) {
    case 'CACHE_INFO':
      return { copies: CACHE_INFO_COPIES, lengthBytes: CACHE_INFO_BYTES };
    case 'KEY_TAIL':
      return { copies: KEY_TAIL_COPIES, lengthBytes: POSITION_BYTES };
    case 'DIRTY_TAIL':
      return { copies: DIRTY_TAIL_COPIES, lengthBytes: POSITION_BYTES };
    case 'SEGMENT_INFO':
      return { copies: segmentInfoCopies(GEOMETRY, 2), lengthBytes: SEGMENT_INFO_BYTES };
    case 'GENERATION':
      return { copies: generationCopies(GEOMETRY, 2), lengthBytes: GENERATION_BYTES };
  }
}

/** Gives a good copy another sequence number. */
export function changeSeq(image: DamageImage, offsetBytes: number, lengthBytes: number, seq: number): void {
  const bytes = image.bytes(offsetBytes, lengthBytes);
  bytes[4] = seq;
  new DataView(bytes.buffer).setUint32(0, structCrc(bytes, 0, lengthBytes), true);
  image.write(offsetBytes, bytes);
}

/** Writes a tail that counts, as its second update. */
export function writeTail(image: DamageImage, name: 'KEY_TAIL' | 'DIRTY_TAIL', place: Position): void {
  const { copies } = dualPlace(name);
  image.write(copies[0], encodePosition(place, 1));
  image.write(copies[1], encodePosition(place, 2));
}

/** Writes both copies of a segment info, so that the second counts. */
export function writeSegmentInfo(image: DamageImage, segment: number, next: number | undefined): void {
  const copies = segmentInfoCopies(GEOMETRY, segment);
  image.write(copies[1], encodeSegmentInfo(next, 1));
  image.write(copies[0], encodeSegmentInfo(next, 2));
}

/** Writes both copies of a generation. */
export function writeGeneration(image: DamageImage, segment: number, generation: number): void {
  const copies = generationCopies(GEOMETRY, segment);
  image.write(copies[1], encodeGeneration(Math.max(0, generation - 1), 1));
  image.write(copies[0], encodeGeneration(generation, 2));
}

/** Places of the ksets of the log in order, and where it ends. */
export function ksetsOf(image: DamageImage): { places: Position[]; end: Position } {
  const metadata = readMetadata(image, GEOMETRY);
  const walker = new LogWalker(image, GEOMETRY, metadata.chain, metadata.keyTail.value!);
  const places: Position[] = [];
  while (walker.next()) places.push(walker.position);
  return { places, end: walker.position };
}

export function ksetAt(image: DamageImage, place: Position): KsetView {
  const offset = deviceOffset(place);
  const view = new KsetView().attach(image.bytes(offset, KSET_HEADER_BYTES), 0);
  return new KsetView().attach(image.bytes(offset, view.lengthBytes), 0);
}

/** Changes a kset's bytes and seals it. */
export function changeKset(image: DamageImage, place: Position, change: (view: DataView) => void): void {
  const lengthBytes = ksetAt(image, place).lengthBytes;
  const bytes = image.bytes(deviceOffset(place), lengthBytes);
  const view = new DataView(bytes.buffer);
  change(view);
  view.setUint32(0, structCrc(bytes, 0, lengthBytes), true);
  image.write(deviceOffset(place), bytes);
}

/** Changes a 32-bit field of a key and seals its kset. */
export function changeKey(
  image: DamageImage,
  place: Position,
  index: number,
  field: keyof typeof KeyField,
  value: number | ((old: number) => number),
): void {
  changeKset(image, place, (view) => {
    const at = KSET_HEADER_BYTES + index * KEY_BYTES + KeyField[field];
    view.setUint32(at, typeof value === 'number' ? value : value(view.getUint32(at, true)), true);
  });
}

export function writeLast(image: DamageImage, place: Position, next: number): void {
  image.write(deviceOffset(place), encodeLastKset(next));
}

/** Bytes of the kset at `place`. */
export function ksetImage(image: DamageImage, place: Position): Uint8Array {
  return image.bytes(deviceOffset(place), ksetAt(image, place).lengthBytes);
}

/** Writes a kset and the zeroes behind it. @returns the place after it. */
export function writeKset(image: DamageImage, place: Position, bytes: Uint8Array): Position {
  image.write(deviceOffset(place), bytes);
  const next = { segment: place.segment, offsetBytes: place.offsetBytes + bytes.length };
  image.zero(deviceOffset(next), KSET_HEADER_BYTES);
  return next;
}
