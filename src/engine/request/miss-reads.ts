/**
 * Reads of ranges that the cache does not hold (kernel: `cache_miss_req_*`, `submit_cache_miss_req`,
 * `miss_read_end_req`). A read of a hole leaves a placeholder in the index. When the backing device has answered and
 * the placeholder still stands, the data goes into the cache as a CLEAN key. A write that came in between has deleted
 * or shortened the placeholder, so old data never covers new data. A read that meets the placeholder of another read
 * reads the backing device itself and inserts nothing.
 *
 * The placeholder is found again by its start, which no write moves, and by the number and serial of its read.
 */
import type { Core } from '../core.js';
import { fromSystemError, type PcacheError } from '../errors.js';
import { ENTRY_CLEAN } from '../index/entry-table.js';
import { KEY_FLAG_CLEAN } from '../media/kset.js';
import { SECTOR_SHIFT, SUBTREE_BYTES } from '../media/geometry.js';
import type { EngineGroup } from './request-group.js';

/** One read under way. The objects are pooled, each with its own callback. */
class MissRead {
  group: EngineGroup | undefined;
  request = 0;
  subtree = 0;
  startSector = 0;
  arenaOffsetBytes = 0;
  /** Whether the read left a placeholder, and that placeholder's serial. */
  fills = false;
  serial = 0;
  readonly done: (error: Error | null) => void;

  /** @param number index of this object in the pool; the placeholder carries it */
  constructor(
    readonly number: number,
    owner: MissReads,
  ) {
    this.done = (error) => owner.finished(this, error);
  }
}

export class MissReads {
  private readonly pool: MissRead[] = [];
  private readonly free: MissRead[] = [];
  private serial = 0;

  /**
   * @param onPartDone called when a part of a request has ended; with the error if it failed
   * @param fillsAllowed asked before a range is read: whether its data may go into the cache
   * @param mayFill asked before data goes into the cache; false while writes wait for room
   */
  constructor(
    private readonly core: Core,
    private readonly onPartDone: (group: EngineGroup, request: number, error: PcacheError | undefined) => void,
    private readonly fillsAllowed: (startBytes: number, endBytes: number) => boolean,
    private readonly mayFill: () => boolean,
  ) {}

  /** Number of reads under way. */
  get pending(): number {
    return this.pool.length - this.free.length;
  }

  /**
   * Reads the hole [sector, end) that the index cursor stands at. If the data may go into the cache, the read leaves a
   * placeholder.
   */
  readHole(group: EngineGroup, request: number, subtree: number, sector: number, end: number, arenaAt: number): void {
    const bytes = (end - sector) << SECTOR_SHIFT;
    const offset = subtree * SUBTREE_BYTES + (sector << SECTOR_SHIFT);
    if (!this.fillsAllowed(offset, offset + bytes)) {
      this.readAround(group, request, subtree, sector, bytes, arenaAt);
      return;
    }
    const read = this.take(group, request, subtree, sector, arenaAt);
    read.fills = true;
    this.serial = (this.serial + 1) | 0;
    read.serial = this.serial;
    this.core.index.insertPlaceholder(sector, end, read.number, read.serial);
    this.submit(read, bytes);
  }

  /** Reads a range without a placeholder: its data does not go into the cache. */
  readAround(
    group: EngineGroup,
    request: number,
    subtree: number,
    sector: number,
    bytes: number,
    arenaAt: number,
  ): void {
    const read = this.take(group, request, subtree, sector, arenaAt);
    read.fills = false;
    this.submit(read, bytes);
  }

  private take(group: EngineGroup, request: number, subtree: number, sector: number, arenaAt: number): MissRead {
    let read = this.free.pop();
    if (!read) {
      read = new MissRead(this.pool.length, this);
      this.pool.push(read);
    }
    read.group = group;
    read.request = request;
    read.subtree = subtree;
    read.startSector = sector;
    read.arenaOffsetBytes = arenaAt;
    return read;
  }

  private submit(read: MissRead, bytes: number): void {
    const { backing, stats } = this.core;
    const group = read.group!;
    group.parts[read.request]++;
    group.missBytes[read.request] += bytes;
    stats.backingReads++;
    stats.backingReadBytes += bytes;
    backing.read(this.offsetOf(read), group.arena.memory, read.arenaOffsetBytes, bytes, read.done);
  }

  private offsetOf(read: MissRead): number {
    return read.subtree * SUBTREE_BYTES + (read.startSector << SECTOR_SHIFT);
  }

  /** The backing device has answered. */
  finished(read: MissRead, error: Error | null): void {
    const group = read.group!;
    let failure = error ? fromSystemError(error, this.core.backing.path, 'reading it') : undefined;
    if (read.fills && !this.core.failure) {
      try {
        this.settlePlaceholder(read, failure === undefined);
      } catch (fault) {
        failure = this.core.fail(fault); // the cache device failed during the fill: the read fails, too
      }
    }
    read.group = undefined;
    this.free.push(read);
    this.onPartDone(group, read.request, failure);
  }

  /** Turns the placeholder into a CLEAN key, or drops it. */
  private settlePlaceholder(read: MissRead, arrived: boolean): void {
    const { core } = this;
    const { index, log, pieces, stats } = core;
    const slot = log.slotOf(read.subtree);
    const room = arrived && this.mayFill() && (log.roomOf(slot) > 0 || core.commit());
    index.seek(read.subtree, read.startSector);
    if (!index.valid || index.start !== read.startSector || !index.isPlaceholderOf(read.number, read.serial)) {
      stats.fillsDropped++;
      return;
    }
    if (!room || !pieces.begin(slot)) {
      index.remove();
      stats.fillsDropped++;
      return;
    }
    // The key takes the placeholder's place, whole or not: what has no room in the segment is not cached.
    const { offsetSectors, leftSectors } = pieces.head;
    const sectors = Math.min(index.end - index.start, leftSectors);
    pieces.set(0, offsetSectors, sectors, read.subtree, read.startSector, read.arenaOffsetBytes, read.request);
    pieces.count = 1;
    pieces.sectors = sectors;
    core.storePieces(read.group!.arena, KEY_FLAG_CLEAN, ENTRY_CLEAN);
    core.commit();
    stats.fills++;
    stats.fillBytes += sectors << SECTOR_SHIFT;
  }
}
