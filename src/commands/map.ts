/** `pcache map`: which key holds a range of the logical device, and what the log has of it besides. */
import { Args } from '@oclif/core';
import { bestCrc32c } from '../engine/device/native.js';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { openForInspection } from '../engine/inspect/open.js';
import { KERNEL_GEOMETRY, SECTOR_BYTES } from '../engine/media/geometry.js';
import { badMedia } from '../engine/log/recovery.js';
import type { Finding } from '../fsck/findings.js';
import { GatedCommand } from '../output/gated-command.js';
import { MAP_COLUMNS, mapRows } from '../output/map-report.js';
import { prose } from '../output/prose.js';
import { RowWriter } from '../output/table.js';
import { parseRange, type ByteRange } from '../output/units.js';
import { mapRange, type MappedRange } from '../engine/inspect/map-range.js';

export type MapJson = MappedRange & {
  readonly path: string;
  readonly backing: string | null;
  /** Findings that mean dirty data may be lost or old. */
  readonly losses: readonly Finding[];
};

export default class MapRange extends GatedCommand {
  static override task = 'inspect' as const;
  static override summary = 'Show which keys hold a range, and which older versions are still in the log.';
  static override description = prose`Splits the range into parts. For each part it shows the key that a read returns, or the backing device; then every other
key in the log that touches the part, newest first: superseded versions, and stale ones, whose segment has been freed
since. A key is shown with its kset, the position of its payload, its generation, its state (dirty, clean or written
back) and, with data_crc, whether the payload of the whole key matches its CRC.

OFFSET alone stands for the sector at that offset. OFFSET-END excludes END. OFFSET+LENGTH gives the length. Ranges are
widened to whole sectors of ${SECTOR_BYTES} bytes. Sizes accept the suffixes K, M, G and T.

Changes nothing. For a damaged log it shows what precedes the damage, reports the damage on standard error and exits 4.
It also exits 4, with a warning, when "pcache fsck" finds that dirty data may be lost or old.`;

  static override usage = '<%= command.id %> CACHE [BACKING] OFFSET[-END] [--json]';

  static override examples = [
    {
      description: 'Show which key holds the sector at 1 MiB.',
      command: '<%= config.bin %> <%= command.id %> /dev/pmem0 1M',
    },
    {
      description: 'Map the first GiB as JSON.',
      command: '<%= config.bin %> <%= command.id %> cache.img disk.img 0-1G --json',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', required: true, description: 'cache device or image file' }),
    backing: Args.string({ name: 'BACKING', description: 'backing device of CACHE; the range must begin within it' }),
    range: Args.string({
      name: 'OFFSET[-END]',
      description: 'range of the logical device: OFFSET, OFFSET-END or OFFSET+LENGTH',
    }),
  };

  async run(): Promise<MapJson> {
    const { args } = await this.parse(MapRange);
    const range = rangeOf(args.range ?? args.backing);
    const backingPath = args.range === undefined ? undefined : args.backing;
    const devices = openForInspection({ cachePath: args.cache, backingPath, native: this.nativeEnabled });
    try {
      const mapped = mapRange(devices, { ...range, geometry: KERNEL_GEOMETRY, crc: bestCrc32c() });
      if (!this.jsonEnabled()) await this.show(mapped);
      const isTold = mapped.problems.length > 0;
      if (isTold) {
        this.note(badMedia(args.cache, mapped.problems).message);
        this.setExitStatus(ExitStatus.problemsLeft);
      }
      const losses = this.warnOfLosses(devices.pmem, devices.backing?.sizeBytes, isTold);
      return { path: args.cache, backing: backingPath ?? null, ...mapped, losses };
    } finally {
      devices.close();
    }
  }

  private async show(mapped: MappedRange): Promise<void> {
    const rows = new RowWriter(this.output, MAP_COLUMNS, 'table');
    for (const row of mapRows(mapped)) if (!rows.write(row)) await rows.drained();
    await rows.end();
  }
}

/** An offset alone is one sector. */
function rangeOf(text: string | undefined): ByteRange {
  if (text === undefined) throw new PcacheError('USAGE', 'missing argument OFFSET[-END]');
  const range = parseRange(text);
  return range.endBytes === Infinity ? { startBytes: range.startBytes, endBytes: range.startBytes + 1 } : range;
}
