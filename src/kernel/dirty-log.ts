/**
 * What is dirty in a cache that the kernel has attached, from its log. The log is read past the page cache while the
 * kernel appends to it and frees segments of it. A position is known from the status line only, which is read before and
 * after each walk: what lies between the dirty_tail that is read last and the key_head that was read before cannot have
 * been freed meanwhile.
 */
import { bestCrc32c } from '../engine/device/native.js';
import { openPmemReader } from '../engine/device/open.js';
import type { PmemReader } from '../engine/device/pmem.js';
import { TolerantReader } from '../engine/device/tolerant-reader.js';
import type { CloseReport } from '../engine/index.js';
import { readMetadataOf } from '../engine/index.js';
import { badMedia } from '../engine/log/recovery.js';
import { isSamePosition, type Position } from '../engine/media/codecs.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import { LogWalker } from '../engine/media/log-walker.js';
import type { CacheMetadata } from '../engine/media/metadata.js';
import { KsetQueue } from '../engine/segment-survey.js';
import type { TargetState } from './device-mapper.js';

/** How often a walk begins anew when the log changes under it. */
const TRIES = 5;

export interface DirtyLog {
  /** As of the end of the walk. */
  readonly state: TargetState;
  /** Keys from dirty_tail on that are not CLEAN, and their bytes; older versions included. */
  readonly dirtyKeys: number;
  readonly dirtyBytes: number;
  /** The log changed under every walk, or a kset of it is damaged: there may be more. */
  readonly isLowerBound: boolean;
  /** Bytes that dirty_tail has passed since the last time; undefined at first, and after a walk that began anew. */
  readonly writtenBackBytes: number | undefined;
}

export class DirtyLogReader {
  private queue = new KsetQueue();
  private keys = 0;
  private bytes = 0;
  /** The end of the queue in the log; undefined before the first walk. */
  private head: Position | undefined;
  private readonly chain: CacheMetadata['chain'];

  /**
   * @param pmem the cache device, which the new object closes
   * @throws PcacheError for a device whose metadata cannot be read
   */
  constructor(private readonly pmem: PmemReader) {
    const metadata = readMetadataOf(pmem, KERNEL_GEOMETRY);
    // The tails are written while they are read; the status line has them.
    const problems = metadata.problems.filter(({ code }) => !/^(KEY|DIRTY)_TAIL_/.test(code));
    if (problems.length > 0) throw badMedia(pmem.path, problems);
    this.chain = metadata.chain;
  }

  /** @throws PcacheError for a cache device that cannot be opened, or holds no cache */
  static open(cachePath: string, native: boolean): DirtyLogReader {
    const pmem = openPmemReader(cachePath, { native, onBusy: () => undefined });
    try {
      return new DirtyLogReader(pmem);
    } catch (error) {
      pmem.close();
      throw error;
    }
  }

  /** @param readState reads the status line */
  async read(readState: () => Promise<TargetState>): Promise<DirtyLog> {
    let isAnew = this.head === undefined;
    for (let attempt = 1; ; attempt++) {
      const before = await readState();
      if (this.head === undefined) this.beginAt(before.dirtyTail);
      const isWalked = this.walkTo(before.keyHead);
      const state = await readState();
      const written = isWalked && this.walkTo(state.keyHead) ? this.dropTo(state.dirtyTail) : undefined;
      const isLowerBound = written === undefined;
      const { keys: dirtyKeys, bytes: dirtyBytes } = this;
      if (isLowerBound) {
        this.head = undefined;
        if (attempt < TRIES) {
          isAnew = true;
          continue;
        }
      }
      return { state, dirtyKeys, dirtyBytes, isLowerBound, writtenBackBytes: isAnew ? undefined : written };
    }
  }

  /** @returns dirty bytes before a position of the log as of the last walk; undefined when dirty_tail has passed it */
  bytesBefore(position: Position): number | undefined {
    if (this.queue.length === 0) return undefined;
    if (this.queue.isFirstAt(position)) return undefined;
    if (this.head !== undefined && isSamePosition(this.head, position)) return this.bytes;
    return this.queue.bytesBefore(position);
  }

  /**
   * Dirty data of a cache that the kernel has let go of: the log then ends by itself.
   * @throws PcacheError BAD_MEDIA for metadata that cannot be read
   */
  afterDetach(): CloseReport {
    const { dirtyTail, problems } = readMetadataOf(this.pmem, KERNEL_GEOMETRY);
    if (problems.length > 0) throw badMedia(this.pmem.path, problems);
    this.beginAt(dirtyTail.value!);
    this.walkTo(undefined);
    return { dirtyKeys: this.keys, dirtyBytes: this.bytes };
  }

  close(): void {
    this.pmem.close();
  }

  private beginAt(position: Position): void {
    this.queue = new KsetQueue();
    this.keys = 0;
    this.bytes = 0;
    this.head = position;
  }

  /** Adds the ksets up to `end`, or all that there are. @returns false when the log does not lead there */
  private walkTo(end: Position | undefined): boolean {
    const from = this.head!;
    if (end !== undefined && isSamePosition(from, end)) return true;
    const walker = new LogWalker(new TolerantReader(this.pmem), KERNEL_GEOMETRY, this.chain, from, bestCrc32c());
    while (walker.next()) {
      if (end !== undefined && walker.isAt(end)) break;
      this.append(walker);
    }
    this.head = walker.position;
    return end !== undefined && walker.isAt(end);
  }

  private append({ kset, segment, offsetBytes }: LogWalker): void {
    let keys = 0;
    let bytes = 0;
    for (let i = 0; i < kset.keyCount; i++) {
      if (kset.keyIsClean(i)) continue;
      keys++;
      bytes += kset.keyLengthBytes(i);
    }
    this.queue.push(segment, offsetBytes, keys, bytes);
    this.keys += keys;
    this.bytes += bytes;
  }

  /** Removes the ksets before a position. @returns their dirty bytes; undefined when it is not in the queue */
  private dropTo(tail: Position): number | undefined {
    const { queue } = this;
    const before = this.bytes;
    while (queue.length > 0 && !queue.isFirstAt(tail)) {
      this.keys -= queue.firstKeys;
      this.bytes -= queue.firstBytes;
      queue.first++;
    }
    if (queue.length === 0 && !isSamePosition(this.head!, tail)) return undefined;
    return before - this.bytes;
  }
}
