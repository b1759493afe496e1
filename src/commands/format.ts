/** `pcache format`: makes a cache on a file or device. */
import { Args, Flags } from '@oclif/core';
import { isSparse } from '../engine/create/file-space.js';
import { planJob, runJob, type FormatJob } from '../engine/create/format-target.js';
import type { BackingDevice } from '../engine/device/backing.js';
import { openBacking } from '../engine/device/backing-file.js';
import { sameDevice } from '../engine/device/lock.js';
import { openPmem } from '../engine/device/open.js';
import { PcacheError } from '../engine/errors.js';
import { GC_PERCENT_DEFAULT, GC_PERCENT_MAX } from '../engine/media/codecs.js';
import { flushAndRecordBacking } from '../rescue/recorded-backing.js';
import { PcacheCommand } from '../output/base-command.js';
import { modeFlag, sizeFlag } from '../output/flags.js';
import { formatJson, formatSummary, type FormatJson, type FormatOutcome } from '../output/format-summary.js';
import { prose } from '../output/prose.js';

/** Segments between two turns of the event loop. */
const SEGMENTS_PER_TURN = 64;

export default class Format extends PcacheCommand {
  static override task = 'create' as const;
  static override summary = 'Create a cache on a file or device.';
  static override description = prose`Writes what the kernel writes when it attaches a device for the first time: every segment is empty. An existing file or
device is used whole; with --size a file that does not exist is created. Its space is reserved, so that a filesystem
that becomes full does not stop the cache, except where that would write zeroes or take memory (tmpfs); the summary says
when a file is left sparse. A device that holds a pcache, a filesystem or anything else that is recognised is refused
unless --force is given.

Modes: writeback acknowledges a write once it is in the cache; writethrough once it is on the backing device as well;
writearound sends writes of uncached data to the backing device only; writeonly is writeback without caching read
misses.

The superblock is written last: an interrupted format leaves a device that cannot be attached.`;

  static override examples = [
    {
      description: 'Create a cache in a new file of 1 GiB.',
      command: '<%= config.bin %> <%= command.id %> cache.img --size 1GiB',
    },
    {
      description: 'Show what would be done, without changing anything.',
      command: '<%= config.bin %> <%= command.id %> /dev/pmem0 --dry-run',
    },
    {
      description: 'Store a CRC with every key, and overwrite the old contents.',
      command: '<%= config.bin %> <%= command.id %> /dev/pmem0 --data-crc --force',
    },
  ];

  static override args = {
    cache: Args.string({
      name: 'CACHE',
      required: true,
      description: 'cache device: a file, a block device or a DAX device',
    }),
  };

  static override flags = {
    'size': sizeFlag({ description: 'create a file of this size, such as 1GiB (at least 512MiB)' }),
    'preallocate': Flags.boolean({
      description: 'reserve the space of a file, of an existing one too (--no-preallocate: leave it sparse)',
      allowNo: true,
    }),
    'data-crc': Flags.boolean({ description: 'store a CRC of the payload with every key', default: false }),
    'gc-percent': Flags.integer({
      description: 'percentage of segments in use at which garbage collection starts',
      default: GC_PERCENT_DEFAULT,
      min: 0,
      max: GC_PERCENT_MAX,
      helpValue: 'N',
    }),
    'mode': modeFlag({
      description: 'handling of writes and read misses; the kernel treats every cache as writeback',
      default: 'writeback',
    }),
    'backing': Flags.string({
      description: 'record this backing device in the cache, so that another one is refused from the first attach on',
      helpValue: 'DEVICE',
    }),
    'force': Flags.boolean({
      char: 'f',
      description: 'overwrite existing contents; with --size, resize an existing file',
      default: false,
    }),
    'dry-run': Flags.boolean({ char: 'n', description: 'show what would be done and change nothing', default: false }),
  };

  async run(): Promise<FormatJson> {
    const { args, flags } = await this.parse(Format);
    const job = planJob({
      path: args.cache,
      sizeBytes: flags.size,
      dataCrc: flags['data-crc'],
      gcPercent: flags['gc-percent'],
      mode: flags.mode,
      force: flags.force,
      preallocate: flags.preallocate,
    });
    const backing = this.openBacking(args.cache, flags.backing);
    try {
      const outcome: FormatOutcome = { dryRun: flags['dry-run'], sparse: null };
      if (!outcome.dryRun) {
        await this.format(args.cache, job, flags.force);
        if (backing !== undefined) await recordIn(args.cache, backing);
        if (job.isFile) outcome.sparse = isSparse(args.cache);
      }
      this.print(formatSummary(args.cache, job, outcome));
      return formatJson(args.cache, job, outcome);
    } finally {
      backing?.close();
    }
  }

  private openBacking(cachePath: string, path: string | undefined): BackingDevice | undefined {
    if (path === undefined) return undefined;
    if (sameDevice(cachePath, path)) {
      throw new PcacheError('USAGE', `${path}: is the cache device itself; give the backing device`);
    }
    return openBacking(path, { readOnly: true });
  }

  private async format(path: string, job: FormatJob, force: boolean): Promise<void> {
    await this.runSteps(runJob(path, job, force), {
      label: 'formatting',
      total: job.plan.segmentCount,
      unit: 'count',
      noun: 'segments',
      stepsPerTurn: SEGMENTS_PER_TURN,
      whenInterrupted: `${path}: not formatted; the unfinished cache has no superblock`,
    });
  }
}

/** Records the backing device in the new cache. */
async function recordIn(path: string, backing: BackingDevice): Promise<void> {
  const cache = openPmem(path);
  try {
    await flushAndRecordBacking(cache, backing);
  } finally {
    cache.close();
  }
}
