/**
 * A backing device that answers in the order it was asked, and only when it is told to: what a lockstep replay
 * puts before a real one.
 */
import type { BackingDevice, BackingDone } from '../engine/device/backing.js';
import type { AnsweringBacking } from './lockstep.js';

interface Call {
  readonly done: BackingDone;
  readonly ended: Promise<Error | null>;
}

export class OrderedBacking implements BackingDevice, AnsweringBacking {
  readonly path: string;
  readonly sizeBytes: number;
  private readonly calls: Call[] = [];

  constructor(private readonly device: BackingDevice) {
    this.path = device.path;
    this.sizeBytes = device.sizeBytes;
  }

  get isBusy(): boolean {
    return this.calls.length > 0;
  }

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number, done: BackingDone): void {
    this.call(done, (ended) => this.device.read(offsetBytes, target, targetOffset, lengthBytes, ended));
  }

  write(offsetBytes: number, source: Uint8Array, sourceOffset: number, lengthBytes: number, done: BackingDone): void {
    this.call(done, (ended) => this.device.write(offsetBytes, source, sourceOffset, lengthBytes, ended));
  }

  flush(done: BackingDone): void {
    this.call(done, (ended) => this.device.flush(ended));
  }

  private call(done: BackingDone, begin: (ended: BackingDone) => void): void {
    this.calls.push({ done, ended: new Promise((resolve) => begin(resolve)) });
  }

  async answerAll(): Promise<void> {
    for (let call = this.calls.shift(); call; call = this.calls.shift()) call.done(await call.ended);
  }

  close(): void {
    this.device.close();
  }
}
