/** What a loss of power may leave while something writes to a simulated cache device. */
import { createHash } from 'node:crypto';
import { Random } from '../../src/engine/sim/random.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';

/** States to try before each store, and before each barrier. */
export interface CrashCounts {
  readonly beforeStore: number;
  readonly beforeBarrier: number;
}

/** The states that a loss of power may leave before each barrier of `run`, and before its stores; each once. */
export function crashStatesOf(pmem: SimPmem, counts: CrashCounts, run: (pmem: SimPmem) => void): Uint8Array[] {
  const random = new Random(4711);
  const states = new Map<string, Uint8Array>();
  const look = (count: number): void => {
    for (let n = 0; n < count; n++) {
      pmem.withCrash(random, () => {
        const hash = createHash('sha1').update(pmem.bytes).digest('hex');
        if (!states.has(hash)) states.set(hash, pmem.bytes.slice());
      });
    }
  };
  pmem.onStore = () => look(counts.beforeStore);
  pmem.onBarrier = () => look(counts.beforeBarrier);
  run(pmem);
  pmem.onStore = undefined;
  pmem.onBarrier = undefined;
  return [...states.values()];
}
