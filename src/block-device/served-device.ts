/** The block device that `attach --device` provides, from its reservation to its end. */
import { mkdirSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fromSystemError, PcacheError } from '../engine/errors.js';
import type { Claim } from './device-users.js';
import { NbdDevice } from './nbd-device.js';

/** Sockets of attached caches that have a block device, by the device's name. */
const SOCKETS_FOLDER = '/run/pcache';
const CHECK_MS = 250;
/** Uses that end sooner are not reported: programs such as udev look at a device for a moment. */
const REPORT_AFTER_MS = 1000;

/** @throws PcacheError USAGE */
export function checkDeviceName(wanted: string): void {
  if (wanted === 'auto' || /^\/dev\/nbd\d+$/.test(wanted)) return;
  throw new PcacheError('USAGE', `--device ${wanted}: is not a device that can be made; give auto or /dev/nbdN`);
}

export class ServedDevice {
  private constructor(private readonly device: NbdDevice) {}

  /** Reserves a device; as `NbdDevice.take`. */
  static take(wanted: string): ServedDevice {
    return new ServedDevice(NbdDevice.take(wanted));
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
    return `${SOCKETS_FOLDER}/${this.device.path.replace('/dev/', '')}`;
  }

  /**
   * Makes the device appear.
   * @param accept takes a connection whose client sends requests at once
   * @param flags transmission flags of the NBD protocol
   */
  async start(accept: (socket: Socket, path: string) => void, sizeBytes: number, flags: number): Promise<void> {
    for (const socket of this.device.sockets) accept(socket, this.path);
    await this.device.start(sizeBytes, flags);
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
  close(): void {
    this.device.close();
  }
}
