/** Each format that may lie on a device is recognised by its magic, where it has it, and named. */
import { execFileSync } from 'node:child_process';
import { closeSync, fstatSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { formatDevice, planFormat } from '../../src/engine/create/create-cache.js';
import type { ByteSource } from '../../src/engine/media/dual.js';
import { findSignatures, signatureNames } from '../../src/engine/create/foreign-signatures.js';
import { describeWithClient } from '../support/clients.js';
import { MemoryPmem } from '../support/memory-pmem.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const SIZE = 512 * MIB + 12 * KIB;

type Piece = readonly [offsetBytes: number, bytes: string | readonly number[]];

const MD = [0xfc, 0x4e, 0x2b, 0xa9];
const ZFS_LE = [0x0c, 0xb1, 0xba, 0x00, 0, 0, 0, 0];
const BOOT: Piece = [510, [0x55, 0xaa]];
const BCACHE = 'c68573f64e1a45ca8265f57f48ba6d81';
const BCACHEFS = 'c68573f666ce90a9d96a60cf803df7ef';
const hex = (text: string): number[] => [...Buffer.from(text, 'hex')];

/** What is put where, what it must be called, and how many marks are found. */
const CASES: readonly (readonly [name: string, pieces: readonly Piece[], marks?: number])[] = [
  ['GPT partition table', [[512, 'EFI PART']]],
  ['GPT partition table', [[4096, 'EFI PART']]],
  ['GPT partition table', [[SIZE - 512, 'EFI PART']]],
  [
    'GPT partition table',
    [
      [512, 'EFI PART'],
      [SIZE - 512, 'EFI PART'],
    ],
    2,
  ],
  ['MBR partition table', [BOOT, [446 + 4, [0x83]]]],
  ['MBR partition table', [BOOT, [446 + 3 * 16, [0x80, 0, 0, 0, 0xee]]]],
  ['NTFS filesystem', [BOOT, [3, 'NTFS    '], [446 + 4, [0x41]]]],
  ['exFAT filesystem', [BOOT, [3, 'EXFAT   ']]],
  ['FAT filesystem', [BOOT, [54, 'FAT12   ']]],
  ['FAT filesystem', [BOOT, [54, 'FAT16   '], [446 + 4, [0x41]]]],
  ['FAT filesystem', [BOOT, [82, 'FAT32   ']]],
  ['ext2 filesystem', [[1080, [0x53, 0xef]]]],
  [
    'ext3 filesystem',
    [
      [1080, [0x53, 0xef]],
      [1024 + 92, [0x3c]],
    ],
  ],
  [
    'ext4 filesystem',
    [
      [1080, [0x53, 0xef]],
      [1024 + 92, [0x3c]],
      [1024 + 96, [0xc2, 0x02]],
    ],
  ],
  ['XFS filesystem', [[0, 'XFSB']]],
  ['Btrfs filesystem', [[65600, '_BHRfS_M']]],
  ['Btrfs filesystem', [[64 * MIB + 64, '_BHRfS_M']]],
  ['F2FS filesystem', [[1024, [0x10, 0x20, 0xf5, 0xf2]]]],
  ['F2FS filesystem', [[5120, [0x10, 0x20, 0xf5, 0xf2]]]],
  ['EROFS filesystem', [[1024, [0xe2, 0xe1, 0xf5, 0xe0]]]],
  ['squashfs filesystem', [[0, 'hsqs']]],
  ['squashfs filesystem', [[0, 'sqsh']]],
  ['ISO 9660 filesystem', [[32769, 'CD001']]],
  ['UDF filesystem', [[32769, 'BEA01']]],
  ['JFS filesystem', [[32768, 'JFS1']]],
  ['bcachefs filesystem', [[4096 + 24, hex(BCACHEFS)]]],
  ['ZFS member', [[128 * KIB, ZFS_LE]]],
  ['ZFS member', [[256 * KIB + 255 * KIB, [...ZFS_LE].reverse()]]],
  ['ZFS member', [[512 * MIB - 256 * KIB + 130 * KIB, ZFS_LE]]],
  ['swap area', [[4086, 'SWAPSPACE2']]],
  ['swap area', [[65526, 'SWAPSPACE2']]],
  ['swap area', [[4086, 'SWAP-SPACE']]],
  ['hibernation image', [[4086, 'S1SUSPEND']]],
  [
    'LVM2 physical volume',
    [
      [512, 'LABELONE'],
      [512 + 24, 'LVM2 001'],
    ],
  ],
  [
    'LVM2 physical volume',
    [
      [1536, 'LABELONE'],
      [1536 + 24, 'LVM2 001'],
    ],
  ],
  ['LUKS1 volume', [[0, [...Buffer.from('LUKS'), 0xba, 0xbe, 0, 1]]]],
  ['LUKS2 volume', [[0, [...Buffer.from('LUKS'), 0xba, 0xbe, 0, 2]]]],
  ['LUKS2 volume', [[0x4000, [...Buffer.from('SKUL'), 0xba, 0xbe, 0, 2]]]],
  ['bcache device', [[4096 + 24, hex(BCACHE)]]],
  ['MD RAID member (0.90)', [[512 * MIB - 64 * KIB, [...MD, 0, 0, 0, 0, 90]]]],
  ['MD RAID member (0.90)', [[512 * MIB - 64 * KIB, [...MD].reverse()]]],
  ['MD RAID member (1.0)', [[512 * MIB + 4 * KIB, [...MD, 1]]]],
  ['MD RAID member (1.1)', [[0, [...MD, 1]]]],
  ['MD RAID member (1.2)', [[4096, [...MD, 1]]]],
  ['dm-writecache cache', [[0, [0x21, 0x93, 0x48, 0x23, 1, 0, 0, 0]]]],
  ['dm-thin pool metadata', [[32, [0xba, 0x52, 0x9c, 0x01]]]],
  ['dm-cache metadata', [[32, [0x03, 0xc4, 0x18, 0x00]]]],
  ['dm-era metadata', [[32, [0x7b, 0x07, 0xc1, 0x7e]]]],
  ['dm-clone metadata', [[32, [0x64, 0x7f, 0xf2, 0x8a]]]],
  ['dm-snapshot store', [[0, 'SnAp']]],
  ['dm-integrity device', [[0, 'integrt\0']]],
  ['dm-verity hashes', [[0, 'verity\0\0']]],
  ['VDO volume', [[0, 'dmvdo001']]],
  ['Ceph BlueStore device', [[0, 'bluestore block device']]],
  ['NVDIMM namespace info block', [[4096, 'NVDIMM_PFN_INFO\0']]],
  ['NVDIMM namespace info block', [[4096, 'NVDIMM_DAX_INFO\0']]],
  ['NVDIMM BTT info block', [[4096, 'BTT_ARENA_INFO\0\0']]],
];

function deviceWith(pieces: readonly Piece[], sizeBytes = SIZE): MemoryPmem {
  const device = new MemoryPmem(sizeBytes);
  for (const [offset, piece] of pieces) {
    const bytes = typeof piece === 'string' ? Buffer.from(piece, 'latin1') : Uint8Array.from(piece);
    device.write(offset, bytes, 0, bytes.length);
  }
  return device;
}

const NAMED_CASES = CASES.map(([name, pieces, marks = 1]) => ({ name, pieces, marks, what: JSON.stringify(pieces) }));

describe('findSignatures', () => {
  it.each(NAMED_CASES)('finds $name ($what)', ({ name, pieces, marks }) => {
    const device = deviceWith(pieces);
    const found = findSignatures(device);
    expect(found.map((signature) => signature.name)).toEqual(Array<string>(marks).fill(name));
    // What a format erases: the marks, and the block before the superblock if any is in it.
    for (const signature of found) device.zero(signature.offsetBytes, signature.lengthBytes);
    if (found.some((signature) => signature.offsetBytes < 4096)) device.zero(0, 4096);
    expect(findSignatures(device)).toEqual([]);
  });

  it.each(NAMED_CASES)('does not find $name with the first byte of each piece changed ($what)', ({ pieces }) => {
    const device = deviceWith(pieces);
    for (const [offset] of pieces) {
      const byte = device.bytes(offset, 1);
      byte[0] ^= 0xff;
      device.write(offset, byte, 0, 1);
    }
    expect(findSignatures(device)).toEqual([]);
  });

  it('finds nothing on zeroes, on a pcache, and on a device of no size', () => {
    expect(findSignatures(deviceWith([]))).toEqual([]);
    const cache = new MemoryPmem(512 * MIB);
    formatDevice(cache, planFormat(cache.sizeBytes, { dataCrc: true, gcPercent: 70 }));
    expect(findSignatures(cache)).toEqual([]);
    expect(findSignatures(deviceWith([], 0))).toEqual([]);
    expect(findSignatures(deviceWith([], 512))).toEqual([]);
  });

  it('is not fooled by a boot mark without partitions, by a label of another volume manager, by MD versions', () => {
    expect(findSignatures(deviceWith([BOOT]))).toEqual([]);
    expect(findSignatures(deviceWith([BOOT, [446, [0x12, 0, 0, 0, 0x83]]]))).toEqual([]);
    expect(
      findSignatures(
        deviceWith([
          [512, 'LABELONE'],
          [536, 'POOL 001'],
        ]),
      ),
    ).toEqual([]);
    expect(findSignatures(deviceWith([[54, 'FAT16   ']]))).toEqual([]);
    expect(findSignatures(deviceWith([[4096, [...MD, 2]]]))).toEqual([]);
  });

  it('names several things at once', () => {
    const found = findSignatures(
      deviceWith([BOOT, [450, [0xee]], [512, 'EFI PART'], [SIZE - 512, 'EFI PART'], [1080, [0x53, 0xef]]]),
    );
    expect(signatureNames(found)).toBe('GPT partition table and MBR partition table and ext2 filesystem');
  });

  it('reads only a few pieces of the device', () => {
    const device = deviceWith([]);
    let readBytes = 0;
    const counting: ByteSource = {
      sizeBytes: device.sizeBytes,
      read: (offset, target, at, length) => {
        readBytes += length;
        device.read(offset, target, at, length);
      },
    };
    findSignatures(counting);
    expect(readBytes).toBeLessThan(8 * MIB);
  });
});

const folder = mkdtempSync(join(tmpdir(), 'pcache-signatures-'));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** A sparse file with `pieces` in it. */
function imageWith(name: string, pieces: readonly Piece[]): string {
  const path = join(folder, name);
  const fd = openSync(path, 'w+');
  ftruncateSync(fd, SIZE);
  for (const [offset, piece] of pieces) {
    const bytes = typeof piece === 'string' ? Buffer.from(piece, 'latin1') : Uint8Array.from(piece);
    writeSync(fd, bytes, 0, bytes.length, offset);
  }
  closeSync(fd);
  return path;
}

/** Reads a sparse image without loading it. */
function found(path: string): string {
  const fd = openSync(path, 'r');
  try {
    const sizeBytes = fstatSync(fd).size;
    return signatureNames(
      findSignatures({
        sizeBytes,
        read: (offset, target, at, length) => void readSync(fd, target, at, length, offset),
      }),
    );
  } finally {
    closeSync(fd);
  }
}

describeWithClient('what the real tools make is found', 'mkfs.ext4', (mkfs) => {
  it.each(['ext2', 'ext3', 'ext4'])('%s', (type) => {
    const path = imageWith(`${type}.img`, []);
    execFileSync(mkfs, ['-q', '-t', type, path, '20M'], { env: { ...process.env, MKE2FS_FIRST_META_BG: '' } });
    expect(found(path)).toBe(`${type} filesystem`);
  });
});

describeWithClient('what mkswap makes is found', 'mkswap', (mkswap) => {
  it('swap', () => {
    const path = imageWith('swap.img', []);
    execFileSync(mkswap, [path], { stdio: 'ignore' });
    expect(found(path)).toBe('swap area');
  });
});

/** Formats that wipefs recognises by magic alone, under its names. */
const WIPEFS_NAMES: readonly (readonly [string, string])[] = [
  ['MBR partition table', 'dos'],
  ['ext2 filesystem', 'ext2'],
  ['ext4 filesystem', 'ext4'],
  ['Btrfs filesystem', 'btrfs'],
  ['F2FS filesystem', 'f2fs'],
  ['EROFS filesystem', 'erofs'],
  ['squashfs filesystem', 'squashfs3'],
  ['hibernation image', 'swsuspend'],
  ['LUKS1 volume', 'crypto_LUKS'],
  ['LUKS2 volume', 'crypto_LUKS'],
  ['MD RAID member (0.90)', 'linux_raid_member'],
  ['MD RAID member (1.1)', 'linux_raid_member'],
  ['dm-snapshot store', 'DM_snapshot_cow'],
  ['VDO volume', 'vdo'],
  ['Ceph BlueStore device', 'ceph_bluestore'],
];

describeWithClient('wipefs agrees on places and names', 'wipefs', (wipefs) => {
  it.each(WIPEFS_NAMES)('%s is %s', (name, theirs) => {
    const pieces = CASES.find(([candidate]) => candidate === name)![1];
    const args = ['--noheadings', '--output', 'OFFSET,TYPE', imageWith('wipefs.img', pieces)];
    const [offset, type] = execFileSync(wipefs, args, { encoding: 'utf8' }).trim().split(/\s+/);
    const [ours] = findSignatures(deviceWith(pieces));
    expect({ type, offset: Number(offset) }).toEqual({ type: theirs, offset: ours.offsetBytes });
  });
});
