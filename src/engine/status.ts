/** Status of a cache: the status line of the kernel's target (format §4), and more of a running engine. */
import type { Core } from './core.js';
import type { PcacheError } from './errors.js';
import type { CacheMode, Position } from './media/codecs.js';
import { LogWalker } from './media/log-walker.js';
import { positionText } from './media/position-text.js';
import type { EngineStats } from './stats.js';

export interface StatusFields {
  readonly superblockFlags: number;
  readonly segmentsOnDevice: number;
  readonly cacheSegments: number;
  readonly segmentsUsed: number;
  readonly gcPercent: number;
  readonly cacheFlags: number;
  readonly keyHead: Position;
  readonly dirtyTail: Position;
  readonly keyTail: Position;
}

/** `<sb_flags hex> <seg_total> <cache_segs> <segs_used> <gc_percent> <cache_flags hex> <key_head> <dirty_tail> <key_tail>` */
export function formatStatusLine(fields: StatusFields): string {
  return [
    fields.superblockFlags.toString(16),
    fields.segmentsOnDevice,
    fields.cacheSegments,
    fields.segmentsUsed,
    fields.gcPercent,
    fields.cacheFlags.toString(16),
    positionText(fields.keyHead),
    positionText(fields.dirtyTail),
    positionText(fields.keyTail),
  ].join(' ');
}

export interface CacheStatus extends StatusFields {
  /** The kernel's status line. */
  readonly line: string;
  readonly mode: CacheMode;
  readonly stats: EngineStats;
  readonly openKeys: boolean;
  readonly waitingRequests: number;
  readonly pendingBackingReads: number;
  readonly indexEntries: number;
  readonly indexMemoryBytes: number;
  /** Why write-back is failing or has stopped; undefined when it works. */
  readonly writebackError: PcacheError | undefined;
}

/** The part of the status that only the running cache knows. */
type RunningStatus = Pick<CacheStatus, 'waitingRequests' | 'pendingBackingReads' | 'writebackError'>;

export function describeStatus(core: Core, running: RunningStatus): CacheStatus {
  const fields: StatusFields = {
    superblockFlags: core.metadata.superblock.flags,
    segmentsOnDevice: core.metadata.superblock.segmentCount,
    cacheSegments: core.segments.count,
    segmentsUsed: core.segments.usedCount,
    gcPercent: core.gcPercent,
    cacheFlags: core.cacheFlags,
    keyHead: core.log.head,
    dirtyTail: core.dirtyTail.position,
    keyTail: core.keyTail.position,
  };
  return {
    ...fields,
    ...running,
    line: formatStatusLine(fields),
    mode: core.mode,
    stats: core.stats,
    openKeys: core.log.hasOpenKeys,
    indexEntries: core.index.entryCount,
    indexMemoryBytes: core.index.memoryBytes,
  };
}

/** Keys in the log from dirty_tail on that are not CLEAN, and their bytes; overwritten versions included. */
export interface DirtyInLog {
  readonly keys: number;
  readonly bytes: number;
}

export function dirtyInLog(core: Core): DirtyInLog {
  const walker = new LogWalker(core.pmem, core.geometry, core.metadata.chain, core.dirtyTail.position, core.crc);
  let keys = 0;
  let bytes = 0;
  while (walker.next()) {
    for (let i = 0; i < walker.kset.keyCount; i++) {
      if (walker.kset.keyIsClean(i)) continue;
      keys++;
      bytes += walker.kset.keyLengthBytes(i);
    }
  }
  return { keys, bytes };
}
