/**
 * The space of a cache in a plain file. A sparse file takes blocks of its filesystem as they are first written: when
 * that is full, a running cache fails. A file whose space is reserved does not depend on it.
 */
import { closeSync, fstatSync, ftruncateSync, openSync, rmSync, statfsSync, statSync, truncateSync } from 'node:fs';
import { asSystemError, nativeAddon, type NativeError } from '../device/native.js';
import { fromSystemError, PcacheError } from '../errors.js';
import { KIB } from '../media/geometry.js';

/** tmpfs, ramfs, hugetlbfs: reserving space there takes memory at once. */
const MEMORY_FILESYSTEMS: readonly number[] = [0x01021994, 0x858458f6, 0x958458f6];
const STAT_BLOCK_BYTES = 512;
/** A file is a whole number of pages, so that it can be mapped to its end. */
const FILE_UNIT_BYTES = 4 * KIB;

/** @throws PcacheError USAGE for a `--size` that is not a whole number of pages */
export function refuseOddSize(sizeBytes: number): void {
  if (sizeBytes % FILE_UNIT_BYTES === 0) return;
  const roundedBytes = Math.ceil(sizeBytes / FILE_UNIT_BYTES) * FILE_UNIT_BYTES;
  throw new PcacheError(
    'USAGE',
    `--size ${sizeBytes} is not a multiple of ${FILE_UNIT_BYTES} bytes; round it up to ${roundedBytes}`,
  );
}

/** Gives a file another size; nobody may have it mapped. @throws PcacheError what the system says */
export function resizeFile(path: string, sizeBytes: number): void {
  try {
    truncateSync(path, sizeBytes);
  } catch (error) {
    throw fromSystemError(error, path, `making it ${sizeBytes} bytes long`);
  }
}

/**
 * Creates a file of that size.
 * @param preallocate true reserves its space, false leaves it sparse; undefined reserves it where that neither writes
 *   nor takes memory, and where there is room for it
 * @throws PcacheError what the system says; with `preallocate`, what keeps the space from being reserved
 */
export function createFile(path: string, sizeBytes: number, preallocate: boolean | undefined): void {
  let fd: number;
  try {
    fd = openSync(path, 'wx', 0o600);
  } catch (error) {
    throw fromSystemError(error, path, 'creating it');
  }
  try {
    if (preallocate === true) reserve(path, fd, sizeBytes);
    else if (preallocate === undefined && !isInMemory(path) && hasRoom(path, sizeBytes))
      reserveIfPossible(fd, sizeBytes);
    ftruncateSync(fd, sizeBytes);
  } catch (error) {
    rmSync(path, { force: true });
    throw fromSystemError(error, path, `making it ${sizeBytes} bytes long`);
  } finally {
    closeSync(fd);
  }
}

/** Reserves the space of an existing file, which keeps its contents. @throws PcacheError for what keeps it from that */
export function preallocateFile(path: string, sizeBytes: number): void {
  let fd: number;
  try {
    fd = openSync(path, 'r+');
  } catch (error) {
    throw fromSystemError(error, path, 'opening it');
  }
  try {
    reserve(path, fd, sizeBytes);
  } finally {
    closeSync(fd);
  }
}

/** Is less of the file reserved than its size? */
export function isSparse(path: string): boolean {
  const { size, blocks } = statSync(path);
  return blocks * STAT_BLOCK_BYTES < size;
}

function isInMemory(path: string): boolean {
  return MEMORY_FILESYSTEMS.includes(statfsSync(path).type);
}

/** A reservation that fails has filled the filesystem for a moment: it is not tried where it cannot succeed. */
function hasRoom(path: string, sizeBytes: number): boolean {
  const { bavail, bsize } = statfsSync(path);
  return bavail * bsize >= sizeBytes;
}

function reserve(path: string, fd: number, sizeBytes: number): void {
  const missingBytes = Math.max(0, sizeBytes - fstatSync(fd).blocks * STAT_BLOCK_BYTES);
  if (!hasRoom(path, missingBytes)) {
    throw new PcacheError('NO_SPACE', `${path}: its filesystem has no room for ${sizeBytes} bytes; free some space`);
  }
  try {
    nativeAddon().allocate(fd, sizeBytes);
  } catch (error) {
    if (error instanceof PcacheError) throw error;
    const system = asSystemError(error as NativeError);
    if (system.code === 'EOPNOTSUPP') {
      throw new PcacheError('UNSUPPORTED', `${path}: its filesystem cannot reserve space; leave out --preallocate`);
    }
    throw fromSystemError(system, path, `reserving ${sizeBytes} bytes for it`);
  }
}

/** What was reserved before it failed is given back. */
function reserveIfPossible(fd: number, sizeBytes: number): void {
  try {
    nativeAddon().allocate(fd, sizeBytes);
  } catch {
    if (fstatSync(fd).blocks > 0) ftruncateSync(fd, 0);
  }
}
