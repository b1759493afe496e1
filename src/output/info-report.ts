/** The text output of `pcache info`. Pure. */
import type { CacheSummary, DualSummary, SegmentSummary } from '../engine/inspect/summary.js';
import type { CacheInfo } from '../engine/media/codecs.js';
import { positionText } from '../engine/media/position-text.js';
import { DURABILITY_TEXTS } from './durability-text.js';
import { renderFields, renderTable } from './table.js';
import type { Style } from './terminal.js';
import { formatBytes, formatCount } from './units.js';

const REASON = {
  'newer': 'newer',
  'only-valid': 'the other copy is not valid',
  'same-seq': 'both have the same seq',
  'none': '',
} as const;

/** One line for each copy, and which one is in effect. */
function dualRows<T>(name: string, dual: DualSummary<T>, show: (copy: T) => string): string[][] {
  return dual.copies.map((copy, at) => {
    const state = copy.crcOk ? `seq ${copy.seq}` : copy.blank ? 'never written' : 'bad CRC';
    const verdict = dual.winner === at ? `in effect: ${REASON[dual.reason]}` : '';
    return [at === 0 ? name : '', `copy ${at}`, state, copy.crcOk ? show(copy) : '', verdict];
  });
}

function cacheInfoText({ segmentCount, firstSegmentId, flags }: CacheInfo): string {
  return `${segmentCount} segments from ${firstSegmentId}, flags 0x${flags.toString(16)}`;
}

/** The copy of Linux 6.18.0 to 6.18.3 that no kernel reads. */
function strayRows({ strayCacheInfo: stray }: CacheSummary): string[][] {
  if (stray === null) return [];
  const text = `${cacheInfoText(stray)} (gc_percent ${stray.gcPercent})`;
  return [['', 'stray copy', `seq ${stray.seq}`, text, 'at byte 8216, where no kernel reads it']];
}

function duals(summary: CacheSummary): string {
  return renderTable(undefined, [
    ...dualRows('cache_info', summary.cacheInfo, cacheInfoText),
    ...strayRows(summary),
    ...dualRows('key_tail', summary.keyTail, positionText),
    ...dualRows('dirty_tail', summary.dirtyTail, positionText),
  ]);
}

/** Number of segments by the copy in effect: `copy 0: 30, copy 1: 1`. */
function winners(segments: readonly SegmentSummary[], of: (segment: SegmentSummary) => number): string {
  const counts = [0, 1, -1].map((copy) => [copy, segments.filter((segment) => of(segment) === copy).length] as const);
  return counts
    .filter(([, count]) => count > 0)
    .map(([copy, count]) => `${copy < 0 ? 'none valid' : `copy ${copy}`}: ${formatCount(count)}`)
    .join(', ');
}

function lonely(segments: readonly SegmentSummary[], of: (segment: SegmentSummary) => readonly number[]): string {
  const count = segments.filter((segment) => of(segment).length < 2).length;
  return count === 0 ? '' : ` (${formatCount(count)} with a single copy)`;
}

function segmentFields(summary: CacheSummary): [string, string][] {
  const { segments, content } = summary;
  const used = content === null ? 'in use: unknown' : `${formatCount(content.segmentsUsed)} in use`;
  const generations = segments.reduce((most, segment) => Math.max(most, segment.generation), 0);
  return [
    ['segments', `${formatCount(segments.length)} of ${formatBytes(summary.segmentBytes)}, ${used}`],
    ['segment infos', winners(segments, (one) => one.infoWinner) + lonely(segments, (one) => one.infoCopies)],
    [
      'generations',
      `up to ${generations}; ${winners(segments, (one) => one.generationWinner)}${lonely(segments, (one) => one.generationCopies)}`,
    ],
  ];
}

function contentFields(summary: CacheSummary): [string, string][] {
  const { content } = summary;
  if (content === null) return [['log', 'cannot be read']];
  const size = (bytes: number): string => formatBytes(bytes, { exact: true });
  return [
    ['key_head', positionText(content.keyHead)],
    [
      'log',
      `${formatCount(content.ksets)} ksets, ${formatCount(content.keys)} keys (${formatCount(content.staleKeys)} stale), ${size(content.logBytes)}`,
    ],
    ['cached', `${size(content.liveBytes)} in ${formatCount(content.liveEntries)} extents`],
    ['dirty', size(content.dirtyBytes)],
    ['clean', size(content.cleanBytes)],
  ];
}

/** What is recorded of the backing device. */
function recordFields({ backingRecord: record }: CacheSummary): [string, string][] {
  if (record === null) return [];
  const identity = record.identity === null ? 'no identity' : `${record.identity.kind} ${record.identity.text}`;
  const age = record.isCurrent || record.samples === 0 ? '' : ' from before the last attach';
  const samples = `${formatCount(record.samples)} samples${age}`;
  return [
    ['recorded', `a backing device of ${formatBytes(record.backingBytes, { exact: true })}, ${identity}, ${samples}`],
  ];
}

function layoutFields({ writtenBy }: CacheSummary): [string, string][] {
  if (writtenBy === null) return [];
  return [['layout', `written by ${writtenBy}; "pcache fsck -y" brings it to the layout of later kernels`]];
}

export function infoText(summary: CacheSummary, style: Style): string {
  const { superblock } = summary;
  const good = superblock.magicOk && superblock.crcOk ? 'valid' : 'invalid';
  const backing =
    summary.backingBytes === null
      ? 'not given'
      : `${summary.backing}, ${formatBytes(summary.backingBytes, { exact: true })}`;
  const head = renderFields([
    ['cache', `${summary.path}, ${formatBytes(summary.deviceBytes, { exact: true })}`],
    ['backing', backing],
    ...recordFields(summary),
    ['superblock', `${good}, ${superblock.segments} segments, flags 0x${superblock.flags.toString(16)}`],
    ['mode', summary.mode],
    ['data_crc', summary.dataCrc ? 'on' : 'off'],
    ['gc_percent', summary.gcPercent],
    ...layoutFields(summary),
    ...segmentFields(summary),
    ...contentFields(summary),
    [
      'durability',
      summary.durability === null ? 'unknown: read without a mapping' : DURABILITY_TEXTS[summary.durability],
    ],
  ]);
  const parts = [head, duals(summary)];
  if (summary.status !== null) parts.push(`Status line of the kernel:\n  ${summary.status}\n`);
  parts.push(`Device-mapper table:\n  ${summary.table}\n`);
  if (summary.problems.length > 0) {
    const lines = summary.problems.map((problem) => `  ${style.red(problem.code)} ${problem.detail}\n`).join('');
    parts.push(`Problems ("pcache fsck" lists all of them):\n${lines}`);
  }
  return parts.join('\n');
}
