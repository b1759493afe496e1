/** `pcache writeback`: brings everything dirty in a cache to its backing device, without the kernel. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Args, Flags } from '@oclif/core';
import { bestCrc32c } from '../engine/device/native.js';
import { ExitStatus } from '../engine/errors.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import { acceptLossFlag, backupMetadataFlag, GatedCommand } from '../output/gated-command.js';
import { prose } from '../output/prose.js';
import { RowWriter } from '../output/table.js';
import { breathe } from '../output/terminal.js';
import {
  FAILED_COLUMNS,
  writebackJson,
  writebackNotes,
  writebackText,
  writebackVerdict,
  type WritebackJson,
} from '../output/writeback-report.js';
import { openForWriteback } from '../rescue/writeback-devices.js';
import { writeBack, type WritebackOptions, type WritebackResult } from '../rescue/offline-writeback.js';

const PHASES = {
  check: { label: 'reading the log', unit: 'bytes' },
  verify: { label: 'checking payload', unit: 'bytes' },
  write: { label: 'writing back', unit: 'bytes' },
} as const;
const RETRIES_DEFAULT = 3;
const RETRIES_MAX = 100;

export default class Writeback extends GatedCommand {
  static override task = 'repair' as const;
  static override summary = 'Write all dirty data of a cache to its backing device, without the kernel.';
  static override description = prose`Writes the newest version of every dirty byte to BACKING, flushes BACKING, and then marks the cache as written back
(dirty_tail moves to the end of the log). Data that cannot be read, does not match its CRC or cannot be written is
skipped, never replaced by an older version; --list-failed lists it, and the cache stays dirty.

A cache in which "pcache fsck" finds that dirty data may be lost or old is refused unless --accept-loss is given; then
everything that the log holds is written back. A log that does not tell which bytes are the newest is always refused.

Before the first write, BACKING is compared with what CACHE has recorded of it, and up to 1024 samples of data that both
devices should hold are compared. A BACKING that differs is refused unless --force-backing is given. Write-back can be interrupted at any time and run again.

Exits 0 when nothing is left dirty and 4 otherwise. With --dry-run it exits 4 when there is dirty data.`;

  static override examples = [
    {
      description: 'Bring the backing device up to date.',
      command: '<%= config.bin %> <%= command.id %> /dev/pmem0 /dev/sdb',
    },
    {
      description: 'The same, without changing the cache device.',
      command: '<%= config.bin %> <%= command.id %> cache.img disk.img --keep-metadata --list-failed',
    },
    {
      description: 'Report how much would be written, and what cannot be.',
      command: '<%= config.bin %> <%= command.id %> /dev/pmem0 /dev/sdb --dry-run --list-failed --json',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', required: true, description: 'cache device or image file' }),
    backing: Args.string({
      name: 'BACKING',
      required: true,
      description: 'backing device of CACHE; dirty data is written to it',
    }),
  };

  static override flags = {
    'dry-run': Flags.boolean({
      char: 'n',
      description: 'check everything, show what would be written, and change nothing',
      default: false,
    }),
    'list-failed': Flags.boolean({ description: 'list each range that could not be written: offset, length, reason' }),
    'keep-metadata': Flags.boolean({
      description: 'change nothing on the cache device: its data stays marked dirty',
      default: false,
    }),
    'accept-loss': acceptLossFlag,
    'backup-metadata': backupMetadataFlag(['dry-run']),
    'force-backing': Flags.boolean({
      description: 'write to BACKING although it is not what the cache has recorded, or holds something else',
      default: false,
    }),
    'retries': Flags.integer({
      description: 'number of times a failed write is retried',
      default: RETRIES_DEFAULT,
      min: 0,
      max: RETRIES_MAX,
      helpValue: 'N',
    }),
  };

  async run(): Promise<WritebackJson> {
    const { args, flags } = await this.parse(Writeback);
    const modes = { dryRun: flags['dry-run'], keepMetadata: flags['keep-metadata'] };
    const devices = openForWriteback({
      cachePath: args.cache,
      backingPath: args.backing,
      native: this.nativeEnabled,
      ...modes,
    });
    try {
      const options = {
        ...modes,
        acceptLoss: flags['accept-loss'],
        forceBacking: flags['force-backing'],
        retries: flags.retries,
        geometry: KERNEL_GEOMETRY,
        crc: bestCrc32c(),
      };
      const backup = flags['backup-metadata'];
      const result = await this.work(devices, options, backup);
      const isSaved = backup === undefined || this.saveMetadataAgain(devices.cache, backup);
      await this.report(result, flags['list-failed']);
      if (!isSaved) this.setExitStatus(ExitStatus.operationalError);
      if (!result.complete) this.setExitStatus(ExitStatus.problemsLeft);
      else if (!flags['dry-run']) this.endedInOrder(); // whatever signal came at the end
      return writebackJson(result, flags['list-failed']);
    } finally {
      devices.close();
    }
  }

  private async work(
    devices: ReturnType<typeof openForWriteback>,
    options: WritebackOptions,
    backup: string | undefined,
  ): Promise<WritebackResult> {
    let progress = this.progress(PHASES.check);
    const release = this.onInterrupt(() => undefined);
    try {
      return await writeBack(devices, options, {
        begins: (phase, total) => {
          progress.stop();
          progress = this.progress({ ...PHASES[phase], ...(total === undefined ? {} : { total }) });
        },
        checked: () => {
          progress.stop();
          if (backup !== undefined) this.saveMetadata(devices.cache, backup);
        },
        progress: (done) => progress.update(done),
        breathe,
        stopRequested: () => this.interrupted,
        pause: (milliseconds) => sleep(milliseconds),
        nowMs: () => performance.now(),
      });
    } finally {
      release();
      progress.stop();
    }
  }

  private async report(result: WritebackResult, listFailed: boolean): Promise<void> {
    for (const line of writebackNotes(result)) this.note(line);
    this.print(writebackText(result));
    if (listFailed && result.failed.length > 0 && !this.jsonEnabled()) {
      const rows = new RowWriter(this.output, FAILED_COLUMNS, 'table');
      for (const range of result.failed) if (!rows.write(range)) await rows.drained();
      await rows.end();
    }
    this.print(`${writebackVerdict(result)}\n`);
  }
}
