/** Requests that another thread has sent to the shard of this one: takes them in, and sends them back as they end. */
import { RequestGroup, RequestState } from '../request/request-group.js';
import type { Arena } from '../device/pmem.js';
import type { PcacheError } from '../errors.js';
import { LaneReceiver, SLOT_REQUESTS, type LaneMemory } from './lane.js';

export interface InboxContext {
  /** The other thread's memory, as this thread has registered it. */
  readonly arenaOf: (arena: number) => Arena;
  /** As `Shard.submit`. */
  readonly submit: (group: RequestGroup) => number;
  /** Tells the other thread why the request of a row has failed. */
  readonly sayFailed: (row: number, error: PcacheError | undefined) => void;
  /** Something was sent back after `take` had returned: the other thread may be asleep. */
  readonly onGivenBack: () => void;
}

/** A slot's requests as the shard takes them. */
class SlotGroup {
  readonly group: RequestGroup;
  slot = -1;
  /** Number of requests that have not been told to have ended. */
  left = 0;

  constructor(
    readonly arena: number,
    memory: Arena,
    onDone: (slotGroup: SlotGroup, i: number) => void,
  ) {
    this.group = new RequestGroup(SLOT_REQUESTS, memory);
    this.group.onRequestDone = (_, i) => onDone(this, i);
  }
}

export class Inbox {
  private readonly lane: LaneReceiver;
  /** Groups that are not in use, by the arena of their payload. */
  private readonly free = new Map<number, SlotGroup[]>();

  constructor(
    memory: LaneMemory,
    private readonly context: InboxContext,
  ) {
    this.lane = new LaneReceiver(memory);
  }

  /** Takes in what has been sent, and sends back what has ended at once. @returns whether there was anything */
  take(): boolean {
    let worked = false;
    for (let slot = this.lane.receive(); slot >= 0; slot = this.lane.receive()) {
      this.lane.accept();
      this.takeSlot(slot);
      worked = true;
    }
    return worked;
  }

  private takeSlot(slot: number): void {
    const { lane } = this;
    const { memory } = lane;
    const taken = this.groupOf(memory.arena[slot]);
    const { group } = taken;
    taken.slot = slot;
    group.clear();
    const first = slot * SLOT_REQUESTS;
    const end = first + memory.count[slot];
    for (let row = first; row < end; row++) {
      group.add(
        memory.op[row],
        memory.offsetBytes[row],
        memory.lengthBytes[row],
        memory.arenaOffsetBytes[row],
        memory.flags[row],
      );
    }
    taken.left = group.count;
    if (this.context.submit(group) === group.count) return;
    for (let i = 0; i < group.count; i++) if (group.state[i] !== RequestState.pending) this.end(taken, i);
    lane.giveBack(slot);
  }

  private groupOf(arena: number): SlotGroup {
    let free = this.free.get(arena);
    if (free === undefined) this.free.set(arena, (free = []));
    return free.pop() ?? new SlotGroup(arena, this.context.arenaOf(arena), (taken, i) => this.endedLater(taken, i));
  }

  private end(taken: SlotGroup, i: number): void {
    const { group, slot } = taken;
    const row = slot * SLOT_REQUESTS + i;
    if (group.state[i] === RequestState.failed) this.context.sayFailed(row, group.errors[i]);
    this.lane.end(row, group.state[i], group.missBytes[i]);
    if (--taken.left === 0) this.free.get(taken.arena)?.push(taken);
  }

  private endedLater(taken: SlotGroup, i: number): void {
    const { slot } = taken;
    this.end(taken, i);
    this.lane.giveBack(slot);
    this.context.onGivenBack();
  }

  /** An arena of the other thread is gone. */
  forget(arena: number): void {
    this.free.delete(arena);
  }
}
