/**
 * The file that a packed cache is: what lies on a cache device, compressed, with or without the payload.
 *
 * A header of 64 bytes (little-endian):
 *   0   8 bytes  "pcachepk"
 *   8   u32      version, 1
 *   12  u32      flags: bit 0 PAYLOAD, the payload is in it
 *   16  u64      size of the device, bytes
 *   24  u32      size of a segment, bytes
 *   60  u32      raw CRC-32C over the 60 bytes before
 *
 * Then frames, each with a header of 32 bytes before its packed bytes:
 *   0   u32      kind, see `FrameKind`
 *   4   u32      length of the packed bytes that follow; 0 but for DATA and VERDICTS
 *   8   u64      byte of the device where it begins
 *   16  u64      bytes of the device that it stands for; of VERDICTS, length when unpacked
 *   24  u32      raw CRC-32C over the packed bytes
 *   28  u32      raw CRC-32C over the 28 bytes before
 * The frames but VERDICTS cover the device once, in order. The last one is END, with the size of the device
 * for its beginning; a file without it is truncated. Packed bytes are of the Brotli format.
 *
 * Without PAYLOAD it holds: superblock, cache_info, both tails, the infos and generations of all segments, every
 * kset, and what lies where one should be. Words of eight bytes next to these that are not zero are all ones,
 * and pages of 4 KiB with anything else are absent. VERDICTS say which payload matched its CRC (`PackVerdicts`).
 */
import { PcacheError } from '../errors.js';
import { CRC_SEED, crc32cRaw } from '../media/crc32c.js';
import { readU64, writeU64 } from '../media/codecs.js';
import {
  DATA_OFFSET_IN_SEGMENT_BYTES,
  KERNEL_SEGMENT_BYTES,
  KIB,
  MAX_SEGMENTS,
  SEGMENTS_OFFSET_BYTES,
  type Geometry,
} from '../media/geometry.js';

export const PACK_HEADER_BYTES = 64;
export const PACK_FRAME_BYTES = 32;
/** A DATA frame stands for at most that much of the device. */
export const PACK_CHUNK_BYTES = 256 * KIB;
/** Absence is told in pages of this size. */
export const PACK_PAGE_BYTES = 4 * KIB;
/** What every byte of an absent page reads as: no zero, which would end a log, and no part of a kset. */
export const PACK_ABSENT_BYTE = 0xff;

const MAGIC = new TextEncoder().encode('pcachepk');
const VERSION = 1;
const FLAG_PAYLOAD = 1;
/** Verdicts are some bytes for each segment and each bad payload. */
const VERDICTS_BYTES_MAX = 2 ** 30;
/** No device is larger: as many segments as there can be, and as much again behind them. */
const DEVICE_BYTES_MAX = 2 * (SEGMENTS_OFFSET_BYTES + MAX_SEGMENTS * KERNEL_SEGMENT_BYTES);

export const FrameKind = { data: 1, zero: 2, absent: 3, unreadable: 4, verdicts: 5, end: 6 } as const;

export interface PackHeader {
  readonly deviceBytes: number;
  readonly geometry: Geometry;
  readonly hasPayload: boolean;
}

export interface PackFrame {
  readonly kind: number;
  readonly packedBytes: number;
  readonly offsetBytes: number;
  readonly rawBytes: number;
  readonly crc: number;
}

/** What was found when the payload was there, for packs without it. JSON in a VERDICTS frame. */
export interface PackVerdicts {
  /** The log as it was walked: where from, and through how many ksets. */
  readonly start: { readonly segment: number; readonly offsetBytes: number };
  readonly ksets: number;
  /** Byte of the device where the data area of each logical segment begins: runs of [first, step, count]. */
  readonly dataOffsets: readonly (readonly [number, number, number])[];
  /** Payload that does not match: [byte of the device, length, its CRC; null where it could not be read]. */
  readonly bad: readonly (readonly [number, number, number | null])[];
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function seal(bytes: Uint8Array, at: number): Uint8Array {
  viewOf(bytes).setUint32(at, crc32cRaw(CRC_SEED, bytes, 0, at), true);
  return bytes;
}

function isSealed(bytes: Uint8Array, at: number): boolean {
  return viewOf(bytes).getUint32(at, true) === crc32cRaw(CRC_SEED, bytes, 0, at);
}

/** Do these first bytes of a file say that it is a packed cache? */
export function isPack(bytes: Uint8Array): boolean {
  return bytes.length >= MAGIC.length && MAGIC.every((byte, n) => bytes[n] === byte);
}

export function encodePackHeader(header: PackHeader): Uint8Array {
  const bytes = new Uint8Array(PACK_HEADER_BYTES);
  const view = viewOf(bytes);
  bytes.set(MAGIC);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, header.hasPayload ? FLAG_PAYLOAD : 0, true);
  writeU64(view, 16, header.deviceBytes);
  view.setUint32(24, header.geometry.segmentBytes, true);
  return seal(bytes, 60);
}

/** The error for a pack that does not hold together. */
export function damagedPack(path: string, what: string): PcacheError {
  return new PcacheError('BAD_MEDIA', `${path}: damaged pack: ${what}; get it again from where it came`);
}

export function truncatedPack(path: string, atBytes: number): PcacheError {
  return new PcacheError(
    'TRUNCATED',
    `${path}: truncated pack: it ends at byte ${atBytes}; get it again from where it came`,
  );
}

/** @param bytes 64 bytes, of which `isPack` is true. @throws PcacheError BAD_MEDIA, UNSUPPORTED */
export function decodePackHeader(path: string, bytes: Uint8Array): PackHeader {
  const view = viewOf(bytes);
  if (!isSealed(bytes, 60)) throw damagedPack(path, 'the CRC of its header is wrong');
  const version = view.getUint32(8, true);
  if (version !== VERSION) {
    throw new PcacheError('UNSUPPORTED', `${path}: a pack of version ${version}; use the pcache that made it`);
  }
  const deviceBytes = readU64(view, 16);
  if (!(deviceBytes <= DEVICE_BYTES_MAX)) throw damagedPack(path, `it says that its device has ${deviceBytes} bytes`);
  const segmentBytes = view.getUint32(24, true);
  if (segmentBytes <= DATA_OFFSET_IN_SEGMENT_BYTES || segmentBytes > KERNEL_SEGMENT_BYTES) {
    throw damagedPack(path, `it is of segments of ${segmentBytes} bytes`);
  }
  return {
    deviceBytes,
    geometry: { segmentBytes, segmentDataBytes: segmentBytes - DATA_OFFSET_IN_SEGMENT_BYTES },
    hasPayload: (view.getUint32(12, true) & FLAG_PAYLOAD) !== 0,
  };
}

export function encodePackFrame(frame: PackFrame): Uint8Array {
  const bytes = new Uint8Array(PACK_FRAME_BYTES);
  const view = viewOf(bytes);
  view.setUint32(0, frame.kind, true);
  view.setUint32(4, frame.packedBytes, true);
  writeU64(view, 8, frame.offsetBytes);
  writeU64(view, 16, frame.rawBytes);
  view.setUint32(24, frame.crc, true);
  return seal(bytes, 28);
}

/**
 * @param expectedBytes where on the device the frame must begin
 * @throws PcacheError BAD_MEDIA
 */
export function decodePackFrame(
  path: string,
  bytes: Uint8Array,
  header: PackHeader,
  expectedBytes: number,
  atBytes: number,
): PackFrame {
  const view = viewOf(bytes);
  if (!isSealed(bytes, 28)) throw damagedPack(path, `the CRC of the frame at byte ${atBytes} is wrong`);
  const frame = {
    kind: view.getUint32(0, true),
    packedBytes: view.getUint32(4, true),
    offsetBytes: readU64(view, 8),
    rawBytes: readU64(view, 16),
    crc: view.getUint32(24, true),
  };
  if (!isPlausible(frame, header, expectedBytes)) throw damagedPack(path, `the frame at byte ${atBytes} cannot be`);
  return frame;
}

function isPlausible(frame: PackFrame, { deviceBytes }: PackHeader, expectedBytes: number): boolean {
  const { kind, packedBytes, offsetBytes, rawBytes } = frame;
  if (kind === FrameKind.verdicts) return rawBytes <= VERDICTS_BYTES_MAX;
  if (offsetBytes !== expectedBytes) return false;
  if (kind === FrameKind.end) return expectedBytes === deviceBytes && rawBytes === 0 && packedBytes === 0;
  if (rawBytes === 0 || offsetBytes + rawBytes > deviceBytes) return false;
  if (kind === FrameKind.data) return rawBytes <= PACK_CHUNK_BYTES;
  return (kind === FrameKind.zero || kind === FrameKind.absent || kind === FrameKind.unreadable) && packedBytes === 0;
}

/** The verdicts from the text of their frame. @throws PcacheError BAD_MEDIA */
export function parseVerdicts(path: string, text: string): PackVerdicts {
  const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  const isRow = (value: unknown, length: number): value is unknown[] => Array.isArray(value) && value.length === length;
  try {
    const { start, ksets, dataOffsets, bad } = JSON.parse(text) as PackVerdicts;
    const isWhole =
      isCount(start.segment) &&
      isCount(start.offsetBytes) &&
      isCount(ksets) &&
      dataOffsets.every((run) => isRow(run, 3) && isCount(run[0]) && Number.isSafeInteger(run[1]) && isCount(run[2])) &&
      dataOffsets.reduce((sum, [, , count]) => sum + count, 0) <= MAX_SEGMENTS &&
      bad.every((one) => isRow(one, 3) && isCount(one[0]) && isCount(one[1]) && (one[2] === null || isCount(one[2])));
    if (isWhole) return { start, ksets, dataOffsets, bad };
  } catch {
    // Told below.
  }
  throw damagedPack(path, 'its verdicts mean nothing');
}
