/**
 * Walks the log of ksets (format §2): from a position, kset after kset, through LAST ksets into other
 * segments, to key_head. Bounded: at most as many hops as the cache has segments, and as many ksets as fit in
 * them. Reads ahead through a window that grows with the walk, so that a look at a few ksets is cheap; allocates
 * nothing per kset.
 */
import type { Position } from './codecs.js';
import type { Crc32c } from './crc32c.js';
import type { ByteSource } from './dual.js';
import type { Geometry } from './geometry.js';
import { KSET_BYTES_MAX, KSET_HEADER_BYTES, KsetView, type KsetVerdict } from './kset.js';
import type { SegmentChain } from './metadata.js';

/** Why the log ends at key_head. Bad magic, key count or CRC is an ordinary end; the others make a kernel refuse. */
export type LogEndReason = Exclude<KsetVerdict, 'ok'> | 'last-out-of-range' | 'too-many-hops';

/** Most ksets of a busy log are short: dozens of them fit in the first window. Each next one is twice as large. */
const WINDOW_BYTES_FIRST = 8 * 1024;
const WINDOW_BYTES_MAX = 256 * 1024;

export class LogWalker {
  /** The kset at the current position, valid after `next()` returned true and until it is called again. */
  readonly kset: KsetView;
  /** Position of the current kset; after the end, key_head. */
  segment = 0;
  offsetBytes = 0;
  /** Set once `next()` has returned false. */
  endReason: LogEndReason | undefined;
  /** LAST ksets passed so far. */
  hops = 0;

  private window: Uint8Array;
  private windowSegment = -1;
  private windowStart = 0;
  private windowEnd = 0;
  private advance = 0;
  private hopTo = -1;

  /**
   * @param chain the segments of the cache by logical id; must be complete.
   * @param crc CRC-32C for the ksets; the table-driven one if not given.
   */
  constructor(
    private readonly source: ByteSource,
    private readonly geometry: Geometry,
    private readonly chain: Pick<SegmentChain, 'length' | 'dataOffsetBytes'>,
    start: Position,
    crc?: Crc32c,
  ) {
    this.kset = new KsetView(crc);
    this.window = this.makeWindow(WINDOW_BYTES_FIRST);
    this.segment = start.segment;
    this.offsetBytes = start.offsetBytes;
  }

  get position(): Position {
    return { segment: this.segment, offsetBytes: this.offsetBytes };
  }

  /** True when the current position is `position`. */
  isAt(position: Position): boolean {
    return this.segment === position.segment && this.offsetBytes === position.offsetBytes;
  }

  /** Goes to the next kset (LAST ksets are visited too). Returns false at key_head and on every later call. */
  next(): boolean {
    if (this.endReason !== undefined) return false;
    if (this.hopTo >= 0) {
      this.segment = this.hopTo;
      this.offsetBytes = 0;
      this.hopTo = -1;
    } else {
      this.offsetBytes += this.advance;
    }
    this.advance = 0;
    const available = this.geometry.segmentDataBytes - this.offsetBytes;
    const readable = this.load();
    const verdict = this.kset.verdict(readable, available);
    if (verdict !== 'ok') return this.end(verdict);
    if (this.kset.isLast) {
      const next = this.kset.nextSegment;
      if (next >= this.chain.length) return this.end('last-out-of-range');
      if (++this.hops > this.chain.length) return this.end('too-many-hops');
      this.hopTo = next;
    } else {
      this.advance = this.kset.lengthBytes;
    }
    return true;
  }

  private makeWindow(bytes: number): Uint8Array {
    return new Uint8Array(Math.min(bytes, WINDOW_BYTES_MAX, this.geometry.segmentDataBytes) + KSET_BYTES_MAX);
  }

  private end(reason: LogEndReason): false {
    this.endReason = reason;
    return false;
  }

  /**
   * Reads the bytes of the current position into the window and points the view there. A kset that does not fit in
   * its segment must still be seen whole, so the window reaches up to one kset beyond the segment's end.
   * @returns number of bytes, from the current position on, that belong to the device; at most one kset.
   */
  private load(): number {
    const dataOffset = this.chain.dataOffsetBytes[this.segment];
    const limit = Math.min(this.geometry.segmentDataBytes + KSET_BYTES_MAX, this.source.sizeBytes - dataOffset);
    const wanted = Math.min(this.offsetBytes + KSET_BYTES_MAX, limit);
    const inWindow =
      this.windowSegment === this.segment && this.offsetBytes >= this.windowStart && wanted <= this.windowEnd;
    if (!inWindow) {
      if (this.windowSegment >= 0 && this.window.length < WINDOW_BYTES_MAX) {
        this.window = this.makeWindow(2 * this.window.length);
      }
      this.windowSegment = this.segment;
      this.windowStart = this.offsetBytes;
      this.windowEnd = Math.min(this.offsetBytes + this.window.length, limit);
      const length = this.windowEnd - this.windowStart;
      if (length >= KSET_HEADER_BYTES) this.source.read(dataOffset + this.offsetBytes, this.window, 0, length);
    }
    this.kset.attach(this.window, this.offsetBytes - this.windowStart);
    return wanted - this.offsetBytes;
  }
}
