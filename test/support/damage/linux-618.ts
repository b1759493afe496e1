/**
 * Makes of an image what Linux 6.18.0 to 6.18.3 would have left (format §5.1). No such kernel is at hand, so the image
 * is written from the facts: cache_info at 8192, then at 8192 + 24; the first write of infos and generations to copy 0.
 */
import {
  CACHE_INFO_BYTES,
  decodeCacheFlags,
  decodeCacheInfo,
  encodeCacheFlags,
  encodeCacheInfo,
  encodeGeneration,
  encodeSegmentInfo,
  type CacheInfo,
} from '../../../src/engine/media/codecs.js';
import { readDual } from '../../../src/engine/media/dual.js';
import { CACHE_INFO_COPIES, generationCopies, segmentInfoCopies } from '../../../src/engine/media/geometry.js';
import { STRAY_CACHE_INFO_OFFSET_BYTES } from '../../../src/engine/media/linux-6-18.js';
import { GEOMETRY, type DamageImage } from './edit.js';

/**
 * `alternating`: all frees in one attach. `over-newest`: one free in each attach, each over the only copy. `gaps`: the
 * other copy is older by more than one.
 */
export type Generations = 'alternating' | 'over-newest' | 'gaps';

export interface Shape618 {
  /** How often it was attached: seq of cache_info. */
  readonly attaches: number;
  readonly generations?: Generations;
  /** gc_percent at the attach; that of the image if not given. */
  readonly gcPercent?: number;
  /** Further writes of cache_info, in order: where, and its gc_percent if that changes. */
  readonly writes?: readonly {
    readonly to: 'first' | 'stray' | 'second';
    readonly gcPercent?: number;
    readonly seq: number;
    /** Of a write that was cut off: its 8-byte words that arrived. */
    readonly words?: readonly (0 | 1 | 2)[];
  }[];
}

const PLACES = {
  first: CACHE_INFO_COPIES[0],
  stray: STRAY_CACHE_INFO_OFFSET_BYTES,
  second: CACHE_INFO_COPIES[1],
} as const;
const WORD_BYTES = 8;

export function as618(image: DamageImage, shape: Shape618): void {
  const { attaches, generations = 'alternating', gcPercent: before, writes = [] } = shape;
  const info = readDual<CacheInfo>(image, CACHE_INFO_COPIES, CACHE_INFO_BYTES, decodeCacheInfo).value!;
  const flags = decodeCacheFlags(info.flags);
  const infoWith = (gcPercent = before ?? flags.gcPercent): CacheInfo => ({
    ...info,
    flags: encodeCacheFlags({ ...flags, gcPercent }),
  });
  image.zero(CACHE_INFO_COPIES[0], CACHE_INFO_COPIES[1] - CACHE_INFO_COPIES[0] + CACHE_INFO_BYTES);
  image.write(PLACES.first, encodeCacheInfo(infoWith(), attaches));
  for (let id = 0; id < info.segmentCount; id++) {
    writeInfo(image, id, id === info.segmentCount - 1);
    rewriteGeneration(image, id, generations);
  }
  for (const { to, gcPercent, seq, words = [0, 1, 2] } of writes) {
    const bytes = encodeCacheInfo(infoWith(gcPercent), seq);
    for (const word of words) {
      image.write(PLACES[to] + word * WORD_BYTES, bytes.subarray(word * WORD_BYTES, (word + 1) * WORD_BYTES));
    }
  }
}

function writeInfo(image: DamageImage, id: number, isLast: boolean): void {
  const [first, second] = segmentInfoCopies(GEOMETRY, id);
  image.zero(second, 16);
  image.write(first, encodeSegmentInfo(undefined, 1));
  if (!isLast) image.write(second, encodeSegmentInfo(id + 1, 2));
}

function rewriteGeneration(image: DamageImage, id: number, generations: Generations): void {
  const copies = generationCopies(GEOMETRY, id);
  const view = new DataView(image.bytes(copies[0], 32).buffer);
  const generation = Math.max(Number(view.getBigUint64(8, true)), Number(view.getBigUint64(24, true)));
  image.zero(copies[0], 32);
  const put = (copy: number, value: number): void => image.write(copies[copy], encodeGeneration(value, value + 1));
  if (generations === 'alternating') {
    for (let n = Math.max(0, generation - 1); n <= generation; n++) put(n % 2, n);
  } else if (generations === 'gaps' && generation > 0) {
    put(0, 0);
    put(1, generation);
  } else {
    put(0, generation);
  }
}

/** What such a kernel leaves in each case, and what a cache_info rebuilt or moved from it must say. */
export interface Case618 {
  readonly title: string;
  readonly shape: Shape618;
  /** Finding of a check; none where a later kernel has attached it since. */
  readonly finding: 'CACHE_INFO_LAYOUT_OLD' | 'CACHE_INFO_LOST' | undefined;
  /** gc_percent before and after `fsck -y`. */
  readonly gcPercent: readonly [before: number | undefined, after: number];
  readonly stray?: number;
}

const OLD = 'CACHE_INFO_LAYOUT_OLD';
const LOST = 'CACHE_INFO_LOST';
const stray = { to: 'stray', gcPercent: 20, seq: 4 } as const;

/** Of caches whose gc_percent was 70 at the attach. */
export const CASES_618: readonly Case618[] = [
  { title: 'attached once', shape: { attaches: 1 }, finding: OLD, gcPercent: [70, 70] },
  { title: 'attached 200 times', shape: { attaches: 200 }, finding: OLD, gcPercent: [70, 70] },
  {
    title: 'gc_percent was set once',
    shape: { attaches: 1, writes: [{ to: 'stray', gcPercent: 20, seq: 2 }] },
    finding: OLD,
    gcPercent: [70, 20],
    stray: 20,
  },
  {
    title: 'gc_percent was set twice',
    shape: {
      attaches: 1,
      writes: [
        { to: 'stray', gcPercent: 20, seq: 2 },
        { to: 'first', gcPercent: 45, seq: 3 },
      ],
    },
    finding: OLD,
    gcPercent: [45, 45],
    stray: 20,
  },
  {
    title: 'gc_percent did not persist over the next attach',
    shape: {
      attaches: 1,
      writes: [
        { to: 'stray', gcPercent: 20, seq: 2 },
        { to: 'first', seq: 2 },
      ],
    },
    finding: OLD,
    gcPercent: [70, 70],
    stray: 20,
  },
  {
    title: 'segments were freed once in each attach',
    shape: { attaches: 4, generations: 'over-newest' },
    finding: OLD,
    gcPercent: [70, 70],
  },
  {
    title: 'generations have gaps',
    shape: { attaches: 4, generations: 'gaps' },
    finding: OLD,
    gcPercent: [70, 70],
  },
  {
    title: 'a later kernel attached it',
    shape: { attaches: 5, writes: [{ to: 'second', seq: 6 }] },
    finding: undefined,
    gcPercent: [70, 70],
  },
  {
    title: 'a later kernel attached it, with a stray copy left',
    shape: {
      attaches: 1,
      writes: [
        { to: 'stray', gcPercent: 20, seq: 2 },
        { to: 'second', seq: 2 },
      ],
    },
    finding: undefined,
    gcPercent: [70, 70],
    stray: 20,
  },
  ...([[0], [2], [0, 2], [1, 2]] as const).flatMap((words): Case618[] => [
    {
      title: `the write of a gc_percent was cut off, words ${words.join()} arrived`,
      shape: { attaches: 3, writes: [{ to: 'first', gcPercent: 45, seq: 4, words }] },
      ...(words[0] === 0 && words.length === 2
        ? { finding: OLD, gcPercent: [45, 45] }
        : { finding: LOST, gcPercent: [undefined, words.includes(2 as never) ? 45 : 70] }),
    },
    {
      title: `the write of a gc_percent was cut off behind a stray copy, words ${words.join()} arrived`,
      shape: { attaches: 3, writes: [stray, { to: 'first', gcPercent: 45, seq: 5, words }] },
      ...(words[0] === 0 && words.length === 2
        ? { finding: OLD, gcPercent: [45, 45] }
        : { finding: LOST, gcPercent: [undefined, 20] }),
      stray: 20,
    },
  ]),
  {
    title: 'cache_info is broken, and the stray copy is one of an earlier attach',
    shape: {
      attaches: 9,
      writes: [
        { to: 'stray', gcPercent: 20, seq: 4 },
        { to: 'first', gcPercent: 45, seq: 9, words: [2] },
      ],
    },
    finding: LOST,
    gcPercent: [undefined, 45],
    stray: 20,
  },
];
