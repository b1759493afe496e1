/**
 * Where a FUA write or a FLUSH waits for the backing device, and with them every write, in the modes that write through
 * (writethrough, writearound). In writeback mode neither waits for it: `requests.ts` closes the kset, then
 * acknowledges.
 *
 * In these modes a write goes into the cache as in writeback mode, with a dirty key, and its kset is closed at once.
 * The write is acknowledged when write-back has written that kset to the backing device; a FLUSH or FUA is acknowledged
 * when the backing device was flushed after that. So at any moment the log holds the newest version of every range that
 * the cache holds, and the backing device holds everything that was acknowledged: the cache may be lost at any time.
 *
 * A key that is CLEAN from the start could not give that. The log has no entry for "this range is not cached any more".
 * Before such a key is in the log, a crash would bring an older version of the range back; once it is in the log, a
 * crash may lose data that the backing device had not made durable.
 */
import type { BackingDurability } from '../background/backing-durability.js';
import type { PcacheError } from '../errors.js';
import { Op, RequestFlag, type EngineGroup } from './request-group.js';

interface Wait {
  readonly group: EngineGroup;
  readonly request: number;
  /** Number of the last kset that has to be on the backing device; −Infinity if none has to. */
  readonly kset: number;
  readonly needsFlush: boolean;
  error: PcacheError | undefined;
}

export class FuaWaits {
  private waits: Wait[] = [];

  constructor(
    private readonly durability: BackingDurability,
    private readonly onEnd: (group: EngineGroup, request: number, error: PcacheError | undefined) => void,
  ) {}

  get length(): number {
    return this.waits.length;
  }

  /** Whether a request of a group waits here. */
  has(group: EngineGroup, request: number): boolean {
    return this.waits.some((wait) => wait.group === group && wait.request === request);
  }

  /**
   * Makes a request wait. All its keys are in the log.
   * @param kset number of the last kset that was closed
   * @returns false when the request waits for nothing but its other parts
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
   * Asks for the flush that has to come before a write with PREFLUSH. It covers the ksets up to number `kset` and
   * everything that was written past the cache.
   */
  requestPreflush(group: EngineGroup, request: number, kset: number): void {
    group.flush[request] = this.durability.flushes.request(kset);
  }
  /** Whether the flush that a request asked for has succeeded. */
  isFlushed(group: EngineGroup, request: number): boolean {
    const ticket = group.flush[request];
    return ticket !== 0 && this.durability.flushes.isServed(ticket);
  }

  /** Makes all requests that wait now fail at the next `settle`: the backing device did not take their data. */
  fail(error: PcacheError): void {
    for (const wait of this.waits) wait.error ??= error;
  }

  /**
   * Asks for the flushes that requests need, and ends the requests that have what they waited for. Their callers may
   * submit new requests at once.
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

  /** The flush must begin after the parts of the request that go past the cache have ended. */
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
