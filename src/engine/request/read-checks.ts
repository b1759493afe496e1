/**
 * `verifyReads`: checks the data that a group read from the cache against the CRCs of its payloads, after the copies
 * have run. A mismatch fails the request with BAD_MEDIA, so that a caller never takes wrong bytes for right ones.
 */
import { PcacheError } from '../errors.js';
import type { Pmem } from '../device/pmem.js';
import { CRC_SEED } from '../media/crc32c.js';
import { SECTOR_SHIFT } from '../media/geometry.js';
import type { PayloadCrcs } from '../space/payload-crcs.js';
import type { EngineGroup } from './request-group.js';
import type { SegmentTable } from '../space/segment-table.js';
import type { EngineStats } from '../stats.js';

/** Part of a read that one index entry serves, hence one payload. Sectors are those of the segment's data area. */
interface CheckedPart {
  readonly request: number;
  readonly segment: number;
  readonly startSector: number;
  readonly sectors: number;
  /** Offset of the part on the logical device. */
  readonly offsetBytes: number;
}

export class ReadChecks {
  private readonly parts: CheckedPart[] = [];

  constructor(
    private readonly pmem: Pmem,
    private readonly segments: SegmentTable,
    private readonly crcs: PayloadCrcs,
    private readonly stats: EngineStats,
  ) {}

  /** Adds a part for the next `run` to check. */
  add(part: CheckedPart): void {
    this.parts.push(part);
  }

  /** Checks all parts added since the last run. @throws PcacheError what the cache device throws */
  run(group: EngineGroup): void {
    for (const part of this.parts.splice(0)) {
      if (group.errors[part.request]) continue;
      const error = this.check(part);
      if (!error) continue;
      this.stats.readPayloadErrors++;
      group.errors[part.request] = error;
    }
  }

  private check({ segment, startSector, sectors, offsetBytes }: CheckedPart): PcacheError | undefined {
    const { crcs, pmem } = this;
    crcs.find(segment, startSector);
    const at = this.segments.dataOffsetBytes[segment] + (crcs.startSector << SECTOR_SHIFT);
    if (pmem.crc32c(at, crcs.sectors << SECTOR_SHIFT, CRC_SEED) === crcs.crc) return undefined;
    const last = offsetBytes + (sectors << SECTOR_SHIFT) - 1;
    return new PcacheError(
      'BAD_MEDIA',
      `${pmem.path}: the cached data of bytes ${offsetBytes}–${last} does not match its CRC; run "pcache fsck"`,
    );
  }
}
