/**
 * How much of a processor a benchmark has to itself: a loop that needs nothing but the processor and its nearest cache,
 * the same each time. A busy neighbour on the same core makes it longer, as it does everything in the engine that is no
 * copy.
 */
import { performance } from 'node:perf_hooks';

const STEPS = 500_000;
/** 16 KiB. */
const CELLS = new Int32Array(4096);
const CELL_SHIFT = 20;

/** Nanoseconds that the loop takes now. */
export function plainLoopNs(): number {
  const started = performance.now();
  let value = 1;
  for (let i = 0; i < STEPS; i++) {
    value = (Math.imul(value, 1664525) + 1013904223) | 0;
    const cell = value >>> CELL_SHIFT;
    CELLS[cell] = (CELLS[cell] + value) | 0;
  }
  return (performance.now() - started) * 1e6;
}
