/** `pcache unpack`: an image or device of what `pcache pack` packed. */
import { Args, Flags } from '@oclif/core';
import { PcacheError } from '../engine/errors.js';
import { PcacheCommand } from '../output/base-command.js';
import { unpackLine, type UnpackJson } from '../output/pack-report.js';
import { breathe } from '../output/terminal.js';
import { unpackSteps, type UnpackTotals } from '../pack/unpack.js';

/** Between two of these many steps signals can be heard. */
const STEPS_PER_TURN = 32;

export default class Unpack extends PcacheCommand {
  static override summary = 'Make an image of a packed cache again.';
  static override description = `What was packed with --data becomes, byte for byte, the cache that it was. A pack of metadata becomes an image to
look at and to try repairs on, with zeroes or ones for the data; it must not be used as a cache.
A file that is there is overwritten only with --force, and so is a device. A file is complete or is not made.`;

  static override examples = [
    { description: 'Look into a bug report.', command: '<%= config.bin %> <%= command.id %> cache.pack cache.img' },
    {
      description: 'Put a cache back onto its device.',
      command: '<%= config.bin %> <%= command.id %> cache.pack /dev/pmem0 --force',
    },
  ];

  static override args = {
    file: Args.string({ name: 'FILE', required: true, description: 'a file that "pcache pack" wrote' }),
    cache: Args.string({ name: 'CACHE', required: true, description: 'file to make, or block device to overwrite' }),
  };

  static override flags = {
    force: Flags.boolean({ description: 'overwrite what is there', default: false }),
  };

  async run(): Promise<UnpackJson> {
    const { args, flags } = await this.parse(Unpack);
    const totals = await this.work(args.file, args.cache, flags.force);
    const unpacked = { file: args.file, path: args.cache, ...totals };
    this.print(`${unpackLine(unpacked)}\n`);
    return unpacked;
  }

  private async work(filePath: string, cachePath: string, force: boolean): Promise<UnpackTotals> {
    const progress = this.progress({ label: 'unpacking', unit: 'bytes' });
    const release = this.onInterrupt(() => undefined);
    const steps = unpackSteps(filePath, cachePath, force);
    try {
      for (let count = 1; ; count++) {
        const step = steps.next();
        if (step.done) return step.value;
        progress.update(step.value);
        if (count % STEPS_PER_TURN === 0) await breathe();
        if (this.interrupted) throw new PcacheError('INTERRUPTED', `${cachePath}: not unpacked`);
      }
    } finally {
      // Lets what was begun be taken away.
      steps.return({ deviceBytes: 0, hasPayload: false });
      release();
      progress.stop();
    }
  }
}
