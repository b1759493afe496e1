/** `pcache bench recovery`: how fast an attach brings the log into memory. */
import { Flags } from '@oclif/core';
import { benchOnFilled, type FilledBenchFlags } from '../../bench/filled.js';
import { benchRecovery, type RecoveryBenchResult } from '../../bench/recovery.js';
import { PcacheCommand } from '../../output/base-command.js';
import { recoveryBenchReport } from '../../output/bench-report.js';
import { sizeFlag } from '../../output/flags.js';
import { renderReport } from '../../output/report.js';
import { breathe } from '../../output/terminal.js';

export default class BenchRecovery extends PcacheCommand {
  static override summary = 'Measure how fast an attach brings the log into memory.';
  static override description = `Fills an ephemeral cache with blocks at random places, then loads it again and again: metadata, log, index.
Beside it, alternating, the index alone takes the same keys.`;

  static override examples = [
    { description: 'A million keys.', command: '<%= config.bin %> <%= command.id %> --cache-size 8GiB --keys 1000000' },
  ];

  static override flags = {
    'keys': Flags.integer({ description: 'keys to make', default: 200_000, min: 1, helpValue: 'N' }),
    'bs': sizeFlag({ description: 'size of a block', default: 4096, defaultHelp: () => Promise.resolve('4KiB') }),
    'span': sizeFlag({
      description: 'range of the logical device that blocks are scattered over',
      default: 2 ** 32,
      defaultHelp: () => Promise.resolve('4GiB'),
    }),
    'data-crc': Flags.boolean({
      description: 'keep and check a CRC of every payload, as an attach does',
      default: false,
    }),
    'cache-size': sizeFlag({
      description: 'size of the ephemeral cache',
      default: 2 ** 31,
      defaultHelp: () => Promise.resolve('2GiB'),
    }),
    'rounds': Flags.integer({ description: 'how often to measure', default: 5, min: 1, helpValue: 'N' }),
  };

  async run(): Promise<RecoveryBenchResult> {
    const { flags } = await this.parse(BenchRecovery);
    const progress = this.progress({ label: 'measuring', unit: 'count', noun: 'rounds', total: flags.rounds });
    try {
      const options: FilledBenchFlags = { ...flags, cacheBytes: flags['cache-size'], dataCrc: flags['data-crc'] };
      const result = await benchOnFilled(options, ({ pmem, backing }) =>
        benchRecovery(pmem, backing.sizeBytes, flags.rounds, flags['data-crc'], async (round) => {
          progress.update(round);
          await breathe();
        }),
      );
      this.print(renderReport(recoveryBenchReport(result), (title) => this.style.bold(title)));
      return result;
    } finally {
      progress.stop();
    }
  }
}
