/** `pcache detach`: ends the server of an attached cache in order, or removes the device of the kernel's target. */
import { Flags } from '@oclif/core';
import { PcacheError } from '../engine/errors.js';
import { kernelTargetOf } from '../kernel/device-mapper.js';
import { detachKernelDevice } from '../kernel/kernel-detach.js';
import { KernelStatusReporter } from '../kernel/kernel-status.js';
import { detach } from '../nbd/detach.js';
import { PcacheCommand } from '../output/base-command.js';
import { attachedDeviceArgument } from '../output/flags.js';
import { prose } from '../output/prose.js';

export default class Detach extends PcacheCommand {
  static override task = 'serve' as const;
  static override summary = 'End the server of an attached cache.';
  static override description = prose`Ends "pcache attach" in order, as SIGTERM does, and waits until both devices are closed. What is dirty stays in the
cache unless the server was started with --drain; run "pcache drain" first to write it back.

A /dev/ublkbN stays when its server dies. It is removed, too, unless somebody uses it; with --force it is removed all the
same, and its users get I/O errors. No write that was answered is lost: it is in the cache.

A device of the kernel's own target, given by its NAME, is removed from device-mapper. It is refused while somebody uses
it, and with exit status 4 while anything is dirty; --drain writes that back first.`;

  static override examples = [
    { description: 'End it.', command: '<%= config.bin %> <%= command.id %> --socket pc.sock' },
    {
      description: 'End the cache behind a block device, unless that is in use.',
      command: '<%= config.bin %> <%= command.id %> /dev/ublkb0',
    },
    {
      description: "Write everything back and remove the device of the kernel's target.",
      command: '<%= config.bin %> <%= command.id %> pc --drain',
    },
  ];

  static override args = { device: attachedDeviceArgument };

  static override flags = {
    socket: Flags.string({
      description: 'socket that the cache is served on, or its control socket',
      helpValue: 'PATH',
    }),
    force: Flags.boolean({
      description: 'remove a used DEVICE whose server has died; its users get I/O errors',
      default: false,
    }),
    drain: Flags.boolean({
      description: "with a NAME of the kernel's target: write back first what is dirty",
      default: false,
    }),
  };

  async run(): Promise<{ readonly detached: boolean }> {
    const { args, flags } = await this.parse(Detach);
    const { device } = args;
    const name = kernelTargetOf({ device, socket: flags.socket }, this.deviceFolder);
    if (name === undefined) {
      if (flags.drain)
        throw new PcacheError('USAGE', '--drain is for a NAME of the kernel\'s target; run "pcache drain" first');
      await detach({ device, socket: flags.socket }, flags.force);
    } else {
      if (flags.force) throw new PcacheError('USAGE', "--force is not for a NAME of the kernel's target; leave it out");
      await this.kernel(name, flags.drain);
    }
    return { detached: true };
  }

  private async kernel(name: string, drains: boolean): Promise<void> {
    const reporter = await KernelStatusReporter.open(name, this.deviceFolder, this.nativeEnabled);
    const stopping = new AbortController();
    const release = this.onInterrupt(() => stopping.abort());
    const progress = this.progress({ label: `draining ${name}`, unit: 'bytes' });
    const drain = {
      timeoutMs: Infinity,
      stop: stopping.signal,
      onProgress: (done: number, total: number) => progress.update(done, { total }),
      leaveStuckThreads: this.leaveStuckThreads,
    };
    try {
      await detachKernelDevice(reporter, drains ? drain : undefined);
    } finally {
      progress.stop();
      release();
      reporter.close();
    }
  }
}
