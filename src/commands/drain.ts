/** `pcache drain`: has an attached cache write everything back while it is served. */
import { Flags } from '@oclif/core';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import type { CloseReport } from '../engine/index.js';
import { kernelTargetOf } from '../kernel/device-mapper.js';
import { drainKernelDevice } from '../kernel/kernel-drain.js';
import { KernelStatusReporter } from '../kernel/kernel-status.js';
import { ControlClient } from '../nbd/control.js';
import { PcacheCommand } from '../output/base-command.js';
import { attachedDeviceArgument } from '../output/flags.js';
import { prose } from '../output/prose.js';
import { formatBytes } from '../output/units.js';

export default class Drain extends PcacheCommand {
  static override task = 'serve' as const;
  static override summary = 'Write back everything that is dirty in an attached cache.';
  static override description = prose`Waits until everything that was written before is on the backing device. Clients are served meanwhile, so what they
write may be dirty again at the end. Exits with 8 when write-back fails, and with 4 when --timeout is over before.

DEVICE may be the NAME of a device that the kernel's own target provides. The kernel writes back by itself, whatever
gc_percent is: drain flushes the device, so that all that was written is in the log, and waits for dirty_tail. It changes
no setting.`;

  static override examples = [
    { description: 'Drain it.', command: '<%= config.bin %> <%= command.id %> --socket pc.sock' },
    {
      description: 'Drain the cache behind a block device.',
      command: '<%= config.bin %> <%= command.id %> /dev/ublkb0',
    },
    {
      description: "Wait at most ten minutes for the kernel's target.",
      command: '<%= config.bin %> <%= command.id %> pc --timeout 600',
    },
  ];

  static override args = { device: attachedDeviceArgument };

  static override flags = {
    socket: Flags.string({
      description: 'socket that the cache is served on, or its control socket',
      helpValue: 'PATH',
    }),
    timeout: Flags.integer({
      description: 'give up after that many seconds; write-back goes on',
      min: 1,
      helpValue: 'S',
    }),
  };

  async run(): Promise<CloseReport> {
    const { args, flags } = await this.parse(Drain);
    const { device } = args;
    const name = kernelTargetOf({ device, socket: flags.socket }, this.deviceFolder);
    const report =
      name === undefined
        ? await this.served(device, flags.socket, flags.timeout)
        : await this.kernel(name, flags.timeout);
    this.print(`dirty: ${report.dirtyKeys === 0 ? 'nothing' : formatBytes(report.dirtyBytes)}\n`);
    return report;
  }

  private async served(
    device: string | undefined,
    socket: string | undefined,
    timeoutSeconds: number | undefined,
  ): Promise<CloseReport> {
    const client = await ControlClient.connect({ device, socket });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      if (timeoutSeconds === undefined) return;
      const message = `${device ?? socket}: still dirty after ${timeoutSeconds} s; the server goes on writing back`;
      const error = new PcacheError('DIRTY', message, { exitStatus: ExitStatus.problemsLeft });
      timer = setTimeout(() => reject(error), timeoutSeconds * 1000);
    });
    try {
      return await Promise.race([client.drain(), late]);
    } finally {
      clearTimeout(timer);
      client.close();
    }
  }

  private async kernel(name: string, timeoutSeconds: number | undefined): Promise<CloseReport> {
    const reporter = await KernelStatusReporter.open(name, this.deviceFolder, this.nativeEnabled);
    const stopping = new AbortController();
    const release = this.onInterrupt(() => stopping.abort());
    const progress = this.progress({ label: `draining ${name}`, unit: 'bytes' });
    try {
      return await drainKernelDevice(reporter, {
        timeoutMs: (timeoutSeconds ?? Infinity) * 1000,
        stop: stopping.signal,
        onProgress: (done, total) => progress.update(done, { total }),
        leaveStuckThreads: this.leaveStuckThreads,
      });
    } finally {
      progress.stop();
      release();
      reporter.close();
    }
  }
}
