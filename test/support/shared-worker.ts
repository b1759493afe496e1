/** A thread that does one thing with shared state, as often as it is told, at the same time as others. */
import { parentPort, workerData } from 'node:worker_threads';
import { assert } from '../../src/engine/errors.js';
import { SharedState, type SharedMemory } from '../../src/engine/shards/shared-state.js';
import { ShardSegments } from '../../src/engine/shards/shared-segments.js';
import type { Geometry } from '../../src/engine/media/geometry.js';
import type { SegmentChain } from '../../src/engine/media/metadata.js';

export interface SharedWork {
  readonly memory: SharedMemory;
  readonly does: 'count' | 'put';
  readonly times: number;
  readonly counter: Int32Array;
  readonly geometry: Geometry;
  readonly chain: Pick<SegmentChain, 'length' | 'dataOffsetBytes' | 'generation'>;
  readonly segment: number;
}

const { memory, does, times, counter, geometry, chain, segment } = workerData as SharedWork;
const state = new SharedState(memory);
const segments = new ShardSegments(geometry, chain as SegmentChain, state);

/** Reads, dawdles, and writes. */
function count(): void {
  const before = counter[0];
  for (let n = 0; n < 50; n++) assert(Atomics.load(counter, 1) === 0, 'nobody writes there');
  counter[0] = before + 1;
}

for (let n = 0; n < times; n++) {
  if (does === 'count') state.lock.run(count);
  else segments.put(segment);
}
parentPort!.postMessage('done');
