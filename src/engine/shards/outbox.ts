/** Requests that a thread has sent to the shard of another one, and which requests of its own they are parts of. */
import { errorOf, type ErrorNote, type PcacheError } from '../errors.js';
import { RequestState, type RequestGroup } from '../request/request-group.js';
import { LaneSender, SLOT_REQUESTS, SLOTS, type LaneMemory } from './lane.js';

/** A part of request `i` of a group has ended. */
export type PartEnded = (group: RequestGroup, i: number, error: PcacheError | undefined, missBytes: number) => void;

/** A part that found no free slot. */
interface WaitingPart {
  readonly arena: number;
  readonly group: RequestGroup;
  readonly i: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly arenaAt: number;
}

export class Outbox {
  private readonly lane: LaneSender;
  /** The slot that is being filled, or −1, and the arena of its payload. */
  private slot = -1;
  private arena = 0;
  /** By row: the request that it is a part of; undefined when that has been told that this part has ended. */
  private readonly groups = new Array<RequestGroup | undefined>(SLOTS * SLOT_REQUESTS).fill(undefined);
  private readonly index = new Uint16Array(SLOTS * SLOT_REQUESTS);
  /** By slot: number of its requests that have not ended. */
  private readonly left = new Uint8Array(SLOTS);
  private readonly waiting: WaitingPart[] = [];
  private hasSent = false;
  private readonly errors = new Map<number, PcacheError>();

  constructor(memory: LaneMemory) {
    this.lane = new LaneSender(memory);
  }

  /** Adds a part of request `i`; `send` sends it. */
  add(arena: number, group: RequestGroup, i: number, offsetBytes: number, lengthBytes: number, arenaAt: number): void {
    if (this.waiting.length > 0 || !this.place(arena, group, i, offsetBytes, lengthBytes, arenaAt)) {
      this.waiting.push({ arena, group, i, offsetBytes, lengthBytes, arenaAt });
    }
  }

  private place(
    arena: number,
    group: RequestGroup,
    i: number,
    offsetBytes: number,
    lengthBytes: number,
    arenaAt: number,
  ): boolean {
    const { lane } = this;
    if (this.slot >= 0 && (this.arena !== arena || this.left[this.slot] === SLOT_REQUESTS)) this.sendSlot();
    if (this.slot < 0) {
      this.slot = lane.open(arena);
      if (this.slot < 0) return false;
      this.arena = arena;
      this.left[this.slot] = 0;
    }
    const row = lane.add(this.slot, group.op[i], group.flags[i], offsetBytes, lengthBytes, arenaAt);
    this.groups[row] = group;
    this.index[row] = i;
    this.left[this.slot]++;
    return true;
  }

  private sendSlot(): void {
    this.lane.send(this.slot);
    this.slot = -1;
    this.hasSent = true;
  }

  /** Sends what was added. @returns whether anything was sent since the last call: the other thread may be asleep */
  send(): boolean {
    if (this.slot >= 0) this.sendSlot();
    const { hasSent } = this;
    this.hasSent = false;
    return hasSent;
  }

  /** The other thread says why the request of a row failed; it comes before the row does. */
  noteError(row: number, error: ErrorNote): void {
    this.errors.set(row, errorOf(error));
  }

  /**
   * Takes back what has ended, and adds what had found no slot.
   * @param awaitErrors called before a request that has failed is told about: takes what `noteError` needs
   * @returns whether anything has ended
   */
  takeBack(ended: PartEnded, awaitErrors: () => void): boolean {
    let worked = false;
    for (let slot = this.lane.takeBack(); slot >= 0; slot = this.lane.takeBack()) {
      this.takeSlotBack(slot, ended, awaitErrors);
      worked = true;
    }
    if (worked && this.waiting.length > 0) this.addWaiting();
    return worked;
  }

  private takeSlotBack(slot: number, ended: PartEnded, awaitErrors: () => void): void {
    const { lane, groups, errors } = this;
    const { count, missBytes } = lane.memory;
    const first = slot * SLOT_REQUESTS;
    const end = first + count[slot];
    let left = this.left[slot];
    // The receiver ends a request before it sends the slot back. So the last request may have been seen already.
    if (left === 0) return;
    for (let row = first; row < end && left > 0; row++) {
      const group = groups[row];
      if (group === undefined) continue;
      const state = lane.stateOf(row);
      if (state === RequestState.pending) continue;
      if (state === RequestState.failed) awaitErrors();
      const error = errors.get(row);
      errors.delete(row);
      groups[row] = undefined;
      this.left[slot] = --left;
      ended(group, this.index[row], error, missBytes[row]);
    }
    // Only now, because what is told may send the next requests.
    if (left === 0) lane.release(slot);
  }

  private addWaiting(): void {
    const { waiting } = this;
    let placed = 0;
    while (placed < waiting.length) {
      const { arena, group, i, offsetBytes, lengthBytes, arenaAt } = waiting[placed];
      if (!this.place(arena, group, i, offsetBytes, lengthBytes, arenaAt)) break;
      placed++;
    }
    waiting.splice(0, placed);
  }
}
