/**
 * A block device /dev/nbdN of this machine: the kernel's own NBD client, connected to this process by Unix sockets.
 *
 * `take` reserves a device, `start` makes it appear, `end` removes it. The kernel removes it too when this process dies,
 * at whatever moment. Nothing here may wait for the device on the main thread, which serves it.
 */
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describeProcess, readText } from '../engine/device/holders.js';
import { asSystemError, nativeAddon, systemError, type NativeError } from '../engine/device/native.js';
import { fromSystemError, PcacheError } from '../engine/errors.js';
import { claimDevice, type Claim } from './device-users.js';

/** The kernel spreads requests over them by the processor that sends them. */
const CONNECTIONS = 4;
const BLOCK_BYTES = 512;
/**
 * After this long without a reply the kernel closes a connection and sends its requests again on another one. Replies
 * may take long when the backing device is slow, and a server that dies is noticed without it.
 */
const TIMEOUT_SECONDS = 24 * 3600;
const START_MAX_MS = 30_000;
const START_CHECK_MS = 5;

export class NbdDevice {
  readonly path: string;
  /** Server's ends of the connections, paused. The client negotiates nothing: it sends requests at once. */
  readonly sockets: readonly Socket[];
  /** Resolves when the device is gone, for whatever reason. */
  readonly ended: Promise<void>;
  private sayEnded!: () => void;
  private isRunning = false;
  private isClosed = false;
  private endErrno: number | undefined;

  private constructor(
    private readonly name: string,
    private readonly fd: number,
    socketFds: readonly number[],
  ) {
    this.path = `/dev/${name}`;
    this.sockets = socketFds.map((socketFd) =>
      new Socket({ fd: socketFd, readable: true, writable: true, allowHalfOpen: true }).pause().on('error', () => {}),
    );
    this.ended = new Promise((resolve) => (this.sayEnded = resolve));
  }

  static isDriverPresent(): boolean {
    return /^ *\d+ nbd$/m.test(readFileSync('/proc/devices', 'utf8'));
  }

  /**
   * Reserves a device. It has no size until `start`.
   * @param wanted `/dev/nbdN`, or `auto` for the first free one
   * @throws PcacheError UNSUPPORTED without the kernel's driver, BUSY when it is in use, NO_ACCESS without privileges
   */
  static take(wanted: string): NbdDevice {
    if (!NbdDevice.isDriverPresent()) {
      throw new PcacheError(
        'UNSUPPORTED',
        'this kernel has no nbd driver, which /dev/nbdN needs; ' +
          'load it with: modprobe nbd (module nbd, CONFIG_BLK_DEV_NBD)',
      );
    }
    if (wanted !== 'auto') return NbdDevice.takeNamed(/^\/dev\/(nbd\d+)$/.exec(wanted)![1]);
    for (const name of deviceNames()) {
      try {
        return NbdDevice.takeNamed(name);
      } catch (error) {
        if (!(error instanceof PcacheError && error.code === 'BUSY')) throw error;
      }
    }
    throw new PcacheError(
      'BUSY',
      'all nbd devices are in use; disconnect one, or load the driver with more: modprobe nbd nbds_max=64',
    );
  }

  private static takeNamed(name: string): NbdDevice {
    const path = `/dev/${name}`;
    const pid = readText(`/sys/block/${name}/pid`);
    if (pid !== undefined) {
      throw new PcacheError('BUSY', `${path}: in use by ${describeProcess(Number(pid))}; give another device, or auto`);
    }
    const addon = nativeAddon();
    let fd: number | undefined;
    try {
      fd = openSync(path, 'r+');
      return new NbdDevice(name, fd, addon.nbdTake(fd, CONNECTIONS));
    } catch (error) {
      if (fd !== undefined) closeSync(fd);
      const system = 'errno' in (error as object) && fd !== undefined ? asSystemError(error as NativeError) : error;
      if ((system as NodeJS.ErrnoException).code === 'EBUSY') {
        throw new PcacheError('BUSY', `${path}: in use by another process; give another device, or auto`);
      }
      throw fromSystemError(system, path, 'connecting it');
    }
  }

  /**
   * Makes the device appear, with its partitions. Its requests must be served already.
   * @param flags transmission flags of the NBD protocol
   */
  async start(sizeBytes: number, flags: number): Promise<void> {
    const blocks = Math.floor(sizeBytes / BLOCK_BYTES);
    try {
      nativeAddon().nbdRun(this.fd, BLOCK_BYTES, blocks, flags, TIMEOUT_SECONDS, (errno) => {
        this.isRunning = false;
        this.endErrno = errno;
        this.sayEnded();
      });
      this.isRunning = true;
    } catch (error) {
      throw fromSystemError(asSystemError(error as NativeError), this.path, 'setting it up');
    }
    const until = performance.now() + START_MAX_MS;
    while (readText(`/sys/block/${this.name}/pid`) === undefined) {
      if (!this.isRunning) {
        throw fromSystemError(systemError(this.endErrno!, 'NBD_DO_IT'), this.path, 'starting it');
      }
      if (performance.now() > until) throw new PcacheError('IO', `${this.path}: did not start; see the kernel's log`);
      await sleep(START_CHECK_MS);
    }
    // The kernel looks for partitions when the device is opened next.
    await open(this.path, 'r').then((file) => file.close());
  }

  /** @returns the exclusive use of the device, or who uses it. */
  claim(): Promise<Claim | string> {
    return claimDevice(this.path, this.name);
  }

  /** Removes the device; what is in the page cache is written first when it was claimed. */
  async end(claim: Claim | undefined): Promise<void> {
    if (!this.isRunning) return;
    // Programs that closed the device without fsync have left writes in the page cache. They may fail if it is gone.
    await claim?.sync().catch(() => {});
    if (this.isRunning) {
      await new Promise((resolve) => nativeAddon().nbdDisconnect(this.fd, resolve));
      await this.ended;
    }
  }

  /** Gives the device up; one that runs is removed when its sockets close. */
  close(): Promise<void> {
    if (this.isClosed) return Promise.resolve();
    this.isClosed = true;
    if (!this.isRunning) nativeAddon().nbdClear(this.fd);
    for (const socket of this.sockets) socket.destroy();
    closeSync(this.fd);
    return Promise.resolve();
  }
}

/** Devices of the driver, in the order of their numbers. */
function deviceNames(): string[] {
  return readdirSync('/sys/block')
    .filter((name) => /^nbd\d+$/.test(name) && existsSync(`/dev/${name}`))
    .sort((a, b) => Number(a.slice(3)) - Number(b.slice(3)));
}
