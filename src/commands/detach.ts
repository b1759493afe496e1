/** `pcache detach`: ends the server of an attached cache in order. */
import { Flags } from '@oclif/core';
import { ControlClient } from '../nbd/control.js';
import { PcacheCommand } from '../output/base-command.js';

export default class Detach extends PcacheCommand {
  static override task = 'serve' as const;
  static override summary = 'End the server of an attached cache.';
  static override description = `Ends "pcache attach" in order, as SIGTERM does, and waits until both devices are closed. What is dirty stays in the
cache unless the server was started with --drain; run "pcache drain" first to write it back.`;

  static override examples = [
    { description: 'End it.', command: '<%= config.bin %> <%= command.id %> --socket pc.sock' },
  ];

  static override flags = {
    socket: Flags.string({
      description: 'socket that the cache is served on, or its control socket',
      required: true,
      helpValue: 'PATH',
    }),
  };

  async run(): Promise<{ readonly detached: boolean }> {
    const { flags } = await this.parse(Detach);
    const client = await ControlClient.connect(flags.socket);
    try {
      await client.detach();
      return { detached: true };
    } finally {
      client.close();
    }
  }
}
