/**
 * The working set of a trace by hour: the size of the 4 KiB blocks that reads and writes touch in each hour, by minute or
 * second where the trace is shorter. Traces of very many blocks are sampled by block, so that memory is bounded.
 */
import { TraceOp, type TraceBatch } from '../trace/index.js';
import { BlockTable, mixBlock } from './block-table.js';
import { LRU_BLOCK_BYTES } from './lru-curve.js';

const SECOND_NS = 1e9;
const MINUTE_NS = 60 * SECOND_NS;
const HOUR_NS = 60 * MINUTE_NS;
const INTERVALS_MAX = 10_000;
/** Blocks to follow: 24 bytes each. */
const BLOCKS_MAX = 2 ** 22;
const SALT = 0x27d4eb2f;

export interface WorkingSet {
  /** An hour; a minute or a second for a trace shorter than an hour or a minute; days and more for one of many months. */
  readonly intervalNs: number;
  /** Bytes of the blocks touched in each interval since the first request. */
  readonly byIntervalBytes: readonly number[];
  /** Of the intervals with a read or write; 0 without any. */
  readonly medianBytes: number;
  readonly maxBytes: number;
  /** Share of the blocks that was followed; below 1 the sizes are estimates. */
  readonly rate: number;
}

export class WorkingSetCounter {
  private readonly table = new BlockTable();
  private readonly intervalNs: number;
  private readonly blocks: Float64Array;
  private readonly rate: number;
  /** Blocks whose mixed number is below are followed. */
  private readonly threshold: number;
  private last = 0;

  /** @param uniqueBytes all blocks of the trace; undefined when not known, `endBytes` bounds it then */
  constructor(durationNs: number, uniqueBytes: number | undefined, endBytes: number) {
    this.intervalNs = intervalFor(durationNs);
    this.blocks = new Float64Array(Math.floor(durationNs / this.intervalNs) + 1);
    this.rate = Math.min(1, BLOCKS_MAX / Math.max(1, (uniqueBytes ?? endBytes) / LRU_BLOCK_BYTES));
    this.threshold = this.rate * 2 ** 32;
  }

  /** Counts up to `limit` requests of a batch, discards not among them. @returns how many they were */
  count(batch: TraceBatch, limit: number): number {
    const { intervalNs, blocks, rate, threshold } = this;
    const all = rate === 1;
    let requests = 0;
    for (let i = 0; i < batch.count && requests < limit; i++) {
      const op = batch.op[i];
      if (op === TraceOp.discard) continue;
      requests++;
      const interval = Math.min(blocks.length - 1, Math.floor(batch.timeNs[i] / intervalNs));
      if (interval > this.last) this.last = interval;
      if (op === TraceOp.flush) continue;
      const end = batch.offsetBytes[i] + batch.lengthBytes[i];
      for (let block = Math.floor(batch.offsetBytes[i] / LRU_BLOCK_BYTES); block * LRU_BLOCK_BYTES < end; block++) {
        if (all || mixBlock(block, SALT) >>> 0 < threshold) this.touch(block, interval);
      }
    }
    return requests;
  }

  private touch(block: number, interval: number): void {
    const { table, blocks } = this;
    const bucket = table.find(block);
    if (bucket < 0) table.add(block, interval);
    else if (table.valueAt(bucket) === interval) return;
    else table.setValueAt(bucket, interval);
    blocks[interval]++;
  }

  result(): WorkingSet {
    const { intervalNs, rate } = this;
    const byIntervalBytes = Array.from(this.blocks.subarray(0, this.last + 1), (blocks) =>
      Math.round((blocks / rate) * LRU_BLOCK_BYTES),
    );
    const rising = byIntervalBytes.filter((bytes) => bytes > 0).sort((a, b) => a - b);
    const medianBytes = rising.length === 0 ? 0 : rising[Math.floor((rising.length - 1) / 2)];
    return { intervalNs, byIntervalBytes, medianBytes, maxBytes: rising.at(-1) ?? 0, rate };
  }
}

function intervalFor(durationNs: number): number {
  if (durationNs < MINUTE_NS) return SECOND_NS;
  if (durationNs < HOUR_NS) return MINUTE_NS;
  let intervalNs = HOUR_NS;
  while (durationNs / intervalNs > INTERVALS_MAX) intervalNs *= 24;
  return intervalNs;
}
