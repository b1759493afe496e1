/**
 * Decides whether the log of a cache can be followed, before anything is written on the strength of it. The
 * check is that of fsck, without the payload: a log that is cut in two, a tail that is no place in it, a key
 * beyond the backing device (which then is a wrong one) and the like are refused, with what fsck says of them.
 * Invariant: a finding that is not known to be harmless here is refused.
 */
import type { PmemReader } from '../engine/device/pmem.js';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { checkCache, type CheckOptions } from '../fsck/check.js';
import type { FindingCode } from '../fsck/catalogue.js';
import type { Finding } from '../fsck/findings.js';

/**
 * Findings that change nothing about which bytes are the newest and where they lie. The superblock is only
 * needed to attach a cache. Where one copy of dirty_tail is lost the other may be an older one: then what
 * was written back is written again, and the newest still comes last.
 */
const HARMLESS: ReadonlySet<FindingCode> = new Set<FindingCode>([
  'SUPERBLOCK_ZERO_MAGIC',
  'SUPERBLOCK_BAD_MAGIC',
  'SUPERBLOCK_BAD_CRC',
  'SUPERBLOCK_UNKNOWN_FLAGS',
  'SUPERBLOCK_SEGMENTS_ZERO',
  'SUPERBLOCK_SEGMENTS_FEWER',
  'CACHE_INFO_COPY_LOST',
  'CACHE_INFO_SEQ_SUSPECT',
  'CACHE_INFO_SEGMENTS_FEWER',
  'CACHE_INFO_UNKNOWN_FLAGS',
  'CACHE_MODE_UNKNOWN',
  'CACHE_MODE_NOT_WRITEBACK',
  'GC_PERCENT_OUT_OF_RANGE',
  'SEGMENT_INFO_COPY_LOST',
  'SEGMENT_INFO_SEQ_SUSPECT',
  'SEGMENT_UNKNOWN_FLAGS',
  'SEGMENT_TYPE_WRONG',
  'CHAIN_LAST_HAS_NEXT',
  'GENERATION_COPY_LOST',
  'GENERATION_SEQ_SUSPECT',
  'KEY_TAIL_COPY_LOST',
  'KEY_TAIL_SEQ_SUSPECT',
  'DIRTY_TAIL_COPY_LOST',
  'DIRTY_TAIL_SEQ_SUSPECT',
  'KSET_UNKNOWN_FLAGS',
  'KEY_UNKNOWN_FLAGS',
  'KEY_RESERVED_NOT_ZERO',
  // Both keys it is about lie behind dirty_tail.
  'OLD_DATA_SHOWS',
  'LOG_MAYBE_CUT_SHORT',
  'LOG_END_TORN',
]);

/**
 * Payload that two uses claim: which of them is right only a CRC can tell.
 */
const HARMLESS_WITH_DATA_CRC: ReadonlySet<FindingCode> = new Set<FindingCode>([
  'PAYLOAD_OVERLAP',
  'LAST_INTO_PAYLOAD',
  'KEY_SEGMENT_HOLDS_PAYLOAD',
]);

export type FollowOptions = Omit<CheckOptions, 'data'> & {
  /** Whether payload will be checked against its CRC. */
  readonly dataCrc: boolean;
};

/**
 * @returns what is wrong with the cache and does no harm to its log.
 * @throws PcacheError BAD_MEDIA, with the status of problems left, when the log cannot be followed; and what
 * `checkCache` throws for a device that is no cache
 */
export function requireFollowable(pmem: PmemReader, { dataCrc, ...options }: FollowOptions): readonly Finding[] {
  const { findings } = checkCache(pmem, { ...options, data: false });
  const refused = findings.filter(({ code }) => !HARMLESS.has(code) && !(dataCrc && HARMLESS_WITH_DATA_CRC.has(code)));
  if (refused.length === 0) return findings;
  const [{ code, where, detail }] = refused;
  const more = refused.length > 1 ? ` (and ${refused.length - 1} more)` : '';
  const remedy =
    code === 'KEY_BEYOND_BACKING'
      ? 'give the backing device that belongs to this cache'
      : 'run "pcache fsck --repair" first';
  throw new PcacheError('BAD_MEDIA', `${pmem.path}: ${code} ${where}: ${detail}${more}; ${remedy}`, {
    exitStatus: ExitStatus.problemsLeft,
  });
}
