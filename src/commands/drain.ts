/** `pcache drain`: has an attached cache write everything back while it is served. */
import { Args, Flags } from '@oclif/core';
import type { CloseReport } from '../engine/index.js';
import { ControlClient } from '../nbd/control.js';
import { PcacheCommand } from '../output/base-command.js';
import { formatBytes } from '../output/units.js';

export default class Drain extends PcacheCommand {
  static override task = 'serve' as const;
  static override summary = 'Write back everything that is dirty in an attached cache.';
  static override description = `Waits until everything that was written before is on the backing device. Clients are served meanwhile, so what they
write may be dirty again at the end. Exits with 8 when write-back fails.`;

  static override examples = [
    { description: 'Drain it.', command: '<%= config.bin %> <%= command.id %> --socket pc.sock' },
    {
      description: 'Drain the cache behind a block device.',
      command: '<%= config.bin %> <%= command.id %> /dev/ublkb0',
    },
  ];

  static override args = {
    device: Args.string({ name: 'DEVICE', description: 'block device of the cache: /dev/ublkbN or /dev/nbdN' }),
  };

  static override flags = {
    socket: Flags.string({
      description: 'socket that the cache is served on, or its control socket',
      helpValue: 'PATH',
    }),
  };

  async run(): Promise<CloseReport> {
    const { args, flags } = await this.parse(Drain);
    const client = await ControlClient.connect({ device: args.device, socket: flags.socket });
    try {
      const report = await client.drain();
      this.print(`dirty: ${report.dirtyKeys === 0 ? 'nothing' : formatBytes(report.dirtyBytes)}\n`);
      return report;
    } finally {
      client.close();
    }
  }
}
