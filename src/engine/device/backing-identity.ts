/** What tells a block device from others of the same size, whatever its path: from sysfs and the database of udev. */
import { join } from 'node:path';
import { IDENTITY_BYTES_MAX, type BackingIdentity } from '../media/backing-record.js';
import { deviceNumber, readText, statOrUndefined, SYSTEM_ROOTS } from './holders.js';

export interface IdentityRoots {
  readonly sys: string;
  /** The database of udev, where there is one. */
  readonly udev: string;
}

const ROOTS: IdentityRoots = { sys: SYSTEM_ROOTS.sys, udev: '/run/udev/data' };
/** Device-mapper UUIDs that stay the same: of logical volumes and multipath devices; that of LUKS without the name behind it. */
const LASTING_DM_UUID = /^(?:LVM-\w+|mpath-.+|CRYPT-LUKS\d-[0-9a-f]{32})/;

/** @returns undefined for a file, and for a device that has nothing of the kind */
export function backingIdentity(path: string, roots: IdentityRoots = ROOTS): BackingIdentity | undefined {
  const status = statOrUndefined(path);
  if (status?.isBlockDevice() !== true) return undefined;
  const identity = identityOf(deviceNumber(status.rdev), roots);
  return identity !== undefined && Buffer.byteLength(identity.text) <= IDENTITY_BYTES_MAX ? identity : undefined;
}

/** @param number `major:minor` */
export function identityOf(number: string, { sys, udev }: IdentityRoots): BackingIdentity | undefined {
  const directory = join(sys, 'dev', 'block', number);
  const properties = readText(join(udev, `b${number}`)) ?? '';
  const property = (name: string): string | undefined => new RegExp(`^E:${name}=(.+)$`, 'm').exec(properties)?.[1];
  const some = (kind: BackingIdentity['kind'], text: string | undefined): BackingIdentity | undefined =>
    text === undefined || text === '' ? undefined : { kind, text };
  // The identity of its disk would not tell a partition from the next one.
  if (readText(join(directory, 'partition')) !== undefined) {
    return some('partition UUID', property('ID_PART_ENTRY_UUID'));
  }
  const dm = readText(join(directory, 'dm', 'uuid'));
  if (dm !== undefined) return some('device-mapper UUID', LASTING_DM_UUID.exec(dm)?.[0]);
  const wwid = readText(join(directory, 'wwid')) ?? readText(join(directory, 'device', 'wwid'));
  return some('WWID', wwid ?? readText(join(directory, 'serial'))) ?? some('MD UUID', property('MD_UUID'));
}
