/**
 * `verifyReads`: what a group read from the cache is checked against the CRCs of its payloads after the
 * copies have run. A mismatch fails the request, so wrong bytes are never taken for right ones.
 */
import { PcacheError } from '../errors.js';
import type { Pmem } from '../device/pmem.js';
import { CRC_SEED } from '../media/crc32c.js';
import { SECTOR_SHIFT } from '../media/geometry.js';
import type { PayloadCrcs } from '../space/payload-crcs.js';
import type { EngineGroup } from './request-group.js';
import type { SegmentTable } from '../space/segment-table.js';
import type { EngineStats } from '../stats.js';

/** What a read took from one index entry, hence of one payload; sectors of its segment's data area. */
interface Piece {
  readonly request: number;
  readonly segment: number;
  readonly startSector: number;
  readonly sectors: number;
  /** Of the logical device. */
  readonly offsetBytes: number;
}

export class ReadChecks {
  private readonly pieces: Piece[] = [];

  constructor(
    private readonly pmem: Pmem,
    private readonly segments: SegmentTable,
    private readonly crcs: PayloadCrcs,
    private readonly stats: EngineStats,
  ) {}

  /** Takes note of a piece; checked by `run`. */
  add(piece: Piece): void {
    this.pieces.push(piece);
  }

  /** Checks all pieces noted since the last run. @throws what the cache device throws */
  run(group: EngineGroup): void {
    for (const piece of this.pieces.splice(0)) {
      if (group.errors[piece.request]) continue;
      const error = this.check(piece);
      if (!error) continue;
      this.stats.readPayloadErrors++;
      group.errors[piece.request] = error;
    }
  }

  private check({ segment, startSector, sectors, offsetBytes }: Piece): PcacheError | undefined {
    const { crcs, pmem } = this;
    crcs.find(segment, startSector);
    const at = this.segments.dataOffsetBytes[segment] + (crcs.startSector << SECTOR_SHIFT);
    if (pmem.crc32c(at, crcs.sectors << SECTOR_SHIFT, CRC_SEED) === crcs.crc) return undefined;
    const last = offsetBytes + (sectors << SECTOR_SHIFT) - 1;
    return new PcacheError(
      'BAD_MEDIA',
      `${pmem.path}: cached data of bytes ${offsetBytes}–${last} does not match its CRC; run "pcache fsck"`,
    );
  }
}
