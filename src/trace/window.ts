/**
 * Puts the requests of one file in time order. A file of one CPU is nearly sorted (an interrupt can slip in
 * between taking the time and reserving the record), so a bounded window is enough: requests enter in file
 * order, and the earliest leaves once enough others are behind it. Its memory grows with what is in it.
 *
 * Invariants: the slots named by `#order[#head, #tail)` are sorted by time, then sequence, then arrival; every
 * slot is either there or in `#free[0, #freeCount)`.
 */
import type { DeviceBatch } from './types.js';

/** Where the requests of a file wait for those that belong before them. */
export interface RequestWindow {
  readonly count: number;
  /** Requests it takes before some must leave. */
  readonly capacity: number;
  /** Of the earliest request; the window is not empty. */
  readonly headTimeNs: number;
  readonly headSequence: number;
  clear(): void;
  /** Moves the earliest request to entry `at` of `batch`, except for its time. */
  shiftInto(batch: DeviceBatch, at: number): void;
}

const FIRST_SLOTS = 256;

export class ReorderWindow implements RequestWindow {
  capacity: number;
  #slots: number;
  #timeNs: Float64Array;
  #sequence: Uint32Array;
  #op: Uint8Array;
  #flags: Uint8Array;
  #offsetBytes: Float64Array;
  #lengthBytes: Float64Array;
  #device: Uint32Array;
  /** Twice as many as there are slots, so that it is moved back to the start only once per that number of requests. */
  #order: Uint32Array;
  #free: Uint32Array;
  #freeCount: number;
  #head = 0;
  #tail = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    const slots = Math.min(FIRST_SLOTS, capacity);
    this.#slots = slots;
    this.#timeNs = new Float64Array(slots);
    this.#sequence = new Uint32Array(slots);
    this.#op = new Uint8Array(slots);
    this.#flags = new Uint8Array(slots);
    this.#offsetBytes = new Float64Array(slots);
    this.#lengthBytes = new Float64Array(slots);
    this.#device = new Uint32Array(slots);
    this.#order = new Uint32Array(2 * slots);
    this.#free = new Uint32Array(slots);
    for (let slot = 0; slot < slots; slot++) this.#free[slot] = slot;
    this.#freeCount = slots;
  }

  get count(): number {
    return this.#tail - this.#head;
  }

  push(
    timeNs: number,
    sequence: number,
    op: number,
    flags: number,
    offsetBytes: number,
    lengthBytes: number,
    device: number,
  ): void {
    if (this.#freeCount === 0) this.#grow();
    const slot = this.#free[--this.#freeCount];
    this.#timeNs[slot] = timeNs;
    this.#sequence[slot] = sequence;
    this.#op[slot] = op;
    this.#flags[slot] = flags;
    this.#offsetBytes[slot] = offsetBytes;
    this.#lengthBytes[slot] = lengthBytes;
    this.#device[slot] = device;
    if (this.#tail === this.#order.length) {
      this.#order.copyWithin(0, this.#head, this.#tail);
      this.#tail -= this.#head;
      this.#head = 0;
    }
    const rank = this.#rankOf(timeNs, sequence);
    if (rank < this.#tail) this.#order.copyWithin(rank + 1, rank, this.#tail);
    this.#order[rank] = slot;
    this.#tail++;
  }

  #grow(): void {
    const had = this.#slots;
    this.#slots *= 2;
    this.capacity = Math.max(this.capacity, this.#slots);
    const larger = <Column extends Float64Array | Uint32Array | Uint8Array>(column: Column): Column => {
      const grown = new (column.constructor as new (length: number) => Column)(column.length * 2);
      grown.set(column);
      return grown;
    };
    this.#timeNs = larger(this.#timeNs);
    this.#sequence = larger(this.#sequence);
    this.#op = larger(this.#op);
    this.#flags = larger(this.#flags);
    this.#offsetBytes = larger(this.#offsetBytes);
    this.#lengthBytes = larger(this.#lengthBytes);
    this.#device = larger(this.#device);
    this.#order = larger(this.#order);
    this.#free = larger(this.#free);
    for (let slot = had; slot < this.#slots; slot++) this.#free[this.#freeCount++] = slot;
  }

  /** Where in `#order` a request of that time and sequence belongs: behind all that are not later. */
  #rankOf(timeNs: number, sequence: number): number {
    let high = this.#tail;
    if (high === this.#head || !this.#isAfter(this.#order[high - 1], timeNs, sequence)) return high;
    let low = this.#head;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#isAfter(this.#order[middle], timeNs, sequence)) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #isAfter(slot: number, timeNs: number, sequence: number): boolean {
    const time = this.#timeNs[slot];
    return time > timeNs || (time === timeNs && this.#sequence[slot] > sequence);
  }

  /** Time of the earliest request, ns; the window is not empty. */
  get headTimeNs(): number {
    return this.#timeNs[this.#order[this.#head]];
  }

  /** Sequence number of the earliest request; the window is not empty. */
  get headSequence(): number {
    return this.#sequence[this.#order[this.#head]];
  }

  clear(): void {
    while (this.#head < this.#tail) this.#free[this.#freeCount++] = this.#order[this.#head++];
  }

  /** Moves the earliest request to entry `at` of `batch`, except for its time. */
  shiftInto(batch: DeviceBatch, at: number): void {
    const slot = this.#order[this.#head++];
    batch.op[at] = this.#op[slot];
    batch.flags[at] = this.#flags[slot];
    batch.offsetBytes[at] = this.#offsetBytes[slot];
    batch.lengthBytes[at] = this.#lengthBytes[slot];
    batch.device[at] = this.#device[slot];
    this.#free[this.#freeCount++] = slot;
  }
}
