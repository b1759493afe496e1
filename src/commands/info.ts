/** `pcache info`: what a cache is and holds, without attaching it. */
import { Args } from '@oclif/core';
import { openForInspection } from '../engine/inspect/open.js';
import { summarise, type CacheSummary } from '../engine/inspect/summary.js';
import { ExitStatus } from '../engine/errors.js';
import { PcacheCommand } from '../output/base-command.js';
import { infoText } from '../output/info-report.js';

export default class Info extends PcacheCommand {
  static override summary = 'Show what a cache is and holds.';
  static override description = `Shows superblock, both copies of each structure and which one counts, the log, how much is dirty, the status
line the kernel would print right after it attached the cache, and the device-mapper table to attach it.
Changes nothing. Of a damaged cache it shows what it can, says what is wrong and exits 4.
A device in use is shown all the same, with a warning: what is read may be changing meanwhile.`;

  static override examples = [
    { description: 'Show a cache.', command: '<%= config.bin %> <%= command.id %> /dev/pmem0' },
    {
      description: 'The line to attach it with.',
      command: '<%= config.bin %> <%= command.id %> /dev/pmem0 /dev/sdb --json | jq -r .table',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', required: true, description: 'cache device: a file or a device' }),
    backing: Args.string({ name: 'BACKING', description: 'its backing device; keys are checked against its size' }),
  };

  async run(): Promise<CacheSummary> {
    const { args } = await this.parse(Info);
    const devices = openForInspection({
      cachePath: args.cache,
      backingPath: args.backing,
      native: this.nativeEnabled,
      onBusy: (path, use) => this.note(`${path}: ${use}; it may be changing while it is read`),
    });
    try {
      const summary = summarise(devices);
      this.print(infoText(summary, this.style));
      if (summary.problems.length > 0) this.setExitStatus(ExitStatus.problemsLeft);
      return summary;
    } finally {
      devices.close();
    }
  }
}
