/** Locks between processes, and who is named as the user of a busy device. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import {
  closeSync,
  constants,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openBacking } from '../../src/engine/device/backing-file.js';
import {
  blockDeviceUse,
  deviceNumber,
  lockHolders,
  loopUse,
  type SystemRoots,
} from '../../src/engine/device/holders.js';
import { lockDevice, sameDevice } from '../../src/engine/device/lock.js';
import { setNativeEnabled } from '../../src/engine/device/native.js';
import { openPmem, openPmemReader } from '../../src/engine/device/open.js';
import type { PcacheError } from '../../src/engine/errors.js';

const addonPath = fileURLToPath(new URL('../../native/build/Release/pcache_native.node', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'pcache-lock-'));
const path = join(directory, 'device');
const children: ChildProcess[] = [];

function refusal(open: () => unknown): PcacheError {
  try {
    open();
  } catch (error) {
    return error as PcacheError;
  }
  return expect.fail('nothing was thrown');
}

/** Another process that holds a flock on `path` until it is ended. */
function holder(mode: 'shared' | 'exclusive'): Promise<{ pid: number; end: () => Promise<void> }> {
  const script = `
    const addon = require(${JSON.stringify(addonPath)});
    const fd = require('fs').openSync(${JSON.stringify(path)}, 'r');
    console.log(addon.flock(fd, '${mode}'));
    process.stdin.resume().on('end', () => process.exit());`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(child);
  const end = (): Promise<void> =>
    new Promise((resolve) => {
      child.once('exit', () => resolve());
      child.stdin.end();
    });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.stdout.once('data', (text: Buffer) => {
      if (text.toString() === 'true\n') resolve({ pid: child.pid ?? 0, end });
      else reject(new Error(`the child could not lock: ${text.toString()}`));
    });
  });
}

beforeEach(() => writeFileSync(path, new Uint8Array(4096)));
afterEach(async () => {
  setNativeEnabled(true);
  for (const child of children.splice(0)) {
    if (child.exitCode !== null) continue;
    await new Promise((resolve) => {
      child.once('exit', resolve);
      child.kill();
    });
  }
});
afterAll(() => rmSync(directory, { recursive: true }));

const WRITERS: [string, () => { close(): void }][] = [
  ['openPmem', () => openPmem(path)],
  ['openBacking', () => openBacking(path, { readOnly: false })],
];
const READERS: [string, () => { close(): void }][] = [
  ['openPmemReader', () => openPmemReader(path)],
  ['openPmemReader by plain reads', () => openPmemReader(path, { native: false })],
  ['openBacking for reading', () => openBacking(path, { readOnly: true })],
];

describe('between processes', () => {
  test('a writer elsewhere keeps everyone out and is named', async () => {
    const other = await holder('exclusive');
    const command = readFileSync(`/proc/${other.pid}/comm`, 'utf8').trim();
    for (const [, open] of [...WRITERS, ...READERS]) {
      const error = refusal(open);
      expect(error.code).toBe('BUSY');
      expect(error.message).toBe(`${path}: in use by pid ${other.pid} (${command}); stop that use first`);
    }
    await other.end();
    for (const [, open] of [...WRITERS, ...READERS]) open().close();
  });

  test('a reader elsewhere keeps writers out only', async () => {
    const other = await holder('shared');
    for (const [, open] of READERS) open().close();
    for (const [, open] of WRITERS) expect(refusal(open).message).toContain(`in use by pid ${other.pid} (`);
  });

  test('without the helper the lock is seen too', async () => {
    setNativeEnabled(false);
    openPmemReader(path).close();
    const other = await holder('exclusive');
    expect(refusal(() => openPmemReader(path)).message).toContain(`in use by pid ${other.pid} (`);
    await other.end();
    const reader = await holder('shared');
    openPmemReader(path).close();
    expect(refusal(() => openBacking(path, { readOnly: false })).message).toContain(`in use by pid ${reader.pid} (`);
  });

  test('a reader that may look at busy devices is told what uses them', async () => {
    const told: string[] = [];
    const onBusy = (use: string): number => told.push(use);
    openPmemReader(path, { onBusy }).close();
    expect(told).toEqual([]);
    const other = await holder('exclusive');
    openPmemReader(path, { onBusy }).close();
    openBacking(path, { readOnly: true, onBusy }).close();
    expect(told).toHaveLength(2);
    expect(told[0]).toContain(`in use by pid ${other.pid} (`);
  });
});

describe('within this process', () => {
  test.each(WRITERS)('a device that %s has open is not opened again', (_, open) => {
    const held = open();
    for (const [, again] of [...WRITERS, ...READERS]) {
      expect(refusal(again)).toMatchObject({
        code: 'BUSY',
        message: expect.stringContaining('open already in this process') as string,
      });
    }
    held.close();
    open().close();
  });

  test('a mapping keeps its lock until it is closed, and readers share one', () => {
    const readers = READERS.map(([, open]) => open());
    expect(refusal(() => openPmem(path)).code).toBe('BUSY');
    for (const reader of readers) reader.close();
    openPmem(path).close();
  });
});

/** A made-up /proc and /sys. */
function fakeRoots(files: Record<string, string>): SystemRoots {
  const root = mkdtempSync(join(directory, 'roots-'));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  return { proc: join(root, 'proc'), sys: join(root, 'sys') };
}

describe('uses inside the kernel', () => {
  const MOUNTINFO = 'proc/self/mountinfo';

  test.each([
    ['free', {}, undefined],
    [
      'held by device-mapper',
      { 'sys/dev/block/259:0/holders/dm-3/dm/name': 'pc\n' },
      'held by device-mapper device pc',
    ],
    ['held by another driver', { 'sys/dev/block/259:0/holders/md0/size': '1' }, 'held by device md0'],
    ['mounted', { [MOUNTINFO]: '36 35 259:0 / /mnt/a\\040b rw shared:1 - ext4 /dev/x rw\n' }, 'mounted on /mnt/a b'],
    ['another one mounted', { [MOUNTINFO]: '36 35 259:1 / /mnt rw - ext4 /dev/x rw\n' }, undefined],
    [
      'mounted by a partition',
      {
        'sys/dev/block/259:0/x1/partition': '1',
        'sys/dev/block/259:0/x1/dev': '259:7',
        [MOUNTINFO]: '1 0 0:5 / / rw - tmpfs none rw\n36 35 259:7 / /boot rw - ext4 /dev/x1 rw\n',
      },
      'mounted on /boot (its partition x1)',
    ],
    [
      'held by a partition',
      { 'sys/dev/block/259:0/x1/partition': '1', 'sys/dev/block/259:0/x1/holders/dm-0/dm/name': 'root' },
      'held by device-mapper device root (its partition x1)',
    ],
  ])('are named for a block device that is %s', (_, files: Record<string, string>, use) => {
    expect(blockDeviceUse('259:0', fakeRoots(files))).toBe(use);
  });

  test('are named for a file under a loop device', () => {
    const status = statSync(path, { bigint: true });
    const attached = { 'sys/block/loop4/loop/backing_file': `${path}\n`, 'sys/block/loop4/dev': '7:4\n' };
    const roots = fakeRoots(attached);
    expect(loopUse(status, true, roots)).toBe('attached to /dev/loop4');
    expect(loopUse(status, false, roots)).toBeUndefined();
    const mounted = fakeRoots({ ...attached, [MOUNTINFO]: '36 35 7:4 / /mnt rw - ext4 /dev/loop4 rw\n' });
    expect(loopUse(status, false, mounted)).toBe('mounted on /mnt (through /dev/loop4)');
    expect(loopUse(statSync(addonPath, { bigint: true }), true, mounted)).toBeUndefined();
  });

  test('a busy file is refused before it is locked', () => {
    const roots = fakeRoots({ 'sys/block/loop4/loop/backing_file': path, 'sys/block/loop4/dev': '7:4' });
    const fd = openSync(path, 'r');
    expect(refusal(() => lockDevice(path, fd, { exclusive: true, roots }))).toMatchObject({ code: 'BUSY' });
    expect(lockDevice(path, fd, { exclusive: true, allowBusy: true, roots })).toBe('attached to /dev/loop4');
    const writer = openPmem(path);
    writer.close();
    closeSync(fd);
  });
});

describe('/proc/locks', () => {
  const status = statSync(directory, { bigint: true });
  const [major, minor] = deviceNumber(status.dev)
    .split(':')
    .map((part) => Number(part).toString(16).padStart(2, '0'));
  const file = `${major}:${minor}:${status.ino}`;
  const locks = [
    `1: FLOCK  ADVISORY  READ 12 ${file} 0 EOF`,
    `1: -> FLOCK  ADVISORY  WRITE 13 ${file} 0 EOF`,
    `2: OFDLCK ADVISORY  WRITE -1 ${file} 100 101`,
    `3: POSIX  ADVISORY  WRITE 14 ${major}:${minor}:1 0 EOF`,
  ].join('\n');

  test('is read for one file, without waiting lockers', () => {
    expect(lockHolders(status, fakeRoots({ 'proc/locks': locks }))).toEqual([
      { kind: 'FLOCK', write: false, pid: 12 },
      { kind: 'OFDLCK', write: true, pid: -1 },
    ]);
  });

  test('shows locks of other kinds, which keep writers out too', () => {
    const fd = openSync(directory, 'r');
    const use = lockDevice(directory, fd, {
      exclusive: false,
      allowBusy: true,
      roots: fakeRoots({ 'proc/locks': locks }),
    });
    expect(use).toBe('in use by a process that cannot be seen from here');
    closeSync(fd);
  });
});

test('device numbers are split as the system composes them', () => {
  expect(deviceNumber(statSync('/dev/null', { bigint: true }).rdev)).toBe('1:3');
  expect(deviceNumber(0x0803n)).toBe('8:3');
  expect(deviceNumber(0x120006783459an)).toBe('74565:424090');
});

describe('whether two paths are one device', () => {
  test('holds for a file by any of its names', () => {
    const [link, hardLink, other] = ['link', 'hard', 'other'].map((name) => join(directory, name));
    symlinkSync(path, link);
    linkSync(path, hardLink);
    writeFileSync(other, 'x');
    expect(sameDevice(path, path)).toBe(true);
    expect(sameDevice(path, link)).toBe(true);
    expect(sameDevice(hardLink, link)).toBe(true);
    expect(sameDevice(path, other)).toBe(false);
    expect(sameDevice(path, join(directory, 'missing'))).toBe(false);
    expect(sameDevice(join(directory, 'missing'), join(directory, 'missing'))).toBe(false);
  });
});

const loopFile = join(directory, 'loop-file');
let loop = '';

function attachLoop(): void {
  const losetup = ['--find', '--show', loopFile];
  loop = execFileSync('losetup', losetup, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
}

function detachLoop(): void {
  execFileSync('losetup', ['--detach', loop]);
}

/** Attaching a loop device needs root, and a kernel that has them. */
function loopDevicesWork(): boolean {
  writeFileSync(loopFile, new Uint8Array(1 << 20));
  try {
    attachLoop();
  } catch {
    return false;
  }
  detachLoop();
  return true;
}

describe.skipIf(!loopDevicesWork())('a real block device (skipped where loop devices cannot be attached)', () => {
  beforeAll(attachLoop);
  afterAll(detachLoop);

  test('reports its size, and is mapped and read', () => {
    const pmem = openPmem(loop);
    expect(pmem.sizeBytes).toBe(1 << 20);
    expect(pmem.durability).toBe('page-cache');
    pmem.write(12_345, new Uint8Array(1000).fill(7), 0, 1000);
    pmem.persist();
    pmem.close();
    expect(
      readFileSync(loopFile)
        .subarray(12_345, 13_345)
        .every((byte) => byte === 7),
    ).toBe(true);
    const reader = openPmemReader(loop, { native: false });
    const target = new Uint8Array(1000);
    reader.read(12_345, target, 0, 1000);
    expect(target.every((byte) => byte === 7)).toBe(true);
    reader.close();
  });

  test('is opened for writing by one process at a time, which is named', () => {
    const held = openBacking(loop, { readOnly: false });
    expect(refusal(() => openPmem(loop)).message).toContain('open already in this process');
    expect(refusal(() => openPmemReader(loop)).message).toContain('open already in this process');
    held.close();
    openPmem(loop).close();
  });

  test('is not opened for writing while another has it exclusively', () => {
    const fd = openSync(loop, constants.O_RDWR | constants.O_EXCL);
    for (const open of [() => openPmem(loop), () => openBacking(loop, { readOnly: false })]) {
      expect(refusal(open)).toMatchObject({ code: 'BUSY', message: expect.stringContaining('exclusively') as string });
    }
    closeSync(fd);
    openPmem(loop).close();
  });

  test('keeps writers off the file below it', () => {
    expect(refusal(() => openPmem(loopFile)).message).toContain(`attached to ${loop}`);
    openPmemReader(loopFile).close();
    expect(sameDevice(loop, loopFile)).toBe(true);
    expect(sameDevice(loopFile, loop)).toBe(true);
    expect(sameDevice(loop, path)).toBe(false);
  });
});
