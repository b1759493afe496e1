/**
 * A simulated backing device that answers by itself, in an order of chance, and fails where it is told to. It
 * counts what is under way at once.
 */
import type { BackingDevice, BackingDone } from '../../src/engine/device/backing.js';
import { PcacheError, type PcacheErrorCode } from '../../src/engine/errors.js';
import { Random } from '../../src/engine/sim/random.js';
import type { SimBacking } from '../../src/engine/sim/sim-backing.js';

export interface DrivenCall {
  readonly kind: 'write' | 'flush';
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Number of the call, from 0. */
  readonly serial: number;
}

/** What becomes of a call: it ends well, it fails, or the power has gone before its answer. */
export type Verdict = 'well' | 'never' | PcacheErrorCode;

export class DrivenBacking implements BackingDevice {
  readonly path: string;
  readonly sizeBytes: number;
  readonly calls: DrivenCall[] = [];
  underWay = 0;
  underWayMost = 0;
  private readonly random = new Random(1);
  private readonly queue: { verdict: Verdict; end: () => void; done: BackingDone }[] = [];

  constructor(
    readonly sim: SimBacking,
    private readonly judge: (call: DrivenCall) => Verdict = () => 'well',
  ) {
    this.path = sim.path;
    this.sizeBytes = sim.sizeBytes;
  }

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number, done: BackingDone): void {
    this.sim.read(offsetBytes, target, targetOffset, lengthBytes, done);
    setImmediate(() => this.sim.finish(0));
  }

  write(offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number, done: BackingDone): void {
    this.take({ kind: 'write', offsetBytes, lengthBytes, serial: this.calls.length }, done, (ended) => {
      this.sim.write(offsetBytes, source, sourceOffset, lengthBytes, ended);
    });
  }

  flush(done: BackingDone): void {
    this.take({ kind: 'flush', offsetBytes: 0, lengthBytes: 0, serial: this.calls.length }, done, (ended) => {
      this.sim.flush(ended);
    });
  }

  close(): void {
    this.sim.close();
  }

  private take(call: DrivenCall, done: BackingDone, begin: (ended: BackingDone) => void): void {
    this.calls.push(call);
    const verdict = this.judge(call);
    this.underWayMost = Math.max(this.underWayMost, ++this.underWay);
    const end = (): void => {
      if (verdict !== 'well') return;
      begin(() => undefined);
      this.sim.finish(0);
    };
    this.queue.push({ verdict, end, done });
    setImmediate(() => this.answerOne());
  }

  private answerOne(): void {
    const ready = this.queue.filter((one) => one.verdict !== 'never');
    if (ready.length === 0) return;
    const one = ready[this.random.below(ready.length)];
    this.queue.splice(this.queue.indexOf(one), 1);
    one.end();
    this.underWay--;
    one.done(one.verdict === 'well' ? null : new PcacheError(one.verdict as PcacheErrorCode, `${this.path}: as asked`));
  }
}
