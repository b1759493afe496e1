/** Telling the backing device of a cache from a foreign one. */
import { describe, expect, it } from 'vitest';
import type { BackingDevice } from '../../src/engine/device/backing.js';
import type { PmemReader } from '../../src/engine/device/pmem.js';
import { PcacheError } from '../../src/engine/errors.js';
import { compareBacking, refuseForeignBacking, type BackingComparison } from '../../src/rescue/backing-comparison.js';

const BLOCK = 4096;
const BLOCKS = 16;
const same = new Uint8Array(BLOCKS * BLOCK).fill(0x5a);

const cache: PmemReader = {
  path: 'cache',
  sizeBytes: same.length,
  read: (offset, target, at, length) => target.set(same.subarray(offset, offset + length), at),
  crc32c: () => 0,
  close: () => undefined,
};

/** A backing device that fails where `bad` says so, and holds `bytes`. */
function backingOf(bytes: Uint8Array, bad: (block: number) => boolean, code: 'IO' | 'BAD_MEDIA' = 'IO'): BackingDevice {
  return {
    path: 'backing',
    sizeBytes: bytes.length,
    read: (offset, target, at, length, done) => {
      if (bad(offset / BLOCK)) {
        done(new PcacheError(code, 'backing: EIO'));
        return;
      }
      target.set(bytes.subarray(offset, offset + length), at);
      done(null);
    },
    write: () => expect.unreachable(),
    flush: () => expect.unreachable(),
    close: () => undefined,
  };
}

function compare(backing: BackingDevice): Promise<BackingComparison> {
  return compareBacking({
    cache,
    backing,
    extents: function* () {
      for (let n = 0; n < BLOCKS; n++)
        yield { offsetBytes: n * BLOCK, lengthBytes: BLOCK, deviceOffsetBytes: n * BLOCK, fate: 0 };
    },
    badPayloads: () => new Set(),
  });
}

const refuse = (found: BackingComparison) => () =>
  refuseForeignBacking(found, { cachePath: 'cache', backingPath: 'backing', writesFirst: false });

describe('a backing device with places that cannot be read', () => {
  it('is taken when all others are the same', async () => {
    const found = await compare(backingOf(same, (block) => block % 4 === 0));
    expect(found).toMatchObject({ samples: 12, differing: [] });
    expect(refuse(found)).not.toThrow();
  });

  it('is refused when another differs', async () => {
    const other = same.slice();
    other[5 * BLOCK + 17] ^= 1;
    const found = await compare(backingOf(other, (block) => block === 0));
    expect(refuse(found)).toThrow(/1 of 15 samples .* the first at bytes 20480 to 24576/);
  });

  it('is taken when nothing of it can be read, for that does not make it foreign', async () => {
    const found = await compare(backingOf(same, () => true));
    expect(found).toMatchObject({ samples: 0, differing: [] });
    expect(refuse(found)).not.toThrow();
  });

  it('ends the comparison with an error that is not of the medium', async () => {
    await expect(compare(backingOf(same, () => true, 'BAD_MEDIA'))).rejects.toThrow('EIO');
  });
});
