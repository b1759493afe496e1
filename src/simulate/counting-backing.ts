/**
 * The backing device of a lockstep simulation: holds nothing, and answers when it is asked to, everything in
 * the order it came in. (An answer from within the call would break what the engine relies on.)
 */
import type { BackingDevice, BackingDone } from '../engine/device/backing.js';
import type { AnsweringBacking } from '../replay/lockstep.js';

export class CountingBacking implements BackingDevice, AnsweringBacking {
  readonly path = 'simulated backing device';
  private waiting: BackingDone[] = [];
  private answering: BackingDone[] = [];

  /** @param sizeBytes a multiple of 512. */
  constructor(readonly sizeBytes: number) {}

  get isBusy(): boolean {
    return this.waiting.length > 0;
  }

  read(_offset: number, _target: Uint8Array, _targetOffset: number, _length: number, done: BackingDone): void {
    this.waiting.push(done);
  }

  write(_offset: number, _source: Uint8Array, _sourceOffset: number, _length: number, done: BackingDone): void {
    this.waiting.push(done);
  }

  flush(done: BackingDone): void {
    this.waiting.push(done);
  }

  answerAll(): undefined {
    while (this.waiting.length > 0) {
      const { waiting } = this;
      this.waiting = this.answering;
      this.answering = waiting;
      for (let n = 0; n < waiting.length; n++) waiting[n](null);
      waiting.length = 0;
    }
    return undefined;
  }

  close(): void {}
}
