/** `pcache tab detach`: ends what `pcache tab attach` began. */
import { Args, Flags } from '@oclif/core';
import { PcacheError } from '../../engine/errors.js';
import { dmsetup } from '../../kernel/device-mapper.js';
import { PcacheCommand } from '../../output/base-command.js';
import { prose } from '../../output/prose.js';
import { loadEntry } from '../../tab/load-tab.js';
import { devicePathOf, TAB_PATH, type TabEntry } from '../../tab/tab-entry.js';

export default class TabDetach extends PcacheCommand {
  static override task = 'serve' as const;
  static override summary = 'Detach a cache of /etc/pcache/tab.';
  static override description = prose`Ends the server of NAME in order, as "pcache detach" does. A cache that the kernel runs is removed from device-mapper
(it must not be in use); then it is written back with the option drain, or else described, so that what stays dirty is
seen. The exit status is 4 when drain could not write everything back.`;

  static override examples = [
    { description: 'Detach a cache by hand.', command: '<%= config.bin %> <%= command.id %> db' },
  ];

  static override args = {
    name: Args.string({ name: 'NAME', required: true, description: 'name of the cache in the file' }),
  };

  static override flags = {
    tab: Flags.string({ description: 'the file', default: TAB_PATH, helpValue: 'FILE' }),
  };

  /** @returns nothing: what the commands that it runs say is the result. */
  async run(): Promise<undefined> {
    const { args, flags } = await this.parse(TabDetach);
    const entry = loadEntry(flags.tab, args.name);
    if (entry.way !== 'kernel') {
      await this.runOther('detach', serverArguments(entry));
      return undefined;
    }
    const { cachePath, backingPath } = entry;
    await dmsetup(entry.name, 'remove', '--retry', entry.name);
    await this.runOther(entry.drain ? 'writeback' : 'info', ['--', cachePath, backingPath]);
    return undefined;
  }
}

/** Where the server is reached. */
function serverArguments(entry: TabEntry): string[] {
  const { control, socket } = entry.options;
  const path = control ?? socket;
  if (path !== undefined) return [`--socket=${String(path)}`];
  const device = devicePathOf(entry);
  if (device !== undefined && !('port' in entry.options)) return ['--', device];
  throw new PcacheError('USAGE', `${entry.name}: is served at a port only; end it with a signal, or add control=PATH`);
}
