/** `pcache bench crc`: how fast CRC-32C is here. */
import { benchCrc, type CrcBenchResult } from '../../bench/check.js';
import { PcacheCommand } from '../../output/base-command.js';
import { crcBenchReport } from '../../output/bench-report.js';
import { renderReport } from '../../output/report.js';

export default class BenchCrc extends PcacheCommand {
  static override summary = 'Measure CRC-32C.';
  static override description =
    'The CRC of ordinary memory by the native helper, in pieces of several sizes, and by tables.';
  static override examples = [{ description: 'All of it.', command: '<%= config.bin %> <%= command.id %>' }];

  async run(): Promise<CrcBenchResult> {
    await this.parse(BenchCrc);
    const result = benchCrc();
    this.print(renderReport(crcBenchReport(result), (title) => this.style.bold(title)));
    return result;
  }
}
