/**
 * RWBS, the kernel's letters for what a request does (kernel: blk_fill_rwbs): `F` for a flush before it; then `R`, `W`
 * (`WZ`: zeroes), `D` (`DE`: secure erase), `Z` and a letter for zones, `F` for a flush, or `N`; then `F` (FUA), `A`
 * (read-ahead), `S` (sync), `M` (metadata) and `U` (atomic) in any number.
 */
import { Char } from './cursor.js';
import type { Cursor } from './cursor.js';
import type { RequestSink } from './sink.js';
import { TraceFlag, TraceOp } from './types.js';
import type { ReorderWindow } from './window.js';

const Letter = {
  A: 0x41,
  C: 0x43,
  D: 0x44,
  E: 0x45,
  F: 0x46,
  M: 0x4d,
  N: 0x4e,
  O: 0x4f,
  R: 0x52,
  S: 0x53,
  U: 0x55,
  W: 0x57,
  Z: 0x5a,
} as const;

/** Operations that are not a `TraceOp`. */
const NEITHER = -1;
const ZONE_MANAGEMENT = -2;

export class Rwbs {
  #op: number = NEITHER;
  #flags = 0;
  /** A flush is asked for, before the data if there are any. */
  #flush = false;

  /** Takes the letters at `line`, up to a blank. @returns false when they are not RWBS */
  read(line: Cursor): boolean {
    const { bytes, end } = line;
    const start = line.at;
    let stop = start;
    while (stop < end && bytes[stop] !== Char.space && bytes[stop] !== Char.tab) stop++;
    line.at = stop;
    this.#flags = 0;
    this.#flush = false;
    this.#op = NEITHER;
    if (stop === start) return false;
    let at = start;
    if (bytes[at] === Letter.F) {
      this.#flush = true;
      this.#flags = TraceFlag.preflush;
      at++;
    }
    at = this.#readOp(bytes, at, stop);
    if (at < 0) return false;
    for (; at < stop; at++) {
      const letter = bytes[at];
      if (letter === Letter.F) this.#flags |= TraceFlag.fua;
      else if (letter === Letter.A) this.#flags |= TraceFlag.ahead;
      else if (letter === Letter.S) this.#flags |= TraceFlag.sync;
      else if (letter === Letter.M) this.#flags |= TraceFlag.meta;
      else if (letter !== Letter.U && letter !== Letter.E) return false;
    }
    return true;
  }

  /** @returns the position behind the operation's letters; -1 when there are none */
  #readOp(bytes: Uint8Array, at: number, stop: number): number {
    const second = at + 1 < stop ? bytes[at + 1] : 0;
    switch (at < stop ? bytes[at] : 0) {
      case Letter.R:
        this.#op = TraceOp.read;
        return at + 1;
      case Letter.W:
        this.#op = TraceOp.write;
        return second === Letter.Z ? at + 2 : at + 1;
      case Letter.D:
        this.#op = TraceOp.discard;
        return second === Letter.E ? at + 2 : at + 1;
      case Letter.N:
        return at + 1;
      case Letter.Z:
        if (second === Letter.A) this.#op = TraceOp.write;
        else if (second === Letter.R || second === Letter.O || second === Letter.C || second === Letter.F) {
          this.#op = ZONE_MANAGEMENT;
        } else return -1;
        return at + 2;
      default:
        // A flush by itself: F was its operation, and what follows are flags, or it was the flush before another one.
        return this.#flush ? (bytes[at] === Letter.F && at < stop ? at + 1 : at) : -1;
    }
  }

  /**
   * Takes the request of these letters: delivers it or counts why not. `window` has room.
   * @param hasCommand whether it is a command that only its driver understands
   * @returns why it is malformed, if it is
   */
  deliver(
    sink: RequestSink,
    window: ReorderWindow,
    device: number,
    timeNs: number,
    sequence: number,
    offsetBytes: number,
    lengthBytes: number,
    hasCommand = false,
  ): string | undefined {
    const { counts } = sink;
    if (this.#op === ZONE_MANAGEMENT) counts.zoneManagement++;
    else if (this.#flush && lengthBytes === 0) {
      const flags = this.#flags & ~TraceFlag.preflush;
      return sink.request(window, device, timeNs, sequence, TraceOp.flush, flags, 0, 0);
    } else if (hasCommand || (this.#op === NEITHER && lengthBytes > 0)) counts.passthrough++;
    else return sink.request(window, device, timeNs, sequence, this.#op, this.#flags, offsetBytes, lengthBytes);
    return undefined;
  }

  /** Tells the window that the request of these letters was given back by its driver and will be issued again. */
  requeue(
    sink: RequestSink,
    window: ReorderWindow,
    device: number,
    timeNs: number,
    sequence: number,
    offsetBytes: number,
  ): void {
    const isFlush = this.#flush && this.#op < 0;
    const op = isFlush ? TraceOp.flush : this.#op;
    if (op >= 0) sink.requeue(window, device, timeNs, sequence, op, isFlush ? 0 : offsetBytes);
  }
}
