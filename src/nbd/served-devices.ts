/**
 * The two devices of an attached cache. Opening them locks them and changes nothing; only `openStore` may write
 * (it repairs copies of metadata and sets gc_percent), so everything else that can fail comes before it.
 */
import { performance } from 'node:perf_hooks';
import type { BackingDevice } from '../engine/device/backing.js';
import { openBacking } from '../engine/device/backing-file.js';
import { bestCrc32c } from '../engine/device/native.js';
import { openPmem } from '../engine/device/open.js';
import type { Pmem, PmemReader } from '../engine/device/pmem.js';
import { Cache, CacheDriver, PcacheError, readMetadataOf } from '../engine/index.js';
import { LogicalReader } from '../engine/inspect/logical-reader.js';
import { loadForInspection, openForInspection } from '../engine/inspect/open.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import type { AttachOptions } from './attach-options.js';
import { CacheStore, ReadOnlyStore, type Store } from './store.js';

export interface Served {
  readonly store: Store;
  /** Absent when served read-only. */
  readonly driver: CacheDriver | undefined;
  readonly durability: string;
}

export interface ServedDevices {
  readonly cache: PmemReader;
  /** The same device; undefined when served read-only. */
  readonly writable: Pmem | undefined;
  readonly backing: BackingDevice;
  /** @throws PcacheError for a cache that cannot be run */
  openStore(): Served;
  close(): void;
}

function refuseOtherCrc(path: string, has: boolean, wanted: boolean | undefined): void {
  if (wanted === undefined || has === wanted) return;
  throw new PcacheError(
    'USAGE',
    `${path}: was formatted with data_crc ${has ? 'on' : 'off'}; give ${has ? '--data-crc' : '--no-data-crc'}, or neither`,
  );
}

/** @throws PcacheError for devices that cannot be opened, are in use, or hold another kind of cache */
export function openServedDevices(options: AttachOptions): ServedDevices {
  return options.readOnly ? openReadOnly(options) : openReadWrite(options);
}

function openReadOnly({ cachePath, backingPath, dataCrc, native, admit }: AttachOptions): ServedDevices {
  const devices = openForInspection({ cachePath, backingPath, native });
  return {
    cache: devices.pmem,
    writable: undefined,
    backing: devices.backing!,
    openStore: () => {
      const loaded = loadForInspection(devices);
      refuseOtherCrc(cachePath, loaded.metadata.flags.dataCrc, dataCrc);
      admit(devices.pmem, devices.backing!.sizeBytes);
      const reader = new LogicalReader(devices.pmem, loaded, devices.backing);
      return { store: new ReadOnlyStore(reader, devices.backing!), driver: undefined, durability: 'read-only' };
    },
    close: () => devices.close(),
  };
}

function openReadWrite(options: AttachOptions): ServedDevices {
  const { cachePath, backingPath, dataCrc, gcPercent, verifyReads, admit, record } = options;
  const backing = openBacking(backingPath, { readOnly: false });
  let pmem: ReturnType<typeof openPmem>;
  try {
    pmem = openPmem(cachePath);
  } catch (error) {
    backing.close();
    throw error;
  }
  const close = () => {
    pmem.close();
    backing.close();
  };
  try {
    const { flags, problems } = readMetadataOf(pmem, KERNEL_GEOMETRY);
    if (problems.length === 0) {
      refuseOtherCrc(cachePath, flags.dataCrc, dataCrc);
      admit(pmem, backing.sizeBytes);
    }
  } catch (error) {
    close();
    throw error;
  }
  return {
    cache: pmem,
    writable: pmem,
    backing,
    openStore: () => {
      const clock = { nowMs: () => performance.now() };
      backing.findPunch();
      record.begin(pmem, backing);
      const wishes = { verifyReads, punches: true, preparesMemory: true };
      const cache = new Cache({ pmem, backing, clock, crc: bestCrc32c(), ...wishes });
      if (gcPercent !== undefined) cache.setGcPercent(gcPercent);
      const driver = new CacheDriver(cache, clock, () => backing.giveWay());
      return { store: new CacheStore(driver, pmem, backing), driver, durability: pmem.durability };
    },
    close,
  };
}
