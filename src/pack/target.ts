/**
 * Where a pack, or what is unpacked from one, is written to. A new file appears under its name when it is whole;
 * what is given up half-way leaves nothing behind.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, openSync, renameSync, rmSync, statSync, writeSync, type Stats } from 'node:fs';
import { fromSystemError, PcacheError } from '../engine/errors.js';

/** Something at `path`, or undefined. @throws PcacheError when it cannot be looked at */
export function statusOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw fromSystemError(error, path, 'looking at it');
  }
}

/** Writes all of `bytes`. @throws PcacheError */
export function writeAll(fd: number, path: string, bytes: Uint8Array, offsetBytes: number | null): void {
  for (let done = 0; done < bytes.length;) {
    try {
      const at = offsetBytes === null ? null : offsetBytes + done;
      done += writeSync(fd, bytes, done, bytes.length - done, at);
    } catch (error) {
      throw fromSystemError(error, path, 'writing it');
    }
  }
}

function existsError(path: string): PcacheError {
  return new PcacheError('USAGE', `${path}: already exists; give --force to overwrite it`);
}

/** A regular file that takes its name when it is whole. */
export class NewFile {
  readonly fd: number;
  private readonly partial: string;

  /**
   * @param mode its permissions, of which the umask takes away
   * @throws PcacheError when something that is not an empty file lies there, unless `force` is given
   */
  constructor(
    readonly path: string,
    private readonly force: boolean,
    mode: number,
  ) {
    const status = statusOf(path);
    if (status?.isDirectory()) throw new PcacheError('NOT_A_DEVICE', `${path}: is a directory; give a file`);
    if (status !== undefined && !status.isFile()) {
      throw new PcacheError('NOT_A_DEVICE', `${path}: is a device or the like; give the name of a file`);
    }
    if (status !== undefined && status.size > 0 && !force) {
      throw existsError(path);
    }
    this.partial = `${path}.${randomBytes(4).toString('hex')}.partial`;
    try {
      this.fd = openSync(this.partial, 'wx', mode);
    } catch (error) {
      throw fromSystemError(error, path, 'creating it');
    }
  }

  /**
   * Makes it durable and gives it its name.
   * @throws PcacheError when another file has got that name meanwhile, unless `force` was given
   */
  finish(): void {
    try {
      fsyncSync(this.fd);
      if (this.force || !this.link()) renameSync(this.partial, this.path);
    } catch (error) {
      throw fromSystemError(error, this.path, 'making it durable');
    }
  }

  /**
   * Gives it its name if no file has that name: a link, unlike a rename, replaces nothing.
   * @returns false when an empty file has the name, or the filesystem has no links
   * @throws PcacheError when another file has the name
   */
  private link(): boolean {
    try {
      linkSync(this.partial, this.path);
      return true;
    } catch {
      if ((statusOf(this.path)?.size ?? 0) > 0) throw existsError(this.path);
      return false;
    }
  }

  /** Closes it; what is not finished is gone. */
  close(): void {
    closeSync(this.fd);
    rmSync(this.partial, { force: true });
  }
}
