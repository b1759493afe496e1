/**
 * A block device /dev/ublkbN of this machine, whose requests the kernel hands to this process through io_uring.
 *
 * `take` reserves a device, `start` makes it appear, `end` removes it. When this process dies without `end`, a device
 * that had appeared stays: its users wait until `recover` has it served again. One that had not is removed by the next
 * `take` of any process.
 */
import { closeSync, openSync, readlinkSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { describeProcess, readText } from '../engine/device/holders.js';
import { asSystemError, type NativeError } from '../engine/device/native.js';
import { fromSystemError, PcacheError } from '../engine/errors.js';
import { claimDevice, deviceUse, type Claim } from './device-users.js';
import {
  ANY_DEVICE,
  Attribute,
  ControlOp,
  decodeDeviceInfo,
  decodeParameters,
  DeviceFlag,
  DeviceState,
  encodeDeviceInfo,
  encodeParameters,
  PARAMETERS_BYTES,
  type DeviceInfo,
} from './ublk-abi.js';
import { isOurs, serverFlagsOf, UblkDriver, whileLocked } from './ublk-control.js';
import type { QueuePlace, ServedQueue } from './ublk-queue.js';

const SECTOR_BYTES = 512;
const LOGICAL_BLOCK_SHIFT = 9;
const PHYSICAL_BLOCK_SHIFT = 12;
const DEPTH = 128;
const MAX_IO_BYTES = 512 * 1024;
/** Zeroes may have to be written into the cache; a DISCARD writes nothing there. */
const ZEROES_MAX_BYTES = 8 * 1024 * 1024;
const DISCARD_MAX_BYTES = 128 * 1024 * 1024;
/** How long the driver may take to notice that a server has died, and to give a device up. */
const NOTICE_MAX_MS = 15_000;
const END_MAX_MS = 5_000;
const RETRY_MS = 20;

/** Begins to serve a queue, in whatever thread. @param ended receives an errno, or 0 */
export type ServeQueue = (place: QueuePlace, ended: (errno: number) => void) => Promise<ServedQueue>;

export class UblkDevice {
  readonly path: string;
  /** Resolves when the device is gone, for whatever reason. */
  readonly ended: Promise<void>;
  private sayEnded!: () => void;
  private readonly queues: ServedQueue[] = [];
  private queuesRunning = 0;
  private isRunning = false;
  /** It was ended without waiting for its users. */
  private isLeftToUsers = false;
  private isClosed = false;

  private constructor(
    private readonly driver: UblkDriver,
    private readonly info: DeviceInfo,
    /** Of /dev/ublkcN, which one process has open at a time. Undefined until the start of a recovery. */
    private fd: number | undefined,
    private readonly isRecovery: boolean,
  ) {
    this.path = `/dev/ublkb${info.id}`;
    this.ended = new Promise((resolve) => (this.sayEnded = resolve));
  }

  /**
   * Reserves a device. It does not appear until `start`.
   * @param wanted `/dev/ublkbN`, or `auto` for the first free number
   * @param identity 48 bits that stand for the pair of cache and backing device
   * @param queues each can be served by a thread of its own; the kernel makes no more than there are processors
   * @throws PcacheError UNSUPPORTED without the kernel's driver, BUSY when it is in use, NO_ACCESS without privileges
   */
  static async take(wanted: string, identity: bigint, queues: number): Promise<UblkDevice> {
    const driver = await UblkDriver.open();
    return whileLocked(async () => {
      await driver.sweep();
      await driver.requireNoneLeft(identity);
      const id = wanted === 'auto' ? ANY_DEVICE : idOf(wanted);
      const request: DeviceInfo = {
        queues,
        depth: DEPTH,
        state: DeviceState.dead,
        maxIoBytes: MAX_IO_BYTES,
        id,
        pid: -1,
        flags: DeviceFlag.userRecovery | DeviceFlag.userRecoveryReissue,
        serverFlags: serverFlagsOf(identity),
      };
      let info: DeviceInfo;
      try {
        info = decodeDeviceInfo(await driver.control(ControlOp.addDevice, id, 0, encodeDeviceInfo(request)));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw await inUse(driver, wanted, id);
        throw fromSystemError(error, wanted === 'auto' ? 'a ublk device' : wanted, 'making it');
      }
      try {
        return new UblkDevice(driver, info, await openControl(info.id), false);
      } catch (error) {
        await driver.delete(info.id);
        throw fromSystemError(error, `/dev/ublkc${info.id}`, 'opening it');
      }
    });
  }

  /**
   * Takes a device over whose server has died. Its users wait until `start`.
   * @throws PcacheError NOT_FOUND without such a device, BUSY when its server lives, USAGE when it is another cache's
   */
  static async recover(path: string, identity: bigint): Promise<UblkDevice> {
    const driver = await UblkDriver.open();
    const id = idOf(path);
    const until = performance.now() + NOTICE_MAX_MS;
    for (;;) {
      const info = await driver.info(id);
      if (info === undefined || info.state === DeviceState.dead) {
        throw new PcacheError('NOT_FOUND', `${path}: there is no such device to take over; leave out --recover`);
      }
      if (!isOurs(info)) throw new PcacheError('BUSY', `${path}: is not a device of pcache; give another one`);
      if (info.serverFlags !== serverFlagsOf(identity)) {
        throw new PcacheError(
          'USAGE',
          `${path}: was made for another pair of cache and backing device; give those that it was attached with`,
        );
      }
      if (info.state === DeviceState.quiesced) return new UblkDevice(driver, info, undefined, true);
      if (isAlive(info.pid) || performance.now() > until) {
        throw new PcacheError('BUSY', `${path}: is served by ${describeProcess(info.pid)}; detach it first`);
      }
      await sleep(RETRY_MS);
    }
  }

  /**
   * Makes the device appear, with its partitions, or go on.
   * @param serve serves one of its queues
   */
  async start(sizeBytes: number, isReadOnly: boolean, serve: ServeQueue): Promise<void> {
    const { driver, info } = this;
    // No volatile cache: a write is answered when it is durable (why: ublk-requests.ts), so there is nothing to flush.
    const attributes = isReadOnly ? Attribute.readOnly : 0;
    const deviceSectors = Math.floor(sizeBytes / SECTOR_BYTES);
    try {
      if (this.isRecovery) {
        await this.requireSame(deviceSectors, attributes);
        await this.beginRecovery();
        this.fd = await openControl(info.id);
      } else {
        const parameters = {
          attributes,
          logicalBlockShift: LOGICAL_BLOCK_SHIFT,
          physicalBlockShift: PHYSICAL_BLOCK_SHIFT,
          maxSectors: info.maxIoBytes / SECTOR_BYTES,
          deviceSectors,
          discardMaxSectors: isReadOnly ? 0 : DISCARD_MAX_BYTES / SECTOR_BYTES,
          zeroesMaxSectors: isReadOnly ? 0 : ZEROES_MAX_BYTES / SECTOR_BYTES,
        };
        await driver.control(ControlOp.setParameters, info.id, 0, encodeParameters(parameters));
      }
      await this.serveQueues(serve);
      const op = this.isRecovery ? ControlOp.endUserRecovery : ControlOp.startDevice;
      await driver.control(op, info.id, Number(readlinkSync('/proc/self')));
      this.isRunning = true;
    } catch (error) {
      const isNative = (error as NativeError).code === 'ERRNO';
      const doing = this.isRecovery ? 'taking it over' : 'starting it';
      throw fromSystemError(isNative ? asSystemError(error as NativeError) : error, this.path, doing);
    }
    if (this.isRecovery) return;
    // Where nothing has looked for partitions yet, the kernel does when the device is opened.
    await open(this.path, 'r').then(
      (file) => file.close(),
      (error: unknown) => {
        throw fromSystemError(error, this.path, 'opening it');
      },
    );
  }

  private async serveQueues(serve: ServeQueue): Promise<void> {
    const { info, path, driver, queues } = this;
    const { depth, maxIoBytes } = info;
    const ended = () => {
      if (--this.queuesRunning > 0) return;
      this.isRunning = false;
      this.sayEnded();
    };
    this.queuesRunning = info.queues;
    for (let number = 0; number < info.queues; number++) {
      const place = { path, fd: this.fd!, number, depth, maxIoBytes, isEncoded: driver.isEncoded };
      queues.push(await serve(place, ended));
    }
  }

  /**
   * Removes a device whose server has died.
   * @param force even when it is used: its users get I/O errors
   * @returns false when there is no such device, or its server lives
   * @throws PcacheError BUSY when it is used, or is not a device of pcache
   */
  static async removeLeft(path: string, force: boolean): Promise<boolean> {
    if (!/^\/dev\/ublkb\d+$/.test(path) || !UblkDriver.isPresent()) return false;
    const driver = await UblkDriver.open();
    return whileLocked(async () => {
      const info = await driver.info(idOf(path));
      if (info === undefined || info.state !== DeviceState.quiesced) return false;
      if (!isOurs(info)) throw new PcacheError('BUSY', `${path}: is not a device of pcache; give another one`);
      const use = force ? undefined : deviceUse(path, path.replace('/dev/', ''));
      if (use !== undefined) {
        throw new PcacheError(
          'BUSY',
          `${path}: ${use}, and its server has died; take it over with "pcache attach --device ${path} --recover", ` +
            'or remove it with --force, which gives its users I/O errors',
        );
      }
      await (force ? driver.deleteUsed(info.id) : driver.delete(info.id));
      return true;
    });
  }

  /** A device that is in use must not change. */
  private async requireSame(deviceSectors: number, attributes: number): Promise<void> {
    const buffer = new Uint8Array(PARAMETERS_BYTES);
    new DataView(buffer.buffer).setUint32(0, PARAMETERS_BYTES, true);
    const was = decodeParameters(await this.driver.control(ControlOp.getParameters, this.info.id, 0, buffer));
    if (was.deviceSectors !== deviceSectors) {
      throw new PcacheError(
        'USAGE',
        `${this.path}: has ${was.deviceSectors * SECTOR_BYTES} bytes, and the backing device ` +
          `${deviceSectors * SECTOR_BYTES}; give the devices that it was attached with`,
      );
    }
    if (was.attributes !== attributes) {
      const is = (was.attributes & Attribute.readOnly) === 0 ? 'writable' : 'read-only';
      const remedy = is === 'writable' ? 'leave out --read-only' : 'give --read-only';
      throw new PcacheError('USAGE', `${this.path}: was attached ${is}, and cannot be changed; ${remedy}`);
    }
  }

  private async beginRecovery(): Promise<void> {
    const until = performance.now() + NOTICE_MAX_MS;
    for (;;) {
      try {
        await this.driver.control(ControlOp.startUserRecovery, this.info.id);
        return;
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'EINVAL') return; // an earlier recovery was begun and cut off
        // The files of the dead server are not closed yet.
        if (code !== 'EBUSY' || performance.now() > until) throw error;
        await sleep(RETRY_MS);
      }
    }
  }

  /** @returns the exclusive use of the device, or who uses it. */
  claim(): Promise<Claim | string> {
    return claimDevice(this.path, this.path.replace('/dev/', ''));
  }

  /** Removes the device; what is in the page cache is written first when it was claimed. */
  async end(claim: Claim | undefined): Promise<void> {
    if (!this.isRunning) return;
    this.isLeftToUsers = claim === undefined;
    // Programs that closed the device without fsync have left writes in the page cache. They may fail if it is gone.
    await claim?.sync().catch(() => {});
    if (!this.isRunning) return;
    // Waits for requests under way: those that a backing device does not answer must not keep a hurried end.
    const stopped = this.driver.control(ControlOp.stopDevice, this.info.id).catch(() => {});
    const late = () => sleep(END_MAX_MS, undefined, { ref: false });
    await (claim === undefined ? Promise.race([stopped, late()]) : stopped);
    await Promise.race([this.ended, late()]);
  }

  /** Gives the device up, and has the driver forget it. One that could not be taken over stays as it was. */
  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    await Promise.all(this.queues.map((queue) => queue.close()));
    if (this.fd !== undefined) closeSync(this.fd);
    if (this.isRecovery && !this.isRunning && !(await this.isDead())) return;
    const { driver, info } = this;
    const deleted = (this.isLeftToUsers ? driver.deleteUsed(info.id) : driver.delete(info.id)).catch(() => {});
    await Promise.race([deleted, sleep(END_MAX_MS, undefined, { ref: false })]);
  }

  private async isDead(): Promise<boolean> {
    const info = await this.driver.info(this.info.id).catch(() => undefined);
    return info?.state === DeviceState.dead;
  }
}

/** A process that has ended and was not waited for is not. */
function isAlive(pid: number): boolean {
  const state = /^State:\s+(\w)/m.exec(readText(`/proc/${pid}/status`) ?? '')?.[1];
  return state !== undefined && state !== 'Z' && state !== 'X';
}

function idOf(path: string): number {
  return Number(/^\/dev\/ublkb(\d+)$/.exec(path)![1]);
}

/** Opens /dev/ublkcN, which appears a moment after its device was added. */
async function openControl(id: number): Promise<number> {
  const until = performance.now() + NOTICE_MAX_MS;
  for (;;) {
    try {
      return openSync(`/dev/ublkc${id}`, 'r+');
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if ((code !== 'ENOENT' && code !== 'EBUSY') || performance.now() > until) throw error;
      await sleep(RETRY_MS);
    }
  }
}

async function inUse(driver: UblkDriver, path: string, id: number): Promise<PcacheError> {
  const info = await driver.info(id).catch(() => undefined);
  if (info?.state === DeviceState.quiesced && isOurs(info)) {
    return new PcacheError('BUSY', `${path}: exists, and its server has died; give --recover to take it over`);
  }
  const user = info !== undefined && info.pid > 0 ? describeProcess(info.pid) : 'another process';
  return new PcacheError('BUSY', `${path}: in use by ${user}; give another device, or auto`);
}
