/**
 * Walks the log of ksets (format §2): from a position, kset after kset, through LAST ksets into other
 * segments, to the place where it ends. Bounded: at most as many hops as there are segments, at most as many
 * ksets as fit in them. Reads ahead in large pieces; allocates nothing per kset.
 */
import type { Position } from './codecs.js';
import type { Crc32c } from './crc32c.js';
import type { ByteSource } from './dual.js';
import type { Geometry } from './geometry.js';
import { KSET_BYTES_MAX, KSET_HEADER_BYTES, KsetView, type KsetVerdict } from './kset.js';
import type { SegmentChain } from './metadata.js';

/** How the log ended. The first four are its ordinary end, the others make the kernel refuse the device. */
export type LogEndReason = Exclude<KsetVerdict, 'ok'> | 'last-out-of-range' | 'too-many-hops';

const WINDOW_BYTES = 256 * 1024;

export class LogWalker {
  /** The kset at the current place, valid after `next()` returned true and until it is called again. */
  readonly kset: KsetView;
  /** Place of the current kset; after the end, the place where it ended: key_head. */
  segment = 0;
  offsetBytes = 0;
  /** Set once `next()` has returned false. */
  endReason: LogEndReason | undefined;
  /** LAST ksets passed so far. */
  hops = 0;

  private readonly window: Uint8Array;
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
    this.window = new Uint8Array(Math.min(WINDOW_BYTES, geometry.segmentDataBytes) + KSET_BYTES_MAX);
    this.segment = start.segment;
    this.offsetBytes = start.offsetBytes;
  }

  get position(): Position {
    return { segment: this.segment, offsetBytes: this.offsetBytes };
  }

  /** True when the current place is `position`. */
  isAt(position: Position): boolean {
    return this.segment === position.segment && this.offsetBytes === position.offsetBytes;
  }

  /** Goes to the next kset (LAST ksets are visited too). False at the end of the log, then and ever after. */
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

  private end(reason: LogEndReason): false {
    this.endReason = reason;
    return false;
  }

  /**
   * Brings the bytes of the current place into the window and points the view there. A kset that its segment
   * cannot hold must still be seen whole, so up to one kset beyond the segment's end is read.
   * @returns how many bytes from there on belong to the device.
   */
  private load(): number {
    const dataOffset = this.chain.dataOffsetBytes[this.segment];
    const limit = Math.min(this.geometry.segmentDataBytes + KSET_BYTES_MAX, this.source.sizeBytes - dataOffset);
    const wanted = Math.min(this.offsetBytes + KSET_BYTES_MAX, limit);
    const inWindow =
      this.windowSegment === this.segment && this.offsetBytes >= this.windowStart && wanted <= this.windowEnd;
    if (!inWindow) {
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
