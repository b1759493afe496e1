/**
 * One damager for every finding code: it makes exactly the damage that the code is about, on a copy of an image
 * that the kernel made. `also` names the findings that cannot but come with it.
 */
import { UNREADABLE_BYTE } from '../../../src/engine/device/tolerant-reader.js';
import { PcacheError } from '../../../src/engine/errors.js';
import { decodeCacheFlags, encodeCacheFlags } from '../../../src/engine/media/codecs.js';
import {
  CACHE_CTRL_OFFSET_BYTES,
  CACHE_INFO_COPIES,
  MIB,
  SECTOR_BYTES,
  segmentInfoCopies,
  segmentOffsetBytes,
  SUPERBLOCK_OFFSET_BYTES,
} from '../../../src/engine/media/geometry.js';
import { KeyField, KSET_HEADER_BYTES, KSET_KEYS_MAX, KsetField } from '../../../src/engine/media/kset.js';
import { readMetadata } from '../../../src/engine/media/metadata.js';
import type { FindingCode } from '../../../src/fsck/catalogue.js';
import {
  changeCacheInfo,
  changeKey,
  changeKset,
  changeSeq,
  deviceOffset,
  dualPlace,
  flip,
  GEOMETRY,
  ksetAt,
  ksetImage,
  ksetsOf,
  patchSealed,
  writeGeneration,
  writeKset,
  writeLast,
  writeSegmentInfo,
  writeSuperblock,
  writeTail,
  type DamageImage,
  type DualName,
} from './edit.js';
import { as618 } from './linux-618.js';

/** `hopping` is `dirty-crc` with the second half of its log moved to another segment, behind a LAST kset. */
export type BaseName = 'fresh' | 'dirty-crc' | 'gc-wrap' | 'hopping';

export interface Damager {
  readonly code: FindingCode;
  /** Distinguishes several damagers of one code. */
  readonly variant?: string;
  readonly base: BaseName;
  readonly also?: readonly FindingCode[];
  /** Size of the backing device to check against, where the damage is that it is too small. */
  readonly backingBytes?: number;
  /**
   * What a repair comes to: no finding but notes, if it is not said otherwise; `drop-corrupt`: that only when data
   * may be given up; `left`: the damage stays.
   */
  readonly repair?: 'drop-corrupt' | 'left';
  /** The damaged image says that data is on the backing device which is not there, and nothing can tell. */
  readonly misstates?: boolean;
  /** Damages the image in place, or returns another one. */
  readonly damage: (image: DamageImage) => DamageImage | void;
}

const SEGMENT_LAST = 30;
const HOP_SEGMENT = 10;
const FREE_SEGMENT = 20;
/** A kset in the middle of the log of `dirty-crc`, and a key in the middle of it. */
const MIDDLE = 4;
const KEY = 3;

function middle(image: DamageImage): { segment: number; offsetBytes: number } {
  return ksetsOf(image).places[MIDDLE];
}

/** A kset of `gc-wrap` that has all the keys it can. */
function fullKset(image: DamageImage): { segment: number; offsetBytes: number } {
  return ksetsOf(image).places.find((place) => ksetAt(image, place).keyCount === KSET_KEYS_MAX)!;
}

/** What creating a cache over this one leaves: a log that is empty, before ksets of the earlier cache. */
export function makeOver(image: DamageImage): void {
  for (let id = 0; id <= SEGMENT_LAST; id++)
    image.zero(deviceOffset({ segment: id, offsetBytes: 0 }), KSET_HEADER_BYTES);
  for (const name of ['KEY_TAIL', 'DIRTY_TAIL'] as const) writeTail(image, name, { segment: 0, offsetBytes: 0 });
}

/** Makes `hopping` of `dirty-crc`, in place. */
export function makeHopping(image: DamageImage): void {
  const { places } = ksetsOf(image);
  const moved = places.slice(MIDDLE).map((place) => ksetImage(image, place));
  let next = { segment: HOP_SEGMENT, offsetBytes: 0 };
  for (const bytes of moved) next = writeKset(image, next, bytes);
  const end = places[MIDDLE].offsetBytes;
  image.zero(deviceOffset(places[MIDDLE]), 64 * 1024);
  writeLast(image, { segment: 0, offsetBytes: end }, HOP_SEGMENT);
}

function wipeCopies(name: DualName): (image: DamageImage) => void {
  return (image) => {
    const { copies, lengthBytes } = dualPlace(name);
    for (const offset of copies) image.zero(offset, lengthBytes);
  };
}

/** For each dual structure: a base where both copies were written, with the older one wiped or garbled. */
function copyDamagers(name: DualName): Damager[] {
  // Segment 2 of gc-wrap has generations 1 and 2; its tails carry numbers above 100.
  const base = 'gc-wrap';
  const older = (image: DamageImage): number => {
    const { copies } = dualPlace(name);
    const seq = copies.map((offset) => image.bytes(offset + 4, 1)[0]);
    return seq[0] < seq[1] ? 0 : 1;
  };
  const { copies, lengthBytes } = dualPlace(name);
  return [
    {
      code: `${name}_COPY_LOST`,
      variant: 'older one wiped',
      base,
      damage: (image) => {
        image.zero(copies[older(image)], lengthBytes);
        // A copy that carries the first number may be the only one ever written.
        if (name !== 'KEY_TAIL' && name !== 'DIRTY_TAIL') changeSeq(image, copies[1 - older(image)], lengthBytes, 7);
      },
    },
    {
      code: `${name}_COPY_LOST`,
      variant: 'older one garbled',
      base,
      damage: (image) => flip(image, copies[older(image)] + lengthBytes - 1),
    },
    {
      code: `${name}_SEQ_SUSPECT`,
      variant: 'far apart',
      base,
      damage: (image) => {
        const at = older(image);
        changeSeq(image, copies[at], lengthBytes, image.bytes(copies[1 - at] + 4, 1)[0] - 60);
      },
    },
    {
      code: `${name}_SEQ_SUSPECT`,
      variant: 'equal',
      base,
      damage: (image) => {
        const at = older(image);
        // The first copy counts then: it must be the one that counted before.
        image.write(copies[at], image.bytes(copies[1 - at], lengthBytes));
      },
    },
  ];
}

function setCacheFlags(image: DamageImage, change: Partial<ReturnType<typeof decodeCacheFlags>>): void {
  changeCacheInfo(image, (info) => ({
    ...info,
    flags: encodeCacheFlags({ ...decodeCacheFlags(info.flags), ...change }),
  }));
}

const superblock: Damager[] = [
  {
    code: 'DEVICE_TOO_SMALL',
    repair: 'left',
    base: 'fresh',
    damage: (image) => image.clone(500 * MIB),
  },
  {
    code: 'SUPERBLOCK_SEGMENTS_BEYOND_DEVICE',
    variant: 'cut device',
    repair: 'left',
    base: 'dirty-crc',
    also: ['DEVICE_TOO_SMALL', 'CHAIN_LEAVES_DEVICE'],
    damage: (image) => image.clone(400 * MIB),
  },
  {
    code: 'SUPERBLOCK_ZERO_MAGIC',
    variant: 'whole superblock',
    base: 'dirty-crc',
    damage: (image) => image.zero(SUPERBLOCK_OFFSET_BYTES, 4096),
  },
  {
    code: 'SUPERBLOCK_ZERO_MAGIC',
    variant: 'everything before the segments',
    base: 'dirty-crc',
    also: ['CACHE_INFO_LOST', 'KEY_TAIL_LOST', 'DIRTY_TAIL_LOST'],
    damage: (image) => image.zero(0, 20480),
  },
  { code: 'SUPERBLOCK_BAD_MAGIC', base: 'dirty-crc', damage: (image) => flip(image, SUPERBLOCK_OFFSET_BYTES + 9) },
  { code: 'SUPERBLOCK_BAD_CRC', base: 'dirty-crc', damage: (image) => flip(image, SUPERBLOCK_OFFSET_BYTES + 22) },
  {
    code: 'SUPERBLOCK_BIG_ENDIAN',
    base: 'dirty-crc',
    damage: (image) => patchSealed(image, SUPERBLOCK_OFFSET_BYTES, 24, 4, 1),
  },
  {
    code: 'SUPERBLOCK_UNKNOWN_FLAGS',
    base: 'dirty-crc',
    damage: (image) => patchSealed(image, SUPERBLOCK_OFFSET_BYTES, 24, 4, 0x80000000),
  },
  { code: 'SUPERBLOCK_SEGMENTS_ZERO', base: 'dirty-crc', damage: (image) => writeSuperblock(image, 0) },
  {
    code: 'SUPERBLOCK_SEGMENTS_BEYOND_DEVICE',
    base: 'dirty-crc',
    also: ['CACHE_INFO_SEGMENTS_FEWER'],
    damage: (image) => writeSuperblock(image, 32),
  },
  {
    code: 'SUPERBLOCK_SEGMENTS_FEWER',
    base: 'fresh',
    damage: (image) => image.clone(image.sizeBytes + 16 * MIB),
  },
];

const cacheInfo: Damager[] = [
  { code: 'CACHE_INFO_LOST', base: 'dirty-crc', damage: wipeCopies('CACHE_INFO') },
  ...(['dirty-crc', 'gc-wrap'] as const).map((base): Damager => ({
    code: 'CACHE_INFO_LAYOUT_OLD',
    base,
    damage: (image) => as618(image, { attaches: 5 }),
  })),
  {
    code: 'CACHE_INFO_NOT_INITIALISED',
    base: 'dirty-crc',
    damage: (image) => setCacheFlags(image, { initDone: false }),
  },
  {
    code: 'CACHE_INFO_SEGMENTS_ZERO',
    base: 'dirty-crc',
    damage: (image) => changeCacheInfo(image, (info) => ({ ...info, segmentCount: 0 })),
  },
  {
    code: 'CACHE_INFO_SEGMENTS_EXCEED_SUPERBLOCK',
    base: 'dirty-crc',
    also: ['SUPERBLOCK_SEGMENTS_FEWER'],
    damage: (image) => writeSuperblock(image, 30),
  },
  {
    code: 'CACHE_INFO_SEGMENTS_FEWER',
    base: 'dirty-crc',
    damage: (image) => {
      changeCacheInfo(image, (info) => ({ ...info, segmentCount: 30 }));
      writeSegmentInfo(image, 29, undefined);
    },
  },
  {
    code: 'CACHE_INFO_UNKNOWN_FLAGS',
    base: 'dirty-crc',
    damage: (image) => changeCacheInfo(image, (info) => ({ ...info, flags: info.flags | 0x40000000 })),
  },
  { code: 'CACHE_MODE_UNKNOWN', base: 'dirty-crc', damage: (image) => setCacheFlags(image, { modeNumber: 9 }) },
  { code: 'CACHE_MODE_NOT_WRITEBACK', base: 'dirty-crc', damage: (image) => setCacheFlags(image, { modeNumber: 1 }) },
  {
    code: 'GC_PERCENT_OUT_OF_RANGE',
    base: 'dirty-crc',
    damage: (image) => changeCacheInfo(image, (info) => ({ ...info, flags: (info.flags & 0x3f) | (100 << 6) })),
  },
];

/** Infos of four segments change places, by two and two: the chain that comes of it is whole. */
function changePlaces(image: DamageImage): void {
  writeSegmentInfo(image, 8, 29);
  writeSegmentInfo(image, 28, 9);
  writeSegmentInfo(image, 17, 30);
  writeSegmentInfo(image, 29, 18);
}

const segments: Damager[] = [
  { code: 'SEGMENT_INFO_LOST', base: 'dirty-crc', damage: wipeCopies('SEGMENT_INFO') },
  {
    code: 'SEGMENT_UNKNOWN_FLAGS',
    base: 'dirty-crc',
    damage: (image) => patchSealed(image, segmentInfoCopies(GEOMETRY, 3)[0], 16, 8, 0x103),
  },
  {
    code: 'SEGMENT_TYPE_WRONG',
    base: 'dirty-crc',
    damage: (image) => patchSealed(image, segmentInfoCopies(GEOMETRY, 3)[0], 16, 8, 1 | (2 << 1)),
  },
  { code: 'CHAIN_ENDS_EARLY', base: 'dirty-crc', damage: (image) => writeSegmentInfo(image, 7, undefined) },
  { code: 'CHAIN_LEAVES_DEVICE', base: 'dirty-crc', damage: (image) => writeSegmentInfo(image, 7, 1000) },
  {
    code: 'CHAIN_LEAVES_DEVICE',
    variant: 'from the start',
    base: 'dirty-crc',
    damage: (image) => changeCacheInfo(image, (info) => ({ ...info, firstSegmentId: 31 })),
  },
  { code: 'CHAIN_CYCLE', base: 'dirty-crc', damage: (image) => writeSegmentInfo(image, 7, 5) },
  { code: 'CHAIN_LAST_HAS_NEXT', base: 'dirty-crc', damage: (image) => writeSegmentInfo(image, SEGMENT_LAST, 0) },
  { code: 'CHAIN_OUT_OF_ORDER', base: 'fresh', damage: changePlaces },
  {
    code: 'CHAIN_OUT_OF_ORDER',
    variant: 'under data without CRCs',
    base: 'gc-wrap',
    also: ['KEY_STALE_UNCOUNTED'],
    damage: changePlaces,
  },
  {
    code: 'CHAIN_OUT_OF_ORDER',
    variant: 'under data with CRCs',
    base: 'dirty-crc',
    also: ['PAYLOAD_CRC_CURRENT'],
    damage: (image) => {
      for (const [segment, next] of [
        [0, 3],
        [3, 2],
        [2, 1],
        [1, 4],
      ])
        writeSegmentInfo(image, segment, next);
    },
  },
  { code: 'GENERATION_LOST', base: 'dirty-crc', damage: wipeCopies('GENERATION') },
];

const tails: Damager[] = [
  { code: 'KEY_TAIL_LOST', base: 'gc-wrap', damage: wipeCopies('KEY_TAIL') },
  { code: 'DIRTY_TAIL_LOST', base: 'gc-wrap', damage: wipeCopies('DIRTY_TAIL') },
  {
    code: 'KEY_TAIL_LOST',
    variant: 'and dirty_tail with it',
    base: 'dirty-crc',
    also: ['DIRTY_TAIL_LOST'],
    damage: (image) => image.zero(CACHE_CTRL_OFFSET_BYTES, 64),
  },
  {
    code: 'KEY_TAIL_OUT_OF_RANGE',
    base: 'dirty-crc',
    damage: (image) => writeTail(image, 'KEY_TAIL', { segment: 31, offsetBytes: 0 }),
  },
  {
    code: 'DIRTY_TAIL_OUT_OF_RANGE',
    base: 'dirty-crc',
    damage: (image) => writeTail(image, 'DIRTY_TAIL', { segment: 0, offsetBytes: GEOMETRY.segmentDataBytes }),
  },
  {
    code: 'KEY_TAIL_NOT_ON_KSET',
    base: 'dirty-crc',
    also: ['DIRTY_TAIL_BEFORE_KEY_TAIL'],
    damage: (image) => {
      const place = middle(image);
      writeTail(image, 'KEY_TAIL', { ...place, offsetBytes: place.offsetBytes + 64 });
    },
  },
  {
    code: 'DIRTY_TAIL_NOT_ON_KSET',
    base: 'dirty-crc',
    damage: (image) => {
      const place = middle(image);
      writeTail(image, 'DIRTY_TAIL', { ...place, offsetBytes: place.offsetBytes + 64 });
    },
  },
  {
    code: 'DIRTY_TAIL_BEFORE_KEY_TAIL',
    base: 'dirty-crc',
    damage: (image) => writeTail(image, 'KEY_TAIL', middle(image)),
  },
  {
    code: 'DIRTY_TAIL_NOT_IN_LOG',
    base: 'dirty-crc',
    damage: (image) => writeTail(image, 'DIRTY_TAIL', { segment: FREE_SEGMENT, offsetBytes: 4096 }),
  },
];

const log: Damager[] = [
  {
    code: 'KSET_TOO_LONG',
    base: 'dirty-crc',
    damage: (image) => {
      // The log, moved to the end of the last segment so that its last kset sticks out, into what no one uses.
      const { places } = ksetsOf(image);
      const ksets = places.map((place) => ksetImage(image, place));
      const total = ksets.reduce((sum, bytes) => sum + bytes.length, 0);
      const start = { segment: SEGMENT_LAST, offsetBytes: GEOMETRY.segmentDataBytes - total + 80 };
      let next = start;
      for (const bytes of ksets) {
        image.write(deviceOffset(next), bytes);
        next = { ...next, offsetBytes: next.offsetBytes + bytes.length };
      }
      writeTail(image, 'KEY_TAIL', start);
      writeTail(image, 'DIRTY_TAIL', start);
    },
  },
  {
    code: 'KSET_UNKNOWN_FLAGS',
    base: 'dirty-crc',
    damage: (image) => changeKset(image, middle(image), (view) => view.setUint32(KsetField.flags, 4, true)),
  },
  {
    code: 'LAST_OUT_OF_RANGE',
    base: 'hopping',
    damage: (image) => writeLast(image, middle(image), 31),
  },
  {
    code: 'LOG_LOOPS',
    base: 'hopping',
    damage: (image) => writeLast(image, ksetsOf(image).end, 0),
  },
  {
    code: 'LAST_INTO_PAYLOAD',
    repair: 'drop-corrupt',
    base: 'hopping',
    damage: (image) => {
      const first = ksetsOf(image).places[0];
      const { places } = ksetsOf(image);
      // The second half of the log once more, far behind the payload of a segment that the first half uses.
      const segment = ksetAt(image, first).keySegment(0);
      const moved = places.filter((place) => place.segment === HOP_SEGMENT).map((place) => ksetImage(image, place));
      let next = { segment, offsetBytes: 0 };
      for (const bytes of moved) next = writeKset(image, next, bytes);
      writeLast(image, middle(image), segment);
    },
    also: ['PAYLOAD_CRC_CURRENT'],
  },
  {
    code: 'KEY_SEGMENT_HOLDS_PAYLOAD',
    base: 'gc-wrap',
    damage: (image) => {
      const { places } = ksetsOf(image);
      changeKey(image, places[0], KEY, 'segment', 0);
      changeKey(image, places[0], KEY, 'segmentOffset', 8 * MIB);
      changeKey(image, places[0], KEY, 'generation', 0);
    },
  },
  ...(
    [
      ['CRC flipped', (image, offset) => flip(image, offset)],
      ['key flipped', (image, offset) => flip(image, offset + KSET_HEADER_BYTES + 4)],
      ['magic flipped', (image, offset) => flip(image, offset + KsetField.magic)],
      ['magic zeroed', (image, offset) => image.zero(offset + KsetField.magic, 8)],
      ['absurd key count', (image, offset) => image.write(offset + KsetField.keyCount, new Uint8Array([0, 0, 1, 0]))],
      ['zeroed', (image, offset) => image.zero(offset, 512)],
    ] satisfies [string, (image: DamageImage, offset: number) => void][]
  ).flatMap(([variant, damage]): Damager[] => [
    {
      code: 'LOG_CUT_SHORT',
      variant,
      base: 'dirty-crc',
      damage: (image) => damage(image, deviceOffset(middle(image))),
    },
    {
      code: 'LOG_CUT_SHORT',
      variant: `first kset, ${variant}`,
      base: 'dirty-crc',
      damage: (image) => damage(image, deviceOffset(ksetsOf(image).places[0])),
    },
    {
      code: 'LOG_CUT_SHORT',
      variant: `two in a row, ${variant}`,
      base: 'dirty-crc',
      damage: (image) => {
        const { places } = ksetsOf(image);
        damage(image, deviceOffset(places[MIDDLE]));
        damage(image, deviceOffset(places[MIDDLE + 1]));
      },
    },
    {
      code: 'LOG_CUT_SHORT',
      variant: `two apart, ${variant}`,
      base: 'dirty-crc',
      damage: (image) => {
        const { places } = ksetsOf(image);
        damage(image, deviceOffset(places[2]));
        damage(image, deviceOffset(places[6]));
      },
    },
    {
      code: 'LOG_CUT_SHORT',
      variant: `before a LAST kset, ${variant}`,
      base: 'hopping',
      damage: (image) => damage(image, deviceOffset(ksetsOf(image).places[1])),
    },
    {
      code: 'LOG_CUT_SHORT',
      variant: `first behind a LAST kset, ${variant}`,
      base: 'hopping',
      damage: (image) => damage(image, segmentOffsetBytes(GEOMETRY, HOP_SEGMENT) + 12288),
    },
    {
      code: 'LOG_CUT_SHORT',
      variant: `behind dead ksets, ${variant}`,
      base: 'gc-wrap',
      damage: (image) => damage(image, deviceOffset(ksetsOf(image).places[30])),
    },
  ]),
  {
    code: 'LOG_CUT_SHORT',
    variant: 'before dirty_tail',
    base: 'gc-wrap',
    also: ['DIRTY_TAIL_NOT_IN_LOG'],
    damage: (image) => flip(image, deviceOffset(ksetsOf(image).places[1])),
  },
  {
    code: 'LOG_CUT_SHORT',
    variant: 'LAST kset itself',
    base: 'hopping',
    damage: (image) => flip(image, deviceOffset(middle(image))),
  },
  {
    code: 'LOG_MAYBE_CUT_SHORT',
    base: 'dirty-crc',
    damage: makeOver,
  },
  {
    code: 'LOG_CUT_SHORT',
    variant: 'zeroes over a header',
    base: 'dirty-crc',
    damage: (image) => image.zero(deviceOffset(middle(image)), KSET_HEADER_BYTES),
  },
  {
    code: 'LOG_LOST',
    base: 'dirty-crc',
    damage: (image) => image.zero(deviceOffset({ segment: 0, offsetBytes: 0 }), 64 * 1024),
  },
  {
    code: 'SEGMENTS_BEYOND_CACHE',
    also: ['CACHE_INFO_SEGMENTS_FEWER'],
    base: 'dirty-crc',
    // The beginning of a cache of 2 segments over one of 31.
    damage: (image) => {
      for (let id = 0; id < 2; id++) image.zero(deviceOffset({ segment: id, offsetBytes: 0 }), 24);
      for (const name of ['KEY_TAIL', 'DIRTY_TAIL'] as const) writeTail(image, name, { segment: 0, offsetBytes: 0 });
      changeCacheInfo(image, (info) => ({ ...info, segmentCount: 2 }));
      image.zero(deviceOffset({ segment: 0, offsetBytes: 0 }), 64 * 1024);
      writeSegmentInfo(image, 1, undefined);
    },
  },
  {
    code: 'KEY_TAIL_AT_SEGMENT_END',
    base: 'dirty-crc',
    damage: (image) => writeTail(image, 'KEY_TAIL', { segment: 0, offsetBytes: GEOMETRY.segmentDataBytes - 8 }),
  },
  {
    code: 'DIRTY_TAIL_AT_SEGMENT_END',
    base: 'dirty-crc',
    damage: (image) => writeTail(image, 'DIRTY_TAIL', { segment: 0, offsetBytes: GEOMETRY.segmentDataBytes - 16 }),
  },
  {
    code: 'DIRTY_TAIL_LEADS_ASTRAY',
    base: 'dirty-crc',
    damage: (image) => {
      writeLast(image, { segment: 20, offsetBytes: 0 }, 21);
      writeLast(image, { segment: 21, offsetBytes: 0 }, 20);
      writeTail(image, 'DIRTY_TAIL', { segment: 20, offsetBytes: 0 });
    },
  },
  {
    code: 'LOG_END_TORN',
    variant: 'zeroes over the header of the last kset',
    base: 'dirty-crc',
    damage: (image) => image.zero(deviceOffset(ksetsOf(image).places.at(-1)!), 16),
  },
  {
    code: 'LOG_END_TORN',
    base: 'dirty-crc',
    damage: (image) => {
      const { places, end } = ksetsOf(image);
      image.write(deviceOffset(end), ksetImage(image, places[0]).subarray(0, 512));
    },
  },
  {
    code: 'LOG_END_TORN',
    variant: 'last kset broken',
    base: 'gc-wrap',
    damage: (image) => flip(image, deviceOffset(ksetsOf(image).places.at(-1)!) + 40),
  },
];

const onKey =
  (change: (image: DamageImage, place: { segment: number; offsetBytes: number }) => void) => (image: DamageImage) =>
    change(image, middle(image));

const keys: Damager[] = [
  {
    code: 'KEY_OUT_OF_BOUNDS',
    variant: 'segment',
    base: 'dirty-crc',
    damage: onKey((image, place) => changeKey(image, place, KEY, 'segment', 31)),
  },
  {
    code: 'KEY_OUT_OF_BOUNDS',
    variant: 'segment offset',
    base: 'dirty-crc',
    damage: onKey((image, place) => changeKey(image, place, KEY, 'segmentOffset', GEOMETRY.segmentDataBytes)),
  },
  {
    code: 'KEY_OUT_OF_BOUNDS',
    variant: 'length 0',
    base: 'dirty-crc',
    damage: onKey((image, place) => changeKey(image, place, KEY, 'length', 0)),
  },
  {
    code: 'KEY_OUT_OF_BOUNDS',
    variant: 'offset beyond 2^53',
    base: 'dirty-crc',
    damage: onKey((image, place) =>
      changeKset(image, place, (view) => view.setUint32(KSET_HEADER_BYTES + KEY * 40 + 4, 0x40000000, true)),
    ),
  },
  {
    code: 'KEY_BEYOND_BACKING',
    variant: 'shrunken device',
    repair: 'drop-corrupt',
    base: 'dirty-crc',
    backingBytes: 8 * MIB,
    damage: () => undefined,
  },
  {
    code: 'KEY_BEYOND_BACKING',
    variant: 'one key',
    repair: 'drop-corrupt',
    base: 'dirty-crc',
    damage: onKey((image, place) => changeKey(image, place, KEY, 'off', (off) => off + 1024 * MIB)),
  },
  {
    code: 'KEY_UNALIGNED',
    base: 'gc-wrap',
    damage: (image) => changeKey(image, fullKset(image), KEY, 'off', (off) => off + 100),
  },
  {
    code: 'KEY_CROSSES_SUBTREE',
    base: 'gc-wrap',
    damage: (image) => changeKey(image, fullKset(image), KEY, 'off', 4 * MIB - 512),
  },
  {
    code: 'KEY_EMPTY_FLAG',
    base: 'dirty-crc',
    damage: onKey((image, place) => changeKey(image, place, KEY, 'flags', 1)),
  },
  {
    code: 'KEY_UNKNOWN_FLAGS',
    base: 'dirty-crc',
    damage: onKey((image, place) => changeKey(image, place, KEY, 'flags', (flags) => flags | 0x80)),
  },
  {
    code: 'KEY_RESERVED_NOT_ZERO',
    base: 'dirty-crc',
    damage: onKey((image, place) => changeKey(image, place, KEY, 'reserved', 7)),
  },
  {
    code: 'KEY_FROM_FUTURE',
    variant: 'key',
    base: 'dirty-crc',
    damage: onKey((image, place) => changeKey(image, place, KEY, 'generation', 5)),
  },
  {
    code: 'KEY_FROM_FUTURE',
    variant: 'both copies of a generation set back',
    base: 'gc-wrap',
    damage: (image) => {
      const ksets = ksetsOf(image).places.map((place) => ksetAt(image, place));
      const kset = ksets.find((one) => one.keyGeneration(0) > 0)!;
      writeGeneration(image, kset.keySegment(0), kset.keyGeneration(0) - 1);
    },
  },
  {
    code: 'KEY_STALE_DIRTY',
    variant: 'both copies of a generation set forward',
    base: 'gc-wrap',
    also: ['KEY_STALE_UNCOUNTED'],
    damage: (image) => {
      const kset = ksetAt(image, ksetsOf(image).places.at(-1)!);
      writeGeneration(image, kset.keySegment(0), kset.keyGeneration(0) + 1);
    },
  },
  {
    code: 'KEY_STALE_UNCOUNTED',
    variant: 'its segment is in use again',
    base: 'gc-wrap',
    damage: (image) => {
      const { places } = ksetsOf(image);
      const reused = places.map((place) => ksetAt(image, place)).find((one) => one.keyGeneration(0) > 0)!;
      changeKey(image, places[0], 0, 'segment', reused.keySegment(0));
      changeKey(image, places[0], 0, 'generation', reused.keyGeneration(0) - 1);
    },
  },
  {
    code: 'KEY_STALE_UNCOUNTED',
    variant: 'its segment is free',
    base: 'gc-wrap',
    damage: (image) => {
      const { places } = ksetsOf(image);
      writeGeneration(image, FREE_SEGMENT, 1);
      changeKey(image, places[0], 0, 'segment', FREE_SEGMENT);
      changeKey(image, places[0], 0, 'generation', 0);
    },
  },
  {
    code: 'KEY_STALE_UNCOUNTED',
    variant: 'a CLEAN key from dirty_tail on',
    base: 'gc-wrap',
    // A read miss leaves none over an older key; here there is one.
    misstates: true,
    damage: (image) => {
      const last = ksetsOf(image).places.at(-1)!;
      writeTail(image, 'DIRTY_TAIL', last);
      writeGeneration(image, FREE_SEGMENT, 1);
      changeKey(image, last, 0, 'segment', FREE_SEGMENT);
      changeKey(image, last, 0, 'generation', 0);
      changeKey(image, last, 0, 'flags', 2);
    },
  },
  {
    code: 'OLD_DATA_SHOWS',
    also: ['KEY_STALE_UNCOUNTED'],
    base: 'gc-wrap',
    damage: (image) => {
      // A key in the second kset of the log, for what a key of the first one is for, is stale; both are written back.
      const { places } = ksetsOf(image);
      const first = ksetAt(image, places[0]);
      const at = image.bytes(deviceOffset(places[0]), 64);
      changeKset(image, places[1], (view) => {
        const bytes = new Uint8Array(view.buffer);
        const segment = view.getUint32(KSET_HEADER_BYTES + KeyField.segment, true);
        bytes.set(at.subarray(KSET_HEADER_BYTES, KSET_HEADER_BYTES + 40), KSET_HEADER_BYTES);
        view.setUint32(KSET_HEADER_BYTES + KeyField.segment, segment, true);
        view.setUint32(KSET_HEADER_BYTES + KeyField.generation, 0, true);
        view.setUint32(KSET_HEADER_BYTES + KeyField.segment, first.keySegment(0), true);
      });
    },
  },
  {
    code: 'PAYLOAD_OVERLAP',
    repair: 'drop-corrupt',
    base: 'gc-wrap',
    damage: (image) => {
      const { places } = ksetsOf(image);
      const other = ksetAt(image, places[2]);
      changeKey(image, places[9], KEY, 'segment', other.keySegment(0));
      changeKey(image, places[9], KEY, 'segmentOffset', other.keySegmentOffsetBytes(0));
      changeKey(image, places[9], KEY, 'generation', other.keyGeneration(0));
    },
  },
  {
    code: 'PAYLOAD_CRC_CURRENT',
    variant: 'payload',
    repair: 'drop-corrupt',
    base: 'dirty-crc',
    damage: onKey((image, place) => {
      const kset = ksetAt(image, place);
      flip(image, deviceOffset({ segment: kset.keySegment(KEY), offsetBytes: kset.keySegmentOffsetBytes(KEY) }) + 77);
    }),
  },
  {
    code: 'PAYLOAD_CRC_CURRENT',
    variant: 'CRC in the key',
    repair: 'drop-corrupt',
    base: 'dirty-crc',
    damage: onKey((image, place) => changeKey(image, place, KEY, 'dataCrc', (crc) => crc ^ 1)),
  },
  {
    code: 'PAYLOAD_CRC_STALE',
    also: ['KEY_STALE_DIRTY'],
    repair: 'drop-corrupt',
    base: 'dirty-crc',
    damage: onKey((image, place) => {
      const kset = ksetAt(image, place);
      writeGeneration(image, kset.keySegment(KEY), 1);
      flip(image, deviceOffset({ segment: kset.keySegment(KEY), offsetBytes: kset.keySegmentOffsetBytes(KEY) }) + 77);
    }),
  },
  {
    code: 'PAYLOAD_CRC_STALE',
    variant: 'before dirty_tail',
    also: ['KEY_STALE_UNCOUNTED', 'OLD_DATA_SHOWS'],
    misstates: true,
    base: 'dirty-crc',
    damage: (image) => {
      // The key's segment was freed and is at its next life, which no other key shares: all is written back.
      const kset = ksetAt(image, middle(image));
      writeTail(image, 'DIRTY_TAIL', ksetsOf(image).end);
      writeGeneration(image, kset.keySegment(KEY), 1);
      flip(image, deviceOffset({ segment: kset.keySegment(KEY), offsetBytes: kset.keySegmentOffsetBytes(KEY) }) + 77);
    },
  },
  {
    code: 'PAYLOAD_UNREADABLE',
    repair: 'drop-corrupt',
    base: 'dirty-crc',
    damage: (image) => {
      const kset = ksetAt(image, middle(image));
      const bad = deviceOffset({ segment: kset.keySegment(KEY), offsetBytes: kset.keySegmentOffsetBytes(KEY) });
      return failingAt(image, bad);
    },
  },
  {
    code: 'METADATA_UNREADABLE',
    variant: 'one copy of cache_info',
    base: 'dirty-crc',
    also: ['CACHE_INFO_COPY_LOST'],
    damage: (image) => failingSectorAt(image, CACHE_INFO_COPIES[1 - readMetadata(image, GEOMETRY).cacheInfo.winner]),
  },
  {
    code: 'METADATA_UNREADABLE',
    variant: 'one copy of the info of a segment',
    base: 'dirty-crc',
    also: ['SEGMENT_INFO_COPY_LOST'],
    damage: (image) => failingSectorAt(image, segmentInfoCopies(GEOMETRY, 3)[1]),
  },
];

/**
 * An image whose medium fails under a byte, when that is checked or read, until something is written within
 * `healedByBytes` of it.
 */
function failingAt(image: DamageImage, badOffset: number, healedByBytes = 0): DamageImage {
  let fails = true;
  const check = (offsetBytes: number, lengthBytes: number): void => {
    if (fails && offsetBytes <= badOffset && badOffset < offsetBytes + lengthBytes) {
      throw new PcacheError('IO', `${image.path}: uncorrectable memory error while reading at byte ${badOffset}`);
    }
  };
  const read = image.read.bind(image);
  const crc32c = image.crc32c.bind(image);
  const write = image.write.bind(image);
  return Object.assign(image, {
    read: (offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number) => {
      check(offsetBytes, lengthBytes);
      read(offsetBytes, target, targetOffset, lengthBytes);
    },
    crc32c: (offsetBytes: number, lengthBytes: number, seed: number) => {
      check(offsetBytes, lengthBytes);
      return crc32c(offsetBytes, lengthBytes, seed);
    },
    write: (offsetBytes: number, ...rest: [Uint8Array]) => {
      if (offsetBytes >= badOffset && offsetBytes < badOffset + healedByBytes) fails = false;
      write(offsetBytes, ...rest);
    },
  });
}

/** An image whose medium fails under a sector until that is written. What it reads as meanwhile lies there. */
function failingSectorAt(image: DamageImage, offset: number): DamageImage {
  image.write(offset, new Uint8Array(SECTOR_BYTES).fill(UNREADABLE_BYTE));
  return failingAt(image, offset, SECTOR_BYTES);
}

export const DAMAGERS: readonly Damager[] = [
  ...superblock,
  ...cacheInfo,
  ...segments,
  ...tails,
  ...(['CACHE_INFO', 'SEGMENT_INFO', 'GENERATION', 'KEY_TAIL', 'DIRTY_TAIL'] as const).flatMap(copyDamagers),
  ...log,
  ...keys,
];
