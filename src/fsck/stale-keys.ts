/**
 * Stale keys that a kernel leaves in the log when its GC ends inside a kset, after it freed a segment and before it
 * moved key_tail. At the next attach such a key is skipped, and counts no reference of its segment (kernel:
 * kset_replay); GC drops one for every key that it passes. The segment is then freed one key too early: with live data
 * in it, where it is in use again by then. Bounded: one finding for each segment.
 */
import type { KeyFields } from '../engine/media/kset.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';

interface StaleInSegment {
  /** The first of them: `kset 0:5144 key 7`. */
  readonly where: string;
  readonly generation: number;
  count: number;
}

export class StaleKeys {
  private readonly bySegment = new Map<number, StaleInSegment>();

  constructor(
    private readonly context: CheckContext,
    private readonly chain: CheckedChain,
  ) {}

  /**
   * @param key number `index` of its kset
   * @param place names the kset
   */
  add({ segment, generation }: KeyFields, index: number, place: () => string): void {
    const known = this.bySegment.get(segment);
    if (known !== undefined) known.count++;
    else this.bySegment.set(segment, { where: `kset ${place()} key ${index}`, generation, count: 1 });
  }

  /**
   * @param references number of current keys that point into each segment
   * @param extents segments of the log
   */
  report(references: Uint32Array, extents: ReadonlyMap<number, unknown>): void {
    for (const [segment, { where, generation, count }] of this.bySegment) {
      const uses = references[segment];
      let use = 'which is free';
      if (uses > 0) use = `which holds the payload of ${uses} current key${uses === 1 ? '' : 's'}`;
      else if (extents.has(segment)) use = 'which is part of the log';
      const others = count === 1 ? '' : `; ${count} stale keys in all refer to it`;
      const detail = `generation ${generation}, segment ${segment}, ${use}, is at ${this.chain.generation[segment]}${others}`;
      this.context.findings.add('KEY_STALE_UNCOUNTED', where, detail);
    }
  }
}
