/**
 * A lane: requests on their way from one thread of a cache to another, and their results on the way back, in shared
 * memory. The sender fills a slot with requests and sends it; the receiver sends it back whenever some of them have ended,
 * and the sender frees it when all have. Slots are received in the order in which they were sent.
 *
 * Each column and each ring entry is written by one side at a time. What a side wrote before it called `send` or
 * `giveBack` the other one sees after `receive` or `takeBack`.
 */
import { RequestState } from '../request/request-group.js';
import { LINE_WORDS } from './shared-state.js';

/** Requests of a slot. */
export const SLOT_REQUESTS = 32;
/** Slots of a lane: groups that are under way. */
export const SLOTS = 32;
const ROWS = SLOTS * SLOT_REQUESTS;

const Word = {
  /** Number of slots sent, and of slots sent back. */
  sent: 0,
  givenBack: LINE_WORDS,
} as const;

/** The memory of a lane, as threads pass it on. Row `slot * SLOT_REQUESTS + i` of the columns is request i of a slot. */
export interface LaneMemory {
  readonly words: Int32Array;
  /** Slots in the order in which they were sent, and sent back: rings. */
  readonly sentSlots: Int32Array;
  readonly backSlots: Int32Array;
  /** 1 for a slot that was sent back and not taken yet. */
  readonly isBack: Int32Array;
  /** By slot: number of its requests, and the arena of their payload. */
  readonly count: Int32Array;
  readonly arena: Int32Array;
  readonly op: Uint8Array;
  readonly flags: Uint8Array;
  readonly state: Uint8Array;
  readonly offsetBytes: Float64Array;
  readonly lengthBytes: Uint32Array;
  readonly arenaOffsetBytes: Uint32Array;
  readonly missBytes: Uint32Array;
}

export function makeLaneMemory(): LaneMemory {
  const shared = (bytes: number) => new SharedArrayBuffer(bytes);
  return {
    words: new Int32Array(shared(4 * 2 * LINE_WORDS)),
    sentSlots: new Int32Array(shared(4 * SLOTS)),
    backSlots: new Int32Array(shared(4 * SLOTS)),
    isBack: new Int32Array(shared(4 * SLOTS)),
    count: new Int32Array(shared(4 * SLOTS)),
    arena: new Int32Array(shared(4 * SLOTS)),
    op: new Uint8Array(shared(ROWS)),
    flags: new Uint8Array(shared(ROWS)),
    state: new Uint8Array(shared(ROWS)),
    offsetBytes: new Float64Array(shared(8 * ROWS)),
    lengthBytes: new Uint32Array(shared(4 * ROWS)),
    arenaOffsetBytes: new Uint32Array(shared(4 * ROWS)),
    missBytes: new Uint32Array(shared(4 * ROWS)),
  };
}

/** The sender's end. */
export class LaneSender {
  private readonly free = Int32Array.from({ length: SLOTS }, (_, n) => SLOTS - 1 - n);
  private freeCount = SLOTS;
  private sent = 0;
  private taken = 0;

  constructor(readonly memory: LaneMemory) {}

  /** An empty slot for requests with payload in `arena`, or −1 when all are under way. */
  open(arena: number): number {
    if (this.freeCount === 0) return -1;
    const slot = this.free[--this.freeCount];
    this.memory.count[slot] = 0;
    this.memory.arena[slot] = arena;
    return slot;
  }

  /** Adds a request to an open slot, which must have room. @returns its row */
  add(slot: number, op: number, flags: number, offsetBytes: number, lengthBytes: number, arenaAt: number): number {
    const { memory } = this;
    const row = slot * SLOT_REQUESTS + memory.count[slot]++;
    memory.op[row] = op;
    memory.flags[row] = flags;
    memory.state[row] = RequestState.pending;
    memory.offsetBytes[row] = offsetBytes;
    memory.lengthBytes[row] = lengthBytes;
    memory.arenaOffsetBytes[row] = arenaAt;
    return row;
  }

  send(slot: number): void {
    const { words, sentSlots } = this.memory;
    sentSlots[this.sent++ % SLOTS] = slot;
    Atomics.store(words, Word.sent, this.sent | 0);
  }

  /** @returns a slot of which some requests have ended, or −1 */
  takeBack(): number {
    const { words, backSlots, isBack } = this.memory;
    if (Atomics.load(words, Word.givenBack) === (this.taken | 0)) return -1;
    const slot = backSlots[this.taken++ % SLOTS];
    // Before the states are read: what ends afterwards sends the slot back once more.
    Atomics.store(isBack, slot, 0);
    return slot;
  }

  /** State of a request; the rest of its row may be read when it is not pending. */
  stateOf(row: number): number {
    return Atomics.load(this.memory.state, row);
  }

  /** All requests of the slot have ended. */
  release(slot: number): void {
    this.free[this.freeCount++] = slot;
  }
}

/** The receiver's end. */
export class LaneReceiver {
  private received = 0;
  private givenBack = 0;

  constructor(readonly memory: LaneMemory) {}

  /** @returns the next slot, or −1; it stays the next one until `accept` */
  receive(): number {
    const { words, sentSlots } = this.memory;
    if (Atomics.load(words, Word.sent) === (this.received | 0)) return -1;
    return sentSlots[this.received % SLOTS];
  }
  accept(): void {
    this.received++;
  }

  /** Request `row` has ended. `giveBack` tells the sender. */
  end(row: number, state: number, missBytes: number): void {
    this.memory.missBytes[row] = missBytes;
    Atomics.store(this.memory.state, row, state);
  }

  /** Sends a slot back of which some requests have ended. */
  giveBack(slot: number): void {
    const { words, backSlots, isBack } = this.memory;
    if (Atomics.exchange(isBack, slot, 1) === 1) return; // the sender has not looked yet, and sees these, too
    backSlots[this.givenBack++ % SLOTS] = slot;
    Atomics.store(words, Word.givenBack, this.givenBack | 0);
  }
}
