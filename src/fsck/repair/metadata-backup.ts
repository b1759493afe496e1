/**
 * A backup of a cache's metadata in a small file: everything before the segments, and each segment's info and
 * generation (format §1). What of it never changes after the cache was made can always be restored. Tails and
 * generations do change: they are restored only where both copies on the device are lost, and may be old ones.
 *
 * Layout, little-endian: a header of 64 bytes (magic, version, device size, when it was made, how many segments, CRC over
 * the header before it and the body), then the first 20 KiB of the device, then per segment both infos and both
 * generations, 16 bytes each. The CRC is a raw CRC-32C with the format's seed.
 */
import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { storeOrWriteOver } from '../../engine/device/write-over.js';
import { TolerantReader } from '../../engine/device/tolerant-reader.js';
import { fromSystemError, PcacheError } from '../../engine/errors.js';
import {
  CACHE_INFO_BYTES,
  decodeCacheInfo,
  decodeGeneration,
  decodePosition,
  decodeSegmentInfo,
  decodeSuperblock,
  GENERATION_BYTES,
  POSITION_BYTES,
  SEGMENT_INFO_BYTES,
  SUPERBLOCK_BYTES,
  type MetaHeader,
} from '../../engine/media/codecs.js';
import { CRC_SEED, crc32cRaw } from '../../engine/media/crc32c.js';
import { readDual, type ByteSource } from '../../engine/media/dual.js';
import {
  CACHE_INFO_COPIES,
  DIRTY_TAIL_COPIES,
  generationCopies,
  KEY_TAIL_COPIES,
  segmentCountFor,
  segmentInfoCopies,
  SEGMENTS_OFFSET_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  type CopyOffsets,
  type Geometry,
} from '../../engine/media/geometry.js';
import { builtin } from '../../layout/builtin.js';
import type { Change, RepairDevice } from './types.js';
import { syncFolder, type UndoLog } from './undo-file.js';

const MAGIC = Buffer.from('PCACHE-METADATA\n', 'latin1');
const VERSION = 1;
const HEADER_BYTES = 64;
const AT = { version: 16, segments: 20, deviceBytes: 24, madeMs: 32, crc: 60 } as const;
const SEGMENT_BYTES = 2 * SEGMENT_INFO_BYTES + 2 * GENERATION_BYTES;

export interface MetadataBackup {
  readonly path: string;
  readonly deviceBytes: number;
  readonly segmentCount: number;
  readonly madeMs: number;
  /** The metadata as they were, at their places on the device; all else reads as zeroes. */
  readonly source: ByteSource;
}

/** A dual structure or the superblock, as one thing to restore. */
interface Part {
  readonly name: string;
  readonly offsets: readonly number[];
  readonly lengthBytes: number;
  readonly isGood: (source: ByteSource) => boolean;
  /** It changes while the cache is used. */
  readonly mayBeOld: boolean;
}

export interface Restored {
  /** What was written again. */
  readonly parts: readonly string[];
  /** Those that may be older than what was lost. */
  readonly mayBeOld: readonly string[];
}

function partsOf(geometry: Geometry, segmentCount: number): Part[] {
  const dual = (
    name: string,
    offsets: CopyOffsets,
    lengthBytes: number,
    decode: (bytes: Uint8Array) => MetaHeader,
    mayBeOld = false,
  ): Part => ({
    name,
    offsets,
    lengthBytes,
    mayBeOld,
    isGood: (source) => readDual(source, offsets, lengthBytes, decode).winner >= 0,
  });
  const superblock: Part = {
    name: 'superblock',
    offsets: [SUPERBLOCK_OFFSET_BYTES],
    lengthBytes: SUPERBLOCK_BYTES,
    mayBeOld: false,
    isGood: (source) => {
      const { magicOk, crcOk } = decodeSuperblock(bytesAt(source, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES));
      return magicOk && crcOk;
    },
  };
  const segments = Array.from({ length: segmentCount }, (_, id) => [
    dual(`info of physical segment ${id}`, segmentInfoCopies(geometry, id), SEGMENT_INFO_BYTES, decodeSegmentInfo),
    dual(
      `generation of physical segment ${id}`,
      generationCopies(geometry, id),
      GENERATION_BYTES,
      decodeGeneration,
      true,
    ),
  ]).flat();
  // The superblock last: with it the device attaches.
  return [
    ...segments,
    dual('cache_info', CACHE_INFO_COPIES, CACHE_INFO_BYTES, decodeCacheInfo),
    dual('key_tail', KEY_TAIL_COPIES, POSITION_BYTES, decodePosition, true),
    dual('dirty_tail', DIRTY_TAIL_COPIES, POSITION_BYTES, decodePosition, true),
    superblock,
  ];
}

function bytesAt(source: ByteSource, offsetBytes: number, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  source.read(offsetBytes, bytes, 0, lengthBytes);
  return bytes;
}

/**
 * Writes the metadata of a device to a file, which is complete or as it was before, whatever ends the process. Replaces
 * an older backup of a device of this size, and nothing else. @returns the size of the file in bytes
 * @throws PcacheError BAD_MEDIA when a structure has no good copy, USAGE when another file lies there, NO_SPACE, IO
 */
export function backUpMetadata(
  source: ByteSource & { readonly path: string },
  geometry: Geometry,
  path: string,
): number {
  const segmentCount = segmentCountFor(geometry, source.sizeBytes);
  const lost = partsOf(geometry, segmentCount).find((part) => !part.isGood(source));
  if (lost !== undefined) {
    throw new PcacheError(
      'BAD_MEDIA',
      `${source.path}: ${lost.name} is damaged, and a backup would keep that; run "pcache fsck ${source.path}" first`,
    );
  }
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32LE(VERSION, AT.version);
  header.writeUInt32LE(segmentCount, AT.segments);
  header.writeBigUInt64LE(BigInt(source.sizeBytes), AT.deviceBytes);
  header.writeBigUInt64LE(BigInt(Date.now()), AT.madeMs);
  const body = Buffer.alloc(SEGMENTS_OFFSET_BYTES + segmentCount * SEGMENT_BYTES);
  source.read(0, body, 0, SEGMENTS_OFFSET_BYTES);
  for (let id = 0; id < segmentCount; id++) {
    for (const { deviceAt, bodyAt } of segmentPlaces(geometry, id)) source.read(deviceAt, body, bodyAt, 16);
  }
  header.writeUInt32LE(crcOf(header, body), AT.crc);
  replaceBackup(path, Buffer.concat([header, body]), source.sizeBytes);
  return HEADER_BYTES + body.length;
}

function segmentPlaces(geometry: Geometry, id: number): { deviceAt: number; bodyAt: number }[] {
  const base = SEGMENTS_OFFSET_BYTES + id * SEGMENT_BYTES;
  const places = [...segmentInfoCopies(geometry, id), ...generationCopies(geometry, id)];
  return places.map((deviceAt, at) => ({ deviceAt, bodyAt: base + 16 * at }));
}

function crcOf(header: Uint8Array, body: Uint8Array): number {
  return crc32cRaw(crc32cRaw(CRC_SEED, header, 0, AT.crc), body, 0, body.length);
}

function replaceBackup(path: string, bytes: Uint8Array, deviceBytes: number): void {
  try {
    const target = requireReplaceable(path, deviceBytes);
    const { randomBytes } = builtin('node:crypto');
    const temporary = `${target}.${randomBytes(4).toString('hex')}.tmp`;
    try {
      writeDurably(temporary, bytes);
      renameSync(temporary, target);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
    syncFolder(dirname(target));
  } catch (error) {
    throw error instanceof PcacheError ? error : fromSystemError(error, path, 'writing the backup');
  }
}

/** @returns the path to write, behind links. @throws PcacheError USAGE for what is not an older backup */
function requireReplaceable(path: string, deviceBytes: number): string {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return path;
  if (!found.isFile() || !isBackupOf(path, deviceBytes)) {
    throw new PcacheError(
      'USAGE',
      `${path}: exists already, and is not a metadata backup of this device; give another name`,
    );
  }
  return realpathSync(path);
}

function isBackupOf(path: string, deviceBytes: number): boolean {
  const header = Buffer.alloc(HEADER_BYTES);
  const fd = openSync(path, 'r');
  try {
    if (readSync(fd, header, 0, HEADER_BYTES, 0) < HEADER_BYTES) return false;
  } finally {
    closeSync(fd);
  }
  const isOurs = header.subarray(0, MAGIC.length).equals(MAGIC);
  return isOurs && header.readBigUInt64LE(AT.deviceBytes) === BigInt(deviceBytes);
}

/** @param path must not exist */
function writeDurably(path: string, bytes: Uint8Array): void {
  const fd = openSync(path, 'wx', 0o600);
  try {
    for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** @throws PcacheError NOT_FOUND, IO; BAD_MEDIA for what is not a backup of metadata, or a damaged one */
export function readMetadataBackup(path: string, geometry: Geometry): MetadataBackup {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw fromSystemError(error, path, 'reading the backup');
  }
  if (bytes.length < HEADER_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new PcacheError('BAD_MEDIA', `${path}: is not a backup of pcache metadata; nothing was changed`);
  }
  const version = bytes.readUInt32LE(AT.version);
  const segmentCount = bytes.readUInt32LE(AT.segments);
  const body = bytes.subarray(HEADER_BYTES);
  const isWhole = body.length === SEGMENTS_OFFSET_BYTES + segmentCount * SEGMENT_BYTES;
  if (version !== VERSION || !isWhole || bytes.readUInt32LE(AT.crc) !== crcOf(bytes, body)) {
    throw new PcacheError('BAD_MEDIA', `${path}: is damaged, or of another version; nothing was changed`);
  }
  const deviceBytes = Number(bytes.readBigUInt64LE(AT.deviceBytes));
  const places = new Map<number, number>();
  for (let id = 0; id < segmentCount; id++) {
    for (const { deviceAt, bodyAt } of segmentPlaces(geometry, id)) places.set(deviceAt, bodyAt);
  }
  const source: ByteSource = {
    sizeBytes: deviceBytes,
    read: (offsetBytes, target, targetOffset, lengthBytes) => {
      const at = offsetBytes < SEGMENTS_OFFSET_BYTES ? offsetBytes : places.get(offsetBytes);
      target.fill(0, targetOffset, targetOffset + lengthBytes);
      if (at !== undefined) target.set(body.subarray(at, at + lengthBytes), targetOffset);
    },
  };
  return { path, deviceBytes, segmentCount, madeMs: Number(bytes.readBigUInt64LE(AT.madeMs)), source };
}

/**
 * Writes again what of the metadata has no good copy on the device.
 * @throws PcacheError BAD_MEDIA when the backup is for a device of another size; nothing is changed then
 */
export function restoreMetadata(
  device: RepairDevice,
  undo: UndoLog,
  backup: MetadataBackup,
  geometry: Geometry,
): Restored {
  if (device.sizeBytes !== backup.deviceBytes) {
    throw new PcacheError(
      'BAD_MEDIA',
      `${backup.path}: is for a device of ${backup.deviceBytes} bytes, and ${device.path} has ${device.sizeBytes}; nothing was changed`,
    );
  }
  const readable = new TolerantReader(device);
  const lost = partsOf(geometry, backup.segmentCount).filter((part) => !part.isGood(readable));
  const steps = lost.map(({ offsets, lengthBytes }) =>
    offsets.map((offsetBytes): Change => ({ offsetBytes, bytes: bytesAt(backup.source, offsetBytes, lengthBytes) })),
  );
  if (steps.length > 0) undo.record(readable, steps.flat(), false);
  for (const step of steps) {
    for (const change of step) storeOrWriteOver(device, change.offsetBytes, change.bytes);
    device.persist();
  }
  undo.finish();
  const names = (parts: readonly Part[]): string[] => parts.map(({ name }) => name);
  return { parts: names(lost), mayBeOld: names(lost.filter(({ mayBeOld }) => mayBeOld)) };
}
