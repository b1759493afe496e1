/** The output of `pcache wipe`: text and JSON. Pure. */
import type { WipeTotals } from '../engine/create/wipe-cache.js';
import type { WipeVerdict } from '../rescue/wipe-verdict.js';
import type { StepsOptions } from './base-command.js';
import { formatBytes, formatCount } from './units.js';

export interface WipeJson {
  readonly path: string;
  readonly dryRun: boolean;
  readonly deviceBytes: number;
  /** Segments that the device has room for; all of them are wiped. */
  readonly segments: number;
  /** Headers of ksets that were erased; 0 with --dry-run. */
  readonly ksets: number;
  /** Keys that were not written back; given up with --force. */
  readonly dirtyKeys: number;
  /** What they hold, a range that several keys hold counted once. */
  readonly dirtyBytes: number;
  /** False where damage hid a part of the log, so that more may have been dirty. */
  readonly isCounted: boolean;
  /** The damage that hid it: code, position and detail. */
  readonly doubts: readonly string[];
}

/** Segments between two turns of the event loop. */
const SEGMENTS_PER_TURN = 8;

/** How the steps of a wipe are shown. @param whenInterrupted what is left behind then */
export function wipeStepsOptions({ segmentCount }: WipeTotals, whenInterrupted: string): StepsOptions {
  return {
    label: 'wiping',
    total: segmentCount,
    unit: 'count',
    noun: 'segments',
    stepsPerTurn: SEGMENTS_PER_TURN,
    whenInterrupted,
  };
}

/** What is given up, one line each. */
export function givenUpNotes(path: string, { dirtyKeys, dirtyBytes, doubts }: WipeVerdict): string[] {
  const notes = doubts.map((doubt) => `${path}: given up: whatever is hidden by ${doubt}`);
  if (dirtyKeys > 0) {
    const keys = `${formatCount(dirtyKeys)} key${dirtyKeys === 1 ? '' : 's'}`;
    notes.unshift(`${path}: given up: ${keys} not written back, ${formatBytes(dirtyBytes, { exact: true })}`);
  }
  return notes;
}

export function wipeLine({ path, dryRun, segments, ksets }: WipeJson): string {
  if (dryRun) return `${path}: would be wiped, with ${formatCount(segments)} segments; nothing was changed`;
  return `${path}: wiped: ${formatCount(segments)} segments, ${formatCount(ksets)} ksets erased; payload stays on the device`;
}
