/** `pcache tab attach`: attaches a cache of /etc/pcache/tab. */
import { Args, Flags } from '@oclif/core';
import { ublkDeviceNamed } from '../../block-device/device-name.js';
import { PcacheCommand } from '../../output/base-command.js';
import { prose } from '../../output/prose.js';
import { loadEntry } from '../../tab/load-tab.js';
import { attachArguments, TAB_PATH } from '../../tab/tab-entry.js';

export default class TabAttach extends PcacheCommand {
  static override task = 'serve' as const;
  static override summary = 'Attach a cache of /etc/pcache/tab.';
  static override description = prose`Runs "pcache attach" with the devices and options that /etc/pcache/tab has for NAME; the service pcache@NAME runs this.
A ublk device that a dead server has left is taken over (--recover), so that its users go on when the service is started
again.`;

  static override examples = [
    { description: 'Attach a cache by hand.', command: '<%= config.bin %> <%= command.id %> db' },
  ];

  static override args = {
    name: Args.string({ name: 'NAME', required: true, description: 'name of the cache in the file' }),
  };

  static override flags = {
    tab: Flags.string({ description: 'the file', default: TAB_PATH, helpValue: 'FILE' }),
  };

  /** @returns nothing: what attach says is the result. */
  async run(): Promise<undefined> {
    const { args, flags } = await this.parse(TabAttach);
    const entry = loadEntry(flags.tab, args.name);
    const left = entry.way === 'ublk' ? ublkDeviceNamed(entry.name) : undefined;
    await this.runOther('attach', attachArguments(entry, left));
    return undefined;
  }
}
