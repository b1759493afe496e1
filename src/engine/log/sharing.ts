/**
 * What differs in a thread that shares its cache with others: where the segment table and the log's head are kept,
 * and which part of the index is its own. Only types; without it a cache has all of that to itself.
 */
import type { LogWriter } from './log-writer.js';
import type { Geometry } from '../media/geometry.js';
import type { SegmentChain } from '../media/metadata.js';
import type { SegmentTable } from '../space/segment-table.js';

export interface Sharing {
  makeSegments(geometry: Geometry, chain: SegmentChain): SegmentTable;
  makeLog(...args: ConstructorParameters<typeof LogWriter>): LogWriter;
  /** Whether this thread keeps the index of a subtree. */
  owns(subtree: number): boolean;
}
