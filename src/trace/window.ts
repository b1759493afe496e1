/**
 * Puts the requests of one file in time order. A file of one CPU is nearly sorted (an interrupt can slip in
 * between taking the time and reserving the record), so a bounded window is enough: requests enter in file
 * order, and the earliest leaves once enough others are behind it. It grows when
 * more enter than it was made for.
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

export class ReorderWindow implements RequestWindow {
  capacity: number;
  #timeNs: Float64Array;
  #sequence: Uint32Array;
  #op: Uint8Array;
  #flags: Uint8Array;
  #offsetBytes: Float64Array;
  #lengthBytes: Float64Array;
  #device: Uint32Array;
  /** Twice as long as the window, so that it is moved back to the start only once per `capacity` requests. */
  #order: Uint32Array;
  #free: Uint32Array;
  #freeCount: number;
  #head = 0;
  #tail = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#timeNs = new Float64Array(capacity);
    this.#sequence = new Uint32Array(capacity);
    this.#op = new Uint8Array(capacity);
    this.#flags = new Uint8Array(capacity);
    this.#offsetBytes = new Float64Array(capacity);
    this.#lengthBytes = new Float64Array(capacity);
    this.#device = new Uint32Array(capacity);
    this.#order = new Uint32Array(2 * capacity);
    this.#free = Uint32Array.from({ length: capacity }, (_, slot) => slot);
    this.#freeCount = capacity;
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
    const place = this.#placeOf(timeNs, sequence);
    if (place < this.#tail) this.#order.copyWithin(place + 1, place, this.#tail);
    this.#order[place] = slot;
    this.#tail++;
  }

  #grow(): void {
    const had = this.capacity;
    this.capacity *= 2;
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
    for (let slot = had; slot < this.capacity; slot++) this.#free[this.#freeCount++] = slot;
  }

  /** Where in `#order` a request of that time and sequence belongs: behind all that are not later. */
  #placeOf(timeNs: number, sequence: number): number {
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
