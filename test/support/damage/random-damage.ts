/** Damage by chance, weighted to metadata and the log: the same for the same seed. */
import {
  CACHE_INFO_COPIES,
  DIRTY_TAIL_COPIES,
  generationCopies,
  KEY_TAIL_COPIES,
  segmentCountFor,
  segmentInfoCopies,
  segmentOffsetBytes,
  SEGMENTS_OFFSET_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
} from '../../../src/engine/media/geometry.js';
import type { Random } from '../../../src/engine/sim/random.js';
import { ACCIDENT_KINDS, haveAccident } from './accidents.js';
import type { Subject } from './oracle.js';
import type { Overlay } from './overlay.js';

/** A part of the device to damage. */
interface Area {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

const BLOCKS = [8, 24, 64, 512, 4096];

const SMALL_KINDS = ['flip', 'byte', 'garble', 'zero', 'ones', 'swap', 'stale copy', 'torn kset'] as const;
export const DAMAGE_KINDS = [...SMALL_KINDS, ...ACCIDENT_KINDS] as const;
export type DamageKind = (typeof DAMAGE_KINDS)[number];

/** How often damage is an accident, and not a small one. */
const ACCIDENTS = 0.4;

/** Does one piece of damage, small or an accident. @returns what it was, and the device */
export function damageAtAll(subject: Subject, device: Overlay, random: Random): { kind: DamageKind; device: Overlay } {
  if (!random.chance(ACCIDENTS)) return { kind: damageByChance(subject, device, random), device };
  const kind = random.pick(ACCIDENT_KINDS);
  return { kind, device: haveAccident(subject, device, kind, random) };
}

/** Does one piece of damage. @returns what it was */
export function damageByChance(subject: Subject, device: Overlay, random: Random): DamageKind {
  const kind = random.pick(SMALL_KINDS);
  switch (kind) {
    case 'flip': {
      const at = placeIn(pickArea(subject, random), random);
      change(device, at, 1, (bytes) => (bytes[0] ^= 1 << random.below(8)));
      break;
    }
    case 'byte': {
      const at = placeIn(pickArea(subject, random), random);
      change(device, at, 1, (bytes) => (bytes[0] = random.below(256)));
      break;
    }
    case 'garble': {
      const { offsetBytes, lengthBytes } = pieceOf(pickArea(subject, random), random.between(2, 64), random);
      change(device, offsetBytes, lengthBytes, (bytes) => {
        for (let i = 0; i < bytes.length; i++) bytes[i] = random.below(256);
      });
      break;
    }
    case 'zero':
    case 'ones': {
      const { offsetBytes, lengthBytes } = blockOf(pickArea(subject, random), random);
      change(device, offsetBytes, lengthBytes, (bytes) => bytes.fill(kind === 'zero' ? 0 : 0xff));
      break;
    }
    case 'swap':
      swap(subject, device, random);
      break;
    case 'stale copy':
      staleCopy(subject, device, random);
      break;
    case 'torn kset':
      tearKset(subject, device, random);
      break;
  }
  return kind;
}

function change(device: Overlay, offsetBytes: number, lengthBytes: number, edit: (bytes: Uint8Array) => void): void {
  const bytes = device.bytes(offsetBytes, lengthBytes);
  edit(bytes);
  device.write(offsetBytes, bytes);
}

function metadataAreas(subject: Subject, random: Random): Area {
  const { geometry } = subject.shape;
  const id = random.below(segmentCountFor(geometry, subject.device.sizeBytes));
  const copy = random.below(2);
  return random.pick<Area>([
    { offsetBytes: SUPERBLOCK_OFFSET_BYTES, lengthBytes: 24 },
    { offsetBytes: CACHE_INFO_COPIES[copy], lengthBytes: 24 },
    { offsetBytes: KEY_TAIL_COPIES[0], lengthBytes: 64 },
    { offsetBytes: segmentInfoCopies(geometry, id)[copy], lengthBytes: 16 },
    { offsetBytes: generationCopies(geometry, id)[0], lengthBytes: 32 },
    { offsetBytes: SUPERBLOCK_OFFSET_BYTES, lengthBytes: SEGMENTS_OFFSET_BYTES - SUPERBLOCK_OFFSET_BYTES },
    { offsetBytes: segmentOffsetBytes(geometry, id), lengthBytes: 12288 },
  ]);
}

function logArea(subject: Subject, random: Random): Area {
  const { ksets, end } = subject;
  if (ksets.length === 0 || random.chance(0.1)) return { offsetBytes: end, lengthBytes: 64 };
  return random.pick(ksets);
}

function pickArea(subject: Subject, random: Random): Area {
  const choice = random.below(10);
  if (choice < 5) return metadataAreas(subject, random);
  if (choice < 9 || !subject.dataCrc || subject.keys.length === 0) return logArea(subject, random);
  const { payloadAt, lengthBytes } = random.pick(subject.keys);
  return { offsetBytes: payloadAt, lengthBytes };
}

function placeIn(area: Area, random: Random): number {
  return area.offsetBytes + random.below(area.lengthBytes);
}

function pieceOf(area: Area, lengthBytes: number, random: Random): Area {
  const length = Math.min(lengthBytes, area.lengthBytes);
  return { offsetBytes: area.offsetBytes + random.below(area.lengthBytes - length + 1), lengthBytes: length };
}

/** Mostly aligned, as devices lose blocks; it may reach beyond the area, but not where no CRC tells. */
function blockOf(area: Area, random: Random): Area {
  const lengthBytes = random.pick(BLOCKS);
  const at = placeIn(area, random);
  if (random.chance(0.3) || lengthBytes > area.lengthBytes) {
    return pieceOf(area, lengthBytes, random);
  }
  const from = Math.max(area.offsetBytes, at - (at % lengthBytes));
  return { offsetBytes: from, lengthBytes: Math.min(lengthBytes, area.offsetBytes + area.lengthBytes - from) };
}

/** Two places of one kind change their contents. */
function swap(subject: Subject, device: Overlay, random: Random): void {
  const { geometry } = subject.shape;
  const segments = segmentCountFor(geometry, subject.device.sizeBytes);
  let places: [number, number];
  let length: number;
  if (random.chance(0.5) || subject.ksets.length < 2) {
    const [a, b] = [random.below(segments), random.below(segments)];
    const block = 4096 * random.below(3);
    places = [segmentOffsetBytes(geometry, a) + block, segmentOffsetBytes(geometry, b) + block];
    length = 4096;
  } else {
    // Whole ksets that change places would be a log like any other: blocks as devices have them.
    length = random.pick([512, 4096]);
    const block = ({ offsetBytes }: Area): number => offsetBytes - (offsetBytes % length);
    places = [block(random.pick(subject.ksets)), block(random.pick(subject.ksets))];
  }
  const [first, second] = places.map((at) => device.bytes(at, length));
  device.write(places[0], second);
  device.write(places[1], first);
}

/** A copy of a dual structure becomes what the other one is, or both become the older one. */
function staleCopy(subject: Subject, device: Overlay, random: Random): void {
  const { geometry } = subject.shape;
  const id = random.below(segmentCountFor(geometry, subject.device.sizeBytes));
  const [copies, length] = random.pick<readonly [readonly [number, number], number]>([
    [CACHE_INFO_COPIES, 24],
    [KEY_TAIL_COPIES, 16],
    [DIRTY_TAIL_COPIES, 16],
    [segmentInfoCopies(geometry, id), 16],
    [generationCopies(geometry, id), 16],
  ]);
  const from = random.below(2);
  device.write(copies[1 - from], device.bytes(copies[from], length));
}

/** A kset is there up to some word, and behind that zeroes, or what was there before. */
function tearKset(subject: Subject, device: Overlay, random: Random): void {
  if (subject.ksets.length === 0) return;
  const { offsetBytes, lengthBytes } = random.chance(0.3) ? subject.ksets.at(-1)! : random.pick(subject.ksets);
  const cut = 8 * random.below(lengthBytes / 8);
  const old = random.chance(0.5)
    ? new Uint8Array(lengthBytes)
    : device.bytes(random.pick(subject.ksets).offsetBytes, 24);
  const behind = new Uint8Array(lengthBytes - cut);
  for (let at = 0; at < behind.length; at++) behind[at] = old[(cut + at) % old.length];
  device.write(offsetBytes + cut, behind);
}
