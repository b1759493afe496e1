/**
 * What is served: a device that takes groups of requests as the engine's cache does. `CacheStore` is a running
 * cache; `ReadOnlyStore` only looks, and changes neither device.
 */
import type { BackingDevice } from '../engine/device/backing.js';
import type { Arena, Pmem } from '../engine/device/pmem.js';
import {
  fromSystemError,
  Op,
  PcacheError,
  RequestState,
  type CacheDriver,
  type WritePressure,
  type RequestGroup,
} from '../engine/index.js';
import { allocationOf, type Allocation } from './allocation.js';
import { EarlySync } from './early-sync.js';
import type { CachedRanges } from '../engine/index/cached-ranges.js';
import type { LogicalReader } from '../engine/inspect/logical-reader.js';

export interface Store {
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  /** As `Cache.submit`: what is pending at return ends later, with a call of `group.onRequestDone`. */
  submit(group: RequestGroup): number;
  /** How much room is left for writes; undefined or absent when there is enough. */
  pressure?(): WritePressure | undefined;
  /**
   * Finds data and holes of a range that starts at `offsetBytes`; the answer may reach less far. Absent where all is data.
   * `done` is called later, never from within the call.
   */
  allocation?(
    offsetBytes: number,
    lengthBytes: number,
    extentsMax: number,
    done: (error: PcacheError | null, allocation: Allocation) => void,
  ): void;
  /** Whether zeroing the range takes less time than writing it. Absent where it never does. */
  zeroesFast?(offsetBytes: number, lengthBytes: number): boolean;
  /** Memory for payload of requests. */
  makeArena(lengthBytes: number): Arena;
  /** No request may be under way that uses the arena. */
  dropArena(arena: Arena): void;
}

/** Asks the backing device, and lays what the cache holds over the answer. */
export function findAllocation(
  holder: { cachedRanges(offsetBytes: number, lengthBytes: number, rangesMax: number): CachedRanges },
  backing: BackingDevice,
  ...[offsetBytes, lengthBytes, extentsMax, done]: Parameters<Required<Store>['allocation']>
): void {
  const cached = holder.cachedRanges(offsetBytes, lengthBytes, extentsMax);
  const capacity = 2 * extentsMax;
  const extents = { endBytes: new Float64Array(capacity), isHole: new Uint8Array(capacity), count: 0 };
  const answer = (error: Error | null): void => {
    if (error) done(fromSystemError(error, backing.path, 'looking for holes'), []);
    else done(null, allocationOf(offsetBytes, cached, extents, extentsMax));
  };
  backing.extents!(offsetBytes, cached.endBytes - offsetBytes, extents, answer);
}

/** Time from one flush of a slow backing device to the next, ms; and when writers need the room. */
export const CYCLE_MS = 2000;
export const CYCLE_NEARLY_FULL_MS = 250;

export class CacheStore implements Store {
  readonly isReadOnly = false;
  private readonly give: (group: RequestGroup) => number;

  constructor(
    private readonly driver: CacheDriver,
    private readonly pmem: Pmem,
    private readonly backing: BackingDevice,
  ) {
    driver.cache.writebackCycleMs = CYCLE_MS;
    const submit = (group: RequestGroup) => {
      const pending = driver.cache.submit(group);
      driver.kick();
      return pending;
    };
    const early = pmem.beginPersist && new EarlySync({ beginSync: (done) => pmem.beginPersist!(done), submit });
    this.give = early ? (group) => early.submit(group) : submit;
  }

  get sizeBytes(): number {
    return this.driver.cache.sizeBytes;
  }
  pressure(): WritePressure | undefined {
    const { cache } = this.driver;
    const pressure = cache.pressure();
    const isNear = pressure !== undefined && pressure.roomBytes < pressure.zoneBytes;
    cache.writebackCycleMs = isNear ? CYCLE_NEARLY_FULL_MS : CYCLE_MS;
    return pressure;
  }
  submit(group: RequestGroup): number {
    return this.give(group);
  }
  allocation(...question: Parameters<Required<Store>['allocation']>): void {
    findAllocation(this.driver.cache, this.backing, ...question);
  }
  /** A hole of the backing device is fast; whatever the cache holds is written over. */
  zeroesFast(offsetBytes: number, lengthBytes: number): boolean {
    const { cache } = this.driver;
    return this.backing.canPunch === true && cache.cachedRanges(offsetBytes, lengthBytes, 1).bounds.length === 0;
  }
  makeArena(lengthBytes: number): Arena {
    return this.pmem.registerArena(new Uint8Array(lengthBytes));
  }
  dropArena(arena: Arena): void {
    this.pmem.unregisterArena(arena);
  }
}

/** Reads of the logical device as it was when it was opened. Misses are read off the main thread. */
export class ReadOnlyStore implements Store {
  readonly isReadOnly = true;
  /** Requests that end now are seen by the one who submits them. */
  private isTaking = false;

  constructor(
    private readonly reader: LogicalReader,
    private readonly backing: BackingDevice,
  ) {}

  get sizeBytes(): number {
    return this.reader.sizeBytes;
  }

  submit(group: RequestGroup): number {
    group.pending = group.count;
    this.isTaking = true;
    for (let i = 0; i < group.count; i++) this.start(group, i);
    this.isTaking = false;
    return group.pending;
  }

  private start(group: RequestGroup, i: number): void {
    group.state[i] = RequestState.pending;
    group.errors[i] = undefined;
    group.missBytes[i] = 0;
    let parts = 1;
    const partDone = (error: unknown) => {
      if (error !== null) group.errors[i] ??= fromSystemError(error, 'the cache', 'reading it');
      if (--parts > 0) return;
      group.state[i] = group.errors[i] ? RequestState.failed : RequestState.done;
      group.pending--;
      if (!this.isTaking) group.onRequestDone?.(group, i);
    };
    try {
      if (group.op[i] !== Op.read && group.op[i] !== Op.flush) {
        throw new PcacheError('NO_ACCESS', 'the cache is served read-only');
      }
      if (group.op[i] === Op.read) {
        const { memory } = group.arena;
        const [offset, at, length] = [group.offsetBytes[i], group.arenaOffsetBytes[i], group.lengthBytes[i]];
        this.reader.readCached(offset, memory, at, length, (from, to, bytes) => {
          parts++;
          group.missBytes[i] += bytes;
          this.backing.read(from, memory, to, bytes, partDone);
        });
      }
      partDone(null);
    } catch (error) {
      partDone(error);
    }
  }

  allocation(...question: Parameters<Required<Store>['allocation']>): void {
    findAllocation(this.reader, this.backing, ...question);
  }
  makeArena(lengthBytes: number): Arena {
    return { id: 0, memory: new Uint8Array(lengthBytes) };
  }
  dropArena(_arena: Arena): void {}
}
