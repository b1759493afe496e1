/**
 * The record of the backing device (format §6): makes it, and refuses a device that does not match it. It finds another
 * device, or one that was written to without the cache, even if all data in the cache is dirty.
 *
 * - Size and identity always count.
 * - Digests count while there is dirty data and nothing has attached the cache since they were taken (`stateOf`). Until
 *   then no user of the cache has written to the backing device, except for a write-back that was cut off. So a sample
 *   does not count if a dirty key touched it when the digest was taken, or touches it now.
 */
import { keepBackingRecord, readBackingRecord, stateOf } from '../engine/copies/backing-record.js';
import type { BackingDevice } from '../engine/device/backing.js';
import { backingIdentity } from '../engine/device/backing-identity.js';
import { bestCrc32c } from '../engine/device/native.js';
import type { Pmem, PmemReader } from '../engine/device/pmem.js';
import { TolerantReader } from '../engine/device/tolerant-reader.js';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { readMetadataOf } from '../engine/log/recovery.js';
import type { BackingIdentity, BackingRecord, SampleDigest } from '../engine/media/backing-record.js';
import { CRC_SEED, type Crc32c } from '../engine/media/crc32c.js';
import { KERNEL_GEOMETRY, KIB, type Geometry } from '../engine/media/geometry.js';
import { LogWalker } from '../engine/media/log-walker.js';
import type { CacheMetadata } from '../engine/media/metadata.js';
import { couldReadBacking } from './backing-comparison.js';

export const RECORD_SAMPLE_BYTES = 4 * KIB;
/** Samples at the beginning of the device, where filesystems have their superblocks: up to that of Btrfs. */
const FIRST_SAMPLES = 18;
const SPREAD_SAMPLES = 61;

export interface RecordOptions {
  readonly geometry: Geometry;
  readonly crc: Crc32c;
}

/** Where the samples of a device of that size begin, ascending: at its beginning, evenly over it, and at its end. */
export function sampleOffsets(backingBytes: number): number[] {
  const blocks = Math.floor(backingBytes / RECORD_SAMPLE_BYTES);
  const numbers = new Set<number>();
  for (let n = 0; n < Math.min(FIRST_SAMPLES, blocks); n++) numbers.add(n);
  for (let n = 1; n <= SPREAD_SAMPLES && blocks > 0; n++) numbers.add(Math.floor((n * blocks) / (SPREAD_SAMPLES + 1)));
  if (blocks > 0) numbers.add(blocks - 1);
  return [...numbers].sort((a, b) => a - b).map((block) => block * RECORD_SAMPLE_BYTES);
}

/** Contents of the samples of a device; undefined for one that could not be read. */
export type Samples = readonly (Uint8Array | undefined)[];

async function readSamples(backing: BackingDevice): Promise<Samples> {
  const samples: (Uint8Array | undefined)[] = [];
  for (const offset of sampleOffsets(backing.sizeBytes)) {
    const bytes = new Uint8Array(RECORD_SAMPLE_BYTES);
    samples.push((await couldReadBacking(backing, offset, bytes, bytes.length)) ? bytes : undefined);
  }
  return samples;
}

interface Dirtiness {
  readonly hasDirty: boolean;
  /** For each sample, whether a dirty key touches it, superseded or not. */
  readonly touched: readonly boolean[];
}

/** @returns undefined where the metadata do not tell */
function dirtinessOf(cache: PmemReader, metadata: CacheMetadata, size: number, crc: Crc32c): Dirtiness | undefined {
  if (metadata.problems.length > 0) return undefined;
  const { geometry, chain } = metadata;
  const offsets = sampleOffsets(size);
  const touched = offsets.map(() => false);
  let hasDirty = false;
  const walker = new LogWalker(new TolerantReader(cache), geometry, chain, metadata.dirtyTail.value!, crc);
  while (walker.next()) {
    const { kset } = walker;
    for (let key = 0; key < kset.keyCount; key++) {
      if (kset.keyIsClean(key)) continue;
      hasDirty = true;
      const start = kset.keyOffsetBytes(key);
      const end = start + kset.keyLengthBytes(key);
      // The first sample that ends behind the start of the key.
      let n = firstAbove(offsets, start - RECORD_SAMPLE_BYTES);
      for (; n < offsets.length && offsets[n] < end; n++) touched[n] = true;
    }
  }
  return { hasDirty, touched };
}

/** Index of the first of some ascending numbers that is above `limit`. */
function firstAbove(numbers: readonly number[], limit: number): number {
  let low = 0;
  for (let high = numbers.length; low < high;) {
    const middle = (low + high) >>> 1;
    if (numbers[middle] <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** @param samples those of the backing device now, durable there; nothing may have the cache attached */
export function recordOf(
  cache: PmemReader,
  backing: { readonly sizeBytes: number; readonly identity: BackingIdentity | undefined },
  samples: Samples,
  { geometry, crc }: RecordOptions,
): BackingRecord {
  const dirtiness = dirtinessOf(cache, readMetadataOf(cache, geometry), backing.sizeBytes, crc);
  const digestOf = (bytes: Uint8Array | undefined, n: number): SampleDigest =>
    bytes === undefined || dirtiness?.touched[n] !== false ? undefined : crc(CRC_SEED, bytes, 0, bytes.length);
  const { sizeBytes: backingBytes, identity } = backing;
  return { backingBytes, identity, state: stateOf(cache), digests: samples.map(digestOf) };
}

/** Which samples count now, by their number; none where digests do not count. */
export function countingSamples(cache: PmemReader, record: BackingRecord, { geometry, crc }: RecordOptions): number[] {
  if (record.state !== stateOf(cache)) return [];
  const dirtiness = dirtinessOf(cache, readMetadataOf(cache, geometry), record.backingBytes, crc);
  if (dirtiness?.hasDirty !== true) return [];
  return [...record.digests.keys()].filter((n) => record.digests[n] !== undefined && dirtiness.touched[n] === false);
}

interface RecordedDevices {
  readonly cache: PmemReader;
  readonly backing: BackingDevice;
}

/**
 * Refuses a device that is not the recorded one, or was written to since. Changes nothing. A cache without a record passes.
 * @throws PcacheError BAD_MEDIA, with the status of problems left
 */
export async function requireRecordedBacking(
  { cache, backing }: RecordedDevices,
  options: RecordOptions,
): Promise<void> {
  const { value: record } = readBackingRecord(new TolerantReader(cache));
  if (record === undefined) return;
  const identity = backingIdentity(backing.path);
  const seen = otherDevice(record, backing.sizeBytes, identity);
  if (seen !== undefined) {
    throw refusal(backing, `${seen}, as ${cache.path} has recorded: it is another device, a copy, or was resized`);
  }
  const counting = countingSamples(cache, record, options);
  if (counting.length === 0) return;
  const samples = await readSamples(backing);
  const read = counting.filter((n) => samples[n] !== undefined);
  const differing = read.filter(
    (n) => options.crc(CRC_SEED, samples[n]!, 0, RECORD_SAMPLE_BYTES) !== record.digests[n],
  );
  if (differing.length === 0) return;
  const at = sampleOffsets(record.backingBytes)[differing[0]];
  throw refusal(
    backing,
    `${differing.length} of ${read.length} samples differ from what ${cache.path} has recorded, the first at bytes ${at} to ${at + RECORD_SAMPLE_BYTES}: it is another device, or was written to without the cache`,
  );
}

function refusal({ path }: BackingDevice, what: string): PcacheError {
  return new PcacheError('BAD_MEDIA', `${path}: ${what}; give the right one, or --force-backing`, {
    exitStatus: ExitStatus.problemsLeft,
  });
}

/** What tells a device from the recorded one whatever it holds; undefined for nothing. */
export function otherDevice(
  record: BackingRecord,
  sizeBytes: number,
  identity: BackingIdentity | undefined,
): string | undefined {
  if (record.backingBytes !== sizeBytes) return `has ${sizeBytes} bytes, not ${record.backingBytes}`;
  if (identity === undefined || record.identity?.kind !== identity.kind) return undefined;
  return record.identity.text === identity.text
    ? undefined
    : `its ${identity.kind} is ${identity.text}, not ${record.identity.text}`;
}

/** Records size and identity before the cache is attached, unless they are recorded already. */
function recordBacking(cache: Pmem, backing: BackingDevice): void {
  const { value: record } = readBackingRecord(cache);
  const identity = backingIdentity(backing.path);
  if (record !== undefined && otherDevice(record, backing.sizeBytes, identity) === undefined) return;
  keepBackingRecord(cache, { backingBytes: backing.sizeBytes, identity, state: 0, digests: [] });
}

/**
 * Records the backing device with digests, when nothing has the cache attached any more. What the backing device holds must
 * be durable, since a digest must still be right after a loss of power.
 * @throws as the devices do
 */
export async function recordBackingContents(
  { cache, backing }: { cache: Pmem; backing: BackingDevice },
  options: RecordOptions,
): Promise<void> {
  const samples = await readSamples(backing);
  const identity = backingIdentity(backing.path);
  keepBackingRecord(cache, recordOf(cache, { sizeBytes: backing.sizeBytes, identity }, samples, options));
}

/** As `recordBackingContents`, after a flush of the backing device. */
export async function flushAndRecordBacking(cache: Pmem, backing: BackingDevice): Promise<void> {
  await new Promise<void>((resolve, reject) => backing.flush((error) => (error === null ? resolve() : reject(error))));
  await recordBackingContents({ cache, backing }, { geometry: KERNEL_GEOMETRY, crc: bestCrc32c() });
}

/** How `attach` keeps the record: before the cache is opened, and when it was closed. */
export const BACKING_RECORD = {
  begin: recordBacking,
  end: flushAndRecordBacking,
};
