/**
 * Bad media as a value. Each code names one fault that makes a cache unusable: the kernel would refuse to
 * attach it (format §2), or attaching it would lose data. fsck turns these codes into findings.
 */
export type ProblemCode =
  | 'SUPERBLOCK_ZERO_MAGIC'
  | 'SUPERBLOCK_BAD_MAGIC'
  | 'SUPERBLOCK_BAD_CRC'
  | 'SUPERBLOCK_BIG_ENDIAN'
  | 'SUPERBLOCK_SEGMENTS_ZERO'
  | 'SUPERBLOCK_SEGMENTS_BEYOND_DEVICE'
  | 'CACHE_INFO_LOST'
  | 'CACHE_INFO_NOT_INITIALISED'
  | 'CACHE_INFO_SEGMENTS_EXCEED_SUPERBLOCK'
  | 'CACHE_INFO_SEGMENTS_ZERO'
  | 'CHAIN_ENDS_EARLY'
  | 'CHAIN_LEAVES_DEVICE'
  | 'CHAIN_CYCLE'
  | 'SEGMENT_INFO_LOST'
  | 'KEY_TAIL_LOST'
  | 'DIRTY_TAIL_LOST'
  | 'KEY_TAIL_OUT_OF_RANGE'
  | 'DIRTY_TAIL_OUT_OF_RANGE'
  | 'DIRTY_TAIL_NOT_IN_LOG'
  | 'KSET_TOO_LONG'
  | 'LAST_OUT_OF_RANGE'
  | 'LOG_LOOPS'
  | 'KEY_OUT_OF_BOUNDS'
  | 'PAYLOAD_CRC_CURRENT'
  | 'PAYLOAD_CRC_STALE';

export interface MediaProblem {
  readonly code: ProblemCode;
  /** One clause that names the thing and the values, without the code. */
  readonly detail: string;
}
