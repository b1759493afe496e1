/** `pcache unpack`: turns a pack back into an image or device. */
import { Args, Flags } from '@oclif/core';
import { ExitStatus } from '../engine/errors.js';
import { PcacheCommand } from '../output/base-command.js';
import { unpackLine, unpackNotes, type UnpackJson } from '../output/pack-report.js';
import { prose } from '../output/prose.js';
import { unpackSteps } from '../pack/unpack.js';

/** Between two of these many steps signals can be heard. */
const STEPS_PER_TURN = 32;

export default class Unpack extends PcacheCommand {
  static override task = 'inspect' as const;
  static override summary = 'Turn a pack back into a cache image.';
  static override description = prose`A pack made with --data becomes a byte-for-byte copy of the cache. A pack of metadata becomes an image for inspection
and trial repairs, with placeholder data; it must not be used as a cache.

An existing file or a device is overwritten only with --force. A file is created complete or not at all.`;

  static override examples = [
    {
      description: 'Inspect a cache from a bug report.',
      command: '<%= config.bin %> <%= command.id %> cache.pack cache.img',
    },
    {
      description: 'Restore a cache to its device.',
      command: '<%= config.bin %> <%= command.id %> cache.pack /dev/pmem0 --force',
    },
  ];

  static override args = {
    file: Args.string({ name: 'FILE', required: true, description: 'file written by "pcache pack"' }),
    cache: Args.string({ name: 'CACHE', required: true, description: 'file to create, or block device to overwrite' }),
  };

  static override flags = {
    force: Flags.boolean({ char: 'f', description: 'overwrite existing contents', default: false }),
  };

  async run(): Promise<UnpackJson> {
    const { args, flags } = await this.parse(Unpack);
    const totals = await this.runSteps(unpackSteps(args.file, args.cache, flags.force), {
      label: 'unpacking',
      unit: 'bytes',
      stepsPerTurn: STEPS_PER_TURN,
      whenInterrupted: `${args.cache}: not unpacked`,
    });
    const unpacked = { file: args.file, path: args.cache, ...totals };
    for (const line of unpackNotes(unpacked)) this.note(line);
    if (unpacked.unreadable.length > 0) this.setExitStatus(ExitStatus.problemsLeft);
    this.print(`${unpackLine(unpacked)}\n`);
    return unpacked;
  }
}
