/**
 * The guard against a foreign backing device: data that both devices hold must read the same, or the cache is not
 * opened. `attach`, `attach --kernel` and `writeback` run it before they write anything.
 */
import type { BackingDevice } from '../engine/device/backing.js';
import type { PmemReader } from '../engine/device/pmem.js';
import { PcacheError } from '../engine/errors.js';
import { readMetadataOf } from '../engine/log/recovery.js';
import { CACHE_MODES } from '../engine/media/codecs.js';
import type { Crc32c } from '../engine/media/crc32c.js';
import type { Geometry } from '../engine/media/geometry.js';
import type { CacheMetadata } from '../engine/media/metadata.js';
import { compareBacking, refuseForeignBacking, type BackingComparison } from './backing-comparison.js';
import { DirtyMap } from './dirty-map.js';
import { requireRecordedBacking } from './recorded-backing.js';

/** Maximum number of samples before an attach: about a second on a disk. */
const GUARD_SAMPLES_MAX = 128;

export interface GuardedDevices {
  readonly cache: PmemReader;
  readonly backing: BackingDevice;
}

export interface BackingGuardOptions {
  readonly geometry: Geometry;
  readonly crc: Crc32c;
  /** Lets signals be heard. */
  readonly breathe: () => Promise<void>;
}

/** Compares the extents that both devices hold according to a map of the log. */
export function compareMapped(
  map: DirtyMap,
  metadata: CacheMetadata,
  devices: GuardedDevices,
  samplesMax?: number,
): Promise<BackingComparison> {
  return compareBacking({
    ...devices,
    extents: () => map.extentsOnBacking(),
    badPayloads: (offsets) => (metadata.flags.dataCrc ? map.badPayloads(offsets) : new Set()),
    ...(samplesMax === undefined ? {} : { samplesMax }),
  });
}

/** @throws PcacheError BAD_MEDIA, with the status of problems left, when too many samples differ */
export function refuseForeign(
  comparison: BackingComparison,
  metadata: CacheMetadata,
  { cache, backing }: GuardedDevices,
): void {
  const writesFirst = metadata.flags.modeNumber !== CACHE_MODES.indexOf('writeback');
  refuseForeignBacking(comparison, { cachePath: cache.path, backingPath: backing.path, writesFirst });
}

/**
 * Looks at the record of the backing device, then reads the log, and up to 128 samples of 4 KiB from each device.
 * Changes nothing. A cache whose metadata or log is damaged passes: its opener refuses it.
 * @throws PcacheError BAD_MEDIA, with the status of problems left, for a foreign device
 */
export async function requireOwnBacking(devices: GuardedDevices, options: BackingGuardOptions): Promise<void> {
  const { cache, backing } = devices;
  await requireRecordedBacking(devices, options);
  const metadata = readMetadataOf(cache, options.geometry);
  if (metadata.problems.length > 0) return;
  const map = new DirtyMap(cache, metadata, backing.sizeBytes, options.crc);
  if (!(await isLoaded(map, options.breathe))) return;
  refuseForeign(await compareMapped(map, metadata, devices, GUARD_SAMPLES_MAX), metadata, devices);
}

/** @returns false for a log that is damaged */
async function isLoaded(map: DirtyMap, breathe: () => Promise<void>): Promise<boolean> {
  try {
    const steps = map.load();
    while (steps.next().done !== true) await breathe();
    return true;
  } catch (error) {
    if (error instanceof PcacheError && error.code === 'BAD_MEDIA') return false;
    throw error;
  }
}
