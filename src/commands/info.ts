/** `pcache info`: what a cache is and holds, without attaching it. */
import { Args } from '@oclif/core';
import { openForInspection } from '../engine/inspect/open.js';
import { summarise, type CacheSummary } from '../engine/inspect/summary.js';
import { ExitStatus } from '../engine/errors.js';
import type { Finding } from '../fsck/findings.js';
import { GatedCommand } from '../output/gated-command.js';
import { infoText } from '../output/info-report.js';
import { prose } from '../output/prose.js';

/** `losses`: findings that mean dirty data may be lost or old; null for a device in use, which is not checked. */
export type InfoJson = CacheSummary & { readonly losses: readonly Finding[] | null };

export default class Info extends GatedCommand {
  static override task = 'inspect' as const;
  static override summary = 'Show the geometry, metadata and contents of a cache.';
  static override description = prose`Shows the superblock, both copies of each metadata structure and which copy is in effect, the log, the amount of dirty
data, the status line that the kernel prints right after attaching the cache, and the device-mapper table that attaches
it.

Changes nothing. For a damaged cache, or one in which "pcache fsck" finds that dirty data may be lost or old, it shows
what can be read, reports the damage and exits 4. A device that is in use is shown with a warning, because it may change
while it is read.`;

  static override examples = [
    { description: 'Describe a cache.', command: '<%= config.bin %> <%= command.id %> /dev/pmem0' },
    {
      description: 'Print the device-mapper table of a cache.',
      command: '<%= config.bin %> <%= command.id %> /dev/pmem0 /dev/sdb --json | jq -r .table',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', required: true, description: 'cache device or image file' }),
    backing: Args.string({
      name: 'BACKING',
      description: 'backing device of CACHE; keys are checked against its size',
    }),
  };

  async run(): Promise<InfoJson> {
    const { args } = await this.parse(Info);
    let inUse = false;
    const devices = openForInspection({
      cachePath: args.cache,
      backingPath: args.backing,
      native: this.nativeEnabled,
      onBusy: (path, use) => {
        inUse = true;
        this.note(`${path}: ${use}; it may change while it is read`);
      },
    });
    try {
      const summary = summarise(devices);
      this.print(infoText(summary, this.style));
      const isTold = summary.problems.length > 0;
      if (isTold) this.setExitStatus(ExitStatus.problemsLeft);
      const losses = inUse ? null : this.warnOfLosses(devices.pmem, devices.backing?.sizeBytes, isTold);
      return { ...summary, losses };
    } finally {
      devices.close();
    }
  }
}
