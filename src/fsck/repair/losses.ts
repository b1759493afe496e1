/** What repairs lost, in one summary: what is lost for certain, what may be, and whether that is all. */
import { mergeRanges, totalBytes, type ByteRange } from './ranges.js';
import type { Fix, Loss } from './types.js';

export interface LossSummary {
  /** What was written there last is gone. */
  readonly certain: readonly Loss[];
  /** It may be. */
  readonly possible: readonly Loss[];
  /** Nothing beyond the listed ranges is lost. */
  readonly complete: boolean;
}

/** Losses of the repairs that were made, and those that a repair which was declined would accept. */
export function summarizeLosses(made: readonly Fix[], declined: readonly Fix[]): LossSummary {
  const unaccepted = declined.filter(({ consent }) => consent === 'accept-loss');
  const losses = [...made, ...unaccepted].flatMap((fix) => fix.losses).filter(saysAnything);
  return {
    certain: losses.filter(({ kind }) => kind === 'lost'),
    possible: losses.filter(({ kind }) => kind === 'perhaps-lost'),
    complete: losses.every(({ mayBeMore }) => !mayBeMore),
  };
}

/** A loss without ranges that has no others either is none. */
export function saysAnything({ ranges, mayBeMore }: Loss): boolean {
  return ranges.length > 0 || mayBeMore;
}

export function nothingLost({ certain, possible }: LossSummary): boolean {
  return certain.length === 0 && possible.length === 0;
}

/** Every range that is or may be lost. */
export function lostRanges({ certain, possible }: LossSummary): ByteRange[] {
  return mergeRanges([...certain, ...possible].flatMap(({ ranges }) => ranges));
}

/** One line for people, behind the repairs. */
export function lossSummaryText(losses: LossSummary, size: (bytes: number) => string): string {
  const part = (what: string, list: readonly Loss[]): string[] => {
    if (list.length === 0) return [];
    const ranges = mergeRanges(list.flatMap((loss) => loss.ranges));
    return [`${what} ${ranges.length === 0 ? 'data whose ranges are not known' : size(totalBytes(ranges))}`];
  };
  const parts = [...part('lost:', losses.certain), ...part('perhaps lost:', losses.possible)];
  const isListed = lostRanges(losses).length > 0;
  return `${parts.join('; ')}${losses.complete || !isListed ? '' : '; there may be more'}`;
}
