/**
 * The two devices of an attached cache. Opening them locks them and changes nothing; only `openStore` may write
 * (it repairs copies of metadata and sets gc_percent), so everything else that can fail comes before it.
 */
import { performance } from 'node:perf_hooks';
import type { BackingDevice } from '../engine/device/backing.js';
import { openBacking, type BackingFile } from '../engine/device/backing-file.js';
import { bestCrc32c } from '../engine/device/native.js';
import { openPmem } from '../engine/device/open.js';
import type { Pmem, PmemReader } from '../engine/device/pmem.js';
import type { MappedPmem } from '../engine/device/mapped.js';
import { Cache, CacheDriver, PcacheError, readMetadataOf } from '../engine/index.js';
import { LogicalReader } from '../engine/inspect/logical-reader.js';
import { loadForInspection, openForInspection } from '../engine/inspect/open.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import type { AttachOptions } from './attach-options.js';
import { DrivenCache, type ServedCache } from './served-cache.js';
import { LocalService, type Service, type Tell } from './service.js';
import { CacheStore, ReadOnlyStore } from './store.js';
import { ThreadedCache } from './threaded-cache.js';
import type { TlsFactory } from './tls.js';

export interface Served {
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  readonly durability: string;
  /** Undefined when served read-only. */
  readonly cache: ServedCache | undefined;
  readonly service: Service;
  /** Rejects when a thread that serves has ended though nobody told it to. */
  readonly broken?: Promise<never>;
}

/** How what was opened is served. */
export interface ServiceOptions {
  readonly description: string;
  readonly tls: TlsFactory | undefined;
  readonly tell: Tell;
}

export interface ServedDevices {
  readonly cache: PmemReader;
  /** The same device; undefined when served read-only. */
  readonly writable: Pmem | undefined;
  readonly backing: BackingDevice;
  /** @throws PcacheError for a cache that cannot be run */
  open(how: ServiceOptions): Promise<Served>;
  close(): void;
}

const nowMs = () => performance.now();

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

function openReadOnly({ cachePath, backingPath, dataCrc, native, admit, exportName }: AttachOptions): ServedDevices {
  const devices = openForInspection({ cachePath, backingPath, native });
  return {
    cache: devices.pmem,
    writable: undefined,
    backing: devices.backing!,
    open: (how) => {
      const loaded = loadForInspection(devices);
      refuseOtherCrc(cachePath, loaded.metadata.flags.dataCrc, dataCrc);
      admit(devices.pmem, devices.backing!.sizeBytes);
      const reader = new LogicalReader(devices.pmem, loaded, devices.backing);
      const store = new ReadOnlyStore(reader, devices.backing!);
      const service = new LocalService({ ...how, store, nowMs, exportName });
      const { sizeBytes } = store;
      return Promise.resolve({ sizeBytes, isReadOnly: true, durability: 'read-only', cache: undefined, service });
    },
    close: () => devices.close(),
  };
}

function openReadWrite(options: AttachOptions): ServedDevices {
  const { cachePath, backingPath, dataCrc, admit, record } = options;
  const backing = openBacking(backingPath, { readOnly: false });
  let pmem: MappedPmem;
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
    open: async (how) => {
      backing.findPunch();
      record.begin(pmem, backing);
      const served = await (options.jobs === 1
        ? openHere(pmem, backing, options, how)
        : openInThreads(pmem, backing, options, how));
      if (options.gcPercent !== undefined) served.cache.setGcPercent(options.gcPercent);
      return { sizeBytes: backing.sizeBytes, isReadOnly: false, durability: pmem.durability, ...served };
    },
    close,
  };
}

type Running = Pick<Served, 'service' | 'broken'> & { readonly cache: ServedCache };

function openHere(
  pmem: MappedPmem,
  backing: BackingFile,
  { verifyReads, exportName }: AttachOptions,
  how: ServiceOptions,
): Promise<Running> {
  const clock = { nowMs };
  const wishes = { verifyReads, punches: true, preparesMemory: true };
  const cache = new Cache({ pmem, backing, clock, crc: bestCrc32c(), ...wishes });
  const driver = new CacheDriver(cache, clock, () => backing.giveWay());
  const store = new CacheStore(driver, pmem, backing);
  const service = new LocalService({ ...how, store, nowMs, exportName });
  return Promise.resolve({ cache: new DrivenCache(driver), service });
}

async function openInThreads(
  pmem: MappedPmem,
  backing: BackingFile,
  { jobs, exportName, tls }: AttachOptions,
  { description, tell }: ServiceOptions,
): Promise<Running> {
  const cache = await ThreadedCache.open({ pmem, backing, jobs, description, exportName, tls, tell });
  return { cache, service: cache.threads, broken: cache.threads.broken };
}
