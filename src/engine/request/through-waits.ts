/**
 * Who waits for the backing device in the modes that write through (writethrough, writearound).
 *
 * There a write goes into the cache as in writeback mode, dirty, and its kset is closed at once; it is
 * acknowledged when write-back has written that kset to the backing device, and a FLUSH or FUA when the
 * device was flushed after that. So whatever moment a crash picks, the log has the newest version of all the
 * cache holds, and the backing device has all that was acknowledged: the cache may be lost at any time. (A
 * key that is CLEAN from the start could not do that: the log has no way to say that an older version of the
 * range is gone, so until the key is in the log a crash would bring that back, and once it is there a crash
 * might take what the backing device had not made durable.)
 */
import type { BackingDurability } from '../background/backing-durability.js';
import type { PcacheError } from '../errors.js';
import { Op, RequestFlag, type EngineGroup } from './request-group.js';

interface Wait {
  readonly group: EngineGroup;
  readonly request: number;
  /** Number of the last kset that has to be on the backing device; −Infinity when none does. */
  readonly kset: number;
  readonly needsFlush: boolean;
  error: PcacheError | undefined;
}

export class ThroughWaits {
  private waits: Wait[] = [];

  constructor(
    private readonly durability: BackingDurability,
    private readonly onEnd: (group: EngineGroup, request: number, error: PcacheError | undefined) => void,
  ) {}

  get length(): number {
    return this.waits.length;
  }

  /** Whether request `i` of the group waits here. */
  has(group: EngineGroup, request: number): boolean {
    return this.waits.some((wait) => wait.group === group && wait.request === request);
  }

  /**
   * Makes a request wait whose keys are all in the log: `kset` is the last that was closed.
   * @returns false when there is nothing to wait for but its other parts
   */
  add(group: EngineGroup, request: number, kset: number): boolean {
    const forced = group.flags[request] & (RequestFlag.fua | RequestFlag.preflush);
    const isFlush = group.op[request] === Op.flush || (group.lengthBytes[request] === 0 && forced !== 0);
    const needsFlush = isFlush || (group.flags[request] & RequestFlag.fua) !== 0;
    const needsKset = isFlush || group.hasKeys[request] === 1;
    if (!needsFlush && !needsKset) return false;
    group.flush[request] = 0;
    this.waits.push({ group, request, kset: needsKset ? kset : -Infinity, needsFlush, error: undefined });
    return true;
  }

  /**
   * Asks for the flush that has to come before a write with PREFLUSH: it covers the ksets up to number `kset`, and
   * all that was written past the cache.
   */
  requestPreflush(group: EngineGroup, request: number, kset: number): void {
    group.flush[request] = this.durability.flushes.request(kset);
  }
  /** Whether the flush that was asked for a request is done. */
  isFlushed(group: EngineGroup, request: number): boolean {
    const ticket = group.flush[request];
    return ticket !== 0 && this.durability.flushes.isServed(ticket);
  }

  /** All who wait now are to fail: the backing device refused something, or cannot be given it. */
  fail(error: PcacheError): void {
    for (const wait of this.waits) wait.error ??= error;
  }

  /**
   * Asks for the flushes that are wanted, and ends those that have what they waited for. What that makes
   * others do may add new ones.
   * @returns whether it did anything
   */
  settle(): boolean {
    const { durability } = this;
    if (durability.stopped) this.fail(durability.lastError!);
    if (this.waits.length === 0) return false;
    let worked = false;
    const over: Wait[] = [];
    this.waits = this.waits.filter((wait) => {
      if (this.askForFlush(wait)) worked = true;
      const isOver = wait.error !== undefined || this.isServed(wait);
      if (isOver) over.push(wait);
      return !isOver;
    });
    for (const { group, request, error } of over) this.onEnd(group, request, error);
    return worked || over.length > 0;
  }

  /** A flush has to begin after the parts of the request that go past the cache have ended. */
  private askForFlush({ group, request, kset, needsFlush }: Wait): boolean {
    if (!needsFlush || group.flush[request] !== 0 || group.parts[request] > 0) return false;
    group.flush[request] = this.durability.flushes.request(kset);
    return true;
  }

  private isServed({ group, request, kset, needsFlush }: Wait): boolean {
    if (!needsFlush) return this.durability.written >= kset;
    return this.isFlushed(group, request);
  }
}
