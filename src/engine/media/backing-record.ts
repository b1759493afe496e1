/**
 * Codec of the record of the backing device (format §6), which lies before the superblock, where no kernel reads or
 * writes. Like the other structures it has two copies with the header of format §1.2.
 */
import { assert } from '../errors.js';
import { readU64, writeU64, type MetaHeader } from './codecs.js';
import { structCrc } from './crc32c.js';
import { KIB, type CopyOffsets } from './geometry.js';

/** Kinds of identity; the index is the number on media. */
export const IDENTITY_KINDS = ['none', 'WWID', 'partition UUID', 'device-mapper UUID', 'MD UUID'] as const;

export interface BackingIdentity {
  readonly kind: (typeof IDENTITY_KINDS)[number];
  readonly text: string;
}

/** A digest of a sample; undefined where there is none. */
export type SampleDigest = number | undefined;

export interface BackingRecord {
  readonly backingBytes: number;
  /** Undefined where the device has none. */
  readonly identity: BackingIdentity | undefined;
  /** CRC of the metadata page by page, as they were when the digests were taken (`stateOf`). */
  readonly state: number;
  /** Digests of the samples of a device of that size (`sampleOffsets`); empty if none were taken. */
  readonly digests: readonly SampleDigest[];
}

/**
 * Partition tables, labels and filesystems have their magic in the first 2 KiB, and swap in the last 10 bytes of the page.
 * Neither copy touches these.
 */
export const BACKING_RECORD_COPIES: CopyOffsets = [2 * KIB, 3 * KIB];
export const BACKING_RECORD_BYTES = 768;
const VERSION = 1;
const MAGIC = 'pcachebk';
export const IDENTITY_BYTES_MAX = 192;
const At = { version: 5, magic: 8, size: 16, state: 24, kind: 28, length: 29, samples: 30, identity: 32 } as const;
const BITMAP_AT = At.identity + IDENTITY_BYTES_MAX;
const DIGESTS_AT = BITMAP_AT + 16;
export const RECORD_SAMPLES_MAX = 128;

assert(DIGESTS_AT + 4 * RECORD_SAMPLES_MAX <= BACKING_RECORD_BYTES, 'the digests do not fit into the record');
assert(BACKING_RECORD_COPIES[1] + BACKING_RECORD_BYTES <= 4 * KIB - 10, 'the record reaches to the magic of swap');

/** A record of another version counts as none. */
export function decodeBackingRecord(bytes: Uint8Array): MetaHeader & BackingRecord {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const crcStored = view.getUint32(0, true);
  const crcComputed = structCrc(bytes, 0, BACKING_RECORD_BYTES);
  const isRecord = Buffer.from(bytes.subarray(At.magic, At.size)).toString('latin1') === MAGIC;
  const kind = IDENTITY_KINDS[view.getUint8(At.kind)] ?? 'none';
  const text = Buffer.from(bytes.subarray(At.identity, At.identity + view.getUint8(At.length))).toString('utf8');
  const samples = Math.min(view.getUint16(At.samples, true), RECORD_SAMPLES_MAX);
  const digestOf = (n: number): SampleDigest =>
    (bytes[BITMAP_AT + (n >>> 3)] & (1 << (n & 7))) === 0 ? undefined : view.getUint32(DIGESTS_AT + 4 * n, true);
  return {
    crcOk: crcStored === crcComputed && isRecord && view.getUint8(At.version) === VERSION,
    crcStored,
    crcComputed,
    seq: view.getUint8(4),
    backingBytes: readU64(view, At.size),
    identity: kind === 'none' ? undefined : { kind, text },
    state: view.getUint32(At.state, true),
    digests: Array.from({ length: samples }, (_, n) => digestOf(n)),
  };
}

export function encodeBackingRecord(record: BackingRecord, seq: number): Uint8Array {
  const bytes = new Uint8Array(BACKING_RECORD_BYTES);
  const view = new DataView(bytes.buffer);
  const identity = Buffer.from(record.identity?.text ?? '', 'utf8');
  assert(identity.length <= IDENTITY_BYTES_MAX, 'the identity does not fit into the record');
  assert(record.digests.length <= RECORD_SAMPLES_MAX, 'the digests do not fit into the record');
  view.setUint8(4, seq & 0xff);
  view.setUint8(At.version, VERSION);
  bytes.set(Buffer.from(MAGIC, 'latin1'), At.magic);
  writeU64(view, At.size, record.backingBytes);
  view.setUint32(At.state, record.state, true);
  view.setUint8(At.kind, IDENTITY_KINDS.indexOf(record.identity?.kind ?? 'none'));
  view.setUint8(At.length, identity.length);
  view.setUint16(At.samples, record.digests.length, true);
  bytes.set(identity, At.identity);
  for (const [n, digest] of record.digests.entries()) {
    if (digest === undefined) continue;
    bytes[BITMAP_AT + (n >>> 3)] |= 1 << (n & 7);
    view.setUint32(DIGESTS_AT + 4 * n, digest, true);
  }
  view.setUint32(0, structCrc(bytes, 0, BACKING_RECORD_BYTES), true);
  return bytes;
}
