/**
 * Requests that their driver gave back: each comes a second time when it is issued again, and is one request all the
 * same.
 */
import type { DeviceBatch } from './types.js';

export class RequeuedRequests {
  /** How many of each are to come again. */
  readonly #expected = new Map<string, number>();

  /** Entry `at` of `batch` says which request was given back; its flags are the operation. */
  add(batch: DeviceBatch, at: number): void {
    const key = keyOf(batch, at, batch.flags[at]);
    this.#expected.set(key, (this.#expected.get(key) ?? 0) + 1);
  }

  /** @returns whether entry `at` of `batch` is one of them, issued again; it then is not expected any more */
  takes(batch: DeviceBatch, at: number): boolean {
    if (this.#expected.size === 0) return false;
    const key = keyOf(batch, at, batch.op[at]);
    const count = this.#expected.get(key);
    if (count === undefined) return false;
    if (count === 1) this.#expected.delete(key);
    else this.#expected.set(key, count - 1);
    return true;
  }
}

/** A request that was merged with others since is longer, but begins where it did. */
function keyOf(batch: DeviceBatch, at: number, op: number): string {
  return `${batch.device[at]} ${op} ${batch.offsetBytes[at]}`;
}
