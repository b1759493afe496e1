/** `pcache tab check`: can the caches of /etc/pcache/tab be attached at the next boot? */
import { Args } from '@oclif/core';
import { ExitStatus } from '../../engine/errors.js';
import { PcacheCommand } from '../../output/base-command.js';
import { prose } from '../../output/prose.js';
import { tabText, type TabJson } from '../../output/tab-report.js';
import { loadTab } from '../../tab/load-tab.js';
import { checkTab } from '../../tab/tab-check.js';
import { attachArguments, devicePathOf, TAB_PATH } from '../../tab/tab-entry.js';
import type { Tab } from '../../tab/tab-file.js';
import Attach from '../attach.js';

export default class TabCheck extends PcacheCommand {
  static override task = 'serve' as const;
  static override summary = 'Check /etc/pcache/tab, which lists the caches that are attached at boot.';
  static override description = prose`Checks the lines of FILE, and whether each cache could be attached now: both devices are there and of a kind that can be
used, the cache device holds a cache, no device is used twice, and the kernel has the driver or target. Paths such as
/dev/sdb, which may be another disk after a restart, are warned about. Changes nothing.

The exit status is 4 when there are errors; warnings leave it 0. pcache-tab(5) describes the file. After a change run
"systemctl daemon-reload".`;

  static override examples = [
    { description: 'Check the file before a restart.', command: '<%= config.bin %> <%= command.id %>' },
  ];

  static override args = {
    file: Args.string({ name: 'FILE', description: `the file (default: ${TAB_PATH})`, default: TAB_PATH }),
  };

  async run(): Promise<TabJson> {
    const { args } = await this.parse(TabCheck);
    const path = args.file;
    const tab = await this.withUsage(loadTab(path));
    const problems = checkTab(tab, this.nativeEnabled);
    const entries = tab.entries.map((entry) => ({ ...entry, device: devicePathOf(entry) ?? null }));
    const result = { path, entries, problems };
    this.print(tabText(result));
    if (problems.some(({ severity }) => severity === 'error')) this.setExitStatus(ExitStatus.problemsLeft);
    return result;
  }

  /** Adds the values that "pcache attach" would refuse. */
  private async withUsage(tab: Tab): Promise<Tab> {
    const problems = [...tab.problems];
    for (const entry of tab.entries) {
      const text = await this.usageProblem(Attach, attachArguments(entry));
      if (text !== undefined) problems.push({ severity: 'error', line: entry.line, name: entry.name, text });
    }
    return { ...tab, problems };
  }
}
