/** Requests that a thread gives to its own shard, and which requests of its groups they are parts of. */
import type { Arena } from '../device/pmem.js';
import { RequestGroup, RequestState, type EngineGroup } from '../request/request-group.js';
import type { PartEnded } from './outbox.js';

/** Requests of a group for the shard. */
const PARTS = 128;

class Parts {
  readonly group: RequestGroup;
  readonly groups = new Array<RequestGroup | undefined>(PARTS).fill(undefined);
  readonly index = new Uint16Array(PARTS);
  /** Number of parts that have not been told to have ended. */
  left = 0;

  constructor(arena: Arena, onDone: (parts: Parts, part: number) => void) {
    this.group = new RequestGroup(PARTS, arena);
    this.group.onRequestDone = (_, part) => onDone(this, part);
  }

  add(group: EngineGroup, i: number, offsetBytes: number, lengthBytes: number, arenaAt: number): void {
    const part = this.group.add(group.op[i], offsetBytes, lengthBytes, arenaAt, group.flags[i]);
    this.groups[part] = group;
    this.index[part] = i;
  }
}

export class OwnParts {
  /** The group that is being filled, and the one with each FLUSH: it waits for all shards, and nothing waits behind it. */
  private open: Parts | undefined;
  private openFlushes: Parts | undefined;
  /** Those that are not in use, by arena. */
  private readonly free = new Map<Arena, Parts[]>();

  /** @param submit as `Shard.submit` */
  constructor(
    private readonly submit: (group: RequestGroup) => number,
    private readonly ended: PartEnded,
  ) {}

  /** Adds a part of request `i`; `send` gives it to the shard. All parts between two calls of that are of one arena. */
  add(group: EngineGroup, i: number, offsetBytes: number, lengthBytes: number, arenaAt: number): void {
    if (this.open?.group.count === PARTS) this.send();
    this.open ??= this.take(group.arena);
    this.open.add(group, i, offsetBytes, lengthBytes, arenaAt);
  }

  /** Adds a FLUSH. */
  addFlush(group: EngineGroup, i: number): void {
    if (this.openFlushes?.group.count === PARTS) this.send();
    this.openFlushes ??= this.take(group.arena);
    this.openFlushes.add(group, i, 0, 0, 0);
  }

  private take(arena: Arena): Parts {
    let free = this.free.get(arena);
    if (free === undefined) this.free.set(arena, (free = []));
    const parts = free.pop();
    if (parts === undefined) return new Parts(arena, (ofGroup, part) => this.end(ofGroup, part));
    parts.group.clear();
    return parts;
  }

  /** Gives the shard what was added. */
  send(): void {
    const { open, openFlushes } = this;
    this.open = this.openFlushes = undefined;
    if (open !== undefined) this.sendParts(open);
    if (openFlushes !== undefined) this.sendParts(openFlushes);
  }

  private sendParts(parts: Parts): void {
    const { group } = parts;
    parts.left = group.count;
    if (this.submit(group) === group.count) return;
    for (let part = 0; part < group.count; part++) {
      if (group.state[part] !== RequestState.pending) this.end(parts, part);
    }
  }

  private end(parts: Parts, part: number): void {
    const { group } = parts;
    const error = group.state[part] === RequestState.failed ? group.errors[part] : undefined;
    const [of, i, missBytes] = [parts.groups[part]!, parts.index[part], group.missBytes[part]];
    parts.groups[part] = undefined;
    if (--parts.left === 0) this.free.get(group.arena)?.push(parts);
    this.ended(of, i, error, missBytes);
  }

  /** No part that uses the arena may be under way. */
  forget(arena: Arena): void {
    this.free.delete(arena);
  }
}
