/**
 * Writes extents of the cache to the backing device in large pieces, several at a time. Extents come in order;
 * those that adjoin share a write. Memory is that of the staging buffers, whatever the size of the devices.
 *
 * A write that fails is tried again after a pause. When that does not help and it was an I/O error, the piece is
 * halved until what cannot be written is found; any other error (no space, a device that is gone) is for
 * the caller, since the next write would fail too. Nothing here flushes.
 */
import type { BackingDevice } from '../engine/device/backing.js';
import type { PmemReader } from '../engine/device/pmem.js';
import { PcacheError } from '../engine/errors.js';
import { KIB, MIB, SECTOR_BYTES } from '../engine/media/geometry.js';
import type { FailedRanges, FailureReason } from './failed-ranges.js';

const STAGING_BYTES = MIB;
const STAGING_BUFFERS = 8;
/** A write error is not looked into below this. */
const NARROWEST_BYTES = 4 * KIB;
const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 2000;

interface Staging {
  readonly bytes: Uint8Array;
  startBytes: number;
  filledBytes: number;
}

export interface WriterOptions {
  /** How often a failed write is tried again. */
  readonly retries: number;
  readonly pause: (milliseconds: number) => Promise<void>;
  /** Called with the bytes that have been dealt with, written or failed. */
  readonly onProgress: (bytes: number) => void;
}

export class BackingWriter {
  writtenBytes = 0;
  /** Write calls that went through. */
  writes = 0;
  /** Write calls that were made again after a failure. */
  retried = 0;

  private readonly free: Staging[] = [];
  private current: Staging | undefined;
  private settledBytes = 0;
  private fatal: Error | undefined;
  private wake: () => void = () => undefined;
  /** All of the last piece that was narrowed down failed: the device is taken for dead until a write succeeds. */
  private dead = false;

  constructor(
    private readonly pmem: PmemReader,
    private readonly backing: BackingDevice,
    private readonly failed: FailedRanges,
    private readonly options: WriterOptions,
  ) {
    for (let i = 0; i < STAGING_BUFFERS; i++) {
      this.free.push({ bytes: new Uint8Array(STAGING_BYTES), startBytes: 0, filledBytes: 0 });
    }
  }

  /**
   * Takes [deviceOffsetBytes, +lengthBytes) of the cache device for `offsetBytes` of the backing device.
   * @throws PcacheError when the backing device cannot be written at all; sectors that the cache device cannot
   * read are failed
   */
  async add(offsetBytes: number, lengthBytes: number, deviceOffsetBytes: number): Promise<void> {
    for (let done = 0; done < lengthBytes;) {
      const staging = await this.room(offsetBytes + done);
      const length = Math.min(lengthBytes - done, STAGING_BYTES - staging.filledBytes);
      if (!this.stage(staging, offsetBytes + done, length, deviceOffsetBytes + done)) {
        await this.addSectors(offsetBytes + done, length, deviceOffsetBytes + done);
      }
      done += length;
    }
  }

  /** Waits for all writes. @throws PcacheError as `add` does */
  async drained(): Promise<void> {
    this.send();
    while (this.free.length < STAGING_BUFFERS) await this.change();
    if (this.fatal !== undefined) throw this.fatal;
  }

  /** A buffer that bytes for `offsetBytes` can be put into: the current one, if they adjoin what is in it. */
  private async room(offsetBytes: number): Promise<Staging> {
    if (this.current !== undefined) {
      const { startBytes, filledBytes } = this.current;
      const adjoins = filledBytes === 0 || startBytes + filledBytes === offsetBytes;
      if (adjoins && filledBytes < STAGING_BYTES) return this.current;
      this.send();
    }
    while (this.free.length === 0) await this.change();
    if (this.fatal !== undefined) await this.drained();
    this.current = this.free.pop()!;
    this.current.filledBytes = 0;
    return this.current;
  }

  private change(): Promise<void> {
    return new Promise((resolve) => {
      this.wake = resolve;
    });
  }

  /** @returns false when the cache device cannot read it. */
  private stage(staging: Staging, offsetBytes: number, lengthBytes: number, deviceOffsetBytes: number): boolean {
    try {
      this.pmem.read(deviceOffsetBytes, staging.bytes, staging.filledBytes, lengthBytes);
    } catch (error) {
      if (!(error instanceof PcacheError) || error.code !== 'IO') throw error;
      return false;
    }
    if (staging.filledBytes === 0) staging.startBytes = offsetBytes;
    staging.filledBytes += lengthBytes;
    return true;
  }

  /** As `add`, sector by sector: for where the cache device has bad places. */
  private async addSectors(offsetBytes: number, lengthBytes: number, deviceOffsetBytes: number): Promise<void> {
    for (let done = 0; done < lengthBytes; done += SECTOR_BYTES) {
      const staging = await this.room(offsetBytes + done);
      if (this.stage(staging, offsetBytes + done, SECTOR_BYTES, deviceOffsetBytes + done)) continue;
      this.fail(offsetBytes + done, SECTOR_BYTES, 'unreadable');
    }
  }

  /** Sends the current buffer off. Its end, of whatever kind, wakes who waits for a buffer. */
  private send(): void {
    const staging = this.current;
    this.current = undefined;
    if (staging === undefined) return;
    void this.write(staging)
      .catch((error: unknown) => {
        this.fatal ??= error as Error;
      })
      .then(() => {
        this.free.push(staging);
        this.wake();
      });
  }

  /** Writes a buffer, and narrows down what of it fails. @throws PcacheError other than IO */
  private async write(staging: Staging): Promise<void> {
    const { startBytes, filledBytes } = staging;
    if (filledBytes === 0 || (await this.attempt(staging, 0, filledBytes, this.options.retries))) return;
    if (this.dead) this.fail(startBytes, filledBytes, 'write-error');
    else if (!(await this.narrow(staging, 0, filledBytes))) this.dead = true;
  }

  /** Writes both halves of what failed as a whole, and so forth. @returns whether any of it was written */
  private async narrow(staging: Staging, from: number, lengthBytes: number): Promise<boolean> {
    if (lengthBytes <= NARROWEST_BYTES) {
      this.fail(staging.startBytes + from, lengthBytes, 'write-error');
      return false;
    }
    const half = Math.ceil(lengthBytes / 2 / NARROWEST_BYTES) * NARROWEST_BYTES;
    let any = false;
    for (const [at, length] of [
      [from, half],
      [from + half, lengthBytes - half],
    ]) {
      if ((await this.attempt(staging, at, length, 0)) || (await this.narrow(staging, at, length))) any = true;
    }
    return any;
  }

  /** @returns whether it was written; false for an I/O error. @throws PcacheError for any other */
  private async attempt(staging: Staging, from: number, lengthBytes: number, retries: number): Promise<boolean> {
    for (let tries = 0; ; tries++) {
      const error = await this.call(staging.startBytes + from, staging.bytes, from, lengthBytes);
      if (error === null) {
        this.dead = false;
        this.writes++;
        this.writtenBytes += lengthBytes;
        this.settle(lengthBytes);
        return true;
      }
      if (tries < retries && this.fatal === undefined) {
        this.retried++;
        await this.options.pause(Math.min(RETRY_FIRST_MS * 2 ** tries, RETRY_MAX_MS));
      } else if (error instanceof PcacheError && error.code === 'IO') {
        return false;
      } else {
        throw error;
      }
    }
  }

  private call(offsetBytes: number, bytes: Uint8Array, from: number, lengthBytes: number): Promise<Error | null> {
    return new Promise((resolve) => {
      this.backing.write(offsetBytes, bytes, from, lengthBytes, resolve);
    });
  }

  private fail(offsetBytes: number, lengthBytes: number, reason: FailureReason): void {
    this.failed.add(offsetBytes, lengthBytes, reason);
    this.settle(lengthBytes);
  }

  private settle(bytes: number): void {
    this.settledBytes += bytes;
    this.options.onProgress(this.settledBytes);
  }
}
