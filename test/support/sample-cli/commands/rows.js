import { Flags } from '@oclif/core';
import { PcacheCommand } from '../../../../dist/output/base-command.js';
import { RowWriter } from '../../../../dist/output/table.js';

/** Streams many rows; says on standard error whether it got to clean up. */
export default class Rows extends PcacheCommand {
  static flags = { count: Flags.integer({ default: 10_000_000 }) };

  async run() {
    const { flags } = await this.parse(Rows);
    const rows = new RowWriter(this.output, [{ key: 'n', value: (row) => row }], 'csv');
    let written = 0;
    try {
      for (; written < flags.count; written++) if (!rows.write(written)) await rows.drained();
      await rows.end();
    } finally {
      this.note(written < flags.count ? 'cleaned up early' : 'done');
    }
  }
}
