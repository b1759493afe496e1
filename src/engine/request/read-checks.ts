/**
 * `verifyReads`: checks the data that a group read from the cache against the CRCs of its payloads, after the copies
 * have run. On a mismatch the data is looked for on the backing device (`payload-mender.ts`); where it is not, the request
 * fails with BAD_MEDIA, so that a caller never takes wrong bytes for right ones.
 */
import { PcacheError } from '../errors.js';
import type { Pmem } from '../device/pmem.js';
import { CRC_SEED } from '../media/crc32c.js';
import { SECTOR_SHIFT } from '../media/geometry.js';
import type { PayloadCrcs } from '../space/payload-crcs.js';
import type { CheckedPart, PayloadMender } from './payload-mender.js';
import type { EngineGroup } from './request-group.js';
import type { SegmentTable } from '../space/segment-table.js';

export class ReadChecks {
  private readonly parts: CheckedPart[] = [];

  constructor(
    private readonly pmem: Pmem,
    private readonly segments: SegmentTable,
    private readonly crcs: PayloadCrcs,
    private readonly mender: PayloadMender,
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
      const { startSector, sectors, crc } = this.crcs;
      this.mender.begin(group, part, { startSector, sectors, crc }, error);
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
      `${pmem.path}: the cached data of bytes ${offsetBytes}–${last} does not match its CRC, and the backing device does not have it; run "pcache fsck"`,
    );
  }
}
