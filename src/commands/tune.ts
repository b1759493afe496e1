/** `pcache tune`: changes a setting of an attached cache. */
import { Args, Flags } from '@oclif/core';
import { PcacheError } from '../engine/errors.js';
import { GC_PERCENT_MAX } from '../engine/media/codecs.js';
import { findKernelDevice, kernelTargetOf, setGcPercent } from '../kernel/device-mapper.js';
import { ControlClient, type Tuned } from '../nbd/control.js';
import { PcacheCommand } from '../output/base-command.js';
import { attachedDeviceArgument } from '../output/flags.js';
import { prose } from '../output/prose.js';

const ACCEPTED = `give gc_percent=N with N from 0 to ${GC_PERCENT_MAX}`;

export default class Tune extends PcacheCommand {
  static override task = 'serve' as const;
  static override summary = 'Change a setting of an attached cache.';
  static override description = prose`gc_percent=N, with N from 0 to 90, starts garbage collection when N percent of the segments are in use. The setting is
stored in the cache. For a NAME of the kernel's target it is the message that the target accepts.`;

  static override examples = [
    {
      description: 'Start garbage collection earlier.',
      command: '<%= config.bin %> <%= command.id %> --socket pc.sock gc_percent=50',
    },
    {
      description: "The same in a cache of the kernel's target.",
      command: '<%= config.bin %> <%= command.id %> pc gc_percent=50',
    },
  ];

  static override usage = ['tune DEVICE gc_percent=N', 'tune --socket PATH gc_percent=N'];

  static override args = {
    device: attachedDeviceArgument,
    setting: Args.string({ name: 'SETTING', description: 'gc_percent=N' }),
  };

  static override flags = {
    socket: Flags.string({
      description: 'socket on which the cache is served, or its control socket',
      helpValue: 'PATH',
    }),
  };

  async run(): Promise<Tuned> {
    const { args, flags } = await this.parse(Tune);
    // With --socket the setting comes first.
    const isAlone = args.setting === undefined && args.device?.includes('=') === true;
    const setting = isAlone ? args.device : args.setting;
    const device = isAlone ? undefined : args.device;
    if (setting === undefined) throw new PcacheError('USAGE', `which setting? ${ACCEPTED}`);
    const match = /^gc_percent=(\d{1,3})$/.exec(setting);
    if (!match) throw new PcacheError('USAGE', `'${setting}' is not a setting; ${ACCEPTED}`);
    const gcPercent = Number(match[1]);
    const name = kernelTargetOf({ device, socket: flags.socket }, this.deviceFolder);
    const tuned =
      name === undefined ? await this.served(device, flags.socket, gcPercent) : await this.kernel(name, gcPercent);
    this.print(`gc_percent: ${tuned.gcPercent}\n`);
    return tuned;
  }

  private async served(device: string | undefined, socket: string | undefined, gcPercent: number): Promise<Tuned> {
    const client = await ControlClient.connect({ device, socket });
    try {
      return await client.tune(gcPercent);
    } finally {
      client.close();
    }
  }

  private async kernel(name: string, gcPercent: number): Promise<Tuned> {
    if (gcPercent > GC_PERCENT_MAX) throw new PcacheError('USAGE', `gc_percent is ${gcPercent}; ${ACCEPTED}`);
    return { gcPercent: await setGcPercent(await findKernelDevice(name, this.deviceFolder), gcPercent) };
  }
}
