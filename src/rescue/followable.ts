/**
 * Decides whether a write-back may go by the log of a cache, before anything is written. The check is the gate of
 * fsck, without the payload. Three kinds of findings:
 * - harmless here: they do not change which bytes are the newest, nor where they lie;
 * - losses: the log is right as far as it goes, but data may be missing from it. Refused unless the user accepts it;
 * - all others mislead: old or foreign bytes might be written. Refused whatever the user accepts.
 * Invariant: a finding that is not known to be harmless here is refused.
 */
import type { PmemReader } from '../engine/device/pmem.js';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { catalogueEntry, type FindingCode } from '../fsck/catalogue.js';
import type { Finding } from '../fsck/findings.js';
import { judgeCache, refuseLosses, type GateOptions } from '../fsck/gate.js';

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
  'CACHE_INFO_LAYOUT_OLD',
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
  // The keys they are about lie before dirty_tail, or are CLEAN.
  'KEY_STALE_UNCOUNTED',
  'OLD_DATA_SHOWS',
  'LOG_END_TORN',
]);

/** Payload that two uses claim: only a CRC tells which of them is right. */
const HARMLESS_WITH_DATA_CRC: ReadonlySet<FindingCode> = new Set<FindingCode>([
  'PAYLOAD_OVERLAP',
  'LAST_INTO_PAYLOAD',
  'KEY_SEGMENT_HOLDS_PAYLOAD',
]);

/** With these the log does not tell which bytes are the newest, or where they lie: accepting a loss does not help. */
const MISLEADS: ReadonlySet<FindingCode> = new Set<FindingCode>([
  ...HARMLESS_WITH_DATA_CRC,
  'DEVICE_TOO_SMALL',
  'SUPERBLOCK_SEGMENTS_BEYOND_DEVICE',
  'CHAIN_CYCLE',
  'CHAIN_OUT_OF_ORDER',
  'CHAIN_LEAVES_DEVICE',
  'KEY_TAIL_NOT_ON_KSET',
  'DIRTY_TAIL_NOT_ON_KSET',
  'DIRTY_TAIL_NOT_IN_LOG',
  'DIRTY_TAIL_BEFORE_KEY_TAIL',
  'LOG_LOOPS',
  'KEY_OUT_OF_BOUNDS',
  'KEY_BEYOND_BACKING',
  'KEY_UNALIGNED',
  'KEY_CROSSES_SUBTREE',
  'KEY_EMPTY_FLAG',
  'KEY_STALE_DIRTY',
]);

export type FollowOptions = Omit<GateOptions, 'data'> & {
  /** Whether payload will be checked against its CRC. */
  readonly dataCrc: boolean;
  /** Go on although data may be missing from the log. */
  readonly acceptLoss: boolean;
};

/**
 * @returns what is wrong with the cache and does not keep it from being written back.
 * @throws PcacheError BAD_MEDIA, with the status of problems left, when the log cannot be followed, or data may be
 * missing from it and that is not accepted; and what `judgeCache` throws for a device that is not a cache
 */
export function requireFollowable(
  pmem: PmemReader,
  { dataCrc, acceptLoss, ...options }: FollowOptions,
): readonly Finding[] {
  const verdict = judgeCache(pmem, options);
  const { findings } = verdict.check;
  const isHarmless = ({ code }: Finding): boolean =>
    HARMLESS.has(code) || (dataCrc && HARMLESS_WITH_DATA_CRC.has(code));
  const losses = verdict.losses.filter((one) => !isHarmless(one) && !MISLEADS.has(one.code));
  const misleading = findings.filter((one) => !isHarmless(one) && !losses.includes(one));
  if (misleading.length > 0) {
    const [{ code, where, detail }] = misleading;
    const more = misleading.length > 1 ? ` (and ${misleading.length - 1} more)` : '';
    throw new PcacheError(
      'BAD_MEDIA',
      `${pmem.path}: ${code} ${where}: ${detail}${more}; ${remedyOf(pmem.path, code, findings)}`,
      {
        exitStatus: ExitStatus.problemsLeft,
      },
    );
  }
  if (!acceptLoss) refuseLosses(pmem.path, { ...verdict, losses });
  return findings;
}

/** What helps against a finding, among others: a clause. */
function remedyOf(path: string, code: FindingCode, findings: readonly Finding[]): string {
  if (code === 'KEY_BEYOND_BACKING') return 'give the backing device that belongs to this cache';
  if (code === 'SUPERBLOCK_SEGMENTS_BEYOND_DEVICE' && findings.some((one) => one.code === 'CHAIN_LEAVES_DEVICE')) {
    return catalogueEntry('DEVICE_TOO_SMALL').noRepair!; // no repair helps as long as it is cut
  }
  const { repair, noRepair } = catalogueEntry(code);
  if (repair === undefined) return noRepair ?? `run "pcache fsck ${path}" first`;
  const flags = repair.startsWith('with --drop-corrupt') ? '--repair --drop-corrupt' : '--repair';
  return `run "pcache fsck ${flags} ${path}" first`;
}
