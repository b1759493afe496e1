/**
 * Repairs of dual-copy structures (format §1 "Metadata header"). One good copy, old or new, stands at every
 * moment where there was one to begin with: the copy that counts is written last.
 */
import { META_HEADER_BYTES } from '../../engine/media/codecs.js';
import { structCrc } from '../../engine/media/crc32c.js';
import type { Dual } from '../../engine/media/dual.js';
import type { CheckContext } from '../context.js';
import type { Change } from './types.js';

const SEQ_OFFSET = 4;

/** Writes both copies with the same contents, under the next two sequence numbers. */
export function rewriteBoth(dual: Dual<unknown>, encode: (seq: number) => Uint8Array): Change[][] {
  const winnerSeq = dual.value?.seq ?? 0;
  const last = dual.winner === -1 ? 0 : dual.winner;
  const first = last === 0 ? 1 : 0;
  return [
    [{ offsetBytes: dual.offsets[first], bytes: encode(winnerSeq + 1) }],
    [{ offsetBytes: dual.offsets[last], bytes: encode(winnerSeq + 2) }],
  ];
}

/** Writes the contents of the copy that counts over the other one, under the next sequence number. */
export function rewriteLostCopy(context: CheckContext, dual: Dual<unknown>, lengthBytes: number): Change[][] {
  const winner = dual.winner === 1 ? 1 : 0;
  const bytes = new Uint8Array(lengthBytes);
  context.source.read(dual.offsets[winner], bytes, 0, lengthBytes);
  // What the kernel leaves uninitialised there means nothing; it starts anew.
  bytes.fill(0, SEQ_OFFSET, META_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint8(SEQ_OFFSET, dual.copies[winner].seq + 1);
  view.setUint32(0, structCrc(bytes, 0, lengthBytes), true);
  return [[{ offsetBytes: dual.offsets[winner === 0 ? 1 : 0], bytes }]];
}
