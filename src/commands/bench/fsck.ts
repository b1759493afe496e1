/** `pcache bench fsck`: measures the payload check. */
import { Flags } from '@oclif/core';
import { benchCheck, type CheckBenchResult } from '../../bench/fsck-bench.js';
import { benchOnFilled } from '../../bench/filled.js';
import { checkThreads } from '../../fsck/check.js';
import { PcacheCommand } from '../../output/base-command.js';
import { checkBenchReport } from '../../output/bench-report.js';
import { sizeFlag } from '../../output/flags.js';
import { prose } from '../../output/prose.js';
import { renderReport } from '../../output/report.js';
import { breathe } from '../../output/terminal.js';

export default class BenchFsck extends PcacheCommand {
  static override task = 'measure' as const;
  static override summary = 'Measure how fast fsck checks payload.';
  static override description = prose`Fills a temporary cache with data_crc and checks it repeatedly; alternating with it, one thread computes the raw
CRC-32C of as many bytes of the same mapping.`;

  static override examples = [
    { description: 'Use blocks of 64 KiB.', command: '<%= config.bin %> <%= command.id %> --bs 64k --keys 10000' },
  ];

  static override flags = {
    'keys': Flags.integer({ description: 'number of keys', default: 200_000, min: 1, helpValue: 'N' }),
    'bs': sizeFlag({ description: 'block size', default: 4096, defaultHelp: () => Promise.resolve('4KiB') }),
    'span': sizeFlag({
      description: 'size of the range over which blocks are scattered',
      default: 2 ** 32,
      defaultHelp: () => Promise.resolve('4GiB'),
    }),
    'cache-size': sizeFlag({
      description: 'size of the temporary cache',
      default: 2 ** 31,
      defaultHelp: () => Promise.resolve('2GiB'),
    }),
    'threads': Flags.integer({
      description: 'threads of the check (default: as many as fsck uses)',
      min: 1,
      max: 64,
      helpValue: 'N',
    }),
    'rounds': Flags.integer({ description: 'number of measurements', default: 5, min: 1, helpValue: 'N' }),
  };

  async run(): Promise<CheckBenchResult> {
    const { flags } = await this.parse(BenchFsck);
    const progress = this.progress({ label: 'measuring', unit: 'count', noun: 'rounds', total: flags.rounds });
    try {
      const options = { ...flags, cacheBytes: flags['cache-size'], dataCrc: true };
      const result = await benchOnFilled(options, ({ pmem, segments }) =>
        benchCheck(pmem, segments, flags.rounds, flags.threads ?? checkThreads(), async (round) => {
          progress.update(round);
          await breathe();
        }),
      );
      this.print(renderReport(checkBenchReport(result), (title) => this.style.bold(title)));
      return result;
    } finally {
      progress.stop();
    }
  }
}
