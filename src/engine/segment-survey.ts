/**
 * Survey of a running cache: the current use of each segment, and the amount of data still to be written back. Successive
 * surveys read each kset of the dirty log once, which takes about 2 µs: they are for pictures and statistics, not for the
 * request path. A survey changes nothing.
 */
import type { Core } from './core.js';
import type { Position } from './media/codecs.js';
import { KsetView } from './media/kset.js';
import { LogWalker } from './media/log-walker.js';

/** Up to this many new ksets are read one by one, however few the queue holds. */
const FOLLOWED_KSETS_MIN = 64;
const FIRST_QUEUE_KSETS = 64;

/** Use of a segment. */
export const SegmentUse = {
  free: 0,
  /** A segment of the log. */
  log: 1,
  /** Payload, all of which is on the backing device. */
  clean: 2,
  /** Payload, some of which is not on the backing device yet, or is an older version of such data. */
  dirty: 3,
} as const;

/** The ksets from dirty_tail to key_head, LAST ksets included: the position and the dirty keys and bytes of each. */
export class KsetQueue {
  first = 0;
  end = 0;
  private segments = new Uint32Array(FIRST_QUEUE_KSETS);
  private offsets = new Uint32Array(FIRST_QUEUE_KSETS);
  private keys = new Uint32Array(FIRST_QUEUE_KSETS);
  private bytes = new Float64Array(FIRST_QUEUE_KSETS);

  get length(): number {
    return this.end - this.first;
  }
  push(segment: number, offsetBytes: number, dirtyKeys: number, dirtyBytes: number): void {
    if (this.end === this.keys.length) this.makeRoom();
    const at = this.end++;
    this.segments[at] = segment;
    this.offsets[at] = offsetBytes;
    this.keys[at] = dirtyKeys;
    this.bytes[at] = dirtyBytes;
  }
  isFirstAt({ segment, offsetBytes }: Position): boolean {
    return this.segments[this.first] === segment && this.offsets[this.first] === offsetBytes;
  }
  /** @returns dirty bytes of the ksets before the one at a position; undefined when there is none at it */
  bytesBefore({ segment, offsetBytes }: Position): number | undefined {
    let bytes = 0;
    for (let at = this.first; at < this.end; at++) {
      if (this.segments[at] === segment && this.offsets[at] === offsetBytes) return bytes;
      bytes += this.bytes[at];
    }
    return undefined;
  }
  get firstKeys(): number {
    return this.keys[this.first];
  }
  get firstBytes(): number {
    return this.bytes[this.first];
  }
  private makeRoom(): void {
    const { first, end } = this;
    const capacity = this.length > this.keys.length / 2 ? this.keys.length * 2 : this.keys.length;
    const moved = <Column extends Uint32Array | Float64Array>(to: Column, from: Column): Column => {
      to.set(from.subarray(first, end));
      return to;
    };
    this.segments = moved(new Uint32Array(capacity), this.segments);
    this.offsets = moved(new Uint32Array(capacity), this.offsets);
    this.keys = moved(new Uint32Array(capacity), this.keys);
    this.bytes = moved(new Float64Array(capacity), this.bytes);
    this.first = 0;
    this.end = end - first;
  }
}

export class SegmentSurvey {
  /** A `SegmentUse` for each logical segment, as of the last `take()`. */
  readonly use: Uint8Array;
  /** Keys from dirty_tail on that are not CLEAN, and their bytes; overwritten versions and open ksets included. */
  dirtyKeys = 0;
  dirtyBytes = 0;
  /** Number of ksets that the last `take()` read, a measure of its cost. */
  ksets = 0;

  private readonly queue = new KsetQueue();
  /** Dirty keys and bytes of the queue. */
  private loggedKeys = 0;
  private loggedBytes = 0;
  /** For each segment the number of the last kset with a dirty key in it. Ksets are numbered as they are read. */
  private readonly lastDirty: Float64Array;
  private lastNumber = 0;
  /** key_head at the last survey, and the number of ksets closed by then. */
  private head: Position;
  private closedBefore: number;

  constructor(private readonly core: Core) {
    this.use = new Uint8Array(core.segments.count);
    this.lastDirty = new Float64Array(core.segments.count);
    this.head = core.log.head;
    this.closedBefore = core.log.ksetsClosed;
    this.ksets = this.walkAll();
  }

  /** Low 32 bits of a segment's generation, which change when it is freed. */
  generationLow(segment: number): number {
    return this.core.segments.generationLow[segment];
  }

  take(): void {
    const { segments, log } = this.core;
    const closed = log.ksetsClosed - this.closedBefore;
    const isWorthFollowing = closed <= Math.max(FOLLOWED_KSETS_MIN, this.queue.length);
    this.ksets = isWorthFollowing ? this.follow(closed) : this.walkAll();
    this.head = log.head;
    this.closedBefore = log.ksetsClosed;
    const clean = this.lastNumber - this.queue.length;
    for (let segment = 0; segment < segments.count; segment++) {
      if (!segments.isUsed(segment)) this.use[segment] = SegmentUse.free;
      else if (segments.isInLog(segment)) this.use[segment] = SegmentUse.log;
      else this.use[segment] = this.lastDirty[segment] > clean ? SegmentUse.dirty : SegmentUse.clean;
    }
    this.dirtyKeys = this.loggedKeys;
    this.dirtyBytes = this.loggedBytes;
    this.addOpenKsets();
  }

  /** Reads the ksets since the last survey, or all of them if some are gone. @returns the number of ksets read */
  private follow(closed: number): number {
    let read = 0;
    if (closed > 0) {
      const walker = this.walkerFrom(this.head);
      while (read < closed && walker.next()) {
        this.append(walker);
        if (!walker.kset.isLast) read++;
      }
    }
    return read === closed && this.dropClean() ? read : read + this.walkAll();
  }

  /** Reads all ksets from dirty_tail on. @returns the number of ksets read */
  private walkAll(): number {
    this.queue.first = this.queue.end;
    this.loggedKeys = 0;
    this.loggedBytes = 0;
    if (this.core.logIsClean) return 0;
    const walker = this.walkerFrom(this.core.dirtyTail.position);
    while (walker.next()) this.append(walker);
    return this.queue.length;
  }

  private walkerFrom(position: Position): LogWalker {
    const { pmem, geometry, metadata, crc } = this.core;
    return new LogWalker(pmem, geometry, metadata.chain, position, crc);
  }

  private append({ kset, segment, offsetBytes }: LogWalker): void {
    this.lastNumber++;
    let keys = 0;
    let bytes = 0;
    for (let i = 0; i < kset.keyCount; i++) {
      if (kset.keyIsClean(i)) continue;
      keys++;
      bytes += kset.keyLengthBytes(i);
      this.lastDirty[kset.keySegment(i)] = this.lastNumber;
    }
    this.queue.push(segment, offsetBytes, keys, bytes);
    this.loggedKeys += keys;
    this.loggedBytes += bytes;
  }

  /** Removes the ksets that dirty_tail has passed. @returns false when dirty_tail is not in the queue */
  private dropClean(): boolean {
    const { queue } = this;
    const { log, dirtyTail } = this.core;
    const tail = dirtyTail.position;
    while (queue.length > 0 && !queue.isFirstAt(tail)) {
      this.loggedKeys -= queue.firstKeys;
      this.loggedBytes -= queue.firstBytes;
      queue.first++;
    }
    return queue.length > 0 || dirtyTail.isAt(log.headSegment, log.headOffsetBytes);
  }

  private addOpenKsets(): void {
    const open = new KsetView();
    for (const { bytes, keyCount } of this.core.log.openKsets) {
      open.attach(bytes, 0);
      for (let i = 0; i < keyCount; i++) {
        if (open.keyIsClean(i)) continue;
        const segment = open.keySegment(i);
        this.dirtyKeys++;
        this.dirtyBytes += open.keyLengthBytes(i);
        if (this.use[segment] === SegmentUse.clean) this.use[segment] = SegmentUse.dirty;
      }
    }
  }
}
