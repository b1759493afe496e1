/** A cache device whose medium fails in places, for tests of what is made of that. */
import type { PmemReader } from '../../src/engine/device/pmem.js';
import { PcacheError } from '../../src/engine/errors.js';

/** @param isBad whether a range of the device cannot be read as a whole */
export function withBadPlaces(
  pmem: Pick<PmemReader, 'path' | 'sizeBytes' | 'read' | 'crc32c'>,
  isBad: (offset: number, length: number) => boolean,
): PmemReader {
  const check = (offset: number, length: number): void => {
    if (isBad(offset, length)) throw new PcacheError('IO', `${pmem.path}: bad place`);
  };
  return {
    path: pmem.path,
    sizeBytes: pmem.sizeBytes,
    read: (offset, target, at, length) => {
      check(offset, length);
      pmem.read(offset, target, at, length);
    },
    crc32c: (offset, length, crcSeed) => {
      check(offset, length);
      return pmem.crc32c(offset, length, crcSeed);
    },
    close: () => undefined,
  };
}

/** The device with bad blocks of 4 KiB; each is given by a byte in it. */
export function withBadBlocks(pmem: Parameters<typeof withBadPlaces>[0], ...bytes: number[]): PmemReader {
  const starts = bytes.map((byte) => byte - (byte % 4096));
  return withBadPlaces(pmem, (offset, length) =>
    starts.some((start) => start < offset + length && offset < start + 4096),
  );
}
