/** Whether the payload of a key is what its kset says. */
import { PcacheError } from '../engine/errors.js';
import { CRC_SEED } from '../engine/media/crc32c.js';
import type { KsetView } from '../engine/media/kset.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';

/**
 * Compares the payload of a key that lies within the segments with the key's CRC, which only a cache with data_crc sets.
 * @returns undefined where the medium cannot read the payload
 */
export function payloadMatch(
  context: Pick<CheckContext, 'source'>,
  chain: Pick<CheckedChain, 'dataOffsetBytes'>,
  kset: KsetView,
  index: number,
): boolean | undefined {
  const at = chain.dataOffsetBytes[kset.keySegment(index)] + kset.keySegmentOffsetBytes(index);
  try {
    return context.source.crc32c(at, kset.keyLengthBytes(index), CRC_SEED) === kset.keyDataCrc(index);
  } catch (error) {
    if (error instanceof PcacheError && error.code === 'IO') return undefined;
    throw error;
  }
}
