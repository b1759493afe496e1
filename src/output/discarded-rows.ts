/** The rows of `dump-keys` for a benchmark: made as the command makes them, and written to where they are lost. */
import { closeSync, openSync, writeSync } from 'node:fs';
import type { LogKeyRow } from '../engine/inspect/keys.js';
import { logColumns } from './key-columns.js';
import { RowWriter } from './table.js';
import type { Output } from './terminal.js';

export class DiscardedRows {
  private readonly fd = openSync('/dev/null', 'w');
  private readonly rows: RowWriter<Readonly<LogKeyRow>>;

  constructor() {
    const output: Output = {
      isTerminal: false,
      write: (data) => writeSync(this.fd, data as string) >= 0,
      drained: () => Promise.resolve(),
    };
    this.rows = new RowWriter(output, logColumns('table'), 'table');
  }

  write(row: Readonly<LogKeyRow>): void {
    this.rows.write(row);
  }

  async end(): Promise<void> {
    await this.rows.end();
    closeSync(this.fd);
  }
}
