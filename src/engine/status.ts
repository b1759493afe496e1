/** The status line of the kernel's target (format §4), from what was loaded or from a running engine. */
import type { Position } from './media/codecs.js';

export interface StatusFields {
  readonly superblockFlags: number;
  readonly segmentsOnDevice: number;
  readonly cacheSegments: number;
  readonly segmentsUsed: number;
  readonly gcPercent: number;
  readonly cacheFlags: number;
  readonly keyHead: Position;
  readonly dirtyTail: Position;
  readonly keyTail: Position;
}

/** `<sb_flags hex> <seg_total> <cache_segs> <segs_used> <gc_percent> <cache_flags hex> <key_head> <dirty_tail> <key_tail>` */
export function formatStatusLine(fields: StatusFields): string {
  const place = (position: Position) => `${position.segment}:${position.offsetBytes}`;
  return [
    fields.superblockFlags.toString(16),
    fields.segmentsOnDevice,
    fields.cacheSegments,
    fields.segmentsUsed,
    fields.gcPercent,
    fields.cacheFlags.toString(16),
    place(fields.keyHead),
    place(fields.dirtyTail),
    place(fields.keyTail),
  ].join(' ');
}
