/** The cache device of a simulation, which keeps the log alone. */
import { expect, it } from 'vitest';
import { KERNEL_GEOMETRY, MIB, segmentDataOffsetBytes } from '../../src/engine/media/geometry.js';
import { LogPmem } from '../../src/simulate/log-pmem.js';

it('a read of the log that reaches beyond the end of its segment gives what the log holds there', () => {
  const pmem = new LogPmem(512 * MIB);
  const end = segmentDataOffsetBytes(KERNEL_GEOMETRY, 3) + KERNEL_GEOMETRY.segmentDataBytes;
  pmem.write(end - 40, new Uint8Array(40).fill(7), 0, 40);
  const bytes = new Uint8Array(100).fill(1);
  pmem.read(end - 50, bytes, 0, 100);
  expect([...bytes]).toEqual([
    ...new Array<number>(10).fill(0),
    ...new Array<number>(40).fill(7),
    ...new Array<number>(50).fill(0),
  ]);
});
