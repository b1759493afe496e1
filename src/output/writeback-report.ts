/** The output of `pcache writeback`: text and JSON. Pure. */
import { positionText } from '../engine/media/position-text.js';
import type { FailedRange } from '../rescue/failed-ranges.js';
import type { WritebackResult } from '../rescue/offline-writeback.js';
import { renderFields, type Column } from './table.js';
import { formatBytes, formatCount, formatDuration } from './units.js';

export const FAILED_COLUMNS: readonly Column<FailedRange>[] = [
  { key: 'offsetBytes', title: 'offset', width: 14, align: 'right', value: (row) => row.offsetBytes },
  { key: 'lengthBytes', title: 'length', width: 10, align: 'right', value: (row) => row.lengthBytes },
  { key: 'reason', width: 12, value: (row) => row.reason },
];

const many = (count: number, noun: string): string => `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;
const exact = (bytes: number): string => formatBytes(bytes, { exact: true });

function dirtyTail(result: WritebackResult): string {
  const before = positionText(result.dirtyTailBefore);
  const after = positionText(result.dirtyTailAfter);
  return before === after ? `${before} (unchanged)` : `moved from ${before} to ${after}`;
}

function comparedText({ comparedSamples, differingSamples, backing }: WritebackResult): string {
  if (comparedSamples === 0) return `nothing: the cache holds no data that ${backing} should hold too`;
  const differ = differingSamples === 0 ? 'all alike' : `${formatCount(differingSamples)} differ`;
  return `${many(comparedSamples, 'sample')} of data that both devices hold: ${differ}`;
}

export function writebackText(result: WritebackResult): string {
  const { failedBytes, writtenBytes, dryRun } = result;
  const fields: [string, string][] = [
    ['cache', result.path],
    ['backing', result.backing],
    [
      'log',
      `${many(result.ksets, 'kset')} from dirty_tail on, ${many(result.dirtyKeys, 'dirty key')}, ${formatCount(result.cleanKeys)} clean`,
    ],
    ['dirty', `${exact(result.dirtyBytes)}; ${exact(result.supersededBytes)} superseded`],
  ];
  if (!dryRun) {
    const time = `${formatDuration(result.seconds * 1e9)}, ${formatBytes(Math.round(result.bytesPerSecond))}/s`;
    const again = result.retriedWrites === 0 ? '' : `, ${formatCount(result.retriedWrites)} retried`;
    fields.push(['written', `${exact(writtenBytes)} in ${many(result.writes, 'write')}${again}, ${time}`]);
  }
  const failed = failedBytes === 0 ? 'nothing' : `${exact(failedBytes)} in ${many(result.failed.length, 'range')}`;
  fields.push([dryRun ? 'would fail' : 'failed', failed]);
  fields.push(['compared', comparedText(result)]);
  if (!result.dataCrc) fields.push(['payload', 'not checked (no data_crc)']);
  fields.push(['dirty_tail', dirtyTail(result)]);
  return renderFields(fields);
}

/** The last line: the outcome. */
export function writebackVerdict(result: WritebackResult): string {
  const { path, backing, failedBytes, dirtyBytes, dryRun, keepMetadata } = result;
  if (failedBytes > 0) {
    const list = `${exact(failedBytes)} in ${many(result.failed.length, 'range')}`;
    const what = dryRun ? 'cannot be written back' : 'could not be written back and remain dirty';
    return `${path}: ${list} ${what}`;
  }
  if (dryRun && dirtyBytes > 0) return `${path}: ${exact(dirtyBytes)} to write back to ${backing}`;
  if (!result.complete) return `${path}: everything in the log is on ${backing}, but the end of the log is torn`;
  if (dryRun) return `${path}: nothing to write back`;
  if (keepMetadata) return `${path}: everything is on ${backing}; the cache was not changed`;
  return `${path}: nothing left to write back`;
}

/** Other damage found in the cache, one line each. */
export function writebackNotes({ findings }: WritebackResult): string[] {
  return findings.map(({ code, where, detail }) => `${code} ${where}: ${detail}; see "pcache fsck"`);
}

export type WritebackJson = Omit<WritebackResult, 'failed' | 'seconds'> & {
  readonly elapsedNs: number;
  readonly failedRanges: number;
  /** With --list-failed only. */
  readonly failed?: readonly FailedRange[];
};

export function writebackJson(result: WritebackResult, listFailed: boolean): WritebackJson {
  const { failed, seconds, ...rest } = result;
  return {
    ...rest,
    elapsedNs: Math.round(seconds * 1e9),
    failedRanges: failed.length,
    ...(listFailed ? { failed } : {}),
  };
}
