/**
 * Stack distances after Mattson et al. (1970): how many different blocks were touched since a block was touched
 * last, itself included. An LRU cache of C blocks has the block exactly when its distance is at most C.
 */
import { BlockTable } from './block-table.js';
import { Recency } from './recency.js';

export class StackDistances {
  private readonly table = new BlockTable();
  private readonly recency = new Recency();

  /** Different blocks known. */
  get blocks(): number {
    return this.table.size;
  }

  get memoryBytes(): number {
    return this.table.memoryBytes + this.recency.memoryBytes;
  }

  /** Touches a block. @returns its stack distance, 1 or more; 0 when it was not touched before. */
  touch(block: number): number {
    const { table, recency } = this;
    if (recency.isFull) recency.compact((newSlotOf) => table.mapValues(newSlotOf));
    const bucket = table.find(block);
    if (bucket < 0) {
      table.add(block, recency.mark());
      return 0;
    }
    const slot = table.valueAt(bucket);
    const distance = recency.behind(slot) + 1;
    recency.unmark(slot);
    table.setValueAt(bucket, recency.mark());
    return distance;
  }

  /** As if `block`, which was touched, never had been. */
  forget(block: number): void {
    const bucket = this.table.find(block);
    this.recency.unmark(this.table.valueAt(bucket));
    this.table.remove(bucket);
  }
}
