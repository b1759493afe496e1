/**
 * The backing device: a regular file or block device, read and written asynchronously at offsets. A short
 * transfer is continued; an end of file inside the device's size is an error, never a short success.
 */
import { closeSync, fdatasync, fstatSync, read, readSync, write } from 'node:fs';
import { constants } from 'node:os';
import { fromSystemError, PcacheError } from '../errors.js';
import type { BackingDevice, BackingDone, BackingExtents, PmemRanges, PmemRangesWriter } from './backing.js';
import { openDeviceFile, reopen, type OnBusy } from './device-file.js';
import { deviceNumber, readText } from './holders.js';
import { MappedPmem } from './mapped.js';
import { nativeAddonIfAvailable, systemError } from './native.js';
import type { Pmem } from './pmem.js';
import { TransferQueue, type TransferDone } from './transfer-queue.js';
import { SECTOR_BYTES } from '../media/geometry.js';

export interface OpenBackingOptions {
  readonly readOnly: boolean;
  /** No durability is needed: `flush` completes at once. Default false. */
  readonly ephemeral?: boolean;
  /** If given, a busy device is opened anyway, and this receives a description of its use. */
  readonly onBusy?: OnBusy;
}

/** Maximum length of one transfer; the system's own limit is just below 2 GiB. */
const TRANSFER_BYTES_MAX = 1 << 30;

type TransferCall = (
  fd: number,
  bytes: Uint8Array,
  bytesOffset: number,
  lengthBytes: number,
  offsetBytes: number,
  done: (error: NodeJS.ErrnoException | null, count: number) => void,
) => void;

/** Opens and locks (shared for reading, exclusive for writing) the backing device at `path`. */
export function openBacking(path: string, options: OpenBackingOptions): BackingFile {
  const file = openDeviceFile(path, { writable: !options.readOnly, onBusy: options.onBusy });
  const remainder = file.sizeBytes % SECTOR_BYTES;
  let problem: PcacheError | undefined;
  if (file.kind === 'dax') {
    problem = new PcacheError(
      'NOT_A_DEVICE',
      `${path}: a DAX character device cannot be the backing device; give a regular file or a block device`,
    );
  } else if (remainder !== 0) {
    problem = new PcacheError(
      'MISALIGNED',
      `${path}: ${file.sizeBytes} bytes is not a multiple of ${SECTOR_BYTES}; extend it with: truncate -s %${SECTOR_BYTES} ${path}`,
    );
  }
  if (problem !== undefined) {
    closeSync(file.fd);
    throw problem;
  }
  return new BackingFile(path, file.fd, file.sizeBytes, options.readOnly, options.ephemeral ?? false);
}

/** Everything that another thread of the process needs to use the same device. */
export interface SharedBacking {
  readonly path: string;
  readonly fd: number;
  readonly sizeBytes: number;
  readonly ephemeral: boolean;
  readonly canPunch: boolean;
}

/** Opens the device again in another thread of the process, under the lock that the first opening holds. */
export function openBackingAgain({ path, fd, sizeBytes, ephemeral, canPunch }: SharedBacking): BackingFile {
  return new BackingFile(path, reopen(path, fd), sizeBytes, false, ephemeral, canPunch);
}

export class BackingFile implements BackingDevice {
  private open = true;
  private readonly addon = nativeAddonIfAvailable();
  /** Batches transfers through the native helper; undefined without it, and then each transfer is one call. */
  private readonly queue: TransferQueue | undefined;

  /** @param fd open file, which the new object closes. */
  constructor(
    readonly path: string,
    private readonly fd: number,
    readonly sizeBytes: number,
    readonly readOnly: boolean,
    private readonly ephemeral = false,
    private punches = false,
  ) {
    if (this.addon) this.queue = new TransferQueue(this.addon, fd);
  }

  /** For `openBackingAgain` in other threads; valid while this object is open. */
  get shared(): SharedBacking {
    const { path, fd, sizeBytes, ephemeral, canPunch } = this;
    return { path, fd, sizeBytes, ephemeral, canPunch };
  }

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number, done: BackingDone): void {
    this.transfer(false, offsetBytes, target, targetOffset, lengthBytes, done);
  }

  write(offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number, done: BackingDone): void {
    if (this.readOnly) {
      queueMicrotask(() => done(this.readOnlyError()));
      return;
    }
    this.transfer(true, offsetBytes, source, sourceOffset, lengthBytes, done);
  }

  writerFrom(pmem: Pmem): PmemRangesWriter | undefined {
    if (!(pmem instanceof MappedPmem)) return undefined;
    return (ranges, count, done) => this.writeOut(pmem, ranges, count, done);
  }

  flush(done: BackingDone): void {
    if (!this.open) {
      queueMicrotask(() => done(this.closedError()));
      return;
    }
    if (this.ephemeral) {
      setImmediate(done, null);
      return;
    }
    fdatasync(this.fd, (error) => done(error && fromSystemError(error, this.path, 'making it durable')));
  }

  extents(offsetBytes: number, lengthBytes: number, extents: BackingExtents, done: BackingDone): void {
    const problem = this.problem('looking for holes in', offsetBytes, lengthBytes);
    if (problem !== null || !this.addon) {
      extents.count = 1;
      extents.endBytes[0] = offsetBytes + lengthBytes;
      extents.isHole[0] = 0;
      queueMicrotask(() => done(problem));
      return;
    }
    this.addon.extents(this.fd, offsetBytes, lengthBytes, extents.endBytes, extents.isHole, (errno, count) => {
      extents.count = count;
      if (errno === 0) done(null);
      else {
        const doing = doingRange('looking for holes in', offsetBytes, lengthBytes);
        done(fromSystemError(systemError(errno, 'lseek'), this.path, doing));
      }
    });
  }

  /** Holes can be made. False before `findPunch`. */
  get canPunch(): boolean {
    return this.punches;
  }

  /** Finds out whether holes can be made. Changes nothing that can be read. */
  findPunch(): void {
    if (this.readOnly || !this.addon) return;
    const status = fstatSync(this.fd, { bigint: true });
    this.punches = status.isBlockDevice() ? punchesByItself(deviceNumber(status.rdev)) : this.addon.canPunch(this.fd);
  }

  zero(offsetBytes: number, lengthBytes: number, keepsSpace: boolean, done: BackingDone): void {
    const problem = this.readOnly ? this.readOnlyError() : this.problem('zeroing', offsetBytes, lengthBytes);
    if (problem !== null || lengthBytes === 0) {
      queueMicrotask(() => done(problem));
      return;
    }
    this.addon!.zeroRange(this.fd, offsetBytes, lengthBytes, keepsSpace, (errno) => {
      if (errno === 0) done(null);
      else {
        const doing = doingRange('zeroing', offsetBytes, lengthBytes);
        done(fromSystemError(systemError(errno, 'fallocate'), this.path, doing));
      }
    });
  }

  /** Yields the processor to the helper's writing thread if that waits for it. */
  giveWay(): void {
    this.addon?.giveWay();
  }

  /** Synchronous `read`, for commands that stream through the whole device. Throws the error that `read` passes on. */
  readSync(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    const problem = this.problem('reading', offsetBytes, lengthBytes, target, targetOffset);
    if (problem !== null) throw problem;
    for (let moved = 0; moved < lengthBytes;) {
      let count: number;
      try {
        count = readSync(
          this.fd,
          target,
          targetOffset + moved,
          Math.min(lengthBytes - moved, TRANSFER_BYTES_MAX),
          offsetBytes + moved,
        );
      } catch (error) {
        throw fromSystemError(error, this.path, doingRange('reading', offsetBytes, lengthBytes));
      }
      if (count === 0) throw this.endedError('reading', offsetBytes, lengthBytes, moved);
      moved += count;
    }
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    closeSync(this.fd);
  }

  private writeOut(pmem: MappedPmem, ranges: PmemRanges, count: number, done: BackingDone): void {
    const { offsetBytes, lengthBytes, pmemOffsetBytes } = ranges;
    let problem = this.readOnly ? this.readOnlyError() : null;
    for (let i = 0; i < count; i++) problem ??= this.problem('writing', offsetBytes[i], lengthBytes[i]);
    if (problem !== null) {
      queueMicrotask(() => done(problem));
      return;
    }
    const ended = (errno: number, written: number): void => {
      if (errno === 0) {
        done(null);
        return;
      }
      try {
        // The kernel reports unreadable memory as a bad address; reading it here gives the real error.
        if (errno === constants.errno.EFAULT) pmem.crc32c(pmemOffsetBytes[written], lengthBytes[written], 0);
        throw systemError(errno, 'a write failed');
      } catch (error) {
        done(fromSystemError(error, this.path, doingRange('writing', offsetBytes[written], lengthBytes[written])));
      }
    };
    try {
      pmem.writeOut(this.fd, ranges, count, ended);
    } catch (error) {
      if (!(error instanceof PcacheError)) throw error;
      queueMicrotask(() => done(error));
    }
  }

  private transfer(
    isWrite: boolean,
    offsetBytes: number,
    bytes: Uint8Array,
    bytesOffset: number,
    lengthBytes: number,
    done: BackingDone,
  ): void {
    const doing = isWrite ? 'writing' : 'reading';
    const problem = this.problem(doing, offsetBytes, lengthBytes, bytes, bytesOffset);
    if (problem !== null || lengthBytes === 0) {
      queueMicrotask(() => done(problem));
      return;
    }
    const ended = (error: NodeJS.ErrnoException | null, moved: number): void => {
      if (error !== null) done(fromSystemError(error, this.path, doingRange(doing, offsetBytes, lengthBytes)));
      else if (moved < lengthBytes) done(this.endedError(doing, offsetBytes, lengthBytes, moved));
      else done(null);
    };
    if (this.queue) this.queue.add({ isWrite, offsetBytes, bytes, bytesOffset, lengthBytes, done: ended });
    else transferByNode(isWrite ? write : read, this.fd, { offsetBytes, bytes, bytesOffset, lengthBytes }, ended);
  }

  private problem(
    doing: string,
    offsetBytes: number,
    lengthBytes: number,
    bytes?: Uint8Array,
    bytesOffset = 0,
  ): PcacheError | null {
    if (!this.open) return this.closedError();
    const isInside = isWithin(offsetBytes, lengthBytes, this.sizeBytes);
    if (isInside && (!bytes || isWithin(bytesOffset, lengthBytes, bytes.length))) return null;
    return new PcacheError(
      'OUT_OF_RANGE',
      `${this.path}: ${doingRange(doing, offsetBytes, lengthBytes)} beyond its ${this.sizeBytes} bytes or the buffer`,
    );
  }

  private readOnlyError(): PcacheError {
    return new PcacheError('NO_ACCESS', `${this.path}: is open for reading only and cannot be written`);
  }

  private closedError(): PcacheError {
    return new PcacheError('CLOSED', `${this.path}: used after it was closed`);
  }

  private endedError(doing: string, offsetBytes: number, lengthBytes: number, moved: number): PcacheError {
    return new PcacheError(
      'TRUNCATED',
      `${this.path}: ends at byte ${offsetBytes + moved} while ${doingRange(doing, offsetBytes, lengthBytes)}; it had ${this.sizeBytes} bytes when opened`,
    );
  }
}

/**
 * Whether a block device zeroes ranges by giving up their space. One that zeroes without discarding writes all of them
 * (a disk's WRITE SAME): a TRIM of it would take hours. @param number `major:minor`
 */
function punchesByItself(number: string): boolean {
  const textOf = (device: string, limit: string) => readText(`/sys/dev/block/${number}${device}/queue/${limit}`);
  return ['write_zeroes_max_bytes', 'discard_max_bytes'].every(
    (limit) => Number(textOf('', limit) ?? textOf('/..', limit) ?? 0) > 0, // a partition has no queue of its own
  );
}

/** Repeats Node's own call until everything is transferred, the file ends, or it fails. */
function transferByNode(
  call: TransferCall,
  fd: number,
  range: { offsetBytes: number; bytes: Uint8Array; bytesOffset: number; lengthBytes: number },
  done: TransferDone,
): void {
  const { offsetBytes, bytes, bytesOffset, lengthBytes } = range;
  let moved = 0;
  const next = (): void =>
    call(fd, bytes, bytesOffset + moved, Math.min(lengthBytes - moved, TRANSFER_BYTES_MAX), offsetBytes + moved, step);
  const step = (error: NodeJS.ErrnoException | null, count: number): void => {
    if (error === null) moved += count;
    if (error === null && count > 0 && moved < lengthBytes) next();
    else done(error, moved);
  };
  next();
}

function isWithin(offset: number, length: number, size: number): boolean {
  return (
    Number.isSafeInteger(offset) &&
    offset >= 0 &&
    Number.isSafeInteger(length) &&
    length >= 0 &&
    length <= size - offset
  );
}

function doingRange(doing: string, offsetBytes: number, lengthBytes: number): string {
  return `${doing} bytes ${offsetBytes} to ${offsetBytes + lengthBytes}`;
}
