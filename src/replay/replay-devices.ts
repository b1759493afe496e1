/**
 * The devices of a replay: the user's own, or ephemeral ones sized from the trace. Ephemeral files are
 * unlinked as soon as they are open, so that nothing is left behind however the process ends.
 */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmdirSync, statfsSync, unlinkSync } from 'node:fs';
import { freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { openBacking, type BackingFile } from '../engine/device/backing-file.js';
import { sameDevice } from '../engine/device/lock.js';
import { openPmem } from '../engine/device/open.js';
import type { Pmem } from '../engine/device/pmem.js';
import { fromSystemError, PcacheError } from '../engine/errors.js';
import { formatDevice, planFormat } from '../engine/create/create-cache.js';
import { GC_PERCENT_DEFAULT, type CacheMode } from '../engine/media/codecs.js';
import { GIB, MIB, MIN_DEVICE_BYTES } from '../engine/media/geometry.js';
import { findSignatures, signatureNames } from '../engine/create/foreign-signatures.js';

/** Where a cache lies best that need not outlive the machine, if it has room. */
const MEMORY_FILESYSTEM = '/dev/shm';
const BACKING_UNIT_BYTES = MIB;
/** An ephemeral cache is this part of the backing device unless the user says. */
const DEFAULT_CACHE_SHARE = 1 / 8;
const DEFAULT_CACHE_UNIT_BYTES = 16 * MIB;
const DEFAULT_CACHE_MAX_BYTES = 4 * GIB;

export interface ReplayDevices {
  readonly pmem: Pmem;
  readonly backing: BackingFile;
  /** What to call them in a report. */
  readonly cacheName: string;
  readonly backingName: string;
  readonly ephemeral: boolean;
}

export interface EphemeralOptions {
  /** One past the last byte the trace reads or writes. */
  readonly endBytes: number;
  /** Size of the cache; chosen when undefined. */
  readonly cacheBytes: number | undefined;
  readonly dataCrc: boolean;
  readonly gcPercent: number | undefined;
  readonly mode: CacheMode | undefined;
}

/** Opens the user's devices, which the replay will overwrite. The cache must be formatted. */
export function openUserDevices(cachePath: string, backingPath: string, force: boolean): ReplayDevices {
  if (sameDevice(cachePath, backingPath)) {
    throw new PcacheError(
      'USAGE',
      `${cachePath} and ${backingPath} are the same device; give a separate backing device`,
    );
  }
  const backing = openBacking(backingPath, { readOnly: false });
  try {
    if (!force) refuseForeign(backing);
    return { pmem: openPmem(cachePath), backing, cacheName: cachePath, backingName: backingPath, ephemeral: false };
  } catch (error) {
    backing.close();
    throw error;
  }
}

/** A replay writes over the backing device: somebody's filesystem is not for that. */
function refuseForeign(backing: BackingFile): void {
  const found = findSignatures({
    sizeBytes: backing.sizeBytes,
    read: (offset, target, targetOffset, length) => backing.readSync(offset, target, targetOffset, length),
  });
  if (found.length === 0) return;
  throw new PcacheError(
    'FOREIGN_SIGNATURE',
    `${backing.path}: holds a ${signatureNames(found)}, which would be overwritten; use --force to allow that`,
  );
}

/** Makes and opens an ephemeral cache, formatted, and a sparse backing device. */
export function makeEphemeralDevices(options: EphemeralOptions): ReplayDevices {
  const backingBytes = Math.max(BACKING_UNIT_BYTES, roundUp(options.endBytes, BACKING_UNIT_BYTES));
  const pmem = makeEphemeralPmem({ ...options, cacheBytes: options.cacheBytes ?? defaultCacheBytes(backingBytes) });
  try {
    const backing = makeEphemeralBacking(backingBytes);
    return { pmem, backing, cacheName: 'ephemeral', backingName: 'ephemeral', ephemeral: true };
  } catch (error) {
    pmem.close();
    throw error;
  }
}

/** Makes and opens an ephemeral backing device, sparse. */
export function makeEphemeralBacking(sizeBytes: number): BackingFile {
  return withTemporaryFile(tmpdir(), 'backing', sizeBytes, (path) =>
    openBacking(path, { readOnly: false, ephemeral: true }),
  );
}

export interface EphemeralPmemOptions {
  readonly cacheBytes: number;
  readonly dataCrc: boolean;
  readonly gcPercent?: number | undefined;
  readonly mode?: CacheMode | undefined;
  /** Have the memory there from the start, not as it is first used. */
  readonly populate?: boolean;
  /** How much of it will be used at most, bytes; all of it when left out. */
  readonly usedBytes?: number;
  /** How to open the file; as any cache device when left out. */
  readonly open?: (path: string) => Pmem;
}

/** Makes and opens an ephemeral cache device, formatted. */
export function makeEphemeralPmem(options: EphemeralPmemOptions): Pmem {
  const { cacheBytes, dataCrc, gcPercent = GC_PERCENT_DEFAULT, mode = 'writeback' } = options;
  const plan = planFormat(cacheBytes, { dataCrc, gcPercent, mode });
  const { usedBytes = cacheBytes, open = (path) => openPmem(path, { ephemeral: true }) } = options;
  const pmem = withTemporaryFile(folderFor(usedBytes), 'cache', cacheBytes, open);
  try {
    if (options.populate) pmem.zero(0, cacheBytes);
    formatDevice(pmem, plan);
    return pmem;
  } catch (error) {
    pmem.close();
    throw error;
  }
}

/** What an ephemeral cache before a backing device of that size has unless the user says. */
export function defaultCacheBytes(backingBytes: number): number {
  const wanted = roundUp(backingBytes * DEFAULT_CACHE_SHARE, DEFAULT_CACHE_UNIT_BYTES);
  return Math.min(Math.max(wanted, MIN_DEVICE_BYTES), DEFAULT_CACHE_MAX_BYTES);
}

function folderFor(cacheBytes: number): string {
  try {
    const { bavail, bsize } = statfsSync(MEMORY_FILESYSTEM);
    if (bavail * bsize > cacheBytes) return MEMORY_FILESYSTEM;
  } catch {
    // No such filesystem on this machine: an ordinary temporary folder does.
  }
  return tmpdir();
}

/** Creates a sparse file, opens it with `open` and unlinks it. */
function withTemporaryFile<T>(parent: string, name: string, sizeBytes: number, open: (path: string) => T): T {
  let folder: string;
  try {
    folder = mkdtempSync(join(parent, 'pcache-'));
  } catch (error) {
    throw fromSystemError(error, parent, 'creating a temporary folder');
  }
  const path = join(folder, name);
  try {
    const fd = openSync(path, 'wx', 0o600);
    try {
      ftruncateSync(fd, sizeBytes);
    } finally {
      closeSync(fd);
    }
    return open(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EFBIG') {
      throw new PcacheError(
        'OUT_OF_RANGE',
        `${parent}: no file there can be of ${sizeBytes} bytes, which the trace reaches to; ` +
          'replay with --simulate, or on devices of that size',
      );
    }
    throw fromSystemError(error, path, `creating a temporary device of ${sizeBytes} bytes`);
  } finally {
    try {
      unlinkSync(path);
    } catch {
      // It was not even created.
    }
    rmdirSync(folder);
  }
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

/** Memory that ephemeral devices and whatever works on them can take now, bytes. */
export function availableMemoryBytes(): number {
  let bytes = freemem(); // what the system would give without swapping
  try {
    const { bavail, bsize } = statfsSync(MEMORY_FILESYSTEM);
    bytes = Math.min(bytes, bavail * bsize);
  } catch {
    // No such filesystem on this machine: ephemeral devices lie in a temporary folder.
  }
  return bytes;
}
