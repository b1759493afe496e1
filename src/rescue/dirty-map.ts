/**
 * The newest version of every byte that the log covers, in the order of the backing device (format §2): what has to
 * be written back, and what is on the backing device already.
 *
 * - Keys before dirty_tail, and CLEAN keys, are not written: the backing device holds the same bytes. A stale one
 *   holds nothing, and nothing older shows through it.
 * - Other keys from dirty_tail on are all current: one that is stale was refused before (KEY_STALE_DIRTY), since
 *   nothing is collected that is not on the backing device yet.
 * - A key whose payload does not match its CRC, or cannot be read, keeps its range: those bytes fail, and no older
 *   version is written in their stead.
 *
 * Memory: 12 bytes for each extent, 7 for every 4 MiB of the backing device.
 */
import type { PmemReader } from '../engine/device/pmem.js';
import { TolerantReader } from '../engine/device/tolerant-reader.js';
import { PcacheError } from '../engine/errors.js';
import { ENTRY_CLEAN } from '../engine/index/entry-table.js';
import { ExtentIndex } from '../engine/index/extent-index.js';
import type { Position } from '../engine/media/codecs.js';
import { CRC_SEED, type Crc32c } from '../engine/media/crc32c.js';
import { SECTOR_BYTES, SECTOR_SHIFT, SUBTREE_BYTES, type Geometry } from '../engine/media/geometry.js';
import type { KsetView } from '../engine/media/kset.js';
import { LogWalker } from '../engine/media/log-walker.js';
import type { CacheMetadata } from '../engine/media/metadata.js';
import { positionText } from '../engine/media/position-text.js';

/** What is to become of an extent; kept in the flags of its index entry. */
export const Fate = { write: 0, onBacking: ENTRY_CLEAN, badCrc: 4, unreadable: 5 } as const;

export interface DirtyExtent {
  offsetBytes: number;
  lengthBytes: number;
  /** Where on the cache device its payload begins. */
  deviceOffsetBytes: number;
  fate: number;
}

/** Keys between two turns of the event loop. */
const KEYS_PER_TURN = 50_000;
/** A generation that no segment of the index is at. */
const STALE = 1;
const VERIFY_BYTES_PER_TURN = 64 * 1024 * 1024;

export class DirtyMap {
  /** Ksets in [dirty_tail, key_head), LAST ksets left out. */
  ksets = 0;
  /** Keys in there that have to be written back, and their bytes. */
  dirtyKeys = 0;
  dirtyKeyBytes = 0;
  cleanKeys = 0;
  /** Where the log ends, which is where dirty_tail belongs when all is written. */
  keyHead: Position = { segment: 0, offsetBytes: 0 };

  private readonly index: ExtentIndex;

  constructor(
    private readonly pmem: PmemReader,
    private readonly metadata: CacheMetadata,
    private readonly backingBytes: number,
    private readonly crc: Crc32c,
  ) {
    // For the index every segment is of generation 0, and what is stale of another one.
    this.index = new ExtentIndex(backingBytes, new Int32Array(metadata.chain.length));
  }

  /** Reads the log. Yields the keys done every so often. @throws PcacheError BAD_MEDIA */
  *load(): Generator<number> {
    let done = 0;
    let dirty = false;
    const dirtyTail = this.metadata.dirtyTail.value!;
    const walker = this.walker();
    while (walker.next()) {
      if (walker.isAt(dirtyTail)) dirty = true;
      const { kset } = walker;
      if (kset.isLast) continue;
      if (dirty) this.ksets++;
      for (let key = 0; key < kset.keyCount; key++) {
        const wrong = this.keyProblem(kset, key, dirty);
        if (wrong !== '') throw this.changed(`key ${key} of the kset at ${positionText(walker)} ${wrong}`);
        this.insert(kset, key, dirty && this.count(kset, key) ? Fate.write : Fate.onBacking);
        if (++done % KEYS_PER_TURN === 0) yield done;
      }
    }
    this.keyHead = walker.position;
    if (!dirty && !walker.isAt(dirtyTail)) throw this.changed('dirty_tail is not a position in the log');
    if (walker.offsetBytes >= this.geometry.segmentDataBytes) {
      throw this.changed('the log goes to the last byte of its segment, where no tail can be');
    }
  }

  /**
   * Checks the payload of every key that something is to be written of against its CRC. What has been
   * overwritten by a later key is not looked at. Yields the bytes of keys done every so often.
   */
  *verify(): Generator<number> {
    const dirtyTail = this.metadata.dirtyTail.value!;
    let done = 0;
    let sinceTurn = 0;
    const walker = this.walker(dirtyTail);
    while (walker.next()) {
      const { kset } = walker;
      for (let key = 0; key < kset.keyCount; key++) {
        if (kset.keyIsClean(key)) continue;
        const length = kset.keyLengthBytes(key);
        done += length;
        if (!this.eachPiece(kset, key, undefined)) continue;
        const fate = this.judge(kset, key);
        if (fate !== Fate.write) this.eachPiece(kset, key, fate);
        if ((sinceTurn += length) < VERIFY_BYTES_PER_TURN) continue;
        sinceTurn = 0;
        yield done;
      }
    }
  }

  private insert(kset: KsetView, key: number, fate: number): void {
    const offset = kset.keyOffsetBytes(key);
    this.index.insert(
      Math.floor(offset / SUBTREE_BYTES),
      (offset % SUBTREE_BYTES) >>> SECTOR_SHIFT,
      kset.keyLengthBytes(key) >>> SECTOR_SHIFT,
      kset.keySegment(key),
      kset.keySegmentOffsetBytes(key) / SECTOR_BYTES,
      this.isStale(kset, key) ? STALE : 0,
      fate,
    );
  }

  /** Everything that is not on the backing device, in its order. Yields the same object every time. */
  extents(): Generator<Readonly<DirtyExtent>> {
    return this.entries((fate) => fate !== Fate.onBacking);
  }

  /** Everything that the cache holds and the backing device too, in its order. Yields the same object every time. */
  extentsOnBacking(): Generator<Readonly<DirtyExtent>> {
    return this.entries((fate) => fate === Fate.onBacking);
  }

  private *entries(isMeant: (fate: number) => boolean): Generator<Readonly<DirtyExtent>> {
    const { index } = this;
    const { dataOffsetBytes } = this.metadata.chain;
    const extent: DirtyExtent = { offsetBytes: 0, lengthBytes: 0, deviceOffsetBytes: 0, fate: Fate.write };
    let subtree = index.nextUsedSubtree(0);
    for (; subtree >= 0; subtree = index.nextUsedSubtree(subtree + 1)) {
      for (index.seek(subtree, 0); index.valid; index.advance()) {
        if (index.isStale || !isMeant(index.flags)) continue;
        extent.offsetBytes = subtree * SUBTREE_BYTES + index.start * SECTOR_BYTES;
        extent.lengthBytes = (index.end - index.start) * SECTOR_BYTES;
        extent.deviceOffsetBytes = dataOffsetBytes[index.segment] + index.offsetSectors * SECTOR_BYTES;
        extent.fate = index.flags;
        yield extent;
      }
    }
  }

  private get geometry(): Geometry {
    return this.metadata.geometry;
  }

  private walker(start: Position = this.metadata.keyTail.value!): LogWalker {
    return new LogWalker(new TolerantReader(this.pmem), this.geometry, this.metadata.chain, start, this.crc);
  }

  private keyProblem(kset: KsetView, key: number, dirty: boolean): string {
    const { chain } = this.metadata;
    const wrong = kset.keyProblem(key, this.geometry, chain.length, this.backingBytes);
    if (wrong !== '' || !dirty || kset.keyIsClean(key)) return wrong;
    return this.isStale(kset, key) ? 'is stale' : '';
  }

  private isStale(kset: KsetView, key: number): boolean {
    return kset.keyGeneration(key) < this.metadata.chain.generation[kset.keySegment(key)];
  }

  /** @returns whether the key has to be written back. */
  private count(kset: KsetView, key: number): boolean {
    if (kset.keyIsClean(key)) {
      this.cleanKeys++;
      return false;
    }
    this.dirtyKeys++;
    this.dirtyKeyBytes += kset.keyLengthBytes(key);
    return true;
  }

  private judge(kset: KsetView, key: number): number {
    const offset = this.metadata.chain.dataOffsetBytes[kset.keySegment(key)] + kset.keySegmentOffsetBytes(key);
    try {
      const crc = this.pmem.crc32c(offset, kset.keyLengthBytes(key), CRC_SEED);
      return crc === kset.keyDataCrc(key) ? Fate.write : Fate.badCrc;
    } catch (error) {
      if (!(error instanceof PcacheError) || error.code !== 'IO') throw error;
      return Fate.unreadable;
    }
  }

  /**
   * Which of some payloads, or parts of one, belong to a key that does not match its CRC. Walks the log once.
   * @param deviceOffsetBytes where each begins on the cache device
   */
  badPayloads(deviceOffsetBytes: readonly number[]): ReadonlySet<number> {
    const wanted = Float64Array.from(deviceOffsetBytes).sort();
    const bad = new Set<number>();
    const { dataOffsetBytes } = this.metadata.chain;
    const walker = this.walker();
    while (walker.next()) {
      const { kset } = walker;
      for (let key = 0; key < kset.keyCount; key++) {
        if (this.isStale(kset, key)) continue;
        const start = dataOffsetBytes[kset.keySegment(key)] + kset.keySegmentOffsetBytes(key);
        const end = start + kset.keyLengthBytes(key);
        const first = firstAtLeast(wanted, start);
        if (first === wanted.length || wanted[first] >= end || this.judge(kset, key) === Fate.write) continue;
        for (let at = first; at < wanted.length && wanted[at] < end; at++) bad.add(wanted[at]);
      }
    }
    return bad;
  }

  /**
   * Finds the extents that are what is left of a key, and gives them another fate where one is given.
   * @returns whether there are any.
   */
  private eachPiece(kset: KsetView, key: number, fate: number | undefined): boolean {
    const { index } = this;
    const offset = kset.keyOffsetBytes(key);
    const subtree = Math.floor(offset / SUBTREE_BYTES);
    const start = (offset % SUBTREE_BYTES) >>> SECTOR_SHIFT;
    const end = start + (kset.keyLengthBytes(key) >>> SECTOR_SHIFT);
    const segment = kset.keySegment(key);
    const shift = kset.keySegmentOffsetBytes(key) / SECTOR_BYTES - start;
    let found = false;
    for (index.seek(subtree, start); index.valid && index.start < end; index.advance()) {
      const isIts = index.segment === segment && index.offsetSectors === index.start + shift;
      if (!isIts || index.flags !== Fate.write) continue;
      found = true;
      if (fate === undefined) break;
      index.insert(subtree, index.start, index.end - index.start, segment, index.offsetSectors, 0, fate);
    }
    return found;
  }

  /** The log was checked before it was read, so this is a medium that changed in between. */
  private changed(what: string): PcacheError {
    return new PcacheError('BAD_MEDIA', `${this.pmem.path}: ${what}; run "pcache fsck"`);
  }
}

/** Index of the first of some ascending numbers that is at least `least`. */
function firstAtLeast(numbers: Float64Array, least: number): number {
  let low = 0;
  for (let high = numbers.length; low < high;) {
    const middle = (low + high) >>> 1;
    if (numbers[middle] < least) low = middle + 1;
    else high = middle;
  }
  return low;
}
