/** How much a check is going to read, for its progress. */
import type { Position } from '../engine/media/codecs.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';
import { walkFrom } from './walk-from.js';

/**
 * About as many bytes as `examined.bytesRead` will be once the log from `start` has been checked: what has been read so
 * far, the ksets, and the payload of their keys where that is checked. Costs a walk of the log, which does not count as
 * examined.
 */
export function expectedBytes(
  context: CheckContext,
  chain: CheckedChain,
  start: Position,
  checksPayload: boolean,
): number {
  const { examined } = context;
  const alreadyRead = examined.bytesRead;
  const walker = walkFrom(context, chain, start);
  let bytes = alreadyRead;
  while (walker.next()) {
    const { kset } = walker;
    bytes += kset.lengthBytes;
    if (!checksPayload) continue;
    for (let index = 0; index < kset.keyCount; index++) bytes += kset.keyLengthBytes(index);
  }
  examined.bytesRead = alreadyRead;
  return bytes;
}
