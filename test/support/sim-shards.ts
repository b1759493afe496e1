/**
 * A cache whose shards are all in this thread, on simulated devices. The backing device answers in an order of chance,
 * and reports every write or hole that begins while another one of an overlapping range is under way.
 */
import type { BackingDone } from '../../src/engine/device/backing.js';
import { Cache, openShard, ShardedCache, type CacheDriver, type Shard } from '../../src/engine/index.js';
import { bestCrc32c } from '../../src/engine/device/native.js';
import { KIB, SECTOR_BYTES, SUBTREE_SECTORS } from '../../src/engine/media/geometry.js';
import { Op, RequestFlag, RequestGroup, RequestState } from '../../src/engine/request/request-group.js';
import { Random } from '../../src/engine/sim/random.js';
import { SimBacking } from '../../src/engine/sim/sim-backing.js';
import { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { geometryOf, makeDevice, type DeviceShape } from './sim-device.js';
import { SMALL } from './small-cache.js';
import { readStamp, stamp, wordsOf } from './stamps.js';

const SECTOR_WORDS = SECTOR_BYTES / 4;
const clock = { nowMs: () => performance.now() };

class WatchedBacking extends SimBacking {
  readonly overlaps: string[] = [];
  private readonly ranges = new Set<readonly [number, number, string]>();

  override write(...[offset, source, at, length, done]: Parameters<SimBacking['write']>): void {
    super.write(offset, source, at, length, this.begin('write', offset, length, done));
  }
  override zero(offset: number, length: number, keepsSpace: boolean, done: BackingDone): void {
    super.zero(offset, length, keepsSpace, this.begin('hole', offset, length, done));
  }

  private begin(kind: string, start: number, length: number, done: BackingDone): BackingDone {
    const end = start + length;
    for (const [from, to, other] of this.ranges) {
      if (from < end && start < to) this.overlaps.push(`${kind} of ${start}–${end} during ${other} of ${from}–${to}`);
    }
    const range = [start, end, kind] as const;
    this.ranges.add(range);
    return (error) => {
      this.ranges.delete(range);
      done(error);
    };
  }
}

export interface SimShardsOptions {
  readonly jobs: number;
  readonly shape?: Partial<DeviceShape>;
  readonly seed?: number;
  readonly subtrees?: number;
}

export class SimShards {
  readonly shape: DeviceShape;
  readonly pmem: SimPmem;
  readonly backing: WatchedBacking;
  readonly cache: ShardedCache;
  readonly shards: readonly CacheDriver<Shard>[];
  /** Whether the backing device answers, and whether it fails what it answers. */
  isAnswering = true;
  fails: 'none' | 'flushes' | 'all' = 'none';
  readonly random: Random;
  private readonly sectors: number;
  private isOver = false;

  constructor({ jobs, shape, seed = 1, subtrees = 2 * jobs }: SimShardsOptions) {
    this.shape = { ...SMALL, segmentBytes: 32 * KIB, aged: false, segments: 12, ...shape };
    this.random = new Random(seed);
    this.sectors = subtrees * SUBTREE_SECTORS;
    this.pmem = makeDevice(this.shape);
    this.backing = new WatchedBacking({
      sizeBytes: this.sectors * SECTOR_BYTES,
      initial: (sector, target, at) => stamp(wordsOf(target), at >>> 2, sector, 0),
      tagOf: (sector, bytes, at) => readStamp(wordsOf(bytes), at >>> 2, sector),
    });
    const { pmem, backing } = this;
    this.cache = new ShardedCache({ pmem, backing, clock, geometry: geometryOf(this.shape), crc: bestCrc32c(), jobs });
    this.shards = this.cache.seeds.map(
      (seed) => openShard({ seed, pmem, backing, clock, crc: bestCrc32c(), punches: true }).driver,
    );
    this.answer();
  }

  private answer(): void {
    const { backing, random } = this;
    if (this.isAnswering && backing.underWay > 0) {
      const which = random.below(backing.underWay);
      const fails = this.fails === 'all' || (this.fails === 'flushes' && backing.kindOf(which) === 'flush');
      if (fails) backing.finishWithError(which, random);
      else backing.finish(which);
    }
    if (!this.isOver) setImmediate(() => this.answer());
  }

  /** Submits a request of sectors to their shard, or a FLUSH to `shard`. */
  submit(op: number, first: number, sectors: number, { id = 0, flags = 0, shard }: SubmitOptions = {}) {
    const { pmem, shards } = this;
    const driver = shards[shard ?? Math.floor(first / SUBTREE_SECTORS) % shards.length];
    const memory = new Uint8Array(Math.max(1, sectors) * SECTOR_BYTES);
    const words = wordsOf(memory);
    if (op === Op.write) for (let n = 0; n < sectors; n++) stamp(words, n * SECTOR_WORDS, first + n, id);
    const group = new RequestGroup(1, pmem.registerArena(memory));
    group.add(op, first * SECTOR_BYTES, sectors * SECTOR_BYTES, 0, flags);
    const done = new Promise<void>((resolve) => {
      group.onRequestDone = () => resolve();
      if (driver.cache.submit(group) === 0) resolve();
      driver.kick();
    });
    return {
      group,
      done,
      get isPending() {
        return group.state[0] === RequestState.pending;
      },
      get ids() {
        return Array.from({ length: sectors }, (_, n) => readStamp(words, n * SECTOR_WORDS, first + n));
      },
    };
  }

  async write(first: number, sectors: number, id: number, flags = 0): Promise<void> {
    await this.submit(Op.write, first, sectors, { id, flags }).done;
  }
  async read(first: number, sectors: number): Promise<number[]> {
    const read = this.submit(Op.read, first, sectors);
    await read.done;
    return read.ids;
  }
  zero(first: number, sectors: number, op: number = Op.zero, flags = 0) {
    return this.submit(op, first, sectors, { flags });
  }
  flush(shard: number) {
    return this.submit(Op.flush, 0, 0, { shard });
  }

  /** Whether the cache holds a sector. */
  holds(sector: number): boolean {
    const driver = this.shards[Math.floor(sector / SUBTREE_SECTORS) % this.shards.length];
    return driver.cache.locate(sector * SECTOR_BYTES) >= 0;
  }

  /** Lets everything that is under way end, and what that begins. */
  async settle(turns = 20): Promise<void> {
    for (let quiet = 0; quiet < turns; quiet = this.isAnswering && this.backing.underWay > 0 ? 0 : quiet + 1) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Ids that a reader of all of `sectors` finds after a loss of power at this moment. */
  idsAfterCrash(sectors: readonly number[]): number[] {
    const { pmem, backing, random, shape } = this;
    let bytes = new Uint8Array();
    pmem.withCrash(random, () => (bytes = pmem.bytes.slice()));
    const device = new SimPmem(bytes, { model: shape.model, crc: bestCrc32c() });
    const disk = backing.copyCrashed(random);
    const cache = new Cache({ pmem: device, backing: disk, clock, geometry: geometryOf(shape), crc: bestCrc32c() });
    const step = () => {
      while (cache.step());
      while (disk.underWay > 0) {
        disk.finish(0);
        while (cache.step());
      }
    };
    if (random.chance(0.5)) step(); // write-back goes on first
    return sectors.map((sector) => {
      const memory = new Uint8Array(SECTOR_BYTES);
      const group = new RequestGroup(1, device.registerArena(memory));
      group.add(Op.read, sector * SECTOR_BYTES, SECTOR_BYTES, 0);
      cache.submit(group);
      while (group.pending > 0 && disk.underWay > 0) disk.finish(0);
      return group.state[0] === RequestState.done ? readStamp(wordsOf(memory), 0, sector) : NaN;
    });
  }

  /** Call it at the end of the test, whether or not the cache was closed. */
  end(): void {
    this.isOver = true;
  }
}

interface SubmitOptions {
  readonly id?: number;
  readonly flags?: number;
  readonly shard?: number;
}

export { Op, RequestFlag };
