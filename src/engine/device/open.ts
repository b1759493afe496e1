/**
 * Opens the cache device: mapped through the native helper, or without it through plain reads, for reading only.
 * Every failure is one PcacheError that names the path.
 */
import { layout } from '../../layout/layout.js';
import { PcacheError } from '../errors.js';
import { openDeviceFile, orClose, reopen, type OnBusy } from './device-file.js';
import { DirectReader } from './direct-reader.js';
import { FileReader } from './file-reader.js';
import { MappedPmem, MappedReader, type MappedDevice } from './mapped.js';
import { nativeAddon, nativeAddonIfAvailable } from './native.js';
import type { PmemReader } from './pmem.js';

export interface OpenReaderOptions {
  /** False to use plain reads even where the native helper could map the device. Default true. */
  readonly native?: boolean;
  /** If given, a busy device is opened anyway, and this receives a description of its use. */
  readonly onBusy?: OnBusy;
}

/**
 * Opens `path` for reading; nothing is changed. Takes a shared lock. A block device in use is read past its page cache,
 * which knows nothing of what the kernel's target stores.
 */
export function openPmemReader(path: string, options: OpenReaderOptions = {}): PmemReader {
  let isBusy = false;
  const onBusy: OnBusy | undefined =
    options.onBusy &&
    ((use) => {
      isBusy = true;
      options.onBusy?.(use);
    });
  const file = openDeviceFile(path, { writable: false, onBusy });
  return orClose(file.fd, () => {
    if (isBusy && file.kind === 'block') return new DirectReader(path, file.fd, file.sizeBytes);
    const addon = options.native === false ? undefined : nativeAddonIfAvailable();
    if (addon !== undefined) return new MappedReader(addon, file);
    if (file.kind === 'dax') {
      throw new PcacheError(
        'NATIVE_MISSING',
        `${path}: a DAX character device can only be mapped, which needs the native helper; ${layout.helperRemedy}`,
      );
    }
    return new FileReader(path, file.fd, file.sizeBytes);
  });
}

export interface OpenPmemOptions {
  /** No durability is needed: `persist` is only a fence on any device. Default false. */
  readonly ephemeral?: boolean;
  /** Little is read and written, far apart, such as the heads of segments. Default false. */
  readonly isScattered?: boolean;
}

/** Opens `path` for reading and writing. Takes an exclusive lock. Throws NATIVE_MISSING without the helper. */
export function openPmem(path: string, options: OpenPmemOptions = {}): MappedPmem {
  const addon = nativeAddon();
  const file = openDeviceFile(path, { writable: true });
  const pmem = orClose(file.fd, () => new MappedPmem(addon, file, options.ephemeral ?? false));
  if (options.isScattered === true) pmem.expectScattered();
  return pmem;
}

/**
 * Opens the device in another thread of the process, under the lock that the first opening holds. The mapped pages are
 * shared. Handles of the native helper, its guard against faults and the open file belong to one thread each.
 */
export function mapAgain({ path, fd, sizeBytes, region, ephemeral }: MappedDevice): MappedPmem {
  const again = reopen(path, fd);
  return orClose(again, () => new MappedPmem(nativeAddon(), { path, fd: again, sizeBytes, region }, ephemeral));
}
