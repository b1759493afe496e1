/**
 * The record of the backing device on a cache device (format §6): reads it, and replaces one copy by the next, so that a
 * valid one stands whatever happens meanwhile.
 *
 * Its digests count while the pages of cache_info and of both tails are as they were when it was written: every attach
 * writes cache_info before it writes anything to the backing device, the kernel's too.
 */
import type { Pmem } from '../device/pmem.js';
import {
  BACKING_RECORD_BYTES,
  BACKING_RECORD_COPIES,
  decodeBackingRecord,
  encodeBackingRecord,
  type BackingRecord,
} from '../media/backing-record.js';
import { CRC_SEED, crc32cRaw } from '../media/crc32c.js';
import { readDual, type ByteSource, type Dual } from '../media/dual.js';
import { CACHE_INFO_OFFSET_BYTES, SEGMENTS_OFFSET_BYTES } from '../media/geometry.js';
import { DualWriter } from './dual-writer.js';

export function readBackingRecord(source: ByteSource): Dual<BackingRecord> {
  return readDual<BackingRecord>(source, BACKING_RECORD_COPIES, BACKING_RECORD_BYTES, decodeBackingRecord);
}

/** Durable at return. */
export function keepBackingRecord(pmem: Pmem, record: BackingRecord): void {
  DualWriter.over(pmem, readBackingRecord(pmem)).write((seq) => encodeBackingRecord(record, seq));
  pmem.persist();
}

/** Erases both copies; the caller persists. */
export function eraseBackingRecord(pmem: Pmem): void {
  for (const offset of BACKING_RECORD_COPIES) pmem.zero(offset, BACKING_RECORD_BYTES);
}

/** CRC of the pages of cache_info and of the tails, whatever else is in them. */
export function stateOf(source: ByteSource): number {
  const bytes = new Uint8Array(SEGMENTS_OFFSET_BYTES - CACHE_INFO_OFFSET_BYTES);
  source.read(CACHE_INFO_OFFSET_BYTES, bytes, 0, bytes.length);
  return crc32cRaw(CRC_SEED, bytes);
}

/**
 * Changes metadata without any change of the backing device: digests that counted before count afterwards. Where the
 * change is cut off they do not count any more.
 */
export function* keepingDigests<T>(pmem: Pmem, change: Generator<T, void>): Generator<T, void> {
  const { value: record } = readBackingRecord(pmem);
  const counts = record !== undefined && record.state === stateOf(pmem);
  yield* change;
  if (counts) keepBackingRecord(pmem, { ...record, state: stateOf(pmem) });
}

/** Gives a cache with the same data the record of another one; digests that count there count here too. */
export function copyBackingRecord(from: ByteSource, to: Pmem): void {
  const { value: record } = readBackingRecord(from);
  if (record === undefined) return;
  const counts = record.state === stateOf(from);
  const { backingBytes, identity } = record;
  const digests = counts ? record.digests : [];
  keepBackingRecord(to, { backingBytes, identity, state: stateOf(to), digests });
}
