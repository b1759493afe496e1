/** `pcache format`: makes a cache on a file or device. */
import { Args, Flags } from '@oclif/core';
import { planJob, runJob, type FormatJob } from '../engine/create/format-target.js';
import { PcacheError } from '../engine/errors.js';
import { GC_PERCENT_DEFAULT, GC_PERCENT_MAX } from '../engine/media/codecs.js';
import { PcacheCommand } from '../output/base-command.js';
import { modeFlag, sizeFlag } from '../output/flags.js';
import { formatJson, formatSummary, type FormatJson } from '../output/format-summary.js';
import { breathe } from '../output/terminal.js';

export default class Format extends PcacheCommand {
  static override summary = 'Make a cache on a file or device.';
  static override description = `Writes what the kernel writes when it attaches a device for the first time: every segment starts empty.
An existing file or device is used whole. With --size a file that does not exist is created, sparse.
A device that holds a pcache or anything else that is recognised is refused unless --force is given.
Modes: writeback acknowledges a write when the cache has it; writethrough when the backing device has it, too;
writearound writes past the cache what it does not hold; writeonly is writeback without keeping what is read.
The superblock is written last: what an interrupted format leaves does not attach.`;

  static override examples = [
    {
      description: 'Make a cache in a new file of 1 GiB.',
      command: '<%= config.bin %> <%= command.id %> cache.img --size 1GiB',
    },
    {
      description: 'See what would be done to a device, and change nothing.',
      command: '<%= config.bin %> <%= command.id %> /dev/pmem0 --dry-run',
    },
    {
      description: 'Keep a CRC of every payload, and overwrite what is there.',
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
    'size': sizeFlag({ description: 'create the file with this size, such as 1GiB (at least 512MiB)' }),
    'data-crc': Flags.boolean({ description: 'keep a CRC of every payload', default: false }),
    'gc-percent': Flags.integer({
      description: 'start to make room when this much of the cache is used',
      default: GC_PERCENT_DEFAULT,
      min: 0,
      max: GC_PERCENT_MAX,
      helpValue: 'N',
    }),
    'mode': modeFlag({
      description: 'what becomes of writes and misses; the kernel works every cache as writeback',
      default: 'writeback',
    }),
    'force': Flags.boolean({
      description: 'overwrite what is there; with --size, change the size of an existing file',
      default: false,
    }),
    'dry-run': Flags.boolean({ char: 'n', description: 'say what would be done and change nothing', default: false }),
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
    });
    if (!flags['dry-run']) await this.work(args.cache, job, flags.force);
    this.print(formatSummary(args.cache, job, flags['dry-run']));
    return formatJson(args.cache, job, flags['dry-run']);
  }

  private async work(path: string, job: FormatJob, force: boolean): Promise<void> {
    const progress = this.progress({
      label: 'formatting',
      total: job.plan.segmentCount,
      unit: 'count',
      noun: 'segments',
    });
    let stop = false;
    const release = this.onInterrupt(() => {
      stop = true;
    });
    try {
      for (const done of runJob(path, job, force)) {
        progress.update(done);
        if (done % 64 === 0) await breathe();
        if (stop) throw new PcacheError('INTERRUPTED', `${path}: not formatted; what was begun has no superblock`);
      }
    } finally {
      release();
      progress.stop();
    }
  }
}
