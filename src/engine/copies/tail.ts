/** key_tail and dirty_tail of a running cache (format §1 "Position"). */
import type { Pmem } from '../device/pmem.js';
import { encodePosition, type Position } from '../media/codecs.js';
import type { CacheMetadata } from '../media/metadata.js';
import type { DualWriter } from './dual-writer.js';

/**
 * One of the two persisted positions in the log. The device holds two copies of it; if the newer copy is lost
 * the older one counts, so the log from the older position on must still be there.
 */
export class Tail {
  private storedSegment: number;
  private storedOffsetBytes: number;

  /** @param copiesAgree both copies hold this position. */
  constructor(
    private readonly writer: DualWriter,
    public segment: number,
    public offsetBytes: number,
    private copiesAgree: boolean,
  ) {
    this.storedSegment = segment;
    this.storedOffsetBytes = offsetBytes;
  }

  get position(): Position {
    return { segment: this.segment, offsetBytes: this.offsetBytes };
  }
  isAt(segment: number, offsetBytes: number): boolean {
    return this.segment === segment && this.offsetBytes === offsetBytes;
  }
  /** Stores the position over the older copy; the caller persists. */
  store(): void {
    this.writer.write((seq) => encodePosition(this, seq));
    this.copiesAgree = this.isAt(this.storedSegment, this.storedOffsetBytes);
    this.storedSegment = this.segment;
    this.storedOffsetBytes = this.offsetBytes;
  }
  /** Stores the position durably in both copies, so that the loss of one cannot bring an older position back. */
  storeInBoth(pmem: Pmem): void {
    while (!this.copiesAgree || !this.isAt(this.storedSegment, this.storedOffsetBytes)) {
      this.store();
      pmem.persist();
    }
  }
}

/** Whether both copies are good and hold the same position. */
export function copiesAgree({ copies: [first, second] }: CacheMetadata['keyTail']): boolean {
  const bothGood = first.crcOk && second.crcOk;
  return bothGood && first.segment === second.segment && first.offsetBytes === second.offsetBytes;
}
