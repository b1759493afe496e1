/** The backing device of a simulation in time: holds nothing, and ends its calls when the model says. */
import type { BackingDevice, BackingDone, PmemRanges, PmemRangesWriter } from '../engine/device/backing.js';
import type { Clock } from '../engine/index.js';
import type { QueueModel } from './queue-model.js';

const NS_PER_MS = 1e6;

interface Call {
  readonly endMs: number;
  readonly serial: number;
  readonly done: BackingDone;
}

export class TimedBacking implements BackingDevice {
  readonly path = 'simulated backing device';
  /** A heap: the call that ends first is the first. */
  private readonly calls: Call[] = [];
  private serial = 0;

  constructor(
    readonly sizeBytes: number,
    private readonly model: QueueModel,
    private readonly clock: Clock,
  ) {}

  /** When the next call ends; Infinity when none is under way. */
  get nextEndMs(): number {
    return this.calls.length > 0 ? this.calls[0].endMs : Infinity;
  }

  read(offsetBytes: number, _target: Uint8Array, _targetOffset: number, lengthBytes: number, done: BackingDone): void {
    this.push(this.model.read(this.nowNs, offsetBytes, lengthBytes), done);
  }

  write(offsetBytes: number, _source: Uint8Array, _sourceOffset: number, lengthBytes: number, done: BackingDone): void {
    this.push(this.model.write(this.nowNs, offsetBytes, lengthBytes), done);
  }

  /** Ranges that adjoin are one write, and each write begins when the one before has ended, as for a file. */
  writerFrom(): PmemRangesWriter {
    return (ranges, count, done) => this.writeRanges(ranges, 0, count, done);
  }

  private writeRanges(ranges: PmemRanges, from: number, count: number, done: BackingDone): void {
    const { offsetBytes, lengthBytes } = ranges;
    let end = offsetBytes[from];
    let next = from;
    while (next < count && offsetBytes[next] === end) end += lengthBytes[next++];
    const writtenNs = this.model.write(this.nowNs, offsetBytes[from], end - offsetBytes[from]);
    this.push(writtenNs, next === count ? done : () => this.writeRanges(ranges, next, count, done));
  }

  flush(done: BackingDone): void {
    this.push(this.model.flush(this.nowNs), done);
  }

  private get nowNs(): number {
    return this.clock.nowMs() * NS_PER_MS;
  }

  /** Answers the call that ends first. There must be one, and its time must have come. */
  answerNext(): void {
    const { calls } = this;
    const { done } = calls[0];
    const last = calls.pop()!;
    if (calls.length > 0) this.siftDown(last);
    done(null);
  }

  close(): void {}

  private push(endNs: number, done: BackingDone): void {
    const { calls } = this;
    const call = { endMs: endNs / NS_PER_MS, serial: this.serial++, done };
    let at = calls.length;
    calls.push(call);
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      if (!isBefore(call, calls[parent])) break;
      calls[at] = calls[parent];
      at = parent;
    }
    calls[at] = call;
  }

  /** Puts `call` in its place from the top down. */
  private siftDown(call: Call): void {
    const { calls } = this;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= calls.length) break;
      if (child + 1 < calls.length && isBefore(calls[child + 1], calls[child])) child++;
      if (!isBefore(calls[child], call)) break;
      calls[at] = calls[child];
      at = child;
    }
    calls[at] = call;
  }
}

function isBefore(a: Call, b: Call): boolean {
  return a.endMs < b.endMs || (a.endMs === b.endMs && a.serial < b.serial);
}
