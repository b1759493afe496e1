/** `pcache bench recovery`: measures how fast an attach loads the log. */
import { Flags } from '@oclif/core';
import { benchOnFilled, type FilledBenchFlags } from '../../bench/filled.js';
import { benchRecovery, type RecoveryBenchResult } from '../../bench/recovery-bench.js';
import { PcacheCommand } from '../../output/base-command.js';
import { recoveryBenchReport } from '../../output/bench-report.js';
import { sizeFlag } from '../../output/flags.js';
import { prose } from '../../output/prose.js';
import { renderReport } from '../../output/report.js';
import { breathe } from '../../output/terminal.js';

export default class BenchRecovery extends PcacheCommand {
  static override task = 'measure' as const;
  static override summary = 'Measure how fast an attach loads the log.';
  static override description = prose`Fills a temporary cache with blocks at random offsets, then loads it repeatedly: metadata, log and index. Alternating
with it, the same keys are inserted into the index alone.`;

  static override examples = [
    {
      description: 'Load a million keys.',
      command: '<%= config.bin %> <%= command.id %> --cache-size 8GiB --keys 1000000',
    },
  ];

  static override flags = {
    'keys': Flags.integer({ description: 'number of keys', default: 200_000, min: 1, helpValue: 'N' }),
    'bs': sizeFlag({ description: 'block size', default: 4096, defaultHelp: () => Promise.resolve('4KiB') }),
    'span': sizeFlag({
      description: 'size of the range over which blocks are scattered',
      default: 2 ** 32,
      defaultHelp: () => Promise.resolve('4GiB'),
    }),
    'data-crc': Flags.boolean({
      description: 'create the cache with data_crc, and check it as an attach does',
      default: false,
    }),
    'cache-size': sizeFlag({
      description: 'size of the temporary cache',
      default: 2 ** 31,
      defaultHelp: () => Promise.resolve('2GiB'),
    }),
    'rounds': Flags.integer({ description: 'number of measurements', default: 5, min: 1, helpValue: 'N' }),
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
