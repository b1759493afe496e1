/** A repair's result as lines for people and as a JSON document. Pure; knows no terminal. */
import type { FindingCode } from '../catalogue.js';
import type { CheckResult } from '../check.js';
import { saysAnything, type LossSummary } from './losses.js';
import type { ByteRange } from './ranges.js';
import { totalBytes } from './ranges.js';
import type { RepairResult } from './repair.js';
import type { Fix, Loss } from './types.js';

/** Ranges of one loss that are listed for people; a JSON document has them all. */
const RANGES_LISTED = 32;

export interface FixJson {
  readonly codes: readonly FindingCode[];
  readonly action: string;
  readonly assumed?: string;
  readonly losses: readonly Loss[];
}

export interface RepairJson {
  readonly undo: string | null;
  readonly made: readonly FixJson[];
  readonly declined: readonly FixJson[];
  readonly losses: LossSummary;
  /** The repair was interrupted. */
  readonly stopped: boolean;
  /** The check afterwards. */
  readonly after: CheckResult;
}

export function repairJson(result: RepairResult, undoPath: string | undefined): RepairJson {
  const { made, declined, losses, stopped, after } = result;
  return { undo: undoPath ?? null, made: made.map(fixJson), declined: declined.map(fixJson), losses, stopped, after };
}

function fixJson({ codes, action, assumed, losses }: Fix): FixJson {
  return { codes, action, ...(assumed === undefined ? {} : { assumed }), losses };
}

/** What is lost with a repair, to be said before it is made. */
export function lossLines(fix: Fix, size: (bytes: number) => string): string[] {
  return fix.losses.filter(saysAnything).flatMap((loss) => {
    const kind = loss.kind === 'lost' ? 'lost' : 'perhaps lost';
    const many = loss.ranges.length === 1 ? '1 range' : `${loss.ranges.length} ranges`;
    const named =
      loss.ranges.length === 0 ? 'data whose ranges are not known' : `${size(totalBytes(loss.ranges))} in ${many}`;
    const more =
      loss.mayBeMore && loss.ranges.length > 0 ? ', and perhaps others, since what names them is damaged' : '';
    const head = `${kind}: ${loss.where}: ${named}${more}: ${loss.reason}`;
    const listed = loss.ranges.slice(0, RANGES_LISTED).map((range) => `  ${rangeText(range)}`);
    const left = loss.ranges.length - listed.length;
    return [head, ...listed, ...(left > 0 ? [`  and ${left} more, which --json lists`] : [])];
  });
}

function rangeText({ offsetBytes, lengthBytes }: ByteRange): string {
  return `bytes ${offsetBytes} to ${offsetBytes + lengthBytes}`;
}

/** A repair that was made. */
export function fixedLine(fix: Fix): string {
  return `fixed: ${fix.action}${assumedText(fix)}`;
}

const NEEDS: Readonly<Record<Fix['consent'], string>> = {
  'plain': '',
  'drop-corrupt': ' (needs --drop-corrupt)',
  'accept-loss': ' (needs --accept-loss)',
  'data-crc': ' (needs --data-crc on or --data-crc off)',
};

/** A repair that was not made. */
export function declinedLine(fix: Fix): string {
  const isLossy = fix.consent === 'plain' && fix.losses.some(saysAnything);
  return `not fixed: ${fix.action}${NEEDS[fix.consent]}${isLossy ? ' (may lose data; --interactive lists which)' : ''}`;
}

/** What is asked before a repair. */
export function questionText(fix: Fix): string {
  const order = `${fix.action.charAt(0).toUpperCase()}${fix.action.slice(1)}`;
  return `${fix.codes.join(', ')}: ${order}${assumedText(fix)}?`;
}

function assumedText(fix: Fix): string {
  return fix.assumed === undefined ? '' : ` (assumed: ${fix.assumed})`;
}

/** How to take a repair back. */
export function undoLine(path: string, undoPath: string): string {
  return `undo file: ${undoPath}; to take the repair back: pcache fsck --undo-apply ${undoPath} ${path}`;
}
