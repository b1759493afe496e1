/**
 * The window of a recording that comes through a pipe (`blktrace -o -`): pieces of one CPU's records each, one behind the
 * other, which overlap in time. Each CPU has a window of its own, and a request leaves when it is so far behind the
 * latest time seen that no piece like those before could hold an earlier one; at first, when enough are held.
 *
 * Memory is bounded: with `CPU_WINDOW_MAX` requests held the earliest leaves whatever comes.
 */
import type { DeviceBatch } from './types.js';
import { ReorderWindow } from './window.js';
import type { RequestWindow } from './window.js';

/** Held back before anything leaves, 46 bytes each: more than the pieces of sixteen CPUs hold. */
const HELD_MIN = 2 ** 18;
/** 96 MiB. */
export const CPU_WINDOW_MAX = 2 ** 21;
/** A piece may come so many times later than the latest one did. */
const LATENESS_FACTOR = 2;
const LANE_REQUESTS = 1024;

export class CpuWindow implements RequestWindow {
  readonly capacity = CPU_WINDOW_MAX;
  count = 0;
  /** The most that a request was behind the latest time seen before it, ns. */
  latenessNs = 0;
  /** The most requests held at once. */
  heldMax = 0;
  readonly #lanes = new Map<number, ReorderWindow>();
  readonly #list: ReorderWindow[] = [];
  #latestNs = -Infinity;
  /** The lane with the earliest request; undefined when it must be looked for. */
  #first: ReorderWindow | undefined;

  /** CPUs that had requests. */
  get cpus(): number {
    return this.#list.length;
  }

  /** The window that requests of a CPU go into. `entered` is to be called after that. */
  laneOf(cpu: number): ReorderWindow {
    let lane = this.#lanes.get(cpu);
    if (lane === undefined) {
      lane = new ReorderWindow(LANE_REQUESTS);
      this.#lanes.set(cpu, lane);
      this.#list.push(lane);
    }
    return lane;
  }

  /** @param timeNs of the record that was taken. @param requests that came of it: 0 or 1 */
  entered(timeNs: number, requests: number): void {
    if (timeNs > this.#latestNs) this.#latestNs = timeNs;
    else this.latenessNs = Math.max(this.latenessNs, this.#latestNs - timeNs);
    if (requests === 0) return;
    this.count += requests;
    if (this.count > this.heldMax) this.heldMax = this.count;
    this.#first = undefined;
  }

  /** Whether the earliest request may leave though more will come. */
  get ready(): boolean {
    if (this.count <= HELD_MIN) return false;
    return this.count >= this.capacity || this.#latestNs - this.headTimeNs > LATENESS_FACTOR * this.latenessNs;
  }

  #head(): ReorderWindow {
    if (this.#first !== undefined) return this.#first;
    let first: ReorderWindow | undefined;
    for (const lane of this.#list) {
      if (lane.count > 0 && (first === undefined || isBefore(lane, first))) first = lane;
    }
    this.#first = first!;
    return this.#first;
  }

  get headTimeNs(): number {
    return this.#head().headTimeNs;
  }

  get headSequence(): number {
    return this.#head().headSequence;
  }

  clear(): void {
    for (const lane of this.#list) lane.clear();
    this.count = 0;
    this.#first = undefined;
  }

  shiftInto(batch: DeviceBatch, at: number): void {
    this.#head().shiftInto(batch, at);
    this.count--;
    this.#first = undefined;
  }
}

function isBefore(a: ReorderWindow, b: ReorderWindow): boolean {
  return a.headTimeNs < b.headTimeNs || (a.headTimeNs === b.headTimeNs && a.headSequence < b.headSequence);
}
