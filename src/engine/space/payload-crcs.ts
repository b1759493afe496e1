/**
 * The CRC of every payload in the cache, by segment and sector: 12 bytes a key. Kept only for `verifyReads`, because an
 * index entry may cover a part of the range of its key's CRC.
 *
 * Invariants: the payloads of one segment do not overlap; a segment that is taken for payload again starts empty.
 */
import { assert } from '../errors.js';

const FIRST_CAPACITY = 64;

class SegmentCrcs {
  private count = 0;
  private starts = new Uint32Array(FIRST_CAPACITY);
  private sectors = new Uint32Array(FIRST_CAPACITY);
  private crcs = new Uint32Array(FIRST_CAPACITY);
  private isSorted = true;

  clear(): void {
    this.count = 0;
    this.isSorted = true;
  }

  add(start: number, sectors: number, crc: number): void {
    const n = this.count;
    if (n === this.starts.length) this.grow();
    if (n > 0 && start < this.starts[n - 1]) this.isSorted = false;
    this.starts[n] = start;
    this.sectors[n] = sectors;
    this.crcs[n] = crc;
    this.count = n + 1;
  }

  private grow(): void {
    const larger = (column: Uint32Array) => {
      const copy = new Uint32Array(2 * column.length);
      copy.set(column);
      return copy;
    };
    this.starts = larger(this.starts);
    this.sectors = larger(this.sectors);
    this.crcs = larger(this.crcs);
  }

  /** Number of the payload that contains `sector`. */
  find(sector: number): number {
    if (!this.isSorted) this.sort();
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.starts[middle] <= sector) low = middle + 1;
      else high = middle;
    }
    const n = low - 1;
    assert(n >= 0 && sector < this.starts[n] + this.sectors[n], 'an indexed payload has no CRC');
    return n;
  }

  /** The keys of a log that another program wrote need not be in the order of their sectors. */
  private sort(): void {
    const order = Uint32Array.from({ length: this.count }, (_, n) => n).sort((a, b) => this.starts[a] - this.starts[b]);
    const sorted = (column: Uint32Array) => {
      const copy = new Uint32Array(column.length);
      order.forEach((from, to) => (copy[to] = column[from]));
      return copy;
    };
    this.starts = sorted(this.starts);
    this.sectors = sorted(this.sectors);
    this.crcs = sorted(this.crcs);
    this.isSorted = true;
  }

  startOf(n: number): number {
    return this.starts[n];
  }
  sectorsOf(n: number): number {
    return this.sectors[n];
  }
  crcOf(n: number): number {
    return this.crcs[n];
  }
}

export class PayloadCrcs {
  private readonly segments: (SegmentCrcs | undefined)[] = [];
  /** Result of `find`: the payload's first sector in the segment's data area, its length in sectors, and its CRC. */
  startSector = 0;
  sectors = 0;
  crc = 0;

  add(segment: number, startSector: number, sectors: number, crc: number): void {
    (this.segments[segment] ??= new SegmentCrcs()).add(startSector, sectors, crc);
  }

  /** Forgets the payloads of a segment that is taken for payload again. */
  clear(segment: number): void {
    this.segments[segment]?.clear();
  }

  /** Finds the payload that contains a sector; there must be one. */
  find(segment: number, sector: number): void {
    const crcs = this.segments[segment];
    assert(crcs !== undefined, 'a segment with payload has no CRCs');
    const n = crcs.find(sector);
    this.startSector = crcs.startOf(n);
    this.sectors = crcs.sectorsOf(n);
    this.crc = crcs.crcOf(n);
  }
}
