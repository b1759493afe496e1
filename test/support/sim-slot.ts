/** Groups of requests of a simulation, their memory, and what has to be known of them until they end. */
import { RequestGroup } from '../../src/engine/request/request-group.js';
import { SECTOR_BYTES } from '../../src/engine/media/geometry.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { GROUP_REQUESTS_MAX, GROUP_SECTORS_MAX, type SimRequest } from './sim-plan.js';
import { wordsOf } from './stamps.js';

/** Memory of the groups, shared by all runs of a process: it is overwritten before each use. */
const arenas: Uint8Array[] = [];
export function arenaMemory(n: number): Uint8Array {
  return (arenas[n] ??= new Uint8Array(GROUP_SECTORS_MAX * SECTOR_BYTES));
}

export class Slot {
  readonly words: Int32Array;
  readonly group: RequestGroup;
  readonly writeId = new Int32Array(GROUP_REQUESTS_MAX);
  readonly tick = new Float64Array(GROUP_REQUESTS_MAX);
  readonly floors: (Float64Array | undefined)[] = new Array<Float64Array | undefined>(GROUP_REQUESTS_MAX).fill(
    undefined,
  );
  readonly ended = new Uint8Array(GROUP_REQUESTS_MAX);
  /** What to submit when the group has ended, if it does not end at once. */
  next: readonly SimRequest[] | undefined;

  constructor(pmem: SimPmem, memory: Uint8Array) {
    this.words = wordsOf(memory);
    this.group = new RequestGroup(GROUP_REQUESTS_MAX, pmem.registerArena(memory));
  }
}
