/** Users of a block device that this process serves: whether there are any, and who they are. */
import { constants, readdirSync, readlinkSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { blockDeviceUse, describeProcess, readText, statOrUndefined } from '../engine/device/holders.js';

/** The exclusive use of a device: nothing can be mounted from it meanwhile. */
export interface Claim {
  /** Writes the device's page cache out, and has the device flush. */
  sync(): Promise<void>;
  release(): Promise<void>;
}

/**
 * Opens a device for exclusive use, off the main thread.
 * @param name as in /sys/block
 * @returns the claim; or what the device is used for, as in `mounted on /mnt`
 */
export async function claimDevice(path: string, name: string): Promise<Claim | string> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_EXCL);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error;
    return deviceUse(path, name) ?? 'in use by the kernel';
  }
  const pid = otherOpener(name);
  if (pid !== undefined) {
    await file.close();
    return `open in ${describeProcess(pid)}`;
  }
  return { sync: () => file.sync(), release: () => file.close() };
}

/** @returns what a device is used for, as far as that is seen without opening it; undefined for nothing */
export function deviceUse(path: string, name: string): string | undefined {
  const number = readText(`/sys/block/${name}/dev`);
  const use = number === undefined ? undefined : blockDeviceUse(number);
  if (use !== undefined) return use;
  if (readText('/proc/swaps')?.includes(`${path} `) === true) return 'in use as swap space';
  const pid = otherOpener(name);
  return pid === undefined ? undefined : `open in ${describeProcess(pid)}`;
}

/** Process other than this one that has the device or one of its partitions open. */
function otherOpener(name: string): number | undefined {
  const own = readlinkSync('/proc/self');
  const devices = devicesOf(name);
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid) || pid === own) continue;
    for (const target of openFilesOf(pid)) {
      // Only files in /dev are looked at: others may lie on filesystems that do not answer.
      if (!target.link.startsWith('/dev/')) continue;
      const status = statOrUndefined(target.path);
      if (status?.isBlockDevice() === true && devices.has(status.rdev)) return Number(pid);
    }
  }
  return undefined;
}

/** Device numbers of a device and its partitions. */
function devicesOf(name: string): Set<bigint> {
  const names = [name, ...entriesOf(`/sys/block/${name}`).filter((entry) => entry.startsWith(`${name}p`))];
  const numbers = names.map((one) => statOrUndefined(`/dev/${one}`)?.rdev);
  return new Set(numbers.filter((number) => number !== undefined));
}

function entriesOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // gone meanwhile
  }
}

function openFilesOf(pid: string): { path: string; link: string }[] {
  const folder = `/proc/${pid}/fd`;
  return entriesOf(folder).flatMap((fd) => {
    const path = `${folder}/${fd}`;
    try {
      return [{ path, link: readlinkSync(path) }];
    } catch {
      return []; // closed meanwhile
    }
  });
}
