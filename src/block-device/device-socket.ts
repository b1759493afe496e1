/** Where a cache that is attached as a block device is served and controlled when no socket was given. */
import { realpathSync } from 'node:fs';
import { PcacheError } from '../engine/errors.js';

/** Sockets of attached caches that have a block device, by the device's name. */
export const SOCKETS_FOLDER = '/run/pcache';

/** @param device `/dev/ublkbN` or `/dev/nbdN`, or a link to one. @throws PcacheError USAGE */
export function deviceSocketPath(device: string): string {
  let path = device;
  try {
    path = realpathSync(device);
  } catch {
    // A device that is gone: its server may be ending.
  }
  const name = /^\/dev\/(ublkb\d+|nbd\d+)$/.exec(path)?.[1];
  if (name === undefined) {
    throw new PcacheError(
      'USAGE',
      `${device}: is not a device of "pcache attach --device"; give /dev/ublkbN, /dev/nbdN, --socket PATH, or the NAME of a device-mapper device`,
    );
  }
  return `${SOCKETS_FOLDER}/${name}`;
}
