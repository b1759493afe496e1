/** `pcache dump-keys`: the keys of a cache, one a row. */
import { Args, Flags } from '@oclif/core';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { bestCrc32c } from '../engine/device/native.js';
import { TolerantReader } from '../engine/device/tolerant-reader.js';
import { liveEntries, LogKeys, type KeyRow } from '../engine/inspect/keys.js';
import {
  damagedCache,
  isForeign,
  loadForInspection,
  openForInspection,
  type InspectedDevices,
} from '../engine/inspect/open.js';
import { KERNEL_GEOMETRY, segmentCountFor } from '../engine/media/geometry.js';
import { readMetadataOf } from '../engine/log/recovery.js';
import { rangeFlag } from '../output/flags.js';
import { GatedCommand } from '../output/gated-command.js';
import { LIVE_COLUMNS, logColumns } from '../output/key-columns.js';
import { prose } from '../output/prose.js';
import { ROW_FORMATS, RowWriter, type RowFormat } from '../output/table.js';

type Filter = (row: Readonly<KeyRow>) => boolean;

export default class DumpKeys extends GatedCommand {
  static override enableJsonFlag = false;
  static override task = 'inspect' as const;
  static override summary = 'List the keys of a cache.';
  static override description = prose`Lists every key of every kset in log order, without LAST ksets. With --live it lists only the parts of keys that no
newer key covers, in the order of the logical device. Changes nothing.

The state of a key is dirty (not yet on the backing device, according to dirty_tail), clean (from a read miss),
written-back (its kset is behind dirty_tail) or stale (its segment has been freed since). For a damaged log it lists the
keys up to the damage, reports the damage on standard error and exits 4; it also exits 4, with a warning, when
"pcache fsck" finds that dirty data may be lost or old.`;

  static override examples = [
    { description: 'List the log.', command: '<%= config.bin %> <%= command.id %> /dev/pmem0' },
    {
      description: 'List the dirty keys of the first GiB as NDJSON.',
      command: '<%= config.bin %> <%= command.id %> cache.img --live --dirty --offset 0-1G --format ndjson',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', required: true, description: 'cache device or image file' }),
    backing: Args.string({
      name: 'BACKING',
      description: 'backing device of CACHE; keys are checked against its size',
    }),
  };

  static override flags = {
    log: Flags.boolean({ description: 'list keys in log order (the default)', exclusive: ['live'] }),
    live: Flags.boolean({ description: 'list current keys in the order of the logical device', exclusive: ['log'] }),
    format: Flags.option({ description: 'output format', options: ROW_FORMATS, default: 'table' })(),
    json: Flags.boolean({ description: 'same as --format ndjson', exclusive: ['format'] }),
    dirty: Flags.boolean({ description: 'list dirty keys only' }),
    offset: rangeFlag({ description: 'list keys that touch this range of the logical device' }),
    segment: Flags.integer({ description: 'list keys with payload in this logical segment', min: 0, helpValue: 'N' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(DumpKeys);
    const { offset, segment, dirty } = flags;
    const wanted: Filter = (row) =>
      (!dirty || row.state === 'dirty') &&
      (segment === undefined || row.segment === segment) &&
      (offset === undefined ||
        (row.offsetBytes < offset.endBytes && row.offsetBytes + row.lengthBytes > offset.startBytes));
    const format = flags.json ? 'ndjson' : flags.format;
    const devices = openForInspection({
      cachePath: args.cache,
      backingPath: args.backing,
      native: this.nativeEnabled,
    });
    try {
      if (segment !== undefined) requireSegment(devices, segment);
      const isTold = flags.live
        ? await this.dumpLive(devices, format, wanted)
        : await this.dumpLog(devices, format, wanted);
      this.warnOfLosses(devices.pmem, devices.backing?.sizeBytes, isTold);
    } finally {
      devices.close();
    }
  }

  /** @returns whether it has said that something is wrong */
  private async dumpLive(devices: InspectedDevices, format: RowFormat, wanted: Filter): Promise<boolean> {
    const rows = new RowWriter(this.output, LIVE_COLUMNS, format);
    for (const entry of liveEntries(loadForInspection(devices))) {
      if (wanted(entry) && !rows.write(entry)) await rows.drained();
    }
    await rows.end();
    return false;
  }

  /** As `dumpLive`. */
  private async dumpLog(devices: InspectedDevices, format: RowFormat, wanted: Filter): Promise<boolean> {
    const { pmem, backing } = devices;
    const metadata = readMetadataOf(pmem, KERNEL_GEOMETRY);
    if (isForeign(metadata) || !LogKeys.canWalk(metadata)) throw damagedCache(pmem.path, metadata, metadata.problems);
    const rows = new RowWriter(this.output, logColumns(format), format);
    const keys = new LogKeys(new TolerantReader(pmem), metadata, backing?.sizeBytes ?? Infinity, bestCrc32c());
    while (keys.next()) {
      if (wanted(keys.row) && !rows.write(keys.row)) await rows.drained();
    }
    await rows.end();
    const problems = keys.problem === undefined ? metadata.problems : [keys.problem, ...metadata.problems];
    if (problems.length === 0) return false;
    this.note(damagedCache(pmem.path, metadata, problems).message);
    this.setExitStatus(ExitStatus.problemsLeft);
    return true;
  }
}

/** Refuses a segment that no key can have. A cut image has fewer segments than its superblock says. */
function requireSegment({ pmem }: InspectedDevices, segment: number): void {
  const { superblock } = readMetadataOf(pmem, KERNEL_GEOMETRY);
  const roomForSegments = segmentCountFor(KERNEL_GEOMETRY, pmem.sizeBytes);
  const count = Math.max(roomForSegments, superblock.crcOk ? superblock.segmentCount : 0);
  if (segment < count) return;
  throw new PcacheError('USAGE', `--segment ${segment}: ${pmem.path} has ${count} segments; give 0 to ${count - 1}`);
}
