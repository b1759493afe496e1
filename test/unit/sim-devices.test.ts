/** The simulated devices refuse what real ones refuse. */
import { describe, expect, it } from 'vitest';
import type { PcacheError } from '../../src/engine/errors.js';
import { Random } from '../../src/engine/sim/random.js';
import { SmallCache } from '../support/small-cache.js';

const code = (expected: string): PcacheError => expect.objectContaining({ code: expected }) as PcacheError;

describe('the simulated devices', () => {
  it('refuse ranges that are not on them, and calls after their close', () => {
    const small = new SmallCache();
    const { pmem, backing } = small;
    expect(() => pmem.read(pmem.sizeBytes, new Uint8Array(1), 0, 1)).toThrow(code('OUT_OF_RANGE'));
    expect(() => pmem.write(-1, new Uint8Array(1), 0, 1)).toThrow(code('OUT_OF_RANGE'));
    const ignore = () => {};
    expect(() => backing.read(backing.sizeBytes, new Uint8Array(512), 0, 512, ignore)).toThrow(code('OUT_OF_RANGE'));
    expect(() => backing.write(100, new Uint8Array(512), 0, 512, ignore)).toThrow(code('OUT_OF_RANGE'));
    backing.flush(ignore);
    expect(() => backing.close()).toThrow(code('BUSY'));
    backing.finishWithError(0, new Random(1));
    backing.close();
    pmem.close();
    expect(() => pmem.persist()).toThrow(code('CLOSED'));
  });
});
