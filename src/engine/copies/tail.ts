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

  /** @param twinsAgree both twins say this place. */
  constructor(
    private readonly writer: DualWriter,
    public segment: number,
    public offsetBytes: number,
    private twinsAgree: boolean,
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
  /** Stores the place over the older twin; the caller persists. */
  store(): void {
    this.writer.write((seq) => encodePosition(this, seq));
    this.twinsAgree = this.isAt(this.storedSegment, this.storedOffsetBytes);
    this.storedSegment = this.segment;
    this.storedOffsetBytes = this.offsetBytes;
  }
  /** Makes both twins say this place, durably: the loss of one can't bring an older place back. */
  storeInBoth(pmem: Pmem): void {
    while (!this.twinsAgree || !this.isAt(this.storedSegment, this.storedOffsetBytes)) {
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
