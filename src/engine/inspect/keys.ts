/**
 * The keys of a cache as rows: those of the log in log order (`LogKeys`), or what the index holds after overlap
 * resolution in logical order (`liveEntries`). Rows are views that the next step overwrites.
 */
import type { Position } from '../media/codecs.js';
import type { Crc32c } from '../media/crc32c.js';
import type { ByteSource } from '../media/dual.js';
import { SECTOR_BYTES, SUBTREE_BYTES } from '../media/geometry.js';
import { LogWalker } from '../media/log-walker.js';
import type { CacheMetadata } from '../media/metadata.js';
import { positionText } from '../media/position-text.js';
import type { MediaProblem } from '../media/problem.js';
import { ENTRY_CLEAN, ENTRY_WRITTEN_BACK } from '../index/entry-table.js';
import { endProblem, type LoadedCache } from '../log/recovery.js';

/**
 * `dirty`: not on the backing device yet, as far as dirty_tail tells. `clean`: came from a read miss.
 * `written-back`: its kset is behind dirty_tail. `stale`: its payload is gone.
 */
export type KeyState = 'dirty' | 'clean' | 'written-back' | 'stale';

export interface KeyRow {
  offsetBytes: number;
  lengthBytes: number;
  /** Logical segment of the payload, and where in its data area. */
  segment: number;
  segmentOffsetBytes: number;
  generation: number;
  state: KeyState;
}

export interface LogKeyRow extends KeyRow {
  /** Where the key's kset begins. */
  ksetSegment: number;
  ksetOffsetBytes: number;
  /** Number of the kset from key_tail on; LAST ksets do not count. */
  kset: number;
  keyIndex: number;
  flags: number;
  dataCrc: number;
}

/** Steps through the keys of the log in constant memory. */
export class LogKeys {
  readonly row: LogKeyRow = {
    ksetSegment: 0,
    ksetOffsetBytes: 0,
    kset: -1,
    keyIndex: -1,
    offsetBytes: 0,
    lengthBytes: 0,
    segment: 0,
    segmentOffsetBytes: 0,
    generation: 0,
    flags: 0,
    state: 'dirty',
    dataCrc: 0,
  };
  /** Set once `next()` has returned false on damage: what the log could not be followed beyond. */
  problem: MediaProblem | undefined;

  private readonly walker: LogWalker;
  private readonly dirtyTail: Position | undefined;
  private behindDirtyTail: boolean;
  private keysLeft = 0;

  /** Whether the log of a cache can be walked, as far as it goes, whatever else is wrong with it. */
  static canWalk(metadata: CacheMetadata): boolean {
    const tail = metadata.keyTail.value;
    const { segmentDataBytes } = metadata.geometry;
    return tail !== undefined && tail.segment < metadata.chain.length && tail.offsetBytes < segmentDataBytes;
  }

  /** @param metadata for which `canWalk` holds; where dirty_tail is lost, everything counts as dirty. */
  constructor(
    source: ByteSource,
    private readonly metadata: CacheMetadata,
    private readonly backingBytes: number,
    crc?: Crc32c,
  ) {
    this.dirtyTail = metadata.dirtyTail.value;
    this.behindDirtyTail = this.dirtyTail !== undefined;
    this.walker = new LogWalker(source, metadata.geometry, metadata.chain, metadata.keyTail.value!, crc);
  }

  /** Goes to the next key, which is then in `row`. False at the end. */
  next(): boolean {
    while (this.keysLeft === 0) if (!this.nextKset()) return false;
    const { row, walker, metadata } = this;
    const { kset } = walker;
    const index = ++row.keyIndex;
    this.keysLeft--;
    const wrong = kset.keyProblem(index, metadata.geometry, metadata.chain.length, this.backingBytes);
    if (wrong !== '') {
      this.problem = {
        code: 'KEY_OUT_OF_BOUNDS',
        detail: `key ${index} of the kset at ${positionText(walker)} ${wrong}`,
      };
      return false;
    }
    row.offsetBytes = kset.keyOffsetBytes(index);
    row.lengthBytes = kset.keyLengthBytes(index);
    row.segment = kset.keySegment(index);
    row.segmentOffsetBytes = kset.keySegmentOffsetBytes(index);
    row.generation = kset.keyGeneration(index);
    row.flags = kset.keyFlags(index);
    row.dataCrc = kset.keyDataCrc(index);
    row.state = stateOf(
      row.generation < metadata.chain.generation[row.segment],
      kset.keyIsClean(index),
      this.behindDirtyTail,
    );
    return true;
  }

  private nextKset(): boolean {
    const { walker, row } = this;
    if (this.problem !== undefined) return false;
    if (!walker.next()) {
      this.problem = endProblem(walker, this.behindDirtyTail, this.dirtyTail ?? walker.position);
      return false;
    }
    if (this.dirtyTail !== undefined && walker.isAt(this.dirtyTail)) this.behindDirtyTail = false;
    this.keysLeft = walker.kset.keyCount;
    if (walker.kset.isLast) return true;
    row.kset++;
    row.ksetSegment = walker.segment;
    row.ksetOffsetBytes = walker.offsetBytes;
    row.keyIndex = -1;
    return true;
  }
}

function stateOf(stale: boolean, clean: boolean, writtenBack: boolean): KeyState {
  if (stale) return 'stale';
  if (clean) return 'clean';
  return writtenBack ? 'written-back' : 'dirty';
}

/** The entries of the index in logical order. Yields the same object every time. */
export function* liveEntries(cache: LoadedCache): Generator<Readonly<KeyRow>> {
  const { index, segments } = cache;
  const row: KeyRow = {
    offsetBytes: 0,
    lengthBytes: 0,
    segment: 0,
    segmentOffsetBytes: 0,
    generation: 0,
    state: 'dirty',
  };
  let subtree = index.nextUsedSubtree(0);
  for (; subtree >= 0; subtree = index.nextUsedSubtree(subtree + 1)) {
    for (index.seek(subtree, 0); index.valid; index.advance()) {
      if (index.isStale) continue;
      row.offsetBytes = subtree * SUBTREE_BYTES + index.start * SECTOR_BYTES;
      row.lengthBytes = (index.end - index.start) * SECTOR_BYTES;
      row.segment = index.segment;
      row.segmentOffsetBytes = index.offsetSectors * SECTOR_BYTES;
      row.generation = segments.generation(row.segment);
      row.state = stateOf(false, (index.flags & ENTRY_CLEAN) !== 0, (index.flags & ENTRY_WRITTEN_BACK) !== 0);
      yield row;
    }
  }
}
