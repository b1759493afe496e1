/** `pcache map`: which key holds a range of the logical device, and what the log has of it besides. */
import { Args } from '@oclif/core';
import { bestCrc32c } from '../engine/device/native.js';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { openForInspection } from '../engine/inspect/open.js';
import { KERNEL_GEOMETRY, SECTOR_BYTES } from '../engine/media/geometry.js';
import { badMedia } from '../engine/log/recovery.js';
import { PcacheCommand } from '../output/base-command.js';
import { MAP_COLUMNS, mapRows } from '../output/map-report.js';
import { RowWriter } from '../output/table.js';
import { parseRange, type ByteRange } from '../output/units.js';
import { mapRange, type MappedRange } from '../engine/inspect/map-range.js';

type MapJson = MappedRange & { readonly path: string; readonly backing: string | null };

export default class MapRange extends PcacheCommand {
  static override summary = 'Show which key holds a range, and what older versions of it the log still has.';
  static override description = `For each piece of the range: the key that a reader gets it from, or the backing device; then every other key of
the log that touches the piece, newest first: what it was written over, and what is gone (its segment was
freed since). A key is shown with its kset, the place of its payload, the generation, whether it is dirty, clean
or written back, and, where the cache has data_crc, whether the payload of the whole key matches its CRC.
OFFSET alone is the sector there. OFFSET-END ends before END; OFFSET+LENGTH is as long as LENGTH. Ranges are
widened to whole sectors of ${SECTOR_BYTES} bytes. Sizes may have K, M, G or T. Changes nothing.
Of a log that is damaged what comes before the damage is shown; one line on standard error says so, and it exits 4.`;

  static override usage = '<%= command.id %> CACHE [BACKING] OFFSET[-END] [--json]';

  static override examples = [
    { description: 'Who holds the sector at 1 MiB?', command: '<%= config.bin %> <%= command.id %> /dev/pmem0 1M' },
    {
      description: 'All of the first GiB, for a program to read.',
      command: '<%= config.bin %> <%= command.id %> cache.img disk.img 0-1G --json',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', required: true, description: 'cache device: a file or a device' }),
    backing: Args.string({ name: 'BACKING', description: 'its backing device; the range must begin within it' }),
    range: Args.string({ name: 'OFFSET[-END]', description: 'OFFSET, OFFSET-END or OFFSET+LENGTH' }),
  };

  async run(): Promise<MapJson> {
    const { args } = await this.parse(MapRange);
    const range = rangeOf(args.range ?? args.backing);
    const backingPath = args.range === undefined ? undefined : args.backing;
    const devices = openForInspection({ cachePath: args.cache, backingPath, native: this.nativeEnabled });
    try {
      const mapped = mapRange(devices, { ...range, geometry: KERNEL_GEOMETRY, crc: bestCrc32c() });
      if (!this.jsonEnabled()) await this.show(mapped);
      if (mapped.problems.length > 0) {
        this.note(badMedia(args.cache, mapped.problems).message);
        this.setExitStatus(ExitStatus.problemsLeft);
      }
      return { path: args.cache, backing: backingPath ?? null, ...mapped };
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
