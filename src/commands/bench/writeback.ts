/** `pcache bench writeback`: how fast dirty data goes to a backing device. */
import { Flags } from '@oclif/core';
import { benchEphemeralWriteback } from '../../bench/filled.js';
import type { WritebackBenchResult } from '../../bench/writeback.js';
import { PcacheCommand } from '../../output/base-command.js';
import { writebackBenchReport } from '../../output/bench-report.js';
import { sizeFlag } from '../../output/flags.js';
import { renderReport } from '../../output/report.js';

export default class BenchWriteback extends PcacheCommand {
  static override summary = 'Measure how fast dirty data goes to the backing device.';
  static override description = `Fills an ephemeral cache with dirty blocks at random places and writes them back to an ephemeral backing
device, again and again; beside it, alternating, plain writes of 1 MiB of as many bytes to the same device.`;

  static override examples = [
    { description: 'The smallest blocks there are.', command: '<%= config.bin %> <%= command.id %> --bs 512' },
  ];

  static override flags = {
    'keys': Flags.integer({ description: 'keys to write back', default: 50_000, min: 1, helpValue: 'N' }),
    'bs': sizeFlag({ description: 'size of a block', default: 4096, defaultHelp: () => Promise.resolve('4KiB') }),
    'span': sizeFlag({
      description: 'range of the logical device that blocks are scattered over',
      default: 2 ** 30,
      defaultHelp: () => Promise.resolve('1GiB'),
    }),
    'data-crc': Flags.boolean({ description: 'keep and check a CRC of every payload', default: false }),
    'cache-size': sizeFlag({
      description: 'size of the ephemeral cache',
      default: 2 ** 31,
      defaultHelp: () => Promise.resolve('2GiB'),
    }),
    'rounds': Flags.integer({ description: 'how often to measure', default: 5, min: 1, helpValue: 'N' }),
  };

  async run(): Promise<WritebackBenchResult> {
    const { flags } = await this.parse(BenchWriteback);
    const progress = this.progress({ label: 'measuring', unit: 'count', noun: 'rounds', total: flags.rounds });
    try {
      const options = { ...flags, cacheBytes: flags['cache-size'], dataCrc: flags['data-crc'] };
      const result = await benchEphemeralWriteback(options, flags.rounds, (round) => progress.update(round));
      this.print(renderReport(writebackBenchReport(result), (title) => this.style.bold(title)));
      return result;
    } finally {
      progress.stop();
    }
  }
}
