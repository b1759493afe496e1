/** `pcache bench writeback`: measures write-back. */
import { Flags } from '@oclif/core';
import { benchEphemeralWriteback } from '../../bench/filled.js';
import { benchModelledWriteback, type ModelledWritebackResult } from '../../bench/modelled-writeback.js';
import type { WritebackBenchResult } from '../../bench/writeback-bench.js';
import { PcacheCommand } from '../../output/base-command.js';
import { modelledWritebackReport, writebackBenchReport } from '../../output/bench-report.js';
import { sizeFlag } from '../../output/flags.js';
import { prose } from '../../output/prose.js';
import { renderReport } from '../../output/report.js';
import { BACKING_PRESET_NAMES, type BackingPreset } from '../../simulate/index.js';

const ROUNDS = 5;

export default class BenchWriteback extends PcacheCommand {
  static override task = 'measure' as const;
  static override summary = 'Measure write-back to the backing device.';
  static override description = prose`Fills a temporary cache with dirty blocks at random offsets and writes them back to a temporary backing device,
repeatedly; alternating with it, plain writes of 1 MiB with the same total go to the same device.

With --model the backing device is a modelled one, as for "pcache replay --simulate --model", and time is virtual. The
report compares write-back with the same blocks written one by one in their original order, and with one sweep in the order
of offsets, which is the lower bound. The model has no page cache, which would sort and merge writes as well.`;

  static override examples = [
    { description: 'Use the smallest possible blocks.', command: '<%= config.bin %> <%= command.id %> --bs 512' },
    {
      description: 'Show what write-back gains by sorting on a hard disk.',
      command: '<%= config.bin %> <%= command.id %> --model hdd',
    },
  ];

  static override flags = {
    'keys': Flags.integer({ description: 'number of keys to write back', default: 50_000, min: 1, helpValue: 'N' }),
    'bs': sizeFlag({ description: 'block size', default: 4096, defaultHelp: () => Promise.resolve('4KiB') }),
    'span': sizeFlag({
      description: 'size of the range over which blocks are scattered',
      default: 2 ** 30,
      defaultHelp: () => Promise.resolve('1GiB'),
    }),
    'data-crc': Flags.boolean({ description: 'create the cache with data_crc, and check it', default: false }),
    'cache-size': sizeFlag({
      description: 'size of the temporary cache',
      default: 2 ** 31,
      defaultHelp: () => Promise.resolve('2GiB'),
    }),
    'rounds': Flags.integer({
      description: `number of measurements (default: ${ROUNDS})`,
      min: 1,
      helpValue: 'N',
      exclusive: ['model'],
    }),
    'model': Flags.string({
      description: 'write back to a modelled backing device, in virtual time',
      options: [...BACKING_PRESET_NAMES],
    }),
  };

  async run(): Promise<WritebackBenchResult | ModelledWritebackResult> {
    const { flags } = await this.parse(BenchWriteback);
    const { model, rounds = ROUNDS } = flags;
    const options = { ...flags, cacheBytes: flags['cache-size'], dataCrc: flags['data-crc'] };
    if (model !== undefined) {
      const result = benchModelledWriteback(options, model as BackingPreset);
      this.print(renderReport(modelledWritebackReport(result), (title) => this.style.bold(title)));
      return result;
    }
    const progress = this.progress({ label: 'measuring', unit: 'count', noun: 'rounds', total: rounds });
    try {
      const result = await benchEphemeralWriteback(options, rounds, (round) => progress.update(round));
      this.print(renderReport(writebackBenchReport(result), (title) => this.style.bold(title)));
      return result;
    } finally {
      progress.stop();
    }
  }
}
