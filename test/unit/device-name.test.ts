/** Names of block devices that are served: /dev/pcache/NAME, and what udev is told of it. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import {
  giveName,
  requireNameFree,
  requireServedName,
  takeNameBack,
  ublkDeviceNamed,
  type NameFolders,
} from '../../src/block-device/device-name.js';

let root: string;
let folders: NameFolders;
const device = (name: string, connected = true) => {
  mkdirSync(join(folders.devices, name), { recursive: true });
  writeFileSync(join(folders.devices, name, 'uevent'), '');
  if (connected) writeFileSync(join(folders.devices, name, 'pid'), '1');
};

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'pcache-name-'));
  folders = { links: join(root, 'dev'), records: join(root, 'run'), devices: join(root, 'sys') };
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

it('a name is a link to the device, and a line for udev, which is asked to look again', () => {
  device('ublkb3');
  giveName('/dev/ublkb3', 'db', folders);
  expect(readlinkSync(join(folders.links, 'db'))).toBe('../ublkb3');
  expect(readFileSync(join(folders.records, 'ublkb3.name'), 'utf8')).toBe('PCACHE_NAME=db\n');
  expect(readFileSync(join(folders.devices, 'ublkb3', 'uevent'), 'utf8')).toBe('change\n');
  takeNameBack('/dev/ublkb3', 'db', folders);
  expect([readdirSync(folders.links), readdirSync(folders.records)]).toEqual([[], []]);
});

it('a name moves to another device, and is not taken from that one by the end of the first', () => {
  device('ublkb3');
  giveName('/dev/ublkb3', 'db', folders);
  rmSync(join(folders.devices, 'ublkb3'), { recursive: true });
  device('nbd0');
  giveName('/dev/nbd0', 'db', folders);
  expect(readdirSync(folders.records)).toEqual(['nbd0.name']);
  takeNameBack('/dev/ublkb3', 'db', folders);
  expect(readlinkSync(join(folders.links, 'db'))).toBe('../nbd0');
});

it('a name of a device that is there is refused for another one', () => {
  device('nbd0');
  giveName('/dev/nbd0', 'db', folders);
  expect(() => requireNameFree('db', '/dev/nbd1', folders)).toThrow('/dev/nbd0 has that name already; give another');
  requireNameFree('db', '/dev/nbd0', folders);
  requireNameFree('other', '/dev/nbd1', folders);
  rmSync(join(folders.devices, 'nbd0', 'pid'));
  requireNameFree('db', '/dev/nbd1', folders);
});

it('a ublk device whose server has died is found by its name, and an nbd device is not', () => {
  device('ublkb3');
  giveName('/dev/ublkb3', 'db', folders);
  expect(ublkDeviceNamed('db', folders)).toBe('/dev/ublkb3');
  expect(ublkDeviceNamed('d', folders)).toBeUndefined();
  rmSync(join(folders.devices, 'ublkb3'), { recursive: true });
  expect(ublkDeviceNamed('db', folders)).toBeUndefined();
  device('nbd0');
  giveName('/dev/nbd0', 'db', folders);
  expect(ublkDeviceNamed('db', folders)).toBeUndefined();
});

it('a name cannot leave its folder', () => {
  for (const name of ['', '.', '..', 'a/b', '-a', 'a b', 'ü', 'x'.repeat(65)]) {
    expect(() => requireServedName(name), name).toThrow('is not a name');
  }
  requireServedName('web-1.eu_x');
  expect(existsSync(folders.links)).toBe(false);
});
