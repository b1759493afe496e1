/** `pcache tune`: changes a setting of an attached cache. */
import { Args, Flags } from '@oclif/core';
import { PcacheError } from '../engine/errors.js';
import { ControlClient, type Tuned } from '../nbd/control.js';
import { PcacheCommand } from '../output/base-command.js';
import { prose } from '../output/prose.js';

export default class Tune extends PcacheCommand {
  static override task = 'serve' as const;
  static override summary = 'Change a setting of an attached cache.';
  static override description = prose`Equivalent to the message that the kernel target accepts. gc_percent=N, with N from 0 to 90, starts garbage collection
when N percent of the segments are in use. The setting is stored in the cache.`;

  static override examples = [
    {
      description: 'Start garbage collection earlier.',
      command: '<%= config.bin %> <%= command.id %> --socket pc.sock gc_percent=50',
    },
  ];

  static override args = {
    setting: Args.string({ name: 'SETTING', required: true, description: 'gc_percent=N' }),
  };

  static override flags = {
    socket: Flags.string({
      description: 'socket on which the cache is served, or its control socket',
      required: true,
      helpValue: 'PATH',
    }),
  };

  async run(): Promise<Tuned> {
    const { args, flags } = await this.parse(Tune);
    const match = /^gc_percent=(\d{1,3})$/.exec(args.setting);
    if (!match)
      throw new PcacheError('USAGE', `'${args.setting}' is not a setting; give gc_percent=N with N from 0 to 90`);
    const client = await ControlClient.connect({ device: undefined, socket: flags.socket });
    try {
      const tuned = await client.tune(Number(match[1]));
      this.print(`gc_percent: ${tuned.gcPercent}\n`);
      return tuned;
    } finally {
      client.close();
    }
  }
}
