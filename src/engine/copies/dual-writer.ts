/**
 * Updates one dual-copy structure (format §1 "Metadata header"). It always overwrites the older or broken copy, so
 * that one good copy exists at every moment. The caller persists.
 */
import type { Pmem } from '../device/pmem.js';
import type { Dual } from '../media/dual.js';
import type { CopyOffsets } from '../media/geometry.js';

export class DualWriter {
  /** Sequence number of the newest copy; the device holds only its low 8 bits. */
  private seq: number;
  /** The copy that the next update overwrites. */
  private next: 0 | 1;

  constructor(
    private readonly pmem: Pmem,
    private readonly offsets: CopyOffsets,
    winner: 0 | 1 | -1,
    seq: number,
  ) {
    this.seq = seq;
    this.next = winner === 0 ? 1 : 0;
  }

  static over(pmem: Pmem, dual: Dual<unknown>): DualWriter {
    return new DualWriter(pmem, dual.offsets, dual.winner, dual.value?.seq ?? 0);
  }

  /** Stores the bytes that `encode` returns for the next sequence number. Durable after the next `persist()`. */
  write(encode: (seq: number) => Uint8Array): void {
    this.seq++;
    const bytes = encode(this.seq);
    this.pmem.write(this.offsets[this.next], bytes, 0, bytes.length);
    this.next = this.next === 0 ? 1 : 0;
  }
}
