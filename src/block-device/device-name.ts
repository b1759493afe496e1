/**
 * A name of one's own for a block device that is served: /dev/pcache/NAME, whatever number the device gets. A file in
 * /run/pcache tells udev of it (share/udev/61-pcache.rules), so that systemd knows the name too; it stays when the server
 * dies, and says which device is to be taken over.
 */
import { existsSync, mkdirSync, readdirSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { readText } from '../engine/device/holders.js';
import { fromSystemError, PcacheError } from '../engine/errors.js';
import { SOCKETS_FOLDER } from './device-socket.js';

/** The folders that are used; tests give their own. */
export interface NameFolders {
  readonly links: string;
  readonly records: string;
  /** Block devices in sysfs, by their name. */
  readonly devices: string;
}

const SYSTEM_FOLDERS: NameFolders = { links: '/dev/pcache', records: SOCKETS_FOLDER, devices: '/sys/class/block' };
const SUFFIX = '.name';
const VARIABLE = 'PCACHE_NAME=';
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/;

/** @throws PcacheError USAGE for a name that cannot be one file in /dev */
export function requireServedName(name: string): void {
  if (NAME.test(name)) return;
  throw new PcacheError(
    'USAGE',
    `--name ${name}: is not a name; use up to 64 letters, digits, _, . and -, with a letter, digit or _ first`,
  );
}

/** @returns paths of devices that have or had the name: /dev/ublkbN, /dev/nbdN */
function devicesNamed(name: string, { records }: NameFolders): string[] {
  const files = existsSync(records) ? readdirSync(records).sort() : [];
  return files
    .filter((file) => file.endsWith(SUFFIX) && readText(join(records, file)) === VARIABLE + name)
    .map((file) => `/dev/${file.slice(0, -SUFFIX.length)}`);
}

/** @returns the ublk device with the name that was not removed: its server lives, or has died without removing it */
export function ublkDeviceNamed(name: string, folders: NameFolders = SYSTEM_FOLDERS): string | undefined {
  return devicesNamed(name, folders).find((path) => path.startsWith('/dev/ublkb') && isThere(path, folders));
}

/** Is the device there, and for nbd connected? */
function isThere(path: string, { devices }: NameFolders): boolean {
  const folder = join(devices, basename(path));
  return path.startsWith('/dev/nbd') ? existsSync(join(folder, 'pid')) : existsSync(folder);
}

/**
 * @param own the device that is to get it
 * @throws PcacheError BUSY when another device has the name
 */
export function requireNameFree(name: string, own: string, folders: NameFolders = SYSTEM_FOLDERS): void {
  const other = devicesNamed(name, folders).find((path) => path !== own && isThere(path, folders));
  if (other === undefined) return;
  throw new PcacheError('BUSY', `${join(folders.links, name)}: ${other} has that name already; give another --name`);
}

/** Gives the device, which has just appeared, the name. @throws PcacheError when the link cannot be made */
export function giveName(path: string, name: string, folders: NameFolders = SYSTEM_FOLDERS): void {
  const link = join(folders.links, name);
  const device = basename(path);
  try {
    for (const old of devicesNamed(name, folders))
      rmSync(join(folders.records, basename(old) + SUFFIX), { force: true });
    for (const folder of [folders.records, folders.links]) mkdirSync(folder, { recursive: true });
    writeFileSync(join(folders.records, device + SUFFIX), `${VARIABLE}${name}\n`, { mode: 0o644 });
    // Without udev there is nobody else to make it.
    if (linkTarget(link) !== device) {
      rmSync(link, { force: true });
      symlinkSync(`../${device}`, link);
    }
  } catch (error) {
    throw fromSystemError(error, link, `naming ${path}`);
  }
  announce(device, folders);
}

/** Takes the name back from a device that is gone. One that has been given to another device stays. */
export function takeNameBack(path: string, name: string, folders: NameFolders = SYSTEM_FOLDERS): void {
  const device = basename(path);
  rmSync(join(folders.records, device + SUFFIX), { force: true });
  const link = join(folders.links, name);
  if (linkTarget(link) === device) rmSync(link, { force: true });
  announce(device, folders);
}

function linkTarget(link: string): string | undefined {
  try {
    return basename(readlinkSync(link));
  } catch {
    return undefined;
  }
}

/** Has udev look at the device again. A ublk device that is gone has been looked at already. */
function announce(device: string, { devices }: NameFolders): void {
  try {
    writeFileSync(join(devices, device, 'uevent'), 'change\n');
  } catch {
    // sysfs is read-only in a container, which has no udev either.
  }
}
