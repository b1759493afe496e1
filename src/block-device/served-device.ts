/** The block device that `attach --device` provides, from its reservation to its end. */
import { mkdirSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fromSystemError, PcacheError } from '../engine/errors.js';
import { giveName, requireNameFree, takeNameBack } from './device-name.js';
import { deviceSocketPath, SOCKETS_FOLDER } from './device-socket.js';
import type { Claim } from './device-users.js';
import { NbdDevice } from './nbd-device.js';
import { UblkDriver } from './ublk-control.js';
import { UblkDevice, type ServeQueue } from './ublk-device.js';

const CHECK_MS = 250;
/** Uses that end sooner are not reported: programs such as udev look at a device for a moment. */
const REPORT_AFTER_MS = 1000;

export interface DeviceRequest {
  /** `auto`, `ublk`, `nbd`, `/dev/ublkbN` or `/dev/nbdN`. */
  readonly wanted: string;
  /** Take over a device whose server has died. */
  readonly recover: boolean;
  /** 48 bits that stand for the pair of cache and backing device. */
  readonly identity: bigint;
  /** The device is to be /dev/pcache/NAME as well. */
  readonly name: string | undefined;
  /** Threads that will serve it. */
  readonly jobs: number;
}

/** What serves the requests of a device. */
export interface DeviceServer {
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  /** Transmission flags of the NBD protocol. */
  readonly nbdFlags: number;
  /** Takes a connection of the kernel's NBD client, which sends requests at once. */
  accept(socket: Socket, path: string): void;
  /** Serves a queue of a ublk device. */
  readonly serveQueue: ServeQueue;
}

/** What is given for the next free device, of either driver or of one. */
const KINDS: readonly string[] = ['auto', 'ublk', 'nbd'];

/** @throws PcacheError USAGE */
export function checkDeviceName(wanted: string, recover: boolean): void {
  const isUblk = /^\/dev\/ublkb\d{1,7}$/.test(wanted);
  if (recover && !isUblk) {
    throw new PcacheError('USAGE', `--recover takes over a device that exists; give it as --device /dev/ublkbN`);
  }
  if (KINDS.includes(wanted) || isUblk || /^\/dev\/nbd\d+$/.test(wanted)) return;
  throw new PcacheError(
    'USAGE',
    `--device ${wanted}: is not a device that can be made; give auto, ublk, nbd, /dev/ublkbN or /dev/nbdN`,
  );
}

async function take({ wanted, recover, identity, jobs }: DeviceRequest): Promise<NbdDevice | UblkDevice> {
  if (recover) return UblkDevice.recover(wanted, identity);
  if (wanted === 'nbd') return NbdDevice.take('auto');
  if (wanted.startsWith('/dev/nbd')) return NbdDevice.take(wanted);
  if (wanted === 'ublk') return UblkDevice.take('auto', identity, jobs);
  if (wanted !== 'auto' || UblkDriver.isPresent()) {
    try {
      return await UblkDevice.take(wanted, identity, jobs);
    } catch (error) {
      const isUnsupported = error instanceof PcacheError && error.code === 'UNSUPPORTED';
      if (wanted !== 'auto' || !isUnsupported || !NbdDevice.isDriverPresent()) throw error;
    }
  } else if (!NbdDevice.isDriverPresent()) {
    throw new PcacheError(
      'UNSUPPORTED',
      'this kernel has neither the ublk nor the nbd driver, and --device needs one; ' +
        'load one with: modprobe ublk_drv (CONFIG_BLK_DEV_UBLK), or modprobe nbd (CONFIG_BLK_DEV_NBD)',
    );
  }
  return NbdDevice.take('auto');
}

export class ServedDevice {
  private isNamed = false;

  private constructor(
    private readonly device: NbdDevice | UblkDevice,
    private readonly name: string | undefined,
  ) {}

  /**
   * Reserves a device, which appears at `start`; with `auto` of the ublk driver where there is one, or else of nbd.
   * @throws PcacheError UNSUPPORTED without a driver, BUSY when it or its name is in use, NO_ACCESS without privileges
   */
  static async take(request: DeviceRequest): Promise<ServedDevice> {
    const device = await take(request);
    const { name } = request;
    try {
      if (name !== undefined) requireNameFree(name, device.path);
    } catch (error) {
      await device.close();
      throw error;
    }
    return new ServedDevice(device, name);
  }

  get path(): string {
    return this.device.path;
  }

  /** Resolves when the device is gone, for whatever reason. */
  get ended(): Promise<void> {
    return this.device.ended;
  }

  /** Where the cache is served and controlled when no socket is given. @throws PcacheError when it cannot be made */
  socketPath(): string {
    try {
      mkdirSync(SOCKETS_FOLDER, { recursive: true });
    } catch (error) {
      throw fromSystemError(error, SOCKETS_FOLDER, 'making a folder for sockets; give --socket PATH');
    }
    return deviceSocketPath(this.device.path);
  }

  /** Makes the device appear, or go on. */
  async start(server: DeviceServer): Promise<void> {
    const { device, name } = this;
    if (device instanceof UblkDevice) {
      await device.start(server.sizeBytes, server.isReadOnly, server.serveQueue);
    } else {
      for (const socket of device.sockets) server.accept(socket, this.path);
      await device.start(server.sizeBytes, server.nbdFlags);
    }
    if (name === undefined) return;
    giveName(this.path, name);
    this.isNamed = true;
  }

  /** @throws PcacheError BUSY, with the user of the device */
  async requireUnused(): Promise<void> {
    const claim = await this.device.claim();
    if (typeof claim === 'string') {
      throw new PcacheError('BUSY', `${this.path}: ${claim}; end that use first (unmount it, close it)`);
    }
    await claim.release();
  }

  /**
   * Removes the device once nobody uses it, and writes its page cache first.
   * @param hurried resolves when users are no longer waited for
   */
  async end(hurried: Promise<void>, tell: (text: string) => void): Promise<void> {
    const claim = await this.whenUnused(hurried, tell);
    const ended = this.device.end(claim);
    await Promise.race([ended, hurried.then(() => this.device.end(undefined))]);
    await claim?.release();
    if (this.isNamed) takeNameBack(this.path, this.name!);
  }

  private async whenUnused(hurried: Promise<void>, tell: (text: string) => void): Promise<Claim | undefined> {
    let isHurried = false;
    let isGone = false;
    const woken = Promise.race([hurried.then(() => (isHurried = true)), this.ended.then(() => (isGone = true))]);
    const startedMs = performance.now();
    let told: string | undefined;
    for (;;) {
      const claim = await Promise.race([this.device.claim(), woken]);
      if (isHurried || isGone || typeof claim === 'boolean') return undefined;
      if (typeof claim !== 'string') return claim;
      if (claim !== told && performance.now() - startedMs > REPORT_AFTER_MS) {
        tell(`${this.path}: ${claim}; the cache stays attached until that use ends`);
        told = claim;
      }
      await Promise.race([sleep(CHECK_MS), woken]);
    }
  }

  /** Gives the device up. */
  close(): Promise<void> {
    return this.device.close();
  }
}
