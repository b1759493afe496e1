/**
 * Recognises other formats on a device by the magic bytes that each puts at fixed offsets, so that formatting
 * does not destroy them unasked. It checks the magic and, where that is weak, one more field, and no checksums:
 * a false positive only costs a `--force`.
 */
import type { ByteSource } from '../media/dual.js';

/** The magic of a known format, found on a device. */
export interface Signature {
  /** Name of the format in messages: `ext4 filesystem`. */
  readonly name: string;
  /** Range of its magic on the device; zeroing this range makes the format unrecognisable. */
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

type Bytes = readonly number[] | string;

interface Rule {
  readonly name: string;
  /** Possible offsets of the magic; offsets that are negative or beyond the device are skipped. */
  readonly at: readonly number[] | ((deviceBytes: number) => readonly number[]);
  readonly magic: Bytes;
  /** A second condition. `probe` reads from the device at an offset relative to the magic. */
  readonly also?: (probe: Probe) => boolean;
  /** A name that depends on other fields. */
  readonly rename?: (probe: Probe) => string;
}

/** Bytes around a magic; bytes beyond the device read as zero. */
interface Probe {
  bytes(offsetFromMagic: number, lengthBytes: number): Uint8Array;
  u32(offsetFromMagic: number): number;
}

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

const isText = (bytes: Uint8Array, text: string): boolean =>
  [...text].every((char, i) => bytes[i] === char.charCodeAt(0));

const le32 = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
const be32 = (value: number): number[] => le32(value).reverse();
const le64 = (value: number): number[] => [...le32(value), 0, 0, 0, 0];

const MD_MAGIC = 0xa92b4efc;
const ZFS_UBERBLOCK_MAGIC = 0x00bab10c;
const ZFS_LABEL_BYTES = 256 * KIB;
const SWAP_PAGE_BYTES = [4 * KIB, 8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB];
const SWAP_MAGIC_OFFSETS = SWAP_PAGE_BYTES.map((page) => page - 10);
/** Features that make an ext filesystem an ext4 one: extents, 64-bit, MMP, flexible groups. */
const EXT4_INCOMPATIBLE = 0x3c0;
const EXT_HAS_JOURNAL = 4;

/** Uberblocks of the four labels, two at each end: an array of 128 uberblocks from 128 KiB into the label. */
function zfsMagicOffsets(deviceBytes: number): number[] {
  const end = Math.floor(deviceBytes / ZFS_LABEL_BYTES) * ZFS_LABEL_BYTES;
  const labels = [0, ZFS_LABEL_BYTES, end - 2 * ZFS_LABEL_BYTES, end - ZFS_LABEL_BYTES];
  return labels.flatMap((label) => Array.from({ length: 128 }, (_, index) => label + 128 * KIB + index * KIB));
}

/** The sector before the last 8 KiB, rounded down to 4 KiB. */
function md10MagicOffset(deviceBytes: number): number {
  return Math.floor((Math.floor(deviceBytes / 512) - 16) / 8) * 8 * 512;
}

const isBootSector = (probe: Probe): boolean => isText(probe.bytes(0, 2), '\x55\xaa');

/** A boot sector that is not a FAT's or NTFS's own: does its partition table name a partition? */
function hasPartitions(probe: Probe): boolean {
  const types = [0, 1, 2, 3].map((entry) => probe.bytes(-64 + entry * 16 + 4, 1)[0]);
  const active = [0, 1, 2, 3].map((entry) => probe.bytes(-64 + entry * 16, 1)[0]);
  return types.some((type) => type !== 0) && active.every((flag) => flag === 0 || flag === 0x80);
}

function isFatOrNtfs(probe: Probe): boolean {
  const oem = probe.bytes(3 - 510, 8);
  return (
    isText(oem, 'NTFS    ') ||
    isText(oem, 'EXFAT   ') ||
    isText(probe.bytes(54 - 510, 3), 'FAT') ||
    isText(probe.bytes(82 - 510, 5), 'FAT32')
  );
}

function extName(probe: Probe): string {
  const compatible = probe.u32(92 - 56);
  const incompatible = probe.u32(96 - 56);
  if ((incompatible & EXT4_INCOMPATIBLE) !== 0) return 'ext4 filesystem';
  return (compatible & EXT_HAS_JOURNAL) !== 0 ? 'ext3 filesystem' : 'ext2 filesystem';
}

const persistentData = (name: string, magic: number): Rule => ({ name, at: [32], magic: le64(magic) });

const RULES: readonly Rule[] = [
  { name: 'GPT partition table', at: (size) => [512, 4 * KIB, size - 512, size - 4 * KIB], magic: 'EFI PART' },
  {
    name: 'MBR partition table',
    at: [510],
    magic: [0x55, 0xaa],
    also: (probe) => hasPartitions(probe) && !isFatOrNtfs(probe),
  },
  { name: 'NTFS filesystem', at: [3], magic: 'NTFS    ' },
  { name: 'exFAT filesystem', at: [3], magic: 'EXFAT   ' },
  { name: 'FAT filesystem', at: [82], magic: 'FAT32   ', also: (probe) => isBootSector(shifted(probe, 510 - 82)) },
  { name: 'FAT filesystem', at: [54], magic: 'FAT', also: (probe) => isBootSector(shifted(probe, 510 - 54)) },
  { name: 'ext2 filesystem', at: [KIB + 56], magic: [0x53, 0xef], rename: extName },
  { name: 'XFS filesystem', at: [0], magic: 'XFSB' },
  { name: 'Btrfs filesystem', at: [64 * KIB + 64, 64 * MIB + 64, 256 * GIB + 64], magic: '_BHRfS_M' },
  { name: 'F2FS filesystem', at: [KIB, 5 * KIB], magic: le32(0xf2f52010) },
  { name: 'EROFS filesystem', at: [KIB], magic: le32(0xe0f5e1e2) },
  { name: 'squashfs filesystem', at: [0], magic: 'hsqs' },
  { name: 'squashfs filesystem', at: [0], magic: 'sqsh' },
  { name: 'ISO 9660 filesystem', at: [32 * KIB + 1], magic: 'CD001' },
  { name: 'UDF filesystem', at: [32 * KIB + 1], magic: 'BEA01' },
  { name: 'JFS filesystem', at: [32 * KIB], magic: 'JFS1' },
  {
    name: 'bcachefs filesystem',
    at: [4 * KIB + 24],
    magic: [0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef],
  },
  { name: 'ZFS member', at: zfsMagicOffsets, magic: le64(ZFS_UBERBLOCK_MAGIC) },
  { name: 'ZFS member', at: zfsMagicOffsets, magic: [0, 0, 0, 0, ...be32(ZFS_UBERBLOCK_MAGIC)] },
  { name: 'swap area', at: SWAP_MAGIC_OFFSETS, magic: 'SWAPSPACE2' },
  { name: 'swap area', at: SWAP_MAGIC_OFFSETS, magic: 'SWAP-SPACE' },
  { name: 'hibernation image', at: SWAP_MAGIC_OFFSETS, magic: 'S1SUSPEND' },
  {
    name: 'LVM2 physical volume',
    at: [0, 512, 1024, 1536],
    magic: 'LABELONE',
    also: (probe) => isText(probe.bytes(24, 8), 'LVM2 001'),
  },
  {
    name: 'LUKS volume',
    at: [0],
    magic: [...codes('LUKS'), 0xba, 0xbe],
    rename: (probe) => `LUKS${probe.bytes(7, 1)[0]} volume`,
  },
  {
    name: 'LUKS2 volume',
    at: [14, 15, 16, 17, 18, 19, 20, 21, 22].map((power) => 2 ** power),
    magic: [...codes('SKUL'), 0xba, 0xbe],
  },
  {
    name: 'bcache device',
    at: [4 * KIB + 24],
    magic: [0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81],
  },
  {
    name: 'MD RAID member (0.90)',
    at: (size) => [Math.floor(size / (64 * KIB)) * 64 * KIB - 64 * KIB],
    magic: le32(MD_MAGIC),
    also: (probe) => probe.u32(4) === 0,
  },
  {
    name: 'MD RAID member (0.90)',
    at: (size) => [Math.floor(size / (64 * KIB)) * 64 * KIB - 64 * KIB],
    magic: be32(MD_MAGIC),
    also: (probe) => probe.u32(4) === 0,
  },
  {
    name: 'MD RAID member (1.0)',
    at: (size) => [md10MagicOffset(size)],
    magic: le32(MD_MAGIC),
    also: (probe) => probe.u32(4) === 1,
  },
  { name: 'MD RAID member (1.1)', at: [0], magic: le32(MD_MAGIC), also: (probe) => probe.u32(4) === 1 },
  { name: 'MD RAID member (1.2)', at: [4 * KIB], magic: le32(MD_MAGIC), also: (probe) => probe.u32(4) === 1 },
  { name: 'dm-writecache cache', at: [0], magic: [...le32(0x23489321), ...le32(1)] },
  persistentData('dm-thin pool metadata', 27022010),
  persistentData('dm-cache metadata', 0o6142003),
  persistentData('dm-era metadata', 2126579579),
  persistentData('dm-clone metadata', 0x8af27f64),
  { name: 'dm-snapshot store', at: [0], magic: 'SnAp' },
  { name: 'dm-integrity device', at: [0], magic: 'integrt\0' },
  { name: 'dm-verity hashes', at: [0], magic: 'verity\0\0' },
  { name: 'VDO volume', at: [0], magic: 'dmvdo001' },
  { name: 'Ceph BlueStore device', at: [0], magic: 'bluestore block device' },
  { name: 'NVDIMM namespace info block', at: [4 * KIB], magic: 'NVDIMM_PFN_INFO\0' },
  { name: 'NVDIMM namespace info block', at: [4 * KIB], magic: 'NVDIMM_DAX_INFO\0' },
  { name: 'NVDIMM BTT info block', at: [4 * KIB], magic: 'BTT_ARENA_INFO\0\0' },
];

function codes(text: string): number[] {
  return [...text].map((char) => char.charCodeAt(0));
}

function shifted(probe: Probe, byBytes: number): Probe {
  return {
    bytes: (offset, length) => probe.bytes(offset + byBytes, length),
    u32: (offset) => probe.u32(offset + byBytes),
  };
}

/** Reads a device through one cached window, since most magics lie close together. */
class Window {
  private readonly buffer = new Uint8Array(256 * KIB);
  private start = -1;
  private end = -1;

  constructor(private readonly source: ByteSource) {}

  read(offsetBytes: number, lengthBytes: number): Uint8Array {
    const bytes = new Uint8Array(lengthBytes);
    const from = Math.max(0, offsetBytes);
    const to = Math.min(offsetBytes + lengthBytes, this.source.sizeBytes);
    if (from >= to) return bytes;
    if (from < this.start || to > this.end) this.load(from);
    const copyEnd = Math.min(to, this.end);
    bytes.set(this.buffer.subarray(from - this.start, copyEnd - this.start), from - offsetBytes);
    return bytes;
  }

  private load(offsetBytes: number): void {
    this.start = Math.floor(offsetBytes / (64 * KIB)) * 64 * KIB;
    this.end = Math.min(this.start + this.buffer.length, this.source.sizeBytes);
    this.source.read(this.start, this.buffer, 0, this.end - this.start);
  }
}

function probeAt(window: Window, magicOffset: number): Probe {
  const bytes = (offset: number, length: number): Uint8Array => window.read(magicOffset + offset, length);
  return {
    bytes,
    u32: (offset) => {
      const four = bytes(offset, 4);
      return (four[0] | (four[1] << 8) | (four[2] << 16) | (four[3] << 24)) >>> 0;
    },
  };
}

/**
 * Everything recognised on the device, in the order of the rules; several entries when a format keeps copies.
 * Does not look for pcache itself. @throws what `source.read` throws
 */
export function findSignatures(source: ByteSource): Signature[] {
  const window = new Window(source);
  const found: Signature[] = [];
  for (const rule of RULES) {
    const magic = typeof rule.magic === 'string' ? codes(rule.magic) : rule.magic;
    const offsets = typeof rule.at === 'function' ? rule.at(source.sizeBytes) : rule.at;
    for (const offset of new Set(offsets)) {
      if (offset < 0 || offset + magic.length > source.sizeBytes) continue;
      const seen = window.read(offset, magic.length);
      if (!magic.every((byte, index) => seen[index] === byte)) continue;
      const probe = probeAt(window, offset);
      if (rule.also !== undefined && !rule.also(probe)) continue;
      found.push({ name: rule.rename?.(probe) ?? rule.name, offsetBytes: offset, lengthBytes: magic.length });
    }
  }
  return found;
}

/** The names in `signatures`, each once: `GPT partition table and ext4 filesystem`. */
export function signatureNames(signatures: readonly Signature[]): string {
  return [...new Set(signatures.map((signature) => signature.name))].join(' and ');
}
