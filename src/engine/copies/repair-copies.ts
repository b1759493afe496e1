/**
 * Repairs broken copies when a cache is opened for writing: a damaged copy gets the contents of the good one,
 * under the next sequence number, so that a second loss does not lose the structure. A blank copy was never
 * written and stays: the next update goes there.
 *
 * A segment info is written twice when the cache is created: first without the next segment, then with it.
 * Nothing updates it later, so its older copy gets the contents of the newer one too: alone, the older copy would
 * end the chain.
 */
import type { Pmem } from '../device/pmem.js';
import { storeOrWriteOver } from '../device/write-over.js';
import {
  CACHE_INFO_BYTES,
  GENERATION_BYTES,
  META_HEADER_BYTES,
  POSITION_BYTES,
  SEGMENT_INFO_BYTES,
} from '../media/codecs.js';
import { structCrc } from '../media/crc32c.js';
import type { Dual } from '../media/dual.js';
import { generationCopies, segmentInfoCopies, type CopyOffsets } from '../media/geometry.js';
import { CopyState, type CacheMetadata } from '../media/metadata.js';

/** Offset of the sequence number in the metadata header. */
const SEQ_OFFSET = 4;
const BOTH_VALID = CopyState.valid0 | CopyState.valid1;

/** @returns number of repaired copies; durable at return. */
export function repairBrokenCopies(pmem: Pmem, metadata: CacheMetadata): number {
  let repaired = 0;
  const newerInfo = new Uint8Array(SEGMENT_INFO_BYTES);
  const olderInfo = new Uint8Array(SEGMENT_INFO_BYTES);
  const copyOver = (offsets: CopyOffsets, from: 0 | 1, lengthBytes: number) => {
    const bytes = new Uint8Array(lengthBytes);
    pmem.read(offsets[from], bytes, 0, lengthBytes);
    const view = new DataView(bytes.buffer);
    view.setUint8(SEQ_OFFSET, view.getUint8(SEQ_OFFSET) + 1);
    view.setUint32(0, structCrc(bytes, 0, lengthBytes), true);
    storeOrWriteOver(pmem, offsets[from === 0 ? 1 : 0], bytes);
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

  const alignInfo = (offsets: CopyOffsets, newer: 0 | 1) => {
    pmem.read(offsets[newer], newerInfo, 0, SEGMENT_INFO_BYTES);
    pmem.read(offsets[newer === 0 ? 1 : 0], olderInfo, 0, SEGMENT_INFO_BYTES);
    const differs = newerInfo.some((byte, i) => i >= META_HEADER_BYTES && byte !== olderInfo[i]);
    if (differs) copyOver(offsets, newer, SEGMENT_INFO_BYTES);
  };

  repairDual(metadata.cacheInfo, CACHE_INFO_BYTES);
  repairDual(metadata.keyTail, POSITION_BYTES);
  repairDual(metadata.dirtyTail, POSITION_BYTES);
  const { chain, geometry } = metadata;
  for (let logical = 0; logical < chain.length; logical++) {
    const physical = chain.physicalId[logical];
    const info = segmentInfoCopies(geometry, physical);
    if (chain.infoState[logical] === BOTH_VALID) alignInfo(info, chain.infoWinner[logical] as 0 | 1);
    else repairPacked(chain.infoState[logical], info, SEGMENT_INFO_BYTES);
    repairPacked(chain.generationState[logical], generationCopies(geometry, physical), GENERATION_BYTES);
  }
  if (repaired > 0) pmem.persist();
  return repaired;
}
