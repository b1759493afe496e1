/** `pcache status`: counters and state of an attached cache. */
import { setTimeout as sleep } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import { Flags } from '@oclif/core';
import { kernelTargetOf } from '../kernel/device-mapper.js';
import { KernelStatusReporter, type KernelStatus } from '../kernel/kernel-status.js';
import { ControlClient } from '../nbd/control.js';
import { metricsText } from '../nbd/metrics.js';
import type { AttachStatus } from '../nbd/status.js';
import { PcacheCommand } from '../output/base-command.js';
import { shown } from '../output/charset.js';
import { attachedDeviceArgument } from '../output/flags.js';
import { versioned } from '../output/json.js';
import {
  compactKernelStatusText,
  kernelMetricsText,
  kernelStatusText,
  rememberKernel,
} from '../output/kernel-status-report.js';
import { prose } from '../output/prose.js';
import {
  compactStatusText,
  fitsOn,
  remember,
  statusJson,
  statusText,
  type History,
  type StatusJson,
  type TerminalSize,
} from '../output/status-report.js';

const CLEAR = '\x1b[H\x1b[J';

/** What asks for samples, and how one is shown. */
interface Source<Sample, Json> {
  sample(): Promise<Sample>;
  json(sample: Sample): Json;
  metrics(sample: Sample): string;
  text(
    sample: Sample,
    earlier: Sample | undefined,
    history: History | undefined,
    bold: (text: string) => string,
  ): string;
  compactText(sample: Sample, earlier: Sample | undefined, history: History, size: TerminalSize): string;
  remember(history: History, sample: Sample, earlier: Sample): void;
  close(): void;
}

export default class Status extends PcacheCommand {
  static override task = 'serve' as const;
  static override summary = 'Show the hit ratio, throughput, latency and dirty data of an attached cache.';
  static override description = prose`Counts since the cache was attached; with --watch, for each interval, until interrupted or
"q" is pressed; on a terminal in as many lines as it has (24 at least). Latency runs from the receipt
of a request to handing its reply to the socket, with a resolution of 6 percent. With --watch --json each interval is
one line of JSON.

DEVICE may be the NAME of a device that the kernel's own target provides (/dev/mapper/NAME). Then positions and settings
come from dmsetup, dirty data from the log on the cache device, which is only read, and requests from the block layer's
counters of the device and of the backing device. With --watch it reports write-back that stands still.`;

  static override examples = [
    { description: 'Show the counters once.', command: '<%= config.bin %> <%= command.id %> --socket pc.sock' },
    { description: 'Show those of a block device.', command: '<%= config.bin %> <%= command.id %> /dev/ublkb0' },
    { description: 'Show them every second.', command: '<%= config.bin %> <%= command.id %> --socket pc.sock --watch' },
    {
      description: "Watch the cache that the kernel's target provides as /dev/mapper/pc.",
      command: '<%= config.bin %> <%= command.id %> pc --watch',
    },
  ];

  static override args = { device: attachedDeviceArgument };

  static override flags = {
    socket: Flags.string({
      description: 'socket on which the cache is served, or its control socket',
      helpValue: 'PATH',
    }),
    watch: Flags.boolean({ description: 'repeat every --interval seconds' }),
    interval: Flags.integer({ description: 'seconds between two updates', default: 1, min: 1, helpValue: 'S' }),
    prometheus: Flags.boolean({
      description: 'print the metrics in the Prometheus text format',
      exclusive: ['watch', 'json'],
    }),
  };

  async run(): Promise<StatusJson | KernelStatus | undefined> {
    const { args, flags } = await this.parse(Status);
    const { device } = args;
    const name = kernelTargetOf({ device, socket: flags.socket }, this.deviceFolder);
    if (name !== undefined) return this.show(await this.kernelSource(name), flags);
    const client = await ControlClient.connect({ device, socket: flags.socket });
    return this.show(servedSource(client), flags);
  }

  private async kernelSource(name: string): Promise<Source<KernelStatus, KernelStatus>> {
    const reporter = await KernelStatusReporter.open(name, this.deviceFolder, this.nativeEnabled);
    return {
      sample: () => reporter.status(),
      json: (status) => status,
      metrics: kernelMetricsText,
      text: kernelStatusText,
      compactText: compactKernelStatusText,
      remember: rememberKernel,
      close: () => reporter.close(),
    };
  }

  private async show<Sample, Json>(
    source: Source<Sample, Json>,
    flags: { readonly watch: boolean; readonly interval: number; readonly prometheus: boolean },
  ): Promise<Json | undefined> {
    try {
      const status = await source.sample();
      if (flags.watch) return await this.watch(source, status, flags.interval);
      this.print(
        flags.prometheus
          ? source.metrics(status)
          : source.text(status, undefined, undefined, (title) => this.style.bold(title)),
      );
      return source.json(status);
    } finally {
      source.close();
    }
  }

  private async watch<Sample>(
    source: Source<Sample, unknown>,
    first: Sample,
    intervalSeconds: number,
  ): Promise<undefined> {
    const stopping = new AbortController();
    const stop = (): void => stopping.abort();
    const release = this.onInterrupt(stop);
    const releaseKeys = this.onQuitKey(stop);
    const history: History = { readBytesPerSecond: [], writeBytesPerSecond: [] };
    let earlier: Sample | undefined;
    let status = first;
    try {
      while (!stopping.signal.aborted) {
        if (earlier) source.remember(history, status, earlier);
        await this.showSample(source, status, earlier, history);
        await sleep(intervalSeconds * 1000, undefined, { signal: stopping.signal }).catch(() => {});
        if (stopping.signal.aborted) break;
        earlier = status;
        status = await source.sample();
      }
    } finally {
      releaseKeys();
      release();
    }
  }

  private async showSample<Sample>(
    source: Source<Sample, unknown>,
    status: Sample,
    earlier: Sample | undefined,
    history: History,
  ): Promise<void> {
    const { output, style } = this;
    let text: string;
    if (this.jsonEnabled()) {
      text = `${JSON.stringify(versioned(source.json(status)))}\n`;
    } else if (!output.isTerminal) {
      text = shown(`${source.text(status, earlier, history, (title) => title)}\n`);
    } else {
      // The last line stays free for the cursor.
      const { columns, rows } = this.terminalSize;
      const size = { columns, rows: rows - 1 };
      const whole = shown(source.text(status, earlier, history, (title) => style.bold(title)));
      const fits = fitsOn(stripVTControlCharacters(whole), size);
      text = `${CLEAR}${fits ? whole : `${shown(source.compactText(status, earlier, history, size))}\n`}`;
    }
    if (!output.write(text)) await output.drained();
  }

  /** With --watch every document has been printed already. */
  override logJson(json: unknown): void {
    if (json !== undefined) super.logJson(json);
  }
}

function servedSource(client: ControlClient): Source<AttachStatus, StatusJson> {
  return {
    sample: () => client.status(),
    json: statusJson,
    metrics: metricsText,
    text: statusText,
    compactText: compactStatusText,
    remember,
    close: () => client.close(),
  };
}
