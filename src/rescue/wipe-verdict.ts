/** Whether a cache may be wiped: how much of its data is not on the backing device, as far as the log tells. */
import type { PmemReader } from '../engine/device/pmem.js';
import { TolerantReader } from '../engine/device/tolerant-reader.js';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { LogKeys } from '../engine/inspect/keys.js';
import { readMetadataOf } from '../engine/log/recovery.js';
import type { Crc32c } from '../engine/media/crc32c.js';
import type { Geometry } from '../engine/media/geometry.js';
import type { GateVerdict } from '../fsck/gate.js';
import { mergeRanges, totalBytes, type ByteRange } from '../fsck/repair/ranges.js';

export interface WipeVerdict {
  /** Keys from dirty_tail on that are neither CLEAN nor stale; at least, if `isCounted` is false. */
  readonly dirtyKeys: number;
  /** What they hold, a range that several keys hold counted once; at least, if `isCounted` is false. */
  readonly dirtyBytes: number;
  /** False where damage hides a part of the log: what it holds is not known. */
  readonly isCounted: boolean;
  /** What is wrong with the cache, and may hide dirty data or have lost some: `CODE where: detail`. */
  readonly doubts: readonly string[];
}

/** Ranges that several keys hold are merged every so often, so that memory is bounded by what is dirty. */
const RANGES_PER_MERGE = 1 << 20;

/**
 * @param gate what the gate found in the same cache
 * @throws PcacheError IO
 */
export function judgeForWipe(pmem: PmemReader, geometry: Geometry, gate: GateVerdict, crc: Crc32c): WipeVerdict {
  const metadata = readMetadataOf(pmem, geometry);
  const doubts = [...gate.losses, ...gate.doubts].map(({ code, where, detail }) => `${code} ${where}: ${detail}`);
  if (doubts.length === 0) for (const { code, detail } of metadata.problems) doubts.push(`${code}: ${detail}`);
  let dirtyKeys = 0;
  let dirty: ByteRange[] = [];
  let rangesMax = RANGES_PER_MERGE;
  let isComplete = false;
  if (LogKeys.canWalk(metadata)) {
    const keys = new LogKeys(new TolerantReader(pmem), metadata, Infinity, crc);
    while (keys.next()) {
      if (keys.row.state !== 'dirty') continue;
      dirtyKeys++;
      const { offsetBytes, lengthBytes } = keys.row;
      dirty.push({ offsetBytes, lengthBytes });
      if (dirty.length < rangesMax) continue;
      dirty = mergeRanges(dirty);
      rangesMax = Math.max(rangesMax, 2 * dirty.length);
    }
    isComplete = keys.problem === undefined;
    if (keys.problem !== undefined && doubts.length === 0) doubts.push(`${keys.problem.code}: ${keys.problem.detail}`);
  }
  const dirtyBytes = totalBytes(mergeRanges(dirty));
  return { dirtyKeys, dirtyBytes, isCounted: isComplete && doubts.length === 0, doubts };
}

/** @throws PcacheError DIRTY, with the status of problems left, unless it is certain that nothing is dirty */
export function refuseDirty(path: string, { dirtyKeys, dirtyBytes, isCounted, doubts }: WipeVerdict): void {
  if (dirtyKeys === 0 && isCounted) return;
  const parts: string[] = [];
  if (dirtyKeys > 0) {
    const keys = dirtyKeys === 1 ? '1 key' : `${dirtyKeys} keys`;
    parts.push(`${keys} (${dirtyBytes} bytes) not written back`);
  }
  if (doubts.length > 0) {
    const more = doubts.length > 1 ? ` (and ${doubts.length - 1} more)` : '';
    parts.push(`data that is not written back may be hidden: ${doubts[0]}${more}`);
  }
  const remedy = `run "pcache writeback ${path} BACKING" first, or give --force to lose it`;
  throw new PcacheError('DIRTY', `${path}: ${parts.join('; ')}; ${remedy}`, { exitStatus: ExitStatus.problemsLeft });
}
