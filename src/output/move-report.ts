/** The output of `pcache move`: text and JSON. Pure. */
import type { FormatPlan } from '../engine/create/create-cache.js';
import type { MovePlan } from '../rescue/move-cache.js';
import { formatBytes, formatCount } from './units.js';

export interface MoveJson {
  readonly path: string;
  readonly target: string;
  readonly dryRun: boolean;
  /** Size of the new cache device, and its segments. */
  readonly deviceBytes: number;
  readonly segments: number;
  /** Of these, segments that the log and the data take. */
  readonly segmentsUsed: number;
  readonly dataCrc: boolean;
  readonly mode: string;
  readonly gcPercent: number;
  readonly keys: number;
  /** Data that was moved, and what of it is not on the backing device. */
  readonly movedBytes: number;
  readonly dirtyBytes: number;
  /** What was on the new device before, as `format` names it. */
  readonly overwrote: string | null;
  /** The old device holds no cache any more. */
  readonly oldWiped: boolean;
}

export interface MoveOutcome {
  readonly path: string;
  readonly target: string;
  readonly dryRun: boolean;
  readonly overwrites: string;
  readonly oldWiped: boolean;
}

export function moveJson(outcome: MoveOutcome, plan: MovePlan, format: FormatPlan): MoveJson {
  const { path, target, dryRun, overwrites, oldWiped } = outcome;
  const { deviceBytes, segmentCount, dataCrc, mode, gcPercent } = format;
  return {
    path,
    target,
    dryRun,
    deviceBytes,
    segments: segmentCount,
    segmentsUsed: plan.logSegments + plan.payloadSegments,
    dataCrc,
    mode,
    gcPercent,
    keys: plan.cleanKeys + plan.dirtyKeys,
    movedBytes: plan.cleanBytes + plan.dirtyBytes,
    dirtyBytes: plan.dirtyBytes,
    overwrote: overwrites === '' ? null : overwrites,
    oldWiped,
  };
}

export function moveText(result: MoveJson): string {
  const { path, target, dryRun, segments, segmentsUsed, keys, movedBytes, dirtyBytes, oldWiped } = result;
  const what = `${formatBytes(movedBytes)} in ${formatCount(keys)} keys, ${formatBytes(dirtyBytes)} of it dirty`;
  const room = `${formatCount(segmentsUsed)} of ${formatCount(segments)} segments in use`;
  if (dryRun) return `${path}: would be moved to ${target}: ${what}; ${room}; nothing was changed\n`;
  const old = oldWiped
    ? `${path}: wiped; payload stays on the device`
    : `${path}: still holds the old cache; never attach it again: run "pcache wipe --force ${path}"`;
  return `${path}: moved to ${target}: ${what}; ${room}\n${old}\n`;
}
