/** `pcache status`: counters and state of an attached cache. */
import { setTimeout as sleep } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import { Args, Flags } from '@oclif/core';
import { ControlClient } from '../nbd/control.js';
import { metricsText } from '../nbd/metrics.js';
import type { AttachStatus } from '../nbd/status.js';
import { PcacheCommand } from '../output/base-command.js';
import { shown } from '../output/charset.js';
import { versioned } from '../output/json.js';
import { prose } from '../output/prose.js';
import {
  compactStatusText,
  fitsOn,
  remember,
  statusJson,
  statusText,
  type History,
  type StatusJson,
} from '../output/status-report.js';

const CLEAR = '\x1b[H\x1b[J';

export default class Status extends PcacheCommand {
  static override task = 'serve' as const;
  static override summary = 'Show the hit ratio, throughput, latency and dirty data of an attached cache.';
  static override description = prose`Counts since the cache was attached; with --watch, for each interval, until interrupted or
"q" is pressed; on a terminal in as many lines as it has (24 at least). Latency runs from the receipt
of a request to handing its reply to the socket, with a resolution of 6 percent. With --watch --json each interval is
one line of JSON.`;

  static override examples = [
    { description: 'Show the counters once.', command: '<%= config.bin %> <%= command.id %> --socket pc.sock' },
    { description: 'Show those of a block device.', command: '<%= config.bin %> <%= command.id %> /dev/ublkb0' },
    { description: 'Show them every second.', command: '<%= config.bin %> <%= command.id %> --socket pc.sock --watch' },
  ];

  static override args = {
    device: Args.string({ name: 'DEVICE', description: 'block device of the cache: /dev/ublkbN or /dev/nbdN' }),
  };

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

  async run(): Promise<StatusJson | undefined> {
    const { args, flags } = await this.parse(Status);
    const client = await ControlClient.connect({ device: args.device, socket: flags.socket });
    try {
      const status = await client.status();
      if (flags.watch) return await this.watch(client, status, flags.interval);
      this.print(
        flags.prometheus
          ? metricsText(status)
          : statusText(status, undefined, undefined, (title) => this.style.bold(title)),
      );
      return statusJson(status);
    } finally {
      client.close();
    }
  }

  private async watch(client: ControlClient, first: AttachStatus, intervalSeconds: number): Promise<undefined> {
    const stopping = new AbortController();
    const stop = (): void => stopping.abort();
    const release = this.onInterrupt(stop);
    const releaseKeys = this.onQuitKey(stop);
    const history: History = { readBytesPerSecond: [], writeBytesPerSecond: [] };
    let earlier: AttachStatus | undefined;
    let status = first;
    try {
      while (!stopping.signal.aborted) {
        if (earlier) remember(history, status, earlier);
        await this.show(status, earlier, history);
        await sleep(intervalSeconds * 1000, undefined, { signal: stopping.signal }).catch(() => {});
        if (stopping.signal.aborted) break;
        earlier = status;
        status = await client.status();
      }
    } finally {
      releaseKeys();
      release();
    }
  }

  private async show(status: AttachStatus, earlier: AttachStatus | undefined, history: History): Promise<void> {
    const { output, style } = this;
    let text: string;
    if (this.jsonEnabled()) {
      text = `${JSON.stringify(versioned(statusJson(status)))}\n`;
    } else if (!output.isTerminal) {
      text = shown(`${statusText(status, earlier, history, (title) => title)}\n`);
    } else {
      // The last line stays free for the cursor.
      const { columns, rows } = this.terminalSize;
      const size = { columns, rows: rows - 1 };
      const whole = shown(statusText(status, earlier, history, (title) => style.bold(title)));
      const fits = fitsOn(stripVTControlCharacters(whole), size);
      text = `${CLEAR}${fits ? whole : `${shown(compactStatusText(status, earlier, history, size))}\n`}`;
    }
    if (!output.write(text)) await output.drained();
  }

  /** With --watch every document has been printed already. */
  override logJson(json: unknown): void {
    if (json !== undefined) super.logJson(json);
  }
}
