/** The output of `pcache format`: text and JSON. Pure. */
import type { FormatJob } from '../engine/create/format-target.js';
import { renderFields } from './table.js';
import { formatBytes } from './units.js';

export interface FormatJson {
  readonly path: string;
  readonly dryRun: boolean;
  readonly created: boolean;
  /** Not all space of the file is reserved; null for a device, and when nothing was changed. */
  readonly sparse: boolean | null;
  readonly overwrote: string | null;
  readonly deviceBytes: number;
  readonly segments: number;
  readonly segmentBytes: number;
  readonly dataBytes: number;
  readonly unusedBytes: number;
  readonly dataCrc: boolean;
  readonly gcPercent: number;
  readonly mode: string;
  readonly cacheFlags: number;
  /** Device-mapper table, with `<sectors>` and `<backing_dev>` (and `<cache_dev>` for a file) to be filled in. */
  readonly table: string;
}

/** What formatting has done. */
export interface FormatOutcome {
  readonly dryRun: boolean;
  /** As in `FormatJson`. */
  sparse: boolean | null;
}

function tableLine(path: string, job: FormatJob): string {
  const cache = job.isFile ? '<cache_dev>' : path;
  return `0 <sectors> pcache ${cache} <backing_dev> 4 cache_mode writeback data_crc ${job.plan.dataCrc}`;
}

export function formatJson(path: string, job: FormatJob, { dryRun, sparse }: FormatOutcome): FormatJson {
  const { plan } = job;
  return {
    path,
    dryRun,
    created: job.creates && !dryRun,
    sparse,
    overwrote: job.overwrites === '' ? null : job.overwrites,
    deviceBytes: plan.deviceBytes,
    segments: plan.segmentCount,
    segmentBytes: plan.geometry.segmentBytes,
    dataBytes: plan.dataBytes,
    unusedBytes: plan.unusedBytes,
    dataCrc: plan.dataCrc,
    gcPercent: plan.gcPercent,
    mode: plan.mode,
    cacheFlags: plan.cacheFlags,
    table: tableLine(path, job),
  };
}

/** The kernel accepts no mode but writeback in its table, and ignores the one stored in the cache. */
function modeText(mode: string): string {
  return mode === 'writeback' ? mode : `${mode} (pcache only; the kernel treats every cache as writeback)`;
}

/** The first line of the summary. */
function headline(path: string, job: FormatJob, dryRun: boolean): string {
  const size = formatBytes(job.plan.deviceBytes, { exact: true });
  const what = job.creates ? `create and format ${path}` : `format ${path}`;
  if (dryRun) return `Would ${what} (${size}); nothing was changed.`;
  return `${job.creates ? 'Created and formatted' : 'Formatted'} ${path} (${size}).`;
}

/** A cache in a sparse file fails when its filesystem is full. */
const SPARSE_TEXT = 'sparse: a filesystem that becomes full stops the cache; --preallocate reserves the space';

export function formatSummary(path: string, job: FormatJob, { dryRun, sparse }: FormatOutcome): string {
  const { plan } = job;
  const segment = formatBytes(plan.geometry.segmentBytes);
  const fields: [string, string][] = [
    ['segments', `${plan.segmentCount} of ${segment}, ${formatBytes(plan.dataBytes)} for data and log`],
    ['mode', modeText(plan.mode)],
    ['data_crc', plan.dataCrc ? 'on' : 'off'],
    ['gc_percent', String(plan.gcPercent)],
  ];
  if (plan.unusedBytes > 0) {
    const why =
      plan.unusedBytes < plan.geometry.segmentBytes
        ? 'less than a segment'
        : 'the maximum number of segments is reached';
    fields.push(['unused', `${formatBytes(plan.unusedBytes, { exact: true })} at the end (${why})`]);
  }
  if (sparse !== null) fields.push(['space', sparse ? SPARSE_TEXT : 'reserved']);
  if (job.resizesFromBytes !== undefined) {
    fields.push(['old file size', formatBytes(job.resizesFromBytes, { exact: true })]);
  }
  if (job.overwrites !== '') fields.push([dryRun ? 'overwrites' : 'overwrote', job.overwrites]);
  const where = job.isFile ? ' (the kernel needs a DAX device such as /dev/pmem0; it does not accept a file)' : '';
  return `${headline(path, job, dryRun)}\n${renderFields(fields)}\nDevice-mapper table${where}:\n  ${tableLine(path, job)}\n`;
}
