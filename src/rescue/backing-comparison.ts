/**
 * Tells the backing device of a cache from a foreign one before anything is written to it: what the cache holds and
 * the backing device too (CLEAN keys and keys that were written back, as far as nothing newer lies over them) must
 * read the same on both. What the cache records of the backing device (format §6) is looked at in `recorded-backing.ts`.
 *
 * Bounded: up to SAMPLES_MAX extents, spread evenly over the backing device, and up to SAMPLE_BYTES of each. A cache
 * that holds nothing but dirty data gives nothing to compare.
 */
import type { BackingDevice } from '../engine/device/backing.js';
import type { PmemReader } from '../engine/device/pmem.js';
import { couldAccess } from '../engine/device/tolerant-reader.js';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { KIB } from '../engine/media/geometry.js';
import type { DirtyExtent } from './dirty-map.js';

export const SAMPLES_MAX = 1024;
const SAMPLE_BYTES = 4 * KIB;
/**
 * In the modes that write to the backing device first, a crash leaves requests that it has and the log does not. Then
 * a device counts as foreign when more than one sample in this many differs; in writeback mode when any does.
 */
const TORN_REQUESTS_SHARE = 8;

interface Sample {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly deviceOffsetBytes: number;
}

export interface BackingComparison {
  readonly samples: number;
  readonly bytes: number;
  /** Samples that differ, in the order of the backing device. */
  readonly differing: readonly Sample[];
}

export interface ComparisonOptions {
  readonly cache: PmemReader;
  readonly backing: BackingDevice;
  /** Extents that both devices hold; called twice. */
  readonly extents: () => Generator<Readonly<DirtyExtent>>;
  /** Maximum number of extents that are compared; SAMPLES_MAX if not given. */
  readonly samplesMax?: number;
  /** Which of these, by where they begin on the cache device, belong to a key with bad payload: they prove nothing. */
  readonly badPayloads: (deviceOffsetBytes: readonly number[]) => ReadonlySet<number>;
}

/** Places that one of the devices cannot read are left out. */
export async function compareBacking(options: ComparisonOptions): Promise<BackingComparison> {
  const ours = new Uint8Array(SAMPLE_BYTES);
  const theirs = new Uint8Array(SAMPLE_BYTES);
  const differing: Sample[] = [];
  let samples = 0;
  let bytes = 0;
  for (const sample of chooseSamples(options.extents, options.samplesMax ?? SAMPLES_MAX)) {
    const { offsetBytes, lengthBytes, deviceOffsetBytes } = sample;
    if (!couldAccess(() => options.cache.read(deviceOffsetBytes, ours, 0, lengthBytes))) continue;
    if (!(await couldReadBacking(options.backing, offsetBytes, theirs, lengthBytes))) continue;
    samples++;
    bytes += lengthBytes;
    if (Buffer.compare(ours.subarray(0, lengthBytes), theirs.subarray(0, lengthBytes)) !== 0) differing.push(sample);
  }
  const bad = differing.length === 0 ? new Set() : options.badPayloads(differing.map((one) => one.deviceOffsetBytes));
  return { samples: samples - bad.size, bytes, differing: differing.filter((one) => !bad.has(one.deviceOffsetBytes)) };
}

/** Every nth extent, so that they spread over the device and are few enough. */
function chooseSamples(extents: ComparisonOptions['extents'], samplesMax: number): Sample[] {
  let count = 0;
  for (const all = extents(); all.next().done !== true; count++);
  const step = Math.max(1, Math.ceil(count / samplesMax));
  const samples: Sample[] = [];
  let n = 0;
  for (const { offsetBytes, lengthBytes, deviceOffsetBytes } of extents()) {
    if (n++ % step !== 0) continue;
    samples.push({ offsetBytes, lengthBytes: Math.min(lengthBytes, SAMPLE_BYTES), deviceOffsetBytes });
  }
  return samples;
}

/** @returns false when the medium fails */
export function couldReadBacking(
  backing: BackingDevice,
  offsetBytes: number,
  target: Uint8Array,
  lengthBytes: number,
): Promise<boolean> {
  return new Promise((resolve, reject) => {
    backing.read(offsetBytes, target, 0, lengthBytes, (error) => {
      if (error !== null && !(error instanceof PcacheError && error.code === 'IO')) reject(error);
      else resolve(error === null);
    });
  });
}

/** @throws PcacheError BAD_MEDIA, with the status of problems left, when the device is not the cache's */
export function refuseForeignBacking(
  { samples, differing }: BackingComparison,
  { cachePath, backingPath, writesFirst }: { cachePath: string; backingPath: string; writesFirst: boolean },
): void {
  const tolerated = writesFirst ? Math.floor(samples / TORN_REQUESTS_SHARE) : 0;
  if (differing.length <= tolerated) return;
  const [{ offsetBytes, lengthBytes }] = differing;
  throw new PcacheError(
    'BAD_MEDIA',
    `${backingPath}: ${differing.length} of ${samples} samples of data that ${cachePath} has written back or read from it differ, the first at bytes ${offsetBytes} to ${offsetBytes + lengthBytes}: it is another device, or was written to without the cache; give the right one, or --force-backing`,
    { exitStatus: ExitStatus.problemsLeft },
  );
}
