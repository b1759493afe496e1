/** The ublk driver's control commands, each sent from a thread of its own: some wait for requests that we serve. */
import { closeSync, existsSync, openSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { nativeAddon, systemError } from '../engine/device/native.js';
import { fromSystemError, PcacheError } from '../engine/errors.js';
import {
  ControlOp,
  controlNumber,
  decodeDeviceInfo,
  DEVICE_INFO_BYTES,
  DeviceState,
  NO_QUEUE,
  type DeviceInfo,
} from './ublk-abi.js';

const CONTROL_PATH = '/dev/ublk-control';
const LOCK_MAX_MS = 10_000;
const RETRY_MS = 20;

/** In the highest 16 bits of the server flags of our devices. */
const OWNER = 0x7063n;
const IDENTITY_BITS = 48n;

/** Server flags of a device for a cache. @param identity 48 bits that stand for the pair of cache and backing device */
export function serverFlagsOf(identity: bigint): bigint {
  return (OWNER << IDENTITY_BITS) | identity;
}

export function isOurs({ serverFlags }: DeviceInfo): boolean {
  return serverFlags >> IDENTITY_BITS === OWNER;
}

export class UblkDriver {
  private constructor(readonly isEncoded: boolean) {}

  static isPresent(): boolean {
    return existsSync(CONTROL_PATH);
  }

  /** @throws PcacheError UNSUPPORTED where this process cannot use the driver, NO_ACCESS without privileges */
  static async open(): Promise<UblkDriver> {
    if (!UblkDriver.isPresent()) {
      throw new PcacheError(
        'UNSUPPORTED',
        'this kernel has no ublk driver, which /dev/ublkbN needs; load it with: modprobe ublk_drv ' +
          '(module ublk_drv, CONFIG_BLK_DEV_UBLK, Linux 6.0 or later), or give --device auto or /dev/nbdN',
      );
    }
    const features = new Uint8Array(8);
    const { result } = await send(controlNumber(ControlOp.getFeatures, true), 0, 0, features);
    if (result === 0) return new UblkDriver(true);
    const error = systemError(-result, 'UBLK_U_CMD_GET_FEATURES');
    switch (error.code) {
      case 'ENOSYS':
      case 'EPERM':
        throw new PcacheError(
          'UNSUPPORTED',
          'this process may not use io_uring or the ublk driver, which /dev/ublkbN needs; run it as root (CAP_SYS_ADMIN), ' +
            'check the sysctl kernel.io_uring_disabled and the seccomp profile, or give --device /dev/nbdN',
        );
      case 'EACCES':
        throw fromSystemError(error, CONTROL_PATH, 'opening it');
      default:
        return new UblkDriver(false); // a driver that does not know the command
    }
  }

  /** @returns the buffer as the driver left it. @throws a system error */
  async control(op: ControlOp, id: number, data = 0, buffer?: Uint8Array): Promise<Uint8Array> {
    const answer = await send(controlNumber(op, this.isEncoded), id, data, buffer);
    if (answer.result < 0) throw systemError(-answer.result, `ublk control command 0x${op.toString(16)}`);
    return answer.buffer;
  }

  /** @returns undefined when there is no such device */
  async info(id: number): Promise<DeviceInfo | undefined> {
    try {
      return decodeDeviceInfo(await this.control(ControlOp.getDeviceInfo, id, 0, new Uint8Array(DEVICE_INFO_BYTES)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENODEV') return undefined;
      throw error;
    }
  }

  /** Removes a device, and waits until its last user has closed it. One that is gone already is none that fails. */
  async delete(id: number): Promise<void> {
    await this.control(ControlOp.deleteDevice, id).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENODEV') throw error;
    });
  }

  /** Removes a device that may be used: its users get I/O errors, and are not waited for where the driver can do that. */
  async deleteUsed(id: number): Promise<void> {
    try {
      await this.control(ControlOp.deleteDeviceAsync, id);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENODEV') await this.delete(id);
    }
  }

  /** Devices of pcache. */
  async devices(): Promise<DeviceInfo[]> {
    const infos: DeviceInfo[] = [];
    for (const name of readdirSync('/dev')) {
      const id = /^ublkc(\d+)$/.exec(name)?.[1];
      if (id === undefined) continue;
      const info = await this.info(Number(id)).catch(() => undefined);
      if (info !== undefined && isOurs(info)) infos.push(info);
    }
    return infos;
  }

  /** Removes devices whose start was cut off by the death of its process. Call with the lock held. */
  async sweep(): Promise<void> {
    for (const { id, state } of await this.devices()) {
      if (state !== DeviceState.dead) continue;
      try {
        closeSync(openSync(`/dev/ublkc${id}`, 'r+'));
      } catch {
        continue; // its server has it open: it is being started or ended
      }
      await this.delete(id);
    }
  }

  /**
   * A second device for the same cache would change data below the users of the first, who wait.
   * @throws PcacheError BUSY when a device of the pair has lost its server
   */
  async requireNoneLeft(identity: bigint): Promise<void> {
    const flags = serverFlagsOf(identity);
    const left = (await this.devices()).find(
      (info) => info.state === DeviceState.quiesced && info.serverFlags === flags,
    );
    if (left === undefined) return;
    const path = `/dev/ublkb${left.id}`;
    throw new PcacheError(
      'BUSY',
      `${path}: is a device of these two, and its server has died; take it over with --device ${path} --recover, ` +
        `or remove it with "pcache detach ${path}"`,
    );
  }
}

function send(
  number: number,
  id: number,
  data: number,
  buffer: Uint8Array | undefined,
): Promise<{ result: number; buffer: Uint8Array }> {
  return new Promise((resolve) => {
    nativeAddon().ublkControl(number, id, NO_QUEUE, data, buffer, (result, answer) =>
      resolve({ result, buffer: answer }),
    );
  });
}

/** Runs `body` while no other process adds or sweeps devices. */
export async function whileLocked<T>(body: () => Promise<T>): Promise<T> {
  const fd = openSync(CONTROL_PATH, 'r');
  try {
    const until = performance.now() + LOCK_MAX_MS;
    while (!nativeAddon().flock(fd, 'exclusive')) {
      if (performance.now() > until) {
        throw new PcacheError('BUSY', `${CONTROL_PATH}: another process adds a device and does not end; end it`);
      }
      await sleep(RETRY_MS);
    }
    return await body();
  } finally {
    closeSync(fd);
  }
}
