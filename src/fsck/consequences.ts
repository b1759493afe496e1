/**
 * What follows from each finding when the cache is opened as it is: what each kernel does with it (format §5), and
 * whether data that is not on the backing device yet may be lost. The gate before every command goes by this.
 */
import { catalogueEntry, type FindingCode } from './catalogue.js';

/** Kernels whose behaviour differs, by the first version of each. */
export const KERNELS = ['6.18', '7.2', '7.3'] as const;
export type KernelVersion = (typeof KERNELS)[number];
/** The kernel that findings speak of unless another is asked for. */
export const KERNEL_DEFAULT: KernelVersion = '7.2';

/**
 * What a kernel does when it attaches the cache. `empties`: makes a new cache over it. `cuts`: ends the log too early,
 * or never writes part of it back. `misreads`: reads old or foreign bytes. `crashes`: oopses, or reads beyond a segment.
 * From harmless to worst.
 */
export const KERNEL_EFFECTS = ['attaches', 'refuses', 'misreads', 'crashes', 'cuts', 'empties'] as const;
export type KernelEffect = (typeof KERNEL_EFFECTS)[number];

/**
 * `none`: all data stays readable. `doubtful`: a crash leaves this too, and then nothing acknowledged is lost.
 * `possible`: data may be lost, or read as an older version.
 */
export type DirtyRisk = 'none' | 'doubtful' | 'possible';

const EFFECTS: Partial<Record<FindingCode, KernelEffect | Readonly<Record<KernelVersion, KernelEffect>>>> = {
  SUPERBLOCK_ZERO_MAGIC: 'empties',
  CACHE_INFO_LOST: 'empties',
  CACHE_INFO_NOT_INITIALISED: 'empties',
  CHAIN_CYCLE: 'misreads',
  CHAIN_OUT_OF_ORDER: 'misreads',
  GENERATION_LOST: 'misreads',
  KEY_TAIL_AT_SEGMENT_END: 'crashes',
  KEY_TAIL_NOT_ON_KSET: 'cuts',
  DIRTY_TAIL_AT_SEGMENT_END: 'cuts',
  DIRTY_TAIL_NOT_ON_KSET: 'cuts',
  DIRTY_TAIL_NOT_IN_LOG: 'cuts',
  DIRTY_TAIL_BEFORE_KEY_TAIL: 'misreads',
  KSET_TOO_LONG: 'cuts',
  LOG_CUT_SHORT: 'cuts',
  LOG_LOST: 'cuts',
  SEGMENTS_BEYOND_CACHE: 'cuts',
  LOG_MAYBE_CUT_SHORT: 'cuts',
  LAST_INTO_PAYLOAD: 'misreads',
  KEY_SEGMENT_HOLDS_PAYLOAD: 'misreads',
  KEY_UNALIGNED: 'crashes',
  KEY_CROSSES_SUBTREE: 'misreads',
  KEY_EMPTY_FLAG: 'misreads',
  KEY_FROM_FUTURE: 'misreads',
  KEY_STALE_DIRTY: 'misreads',
  // The first releases of 6.18 count such keys; those with the later fix for a use after free do not.
  KEY_STALE_UNCOUNTED: 'misreads',
  OLD_DATA_SHOWS: 'misreads',
  PAYLOAD_OVERLAP: 'misreads',
};

const POSSIBLE: ReadonlySet<FindingCode> = new Set<FindingCode>([
  'DEVICE_TOO_SMALL',
  'SUPERBLOCK_SEGMENTS_BEYOND_DEVICE',
  'CHAIN_CYCLE',
  'CHAIN_OUT_OF_ORDER',
  'CHAIN_LEAVES_DEVICE',
  'GENERATION_LOST',
  'KEY_TAIL_AT_SEGMENT_END',
  'KEY_TAIL_NOT_ON_KSET',
  'DIRTY_TAIL_AT_SEGMENT_END',
  'DIRTY_TAIL_LEADS_ASTRAY',
  'DIRTY_TAIL_NOT_ON_KSET',
  'DIRTY_TAIL_NOT_IN_LOG',
  'DIRTY_TAIL_BEFORE_KEY_TAIL',
  'KSET_TOO_LONG',
  'LAST_OUT_OF_RANGE',
  'LOG_LOOPS',
  'LAST_INTO_PAYLOAD',
  'KEY_SEGMENT_HOLDS_PAYLOAD',
  'LOG_CUT_SHORT',
  'LOG_LOST',
  'SEGMENTS_BEYOND_CACHE',
  'LOG_MAYBE_CUT_SHORT',
  'KEY_OUT_OF_BOUNDS',
  'KEY_BEYOND_BACKING',
  'KEY_UNALIGNED',
  'KEY_CROSSES_SUBTREE',
  'KEY_EMPTY_FLAG',
  'KEY_FROM_FUTURE',
  'KEY_STALE_DIRTY',
  'OLD_DATA_SHOWS',
  'PAYLOAD_OVERLAP',
  'PAYLOAD_CRC_CURRENT',
  'PAYLOAD_UNREADABLE',
]);

/** What a kernel does with a cache that has this finding alone. */
export function kernelEffect(code: FindingCode, kernel: KernelVersion): KernelEffect {
  const effect = EFFECTS[code];
  if (effect !== undefined) return typeof effect === 'string' ? effect : effect[kernel];
  return catalogueEntry(code).kernelRefuses ? 'refuses' : 'attaches';
}

/** Whether a cache with this finding may lose data when it is opened as it is. */
export function dirtyRisk(code: FindingCode): DirtyRisk {
  if (POSSIBLE.has(code)) return 'possible';
  return code === 'LOG_END_TORN' ? 'doubtful' : 'none';
}
