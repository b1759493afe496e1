/**
 * A backing device for benchmarks of the cache itself: takes what is written and forgets it, reads as zeroes,
 * and answers in the next turn. Write-back between the rounds then costs no memory.
 */
import type { BackingDevice, BackingDone } from '../engine/device/backing.js';

export class NullBacking implements BackingDevice {
  readonly path = 'none';

  /** @param sizeBytes a multiple of 512. */
  constructor(readonly sizeBytes: number) {}

  read(_offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number, done: BackingDone): void {
    target.fill(0, targetOffset, targetOffset + lengthBytes);
    queueMicrotask(() => done(null));
  }

  write(_offset: number, _source: Uint8Array, _sourceOffset: number, _length: number, done: BackingDone): void {
    queueMicrotask(() => done(null));
  }

  flush(done: BackingDone): void {
    queueMicrotask(() => done(null));
  }

  close(): void {}
}
