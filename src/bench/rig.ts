/**
 * What every benchmark works on: a cache on a device, a backing device, and an arena whose blocks all hold the
 * same bytes, so that copying any block to where another one was written changes nothing.
 */
import { layout } from '../layout/layout.js';
import { performance } from 'node:perf_hooks';
import { bestCrc32c } from '../engine/device/native.js';
import { MappedPmem } from '../engine/device/mapped.js';
import type { Arena } from '../engine/device/pmem.js';
import type { BackingDevice } from '../engine/device/backing.js';
import { PcacheError } from '../engine/errors.js';
import { Cache, CacheDriver, Op, RequestGroup } from '../engine/index.js';
import { Random } from '../engine/sim/random.js';
import type { Pmem } from '../engine/device/pmem.js';
import type { Blocks } from './pattern.js';
import type { RoundsRig } from './rounds.js';

/** Requests in a group when the cache is filled before the rounds. */
const FILL_DEPTH = 32;
/** Groups between two turns of the event loop while filling. */
const FILL_GROUPS_PER_TURN = 64;

export interface RigOptions {
  readonly pmem: Pmem;
  readonly backing: BackingDevice;
  readonly blockBytes: number;
  readonly depth: number;
}

export class Rig {
  readonly pmem: MappedPmem;
  readonly cache: Cache;
  readonly driver: CacheDriver;
  readonly arena: Arena;
  readonly group: RequestGroup;

  /** @throws PcacheError NATIVE_MISSING when the device is not mapped, and what opening the cache throws */
  constructor(readonly options: RigOptions) {
    const { pmem, backing, blockBytes, depth } = options;
    this.pmem = mappedOrThrow(pmem);
    const clock = { nowMs: () => performance.now() };
    this.cache = new Cache({ pmem, backing, clock, crc: bestCrc32c() });
    this.driver = new CacheDriver(this.cache, clock);
    const blocks = arenaBlocks(depth);
    this.arena = pmem.registerArena(sameBlocks(blocks, blockBytes));
    this.group = new RequestGroup(blocks, this.arena);
  }

  /** Writes all blocks once, in their order, and everything back. */
  async fill(blocks: Blocks, onProgress: (blocks: number) => void): Promise<void> {
    await this.write(blocks, onProgress);
    await this.driver.drain();
  }

  /** Writes all blocks once, in their order. */
  write(blocks: Blocks, onProgress: (blocks: number) => void): Promise<void> {
    return writeBlocks(this, blocks, onProgress);
  }

  async close(): Promise<void> {
    await this.driver.close();
    this.pmem.unregisterArena(this.arena);
  }
}

/** @throws PcacheError NATIVE_MISSING when the device is not mapped */
export function mappedOrThrow(pmem: Pmem): MappedPmem {
  if (pmem instanceof MappedPmem) return pmem;
  throw new PcacheError('NATIVE_MISSING', `${pmem.path}: a benchmark needs the native helper; ${layout.helperRemedy}`);
}

/** Blocks side by side or scattered, by their number. */
export interface BlockList {
  readonly count: number;
  readonly blockBytes: number;
  offsetBytes(n: number): number;
}

/** Writes all blocks once, in their order. */
export async function writeBlocks(
  { cache, driver, group }: RoundsRig,
  blocks: BlockList,
  onProgress: (blocks: number) => void,
): Promise<void> {
  const { blockBytes } = blocks;
  for (let n = 0, groups = 0; n < blocks.count; groups++) {
    group.clear();
    for (; group.count < FILL_DEPTH && n < blocks.count; n++) {
      group.add(Op.write, blocks.offsetBytes(n), blockBytes, group.count * blockBytes);
    }
    if (cache.submit(group) > 0 || groups % FILL_GROUPS_PER_TURN === 0) {
      do {
        driver.kick();
        await new Promise((resolve) => setImmediate(resolve));
      } while (group.pending > 0);
    }
    if (group.errors[0]) throw group.errors[0];
    onProgress(n);
  }
}

/** So many blocks have room in the arena that caches are filled from, at least. */
export function arenaBlocks(depth: number): number {
  return Math.max(depth, FILL_DEPTH);
}

/** Blocks of the same random bytes. */
export function sameBlocks(count: number, blockBytes: number): Uint8Array {
  const bytes = new Uint8Array(count * blockBytes);
  const random = new Random(1);
  for (let at = 0; at < blockBytes; at++) bytes[at] = random.below(256);
  for (let n = 1; n < count; n++) bytes.copyWithin(n * blockBytes, 0, blockBytes);
  return bytes;
}
