/**
 * What is served: a device that takes groups of requests as the engine's cache does. `CacheStore` is a running
 * cache; `ReadOnlyStore` only looks, and changes neither device.
 */
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
import type { LogicalReader } from '../engine/inspect/logical-reader.js';

export interface Store {
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  /** As `Cache.submit`: what is pending at return ends later, with a call of `group.onRequestDone`. */
  submit(group: RequestGroup): number;
  /** How much room is left for writes; undefined or absent when there is enough. */
  pressure?(): WritePressure | undefined;
  registerArena(memory: Uint8Array): Arena;
  unregisterArena(arena: Arena): void;
}

/** Time from one flush of a slow backing device to the next, ms; and when writers need the room. */
const CYCLE_MS = 2000;
const CYCLE_NEARLY_FULL_MS = 250;

export class CacheStore implements Store {
  readonly isReadOnly = false;

  constructor(
    private readonly driver: CacheDriver,
    private readonly pmem: Pmem,
  ) {
    driver.cache.writebackCycleMs = CYCLE_MS;
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
    const pending = this.driver.cache.submit(group);
    this.driver.kick();
    return pending;
  }
  registerArena(memory: Uint8Array): Arena {
    return this.pmem.registerArena(memory);
  }
  unregisterArena(arena: Arena): void {
    this.pmem.unregisterArena(arena);
  }
}

/** Reads of the logical device as it was when it was opened. They are synchronous: misses are not overlapped. */
export class ReadOnlyStore implements Store {
  readonly isReadOnly = true;

  constructor(private readonly reader: LogicalReader) {}

  get sizeBytes(): number {
    return this.reader.sizeBytes;
  }

  submit(group: RequestGroup): number {
    for (let i = 0; i < group.count; i++) {
      group.errors[i] = undefined;
      group.missBytes[i] = 0;
      try {
        this.serve(group, i);
        group.state[i] = RequestState.done;
      } catch (error) {
        group.errors[i] = fromSystemError(error, 'the cache', 'reading it');
        group.state[i] = RequestState.failed;
      }
    }
    return 0;
  }

  private serve(group: RequestGroup, i: number): void {
    if (group.op[i] === Op.flush) return;
    if (group.op[i] === Op.write) throw new PcacheError('NO_ACCESS', 'the cache is served read-only');
    this.reader.read(group.offsetBytes[i], group.arena.memory, group.arenaOffsetBytes[i], group.lengthBytes[i]);
  }

  registerArena(memory: Uint8Array): Arena {
    return { id: 0, memory };
  }
  unregisterArena(_arena: Arena): void {}
}
