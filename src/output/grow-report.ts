/** The output of `pcache grow`: text and JSON. Pure. */
import type { GrowPlan } from '../engine/create/grow-cache.js';
import { signatureNames } from '../engine/create/foreign-signatures.js';
import { formatBytes, formatCount } from './units.js';

export interface GrowJson {
  readonly path: string;
  readonly dryRun: boolean;
  readonly deviceBytes: number;
  /** Segments that the cache used before, and uses now; equal where there was nothing to do. */
  readonly segmentsBefore: number;
  readonly segmentsAfter: number;
  /** Size of the data areas that were added, for data and log; bytes. */
  readonly addedBytes: number;
  /** Filesystems and the like whose marks were erased from the new space. */
  readonly overwrote: string | null;
}

export function growJson(path: string, plan: GrowPlan, dryRun: boolean): GrowJson {
  const { deviceBytes, segmentsBefore, segmentsAfter, geometry, foreign } = plan;
  const addedBytes = (segmentsAfter - segmentsBefore) * geometry.segmentDataBytes;
  const overwrote = foreign.length === 0 ? null : signatureNames(foreign);
  return { path, dryRun, deviceBytes, segmentsBefore, segmentsAfter, addedBytes, overwrote };
}

export function growLine({ path, dryRun, segmentsBefore, segmentsAfter, addedBytes }: GrowJson): string {
  const segments = `${formatCount(segmentsAfter)} segments`;
  if (addedBytes === 0) {
    const what = `an interrupted growth to ${segments}`;
    return dryRun ? `${path}: would finish ${what}; nothing was changed` : `${path}: finished ${what}`;
  }
  const what = `from ${formatCount(segmentsBefore)} to ${segments}, ${formatBytes(addedBytes)} more for data and log`;
  return dryRun ? `${path}: would grow ${what}; nothing was changed` : `${path}: grown ${what}`;
}

export function fullyGrownLine({ path, segmentsAfter }: GrowJson): string {
  return `${path}: uses all ${formatCount(segmentsAfter)} segments of the device already; nothing was changed`;
}
