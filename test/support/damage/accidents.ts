/**
 * Damage as accidents make it, by chance: a beginning that `wipefs`, `dd` or a `mkfs` went over, an end that is gone, a
 * device that grew, a segment zeroed, words of an older state, blocks restored from an earlier copy of the device.
 */
import { segmentCountFor, segmentOffsetBytes, SEGMENTS_OFFSET_BYTES } from '../../../src/engine/media/geometry.js';
import type { Random } from '../../../src/engine/sim/random.js';
import type { Subject } from './oracle.js';
import type { Overlay } from './overlay.js';

export const ACCIDENT_KINDS = [
  'beginning',
  'mkfs',
  'end',
  'grown',
  'segment',
  'torn words',
  'snapshot',
  'other device',
] as const;
export type AccidentKind = (typeof ACCIDENT_KINDS)[number];

const KIB = 1024;
const MIB = 1024 * KIB;
const WORD_BYTES = 8;
/** How much of the beginning is written over; of a small device at most half of it. */
const BEGINNINGS = [4 * KIB, 8 * KIB, 20 * KIB, 64 * KIB, MIB, 16 * MIB];
const BLOCKS = [512, 4 * KIB, 16 * KIB, 64 * KIB];

/** Does one accident. @returns the device, which is another one where its size has changed */
export function haveAccident(subject: Subject, device: Overlay, kind: AccidentKind, random: Random): Overlay {
  switch (kind) {
    case 'beginning': {
      const length = Math.min(random.pick(BEGINNINGS), Math.floor(device.sizeBytes / 2));
      device.write(0, random.chance(0.7) ? new Uint8Array(length) : noise(length, random));
      return device;
    }
    case 'mkfs':
      makeFilesystem(device, random);
      return device;
    case 'end': {
      const length = Math.floor(device.sizeBytes / 10);
      device.write(device.sizeBytes - length, new Uint8Array(length));
      return device;
    }
    case 'grown':
      return device.clone(device.sizeBytes + random.between(1, 3) * subject.shape.geometry.segmentBytes);
    case 'segment':
      zeroSegment(subject, device, random);
      return device;
    case 'torn words':
      tearWords(subject, device, random);
      return device;
    case 'snapshot':
      restoreBlock(subject, device, random);
      return device;
    case 'other device': {
      const other = subject.makeOther?.();
      const bytes = new Uint8Array(other?.sizeBytes ?? MIB);
      other?.read(0, bytes, 0, bytes.length);
      device.write(0, bytes);
      return device;
    }
  }
}

function noise(length: number, random: Random): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at++) bytes[at] = random.below(256);
  return bytes;
}

/** What makers of filesystems and volumes write, by place and amount; zeroes where they wipe. */
function makeFilesystem(device: Overlay, random: Random): void {
  const put = (offsetBytes: number, lengthBytes: number, isWiped = false): void => {
    const length = Math.min(lengthBytes, device.sizeBytes - offsetBytes);
    if (length > 0) device.write(offsetBytes, isWiped ? new Uint8Array(length) : noise(length, random));
  };
  switch (random.below(5)) {
    case 0: // ext4: superblock, group descriptors, bitmaps and part of the inode table
      put(1024, 1024);
      put(4 * KIB, 4 * KIB);
      put(8 * KIB, 256 * KIB, true);
      break;
    case 1: // XFS: headers of the first allocation group, a root inode chunk
      put(0, 4 * KIB);
      put(4 * KIB, 28 * KIB);
      put(32 * KIB, 32 * KIB, true);
      break;
    case 2: // GPT: protective MBR, header, table; the same at the end
      put(446, 34 * 512 - 446);
      put(device.sizeBytes - 33 * 512, 33 * 512);
      break;
    case 3: // LVM: label in the second sector, text metadata from 4 KiB on
      put(512, 512);
      put(4 * KIB, 2 * KIB);
      break;
    default: // LUKS2: two headers of 16 KiB, key slots behind them
      put(0, 32 * KIB);
      put(32 * KIB, 252 * KIB);
  }
}

function zeroSegment({ shape }: Subject, device: Overlay, random: Random): void {
  const { segmentBytes } = shape.geometry;
  const id = random.below(segmentCountFor(shape.geometry, device.sizeBytes));
  device.write(segmentOffsetBytes(shape.geometry, id), new Uint8Array(segmentBytes));
}

function earlierBytes(subject: Subject, offsetBytes: number, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  const inside = Math.min(lengthBytes, (subject.earlier?.sizeBytes ?? 0) - offsetBytes);
  if (inside > 0) subject.earlier?.read(offsetBytes, bytes, 0, inside);
  return bytes;
}

/** Somewhere in the metadata, the log, or anywhere. */
function somewhere(subject: Subject, device: Overlay, random: Random): number {
  const choice = random.below(4);
  if (choice === 0) return random.below(SEGMENTS_OFFSET_BYTES);
  if (choice === 1 && subject.ksets.length > 0) return random.pick(subject.ksets).offsetBytes;
  if (choice === 2) {
    const { geometry } = subject.shape;
    return segmentOffsetBytes(geometry, random.below(segmentCountFor(geometry, device.sizeBytes)));
  }
  return random.below(device.sizeBytes);
}

/** A block of which only some words were written, as a power cut leaves what was not fenced. */
function tearWords(subject: Subject, device: Overlay, random: Random): void {
  const at = somewhere(subject, device, random);
  const from = at - (at % WORD_BYTES);
  const length = Math.min(random.pick([64, 512, 4 * KIB]), device.sizeBytes - from);
  const bytes = device.bytes(from, length);
  const old = earlierBytes(subject, from, length);
  for (let word = 0; word + WORD_BYTES <= length; word += WORD_BYTES) {
    if (random.chance(0.5)) bytes.set(old.subarray(word, word + WORD_BYTES), word);
  }
  device.write(from, bytes);
}

function restoreBlock(subject: Subject, device: Overlay, random: Random): void {
  const length = random.pick(BLOCKS);
  const at = somewhere(subject, device, random);
  const from = at - (at % length);
  device.write(from, earlierBytes(subject, from, Math.min(length, device.sizeBytes - from)));
}
