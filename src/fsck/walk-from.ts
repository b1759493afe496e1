/** Walks the log of a checked cache from any position. */
import type { Position } from '../engine/media/codecs.js';
import { LogWalker } from '../engine/media/log-walker.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';

/** The ksets from `start` on, as far as they lead. */
export function walkFrom(context: CheckContext, chain: CheckedChain, start: Position): LogWalker {
  return new LogWalker(context.source, context.geometry, chain, start, context.crc);
}
