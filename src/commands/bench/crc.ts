/** `pcache bench crc`: measures CRC-32C. */
import { benchCrc, type CrcBenchResult } from '../../bench/fsck-bench.js';
import { PcacheCommand } from '../../output/base-command.js';
import { crcBenchReport } from '../../output/bench-report.js';
import { prose } from '../../output/prose.js';
import { renderReport } from '../../output/report.js';

export default class BenchCrc extends PcacheCommand {
  static override task = 'measure' as const;
  static override summary = 'Measure CRC-32C.';
  static override description = prose`Measures CRC-32C over ordinary memory: the native helper with blocks of several sizes, and the table-driven fallback.`;
  static override examples = [{ description: 'Measure every method.', command: '<%= config.bin %> <%= command.id %>' }];

  async run(): Promise<CrcBenchResult> {
    await this.parse(BenchCrc);
    const result = benchCrc();
    this.print(renderReport(crcBenchReport(result), (title) => this.style.bold(title)));
    return result;
  }
}
