/**
 * Where a trace reads and writes over time: requests counted by address row and time column, in bounded memory
 * whatever the size of the device and the length of the trace. A row or column that is too small for what
 * comes makes pairs of them merge, so that nothing counted is ever lost. A request counts where it begins.
 */
const ROWS = 64;
const COLUMNS = 128;
/** Rows and columns begin that small, and double. */
const FIRST_ROW_BYTES = 1024 * 1024;
const FIRST_COLUMN_NS = 100_000;

/** The counts as text: one line of numbers, blank between two, for each row. */
export interface AddressHeatMap {
  /** Time that a column covers, ns, and address range that a row covers, bytes. The first of each begins at 0. */
  readonly columnNs: number;
  readonly rowBytes: number;
  readonly columns: number;
  /** Requests that begin in each row, by column: `"0 3 12"`. */
  readonly reads: readonly string[];
  readonly writes: readonly string[];
}

export class AddressHeat {
  private readonly reads = new Uint32Array(ROWS * COLUMNS);
  private readonly writes = new Uint32Array(ROWS * COLUMNS);
  private rowBytes = FIRST_ROW_BYTES;
  private columnNs = FIRST_COLUMN_NS;
  private column = 0;
  private columnEndNs = FIRST_COLUMN_NS;
  private usedRows = 0;

  /** Counts a read or a write. `timeNs` may be a little before that of an earlier call. */
  count(timeNs: number, isWrite: boolean, offsetBytes: number): void {
    if (timeNs >= this.columnEndNs) this.advance(timeNs);
    let row = Math.floor(offsetBytes / this.rowBytes);
    while (row >= ROWS) {
      this.mergeRows();
      row = Math.floor(offsetBytes / this.rowBytes);
    }
    if (row >= this.usedRows) this.usedRows = row + 1;
    (isWrite ? this.writes : this.reads)[row * COLUMNS + this.column]++;
  }

  private advance(timeNs: number): void {
    while (timeNs >= this.columnNs * COLUMNS) this.mergeColumns();
    this.column = Math.max(this.column, Math.floor(timeNs / this.columnNs));
    this.columnEndNs = (this.column + 1) * this.columnNs;
  }

  private mergeColumns(): void {
    for (const cells of [this.reads, this.writes]) {
      for (let row = 0; row < ROWS * COLUMNS; row += COLUMNS) {
        for (let n = 0; n < COLUMNS / 2; n++) cells[row + n] = cells[row + 2 * n] + cells[row + 2 * n + 1];
        cells.fill(0, row + COLUMNS / 2, row + COLUMNS);
      }
    }
    this.column >>>= 1;
    this.columnNs *= 2;
  }

  private mergeRows(): void {
    for (const cells of [this.reads, this.writes]) {
      for (let row = 0; row < ROWS / 2; row++) {
        for (let n = 0; n < COLUMNS; n++) {
          cells[row * COLUMNS + n] = cells[2 * row * COLUMNS + n] + cells[(2 * row + 1) * COLUMNS + n];
        }
      }
      cells.fill(0, (ROWS / 2) * COLUMNS);
    }
    this.usedRows = Math.ceil(this.usedRows / 2);
    this.rowBytes *= 2;
  }

  /** What was counted: the rows up to the last that was touched, the columns up to the last. */
  finish(): AddressHeatMap {
    const columns = this.column + 1;
    const lines = (cells: Uint32Array) =>
      Array.from({ length: this.usedRows }, (_, row) =>
        cells.subarray(row * COLUMNS, row * COLUMNS + columns).join(' '),
      );
    return {
      columnNs: this.columnNs,
      rowBytes: this.rowBytes,
      columns,
      reads: lines(this.reads),
      writes: lines(this.writes),
    };
  }
}
