/**
 * Repairs broken twins when a cache is opened for writing: a copy whose bytes are damaged is made a copy of
 * the good one again, so that a second loss does not lose the structure. A blank copy was never written and
 * is left: the next update goes there.
 */
import type { Pmem } from './device/pmem.js';
import { GENERATION_BYTES, POSITION_BYTES, CACHE_INFO_BYTES, SEGMENT_INFO_BYTES } from './media/codecs.js';
import type { Dual } from './media/dual.js';
import { generationCopies, segmentInfoCopies, type CopyOffsets } from './media/geometry.js';
import { CopyState, type CacheMetadata } from './media/metadata.js';

/** @returns how many copies were repaired; durable at return. */
export function repairBrokenTwins(pmem: Pmem, metadata: CacheMetadata): number {
  let repaired = 0;
  const copyOver = (offsets: CopyOffsets, from: 0 | 1, lengthBytes: number) => {
    const bytes = new Uint8Array(lengthBytes);
    pmem.read(offsets[from], bytes, 0, lengthBytes);
    pmem.write(offsets[from === 0 ? 1 : 0], bytes, 0, lengthBytes);
    repaired++;
  };
  const repairDual = (dual: Dual<unknown>, lengthBytes: number) => {
    if (dual.winner === -1) return;
    const other = dual.winner === 0 ? 1 : 0;
    if (!dual.copies[other].crcOk && !dual.blank[other]) copyOver(dual.offsets, dual.winner, lengthBytes);
  };
  const repairPacked = (state: number, offsets: CopyOffsets, lengthBytes: number) => {
    const good0 = (state & CopyState.valid0) !== 0;
    const good1 = (state & CopyState.valid1) !== 0;
    if (good0 && !good1 && (state & CopyState.blank1) === 0) copyOver(offsets, 0, lengthBytes);
    if (good1 && !good0 && (state & CopyState.blank0) === 0) copyOver(offsets, 1, lengthBytes);
  };

  repairDual(metadata.cacheInfo, CACHE_INFO_BYTES);
  repairDual(metadata.keyTail, POSITION_BYTES);
  repairDual(metadata.dirtyTail, POSITION_BYTES);
  const { chain, geometry } = metadata;
  for (let logical = 0; logical < chain.length; logical++) {
    const physical = chain.physicalId[logical];
    repairPacked(chain.infoState[logical], segmentInfoCopies(geometry, physical), SEGMENT_INFO_BYTES);
    repairPacked(chain.generationState[logical], generationCopies(geometry, physical), GENERATION_BYTES);
  }
  if (repaired > 0) pmem.persist();
  return repaired;
}
