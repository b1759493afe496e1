/** `pcache detach`: ends the server of an attached cache in order. */
import { Args, Flags } from '@oclif/core';
import { detach } from '../nbd/detach.js';
import { PcacheCommand } from '../output/base-command.js';

export default class Detach extends PcacheCommand {
  static override task = 'serve' as const;
  static override summary = 'End the server of an attached cache.';
  static override description = `Ends "pcache attach" in order, as SIGTERM does, and waits until both devices are closed. What is dirty stays in the
cache unless the server was started with --drain; run "pcache drain" first to write it back.

A /dev/ublkbN stays when its server dies. It is removed, too, unless somebody uses it; with --force it is removed all the
same, and its users get I/O errors. No write that was answered is lost: it is in the cache.`;

  static override examples = [
    { description: 'End it.', command: '<%= config.bin %> <%= command.id %> --socket pc.sock' },
    {
      description: 'End the cache behind a block device, unless that is in use.',
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
    force: Flags.boolean({
      description: 'remove a used DEVICE whose server has died; its users get I/O errors',
      default: false,
    }),
  };

  async run(): Promise<{ readonly detached: boolean }> {
    const { args, flags } = await this.parse(Detach);
    await detach({ device: args.device, socket: flags.socket }, flags.force);
    return { detached: true };
  }
}
