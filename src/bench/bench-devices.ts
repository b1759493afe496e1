/** The devices of a benchmark: the user's own, or an ephemeral cache with nothing behind it. */
import type { BackingDevice } from '../engine/device/backing.js';
import type { Pmem } from '../engine/device/pmem.js';
import { PcacheError } from '../engine/errors.js';
import { SECTOR_BYTES } from '../engine/media/geometry.js';
import { makeEphemeralPmem, openUserDevices } from '../replay/replay-devices.js';
import { NullBacking } from './null-backing.js';

const BLOCK_BYTES_MAX = 4 * 1024 * 1024;

export interface BenchDeviceOptions {
  /** Both or neither. */
  readonly cachePath: string | undefined;
  readonly backingPath: string | undefined;
  /** Of an ephemeral cache. */
  readonly cacheBytes: number;
  readonly dataCrc: boolean;
  readonly spanBytes: number;
  readonly blockBytes: number;
  /** Write over a backing device that holds something known. */
  readonly force: boolean;
}

export interface BenchDevices {
  readonly pmem: Pmem;
  readonly backing: BackingDevice;
  readonly cacheName: string;
  /** What requests are scattered over: as asked for, or as far as the backing device goes. */
  readonly spanBytes: number;
  close(): void;
}

/** As much of a span as is whole blocks. @throws PcacheError USAGE when it holds none, and for a size that no block can have */
export function wholeBlocks(spanBytes: number, blockBytes: number): number {
  if (blockBytes % SECTOR_BYTES !== 0 || blockBytes === 0 || blockBytes > BLOCK_BYTES_MAX) {
    throw new PcacheError(
      'USAGE',
      `--bs ${blockBytes}: must be a multiple of ${SECTOR_BYTES} up to ${BLOCK_BYTES_MAX}`,
    );
  }
  const span = spanBytes - (spanBytes % blockBytes);
  if (span === 0) throw new PcacheError('USAGE', `--span ${spanBytes}: smaller than one block of ${blockBytes} bytes`);
  return span;
}

/** @throws PcacheError USAGE for options that make no sense, and what opening and making devices throw */
export function openBenchDevices(options: BenchDeviceOptions): BenchDevices {
  const { cachePath, backingPath, blockBytes, spanBytes } = options;
  const span = wholeBlocks(spanBytes, blockBytes);
  if ((cachePath === undefined) !== (backingPath === undefined)) {
    throw new PcacheError('USAGE', 'CACHE and BACKING must be given together');
  }
  if (cachePath === undefined || backingPath === undefined) {
    const { cacheBytes, dataCrc } = options;
    const pmem = makeEphemeralPmem({ cacheBytes, dataCrc, populate: true });
    return { pmem, backing: new NullBacking(span), cacheName: 'ephemeral', spanBytes: span, close: () => pmem.close() };
  }
  if (options.dataCrc) {
    throw new PcacheError('USAGE', '--data-crc cannot be used with CACHE; it is chosen by "pcache format"');
  }
  const { pmem, backing, cacheName } = openUserDevices(cachePath, backingPath, options.force);
  const reach = Math.min(span, backing.sizeBytes);
  return {
    pmem,
    backing,
    cacheName,
    spanBytes: reach - (reach % blockBytes),
    close: () => {
      pmem.close();
      backing.close();
    },
  };
}
