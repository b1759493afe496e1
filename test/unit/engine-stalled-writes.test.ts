/** Writes that wait for room in rare situations. */
import { describe, expect, it } from 'vitest';
import { SUBTREE_SECTORS } from '../../src/engine/media/geometry.js';
import { SmallCache, type Request } from '../support/small-cache.js';

describe('a stalled write', () => {
  it('gets the segment of an idle data head once everything is written back', () => {
    const small = new SmallCache({ segments: 4, slots: 3, sectors: 3 * SUBTREE_SECTORS, gcPercent: 0 });
    small.write(0, 1, 1);
    small.write(SUBTREE_SECTORS, 1, 2); // two slots have opened a segment, the log has one, and one is kept back
    const write = small.write(2 * SUBTREE_SECTORS, 1, 3);
    expect(write.isPending).toBe(true);
    small.settle();
    expect(write.isDone).toBe(true);
    small.drain();
    expect(small.durableIds(2 * SUBTREE_SECTORS, 1)).toEqual([3]);
  });

  it('fails with CACHE_FULL when everything is written back and there are still too few segments', () => {
    const small = new SmallCache({ segments: 2 });
    const write = small.write(0, 1, 1);
    expect(write.isPending).toBe(true);
    small.settle();
    expect(write.errorCode).toBe('CACHE_FULL');
    expect(small.read(0, 1).isPending).toBe(true); // a read goes past it
    small.settle();
  });

  it('keeps waiting while write-back is held, and ends when it is not', () => {
    const small = new SmallCache({ segments: 6 });
    small.cache.holdWriteback = true;
    let last: Request;
    let n = 0;
    do last = small.write(8 * n, 8, ++n);
    while (!last.isPending);
    small.settle();
    expect(last.isPending).toBe(true);
    small.cache.holdWriteback = false;
    small.settle();
    expect(last.isDone).toBe(true);
  });
});
