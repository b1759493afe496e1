/**
 * The undo file: what a repair changed, as it was before. Written ahead: the old bytes of a change are in the file,
 * and durable, before the change is begun; a change that the header does not count was not begun. So the device can
 * be taken back, byte for byte, from wherever a repair was cut off.
 *
 * Layout, little-endian: a header of 128 bytes (magic, version, device size, identity, how many records count, how
 * many bytes they take, whether the repair came to its end, whether it may lose data, CRC), then records: offset on the device (u64), length
 * (u32), CRC of offset, length and bytes (u32), the bytes. CRCs are raw CRC-32C with the format's seed.
 *
 * The identity is a SHA-256 over the metadata as it was before the repair. Taking back must lead to it again: if it
 * would not, this is another device, or it was used since.
 */
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  openSync,
  readSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { storeOrWriteOver } from '../../engine/device/write-over.js';
import { assert, fromSystemError, PcacheError } from '../../engine/errors.js';
import { CRC_SEED, crc32cRaw } from '../../engine/media/crc32c.js';
import type { ByteSource } from '../../engine/media/dual.js';
import {
  DATA_OFFSET_IN_SEGMENT_BYTES,
  KERNEL_GEOMETRY,
  segmentCountFor,
  segmentOffsetBytes,
  SEGMENTS_OFFSET_BYTES,
} from '../../engine/media/geometry.js';
import { builtin } from '../../layout/builtin.js';
import type { Change, RepairDevice } from './types.js';

const MAGIC = Buffer.from('PCACHE-UNDO\n\0\0\0\0', 'latin1');
const VERSION = 1;
const HEADER_BYTES = 128;
const RECORD_HEADER_BYTES = 16;
const AT = {
  version: 16,
  deviceBytes: 24,
  records: 32,
  bytes: 40,
  finished: 48,
  losing: 52,
  identity: 64,
  crc: 124,
} as const;
const IDENTITY_BYTES = 32;
/** Of so many segments the metadata are part of the identity. */
const IDENTITY_SEGMENTS = 256;

interface Header {
  readonly deviceBytes: number;
  readonly identity: Uint8Array;
  records: number;
  /** Of all records that count. */
  bytes: number;
  finished: boolean;
  /** Data is or may be lost by what was recorded, and the user was to be told. */
  losing: boolean;
}

function encodeHeader(header: Header): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(bytes);
  bytes.writeUInt32LE(VERSION, AT.version);
  bytes.writeBigUInt64LE(BigInt(header.deviceBytes), AT.deviceBytes);
  bytes.writeBigUInt64LE(BigInt(header.records), AT.records);
  bytes.writeBigUInt64LE(BigInt(header.bytes), AT.bytes);
  bytes.writeUInt32LE(header.finished ? 1 : 0, AT.finished);
  bytes.writeUInt32LE(header.losing ? 1 : 0, AT.losing);
  bytes.set(header.identity, AT.identity);
  bytes.writeUInt32LE(crc32cRaw(CRC_SEED, bytes, 0, AT.crc), AT.crc);
  return bytes;
}

/** SHA-256 over the metadata of a device, as `read` gives them. */
function identityOf(source: ByteSource): Uint8Array {
  const hash = builtin('node:crypto').createHash('sha256');
  const add = (offsetBytes: number, lengthBytes: number): void => {
    const length = Math.max(0, Math.min(lengthBytes, source.sizeBytes - offsetBytes));
    const bytes = new Uint8Array(length);
    source.read(offsetBytes, bytes, 0, length);
    hash.update(bytes);
  };
  add(0, SEGMENTS_OFFSET_BYTES);
  const count = Math.min(segmentCountFor(KERNEL_GEOMETRY, source.sizeBytes), IDENTITY_SEGMENTS);
  for (let id = 0; id < count; id++) add(segmentOffsetBytes(KERNEL_GEOMETRY, id), DATA_OFFSET_IN_SEGMENT_BYTES);
  return hash.digest();
}

/** Where a repair keeps what it changes. */
export interface UndoLog {
  /**
   * Makes the present bytes of everything that `changes` change durable.
   * @param losing whether they lose data, or may
   */
  record(device: ByteSource, changes: readonly Change[], losing: boolean): void;
  finish(): void;
  /** Undoes every recorded change on the device, the newest first, and forgets them. */
  rollBack(device: RepairDevice): void;
}

/** Writes an undo file; it comes into being with the first record. */
export class UndoWriter implements UndoLog {
  private fd: number | undefined;
  private header: Header | undefined;

  /** @param path must not exist */
  constructor(readonly path: string) {}

  /** Whether there is anything to take back. */
  get isUsed(): boolean {
    return this.fd !== undefined;
  }

  /** @throws PcacheError USAGE when the file is there already, NO_SPACE, IO */
  record(device: ByteSource, changes: readonly Change[], losing: boolean): void {
    const header = this.header ?? this.create(device);
    const start = HEADER_BYTES + header.bytes;
    const parts: Buffer[] = [];
    for (const { offsetBytes, bytes } of changes) parts.push(encodeRecord(device, offsetBytes, bytes.length));
    const block = Buffer.concat(parts);
    this.guard('writing the undo file', () => {
      writeFully(this.fd!, block, start);
      fsyncSync(this.fd!);
      header.records += changes.length;
      header.bytes += block.length;
      header.losing ||= losing;
      this.writeHeader();
    });
  }

  finish(): void {
    if (this.header === undefined) return;
    this.header.finished = true;
    this.guard('finishing the undo file', () => this.writeHeader());
  }

  /** Also removes the file, which has nothing to undo then. @throws PcacheError as `UndoFile` and the device do */
  rollBack(device: RepairDevice): void {
    if (this.header === undefined) return;
    UndoFile.read(this.path).apply(device);
    this.close();
    this.header = undefined;
    unlinkSync(this.path);
  }

  close(): void {
    if (this.fd !== undefined) closeSync(this.fd);
    this.fd = undefined;
  }

  private create(device: ByteSource): Header {
    try {
      this.fd = openSync(this.path, 'wx', 0o600);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw undoExists(this.path);
      throw fromSystemError(error, this.path, 'creating the undo file');
    }
    this.header = {
      deviceBytes: device.sizeBytes,
      identity: identityOf(device),
      records: 0,
      bytes: 0,
      finished: false,
      losing: false,
    };
    try {
      this.guard('creating the undo file', () => {
        this.writeHeader();
        syncFolder(dirname(this.path));
      });
    } catch (error) {
      this.close();
      this.header = undefined;
      unlinkSync(this.path);
      throw error;
    }
    return this.header;
  }

  private writeHeader(): void {
    writeFully(this.fd!, encodeHeader(this.header!), 0);
    fsyncSync(this.fd!);
  }

  private guard(doing: string, body: () => void): void {
    try {
      body();
    } catch (error) {
      throw fromSystemError(error, this.path, doing);
    }
  }
}

export function undoExists(path: string): PcacheError {
  return new PcacheError(
    'USAGE',
    `${path}: exists already, and is not overwritten; it is not an undo file that another can be put beside; give another with --undo`,
  );
}

function encodeRecord(device: ByteSource, offsetBytes: number, lengthBytes: number): Buffer {
  const record = Buffer.alloc(RECORD_HEADER_BYTES + lengthBytes);
  record.writeBigUInt64LE(BigInt(offsetBytes), 0);
  record.writeUInt32LE(lengthBytes, 8);
  device.read(offsetBytes, record, RECORD_HEADER_BYTES, lengthBytes);
  record.writeUInt32LE(recordCrc(record), 12);
  return record;
}

function recordCrc(record: Uint8Array): number {
  return crc32cRaw(crc32cRaw(CRC_SEED, record, 0, 12), record, RECORD_HEADER_BYTES, record.length);
}

function writeFully(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, bytes.length - done, position + done);
}

/** Makes names in a folder durable. */
export function syncFolder(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

export interface Undone {
  readonly records: number;
  readonly bytes: number;
  /** The repair came to its end. */
  readonly finished: boolean;
}

/** An undo file that was read and found whole. */
export class UndoFile {
  private constructor(
    readonly path: string,
    private readonly header: Header,
    private readonly changes: readonly Change[],
  ) {}

  /** @throws PcacheError NOT_FOUND, BAD_MEDIA for what is none, or is cut or damaged */
  static read(path: string): UndoFile {
    let fd: number;
    try {
      // Looked at before it is opened: opening a FIFO would wait for its other end.
      if (!statSync(path).isFile()) throw badUndo(path, 'is not a regular file');
      fd = openSync(path, 'r');
    } catch (error) {
      throw fromSystemError(error, path, 'opening the undo file');
    }
    try {
      const sizeBytes = fstatSync(fd).size;
      const header = decodeHeader(path, readPiece(path, fd, 0, Math.min(HEADER_BYTES, sizeBytes)));
      if (sizeBytes < HEADER_BYTES + header.bytes) {
        throw badUndo(path, `is cut: it has ${sizeBytes} bytes of ${HEADER_BYTES + header.bytes}`);
      }
      return new UndoFile(path, header, readRecords(path, fd, header));
    } finally {
      closeSync(fd);
    }
  }

  /**
   * Takes the repair back: the device holds then, byte for byte, what it held before.
   * @throws PcacheError BAD_MEDIA when this is not the device, or it was changed since; nothing is changed then
   */
  apply(device: RepairDevice): Undone {
    const { header, path } = this;
    if (device.sizeBytes !== header.deviceBytes) {
      const detail = `is for a device of ${header.deviceBytes} bytes, and ${device.path} has ${device.sizeBytes}`;
      throw badUndo(path, detail);
    }
    if (Buffer.compare(identityOf(this.takenBack(device)), header.identity) !== 0) {
      throw badUndo(path, `is for another device than ${device.path}, or that was used since the repair`);
    }
    for (const change of [...this.changes].reverse()) storeOrWriteOver(device, change.offsetBytes, change.bytes);
    device.persist();
    return { records: header.records, bytes: header.bytes, finished: header.finished };
  }

  /** The device as it would read after taking back. */
  private takenBack(device: RepairDevice): ByteSource {
    return {
      sizeBytes: device.sizeBytes,
      read: (offsetBytes, target, targetOffset, lengthBytes) => {
        device.read(offsetBytes, target, targetOffset, lengthBytes);
        for (const change of [...this.changes].reverse()) {
          const from = Math.max(offsetBytes, change.offsetBytes);
          const to = Math.min(offsetBytes + lengthBytes, change.offsetBytes + change.bytes.length);
          if (from >= to) continue;
          const part = change.bytes.subarray(from - change.offsetBytes, to - change.offsetBytes);
          target.set(part, targetOffset + from - offsetBytes);
        }
      },
    };
  }
}

function badUndo(path: string, detail: string): PcacheError {
  return new PcacheError('BAD_MEDIA', `${path}: ${detail}; nothing was changed`);
}

function readPiece(path: string, fd: number, position: number, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  try {
    for (let done = 0; done < lengthBytes;) {
      const got = readSync(fd, bytes, done, lengthBytes - done, position + done);
      if (got === 0) throw badUndo(path, 'is cut');
      done += got;
    }
  } catch (error) {
    throw fromSystemError(error, path, 'reading the undo file');
  }
  return bytes;
}

function decodeHeader(path: string, bytes: Buffer): Header {
  if (bytes.length < HEADER_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw badUndo(path, 'is not an undo file of pcache');
  }
  if (bytes.readUInt32LE(AT.crc) !== crc32cRaw(CRC_SEED, bytes, 0, AT.crc)) throw badUndo(path, 'is damaged');
  const version = bytes.readUInt32LE(AT.version);
  if (version !== VERSION) throw badUndo(path, `is of version ${version}, and this pcache knows ${VERSION}`);
  return {
    deviceBytes: Number(bytes.readBigUInt64LE(AT.deviceBytes)),
    records: Number(bytes.readBigUInt64LE(AT.records)),
    bytes: Number(bytes.readBigUInt64LE(AT.bytes)),
    finished: bytes.readUInt32LE(AT.finished) === 1,
    losing: bytes.readUInt32LE(AT.losing) === 1,
    identity: bytes.subarray(AT.identity, AT.identity + IDENTITY_BYTES),
  };
}

function readRecords(path: string, fd: number, header: Header): Change[] {
  const changes: Change[] = [];
  let at = HEADER_BYTES;
  const end = HEADER_BYTES + header.bytes;
  for (let n = 0; n < header.records; n++) {
    if (at + RECORD_HEADER_BYTES > end) throw badUndo(path, 'is damaged');
    const lengthBytes = readPiece(path, fd, at + 8, 4).readUInt32LE(0);
    if (at + RECORD_HEADER_BYTES + lengthBytes > end) throw badUndo(path, 'is damaged');
    const record = readPiece(path, fd, at, RECORD_HEADER_BYTES + lengthBytes);
    if (record.readUInt32LE(12) !== recordCrc(record)) throw badUndo(path, 'is damaged');
    const offsetBytes = Number(record.readBigUInt64LE(0));
    if (offsetBytes + lengthBytes > header.deviceBytes) throw badUndo(path, 'is damaged');
    changes.push({ offsetBytes, bytes: record.subarray(RECORD_HEADER_BYTES) });
    at += record.length;
  }
  if (at !== end) throw badUndo(path, 'is damaged');
  return changes;
}

/**
 * What lies where an undo file would go. `incomplete`: its repair was cut off before the header was written, and so
 * before anything was changed. `unfinished`: its repair was cut off later; `unfinished-losing`: and may have lost data
 * that no report lists. `other`: not an undo file, or a damaged one.
 */
export type UndoState = 'none' | 'incomplete' | 'unfinished' | 'unfinished-losing' | 'finished' | 'other';

export function undoStateOf(path: string): UndoState {
  let fd: number;
  try {
    // As in `UndoFile.read`: never opens a FIFO.
    if (!statSync(path).isFile()) return 'other';
    fd = openSync(path, 'r');
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'none' : 'other';
  }
  try {
    const { size } = fstatSync(fd);
    const bytes = readPiece(path, fd, 0, Math.min(HEADER_BYTES, size));
    if (size < HEADER_BYTES) {
      const begun = Math.min(size, MAGIC.length);
      return bytes.subarray(0, begun).equals(MAGIC.subarray(0, begun)) ? 'incomplete' : 'other';
    }
    const { finished, losing } = decodeHeader(path, bytes);
    if (finished) return 'finished';
    return losing ? 'unfinished-losing' : 'unfinished';
  } catch (error) {
    assert(error instanceof PcacheError, 'reading an undo file threw something else');
    return 'other';
  } finally {
    closeSync(fd);
  }
}
