/**
 * The hooks of a thread that shares its cache with others (`shards/`): its segment table and log writer lie in shared
 * memory, and it keeps a part of the index only. A cache of one thread has no such hooks.
 */
import type { LogWriter } from './log-writer.js';
import type { Geometry } from '../media/geometry.js';
import type { SegmentChain } from '../media/metadata.js';
import type { SegmentTable } from '../space/segment-table.js';

export interface Sharing {
  makeSegments(geometry: Geometry, chain: SegmentChain): SegmentTable;
  makeLog(...args: ConstructorParameters<typeof LogWriter>): LogWriter;
  /** Whether this thread keeps the index of `subtree`. */
  owns(subtree: number): boolean;
}
