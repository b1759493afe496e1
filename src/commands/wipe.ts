/** `pcache wipe`: retires a cache. */
import { Args, Flags } from '@oclif/core';
import { wipeSteps, wipeTotals } from '../engine/create/wipe-cache.js';
import { bestCrc32c } from '../engine/device/native.js';
import { openPmem, openPmemReader } from '../engine/device/open.js';
import type { PmemReader } from '../engine/device/pmem.js';
import { PcacheError } from '../engine/errors.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import { isPackFile } from '../engine/pack/pack-file.js';
import { GatedCommand } from '../output/gated-command.js';
import { prose } from '../output/prose.js';
import { givenUpNotes, wipeLine, wipeStepsOptions, type WipeJson } from '../output/wipe-report.js';
import { judgeForWipe, refuseDirty, type WipeVerdict } from '../rescue/wipe-verdict.js';

export default class Wipe extends GatedCommand {
  static override task = 'create' as const;
  static override summary = 'Retire a cache: erase everything by which it is recognised.';
  static override description = prose`Erases the superblock, the other metadata, and the header of every kset, so that the kernel, blkid, fsck and a later
cache on the device find nothing of it. Payload is not erased: use blkdiscard or dd for that.

A cache with data that is not written back is refused, and so is one whose damage may hide such data; --force wipes it
and names what is given up. A device in use is refused in any case.

The superblock goes first: an interrupted wipe leaves a device that cannot be attached as this cache. Run the command
again with --force to finish.`;

  static override examples = [
    { description: 'Retire a cache.', command: '<%= config.bin %> <%= command.id %> /dev/pmem0' },
    {
      description: 'Show what would be given up, without changing anything.',
      command: '<%= config.bin %> <%= command.id %> cache.img --force --dry-run',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', required: true, description: 'cache device or image file' }),
  };

  static override flags = {
    'force': Flags.boolean({
      char: 'f',
      description: 'wipe a cache although data that is not written back is lost',
      default: false,
    }),
    'dry-run': Flags.boolean({ char: 'n', description: 'show what would be done and change nothing', default: false }),
  };

  async run(): Promise<WipeJson> {
    const { args, flags } = await this.parse(Wipe);
    const dryRun = flags['dry-run'];
    if (isPackFile(args.cache)) {
      throw new PcacheError('UNSUPPORTED', `${args.cache}: a packed cache; remove the file instead`);
    }
    const writable = dryRun ? undefined : openPmem(args.cache);
    const pmem = writable ?? openPmemReader(args.cache, { native: this.nativeEnabled });
    try {
      const verdict = this.judgeWipe(pmem);
      if (!flags.force) refuseDirty(pmem.path, verdict);
      for (const line of givenUpNotes(pmem.path, verdict)) this.note(line);
      const totals = wipeTotals(pmem, KERNEL_GEOMETRY);
      if (writable !== undefined) {
        const left = 'not wiped completely, but its superblock is gone; run the command again with --force';
        await this.runSteps(
          wipeSteps(writable, KERNEL_GEOMETRY, totals),
          wipeStepsOptions(totals, `${pmem.path}: ${left}`),
        );
      }
      const { segmentCount: segments, ksets } = totals;
      const result = { path: pmem.path, dryRun, deviceBytes: pmem.sizeBytes, segments, ksets, ...verdict };
      this.print(`${wipeLine(result)}\n`);
      return result;
    } finally {
      pmem.close();
    }
  }

  private judgeWipe(pmem: PmemReader): WipeVerdict {
    return judgeForWipe(pmem, KERNEL_GEOMETRY, this.judge(pmem, undefined), bestCrc32c());
  }
}
